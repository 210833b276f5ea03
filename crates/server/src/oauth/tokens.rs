//! Token requests (RFC 6749 sections 4.1.3 and 6) and their answers in all the shapes that servers send; the grant as
//! it is sealed.
//!
//! Invariants: a secret goes to the pinned token or revocation endpoint only; no answer's text leaves this file but
//! as a plain reason word.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thinkwork_outbound::{Field, Outbound, Purpose, Request, Response};
use thinkwork_primitives::{Secret, Timestamp};
use zeroize::Zeroizing;

use super::Error;
use super::rules::{
    self, PAUSE_DEFAULT, REFRESH_INTERVAL_MIN, REQUEST_DEADLINE, TokenErrorResponse, TokenRequestError,
};

/// Largest token answer: a grant of that size could not be sealed.
const ANSWER_BYTES_MAX: usize = 65_536;
/// Longest lifetime that is believed; a longer one is a mistake, and the resource will say so.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A client as it proves itself at its issuer's endpoints.
pub(super) struct ClientCredentials {
    pub client_id: String,
    pub secret: Option<Secret>,
    /// `none`, `client_secret_basic` or `client_secret_post` (RFC 7591 section 2).
    pub method: String,
}

/// Tokens of one grant, opened.
pub(super) struct TokenSet {
    pub access_token: Secret,
    pub refresh_token: Option<Secret>,
    pub expires_at: Option<Timestamp>,
}

/// A token answer that granted.
pub(super) struct TokenResponse {
    pub grant: TokenSet,
    pub scopes: Option<Vec<String>>,
    pub account: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct Stored {
    access_token: Secret,
    refresh_token: Option<Secret>,
    expires_at: Option<i64>,
}

impl TokenSet {
    /// The bytes to seal: JSON `{access_token, refresh_token?, token_type, expires_at?}`, the time in microseconds.
    pub(super) fn to_secret(&self) -> Result<Secret, Error> {
        let written = Written {
            access_token: text(&self.access_token)?,
            refresh_token: self.refresh_token.as_ref().map(text).transpose()?,
            token_type: "Bearer",
            expires_at: self.expires_at.map(Timestamp::micros),
        };
        serde_json::to_vec(&written).map(Secret::from_bytes).map_err(|_| damaged())
    }

    pub(super) fn from_secret(secret: &Secret) -> Result<Self, Error> {
        let stored: Stored = serde_json::from_slice(secret.expose()).map_err(|_| damaged())?;
        Ok(Self {
            access_token: stored.access_token,
            refresh_token: stored.refresh_token,
            expires_at: stored.expires_at.map(Timestamp::from_micros),
        })
    }
}

fn text(secret: &Secret) -> Result<&str, Error> {
    secret.expose_str().ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::Refused("The stored connection cannot be read. Reconnect the account.".to_owned())
}

/// Whether the form carries the client's id beside Basic authentication.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientIdInForm {
    /// As RFC 6749 section 2.3 has it.
    No,
    /// As some servers demand it, the official Python SDK's among them.
    Yes,
}

/// Adds the client's proof to a form request. Basic is form-encoded first (RFC 6749 section 2.3.1).
fn prove<'a>(
    proof: &'a ClientCredentials,
    request: Request,
    mut fields: Vec<(&'a str, Field<'a>)>,
    client_id: ClientIdInForm,
) -> Request {
    match (proof.method.as_str(), &proof.secret) {
        ("client_secret_basic", Some(secret)) => {
            let encode = |bytes: &[u8]| -> Zeroizing<String> {
                Zeroizing::new(url::form_urlencoded::byte_serialize(bytes).collect())
            };
            let id = encode(proof.client_id.as_bytes());
            let secret = encode(secret.expose());
            let pair = Zeroizing::new(format!("{}:{}", *id, *secret));
            let basic = Secret::from_text(STANDARD.encode(pair.as_bytes()));
            if client_id == ClientIdInForm::Yes {
                fields.push(("client_id", Field::Text(&proof.client_id)));
            }
            request.secret_header("authorization", "Basic ", &basic).form(&fields)
        }
        (_, Some(secret)) => {
            fields.push(("client_id", Field::Text(&proof.client_id)));
            fields.push(("client_secret", Field::Secret(secret)));
            request.form(&fields)
        }
        (_, None) => {
            fields.push(("client_id", Field::Text(&proof.client_id)));
            request.form(&fields)
        }
    }
}

/// POSTs a form with the client's proof to a pinned endpoint. Where the server rejects Basic alone, the request is sent once
/// more with the client's id in the form; a rejected client means that nothing was done.
pub(super) async fn post(
    outbound: &Outbound,
    endpoint: &str,
    proof: &ClientCredentials,
    fields: Vec<(&str, Field<'_>)>,
) -> Result<Response, TokenRequestError> {
    let response = post_once(outbound, endpoint, proof, fields.clone(), ClientIdInForm::No).await?;
    let is_basic = proof.method == "client_secret_basic" && proof.secret.is_some();
    if is_basic && matches!(response.status, 400 | 401) && is_client_error(&response.body) {
        return post_once(outbound, endpoint, proof, fields, ClientIdInForm::Yes).await;
    }
    Ok(response)
}

/// Whether an error response may be about the client's authentication.
fn is_client_error(body: &[u8]) -> bool {
    let parameters = parameters(body);
    let code = parameters.as_ref().and_then(|answer| answer.get("error")).and_then(Value::as_str);
    matches!(code, Some("invalid_client" | "invalid_request" | "unauthorized_client"))
}

async fn post_once(
    outbound: &Outbound,
    endpoint: &str,
    proof: &ClientCredentials,
    fields: Vec<(&str, Field<'_>)>,
    client_id: ClientIdInForm,
) -> Result<Response, TokenRequestError> {
    let request = Request::post(endpoint)
        .purpose(Purpose::Oauth)
        .header("accept", "application/json")
        .deadline(REQUEST_DEADLINE)
        .body_bytes_max(ANSWER_BYTES_MAX);
    outbound.send(prove(proof, request, fields, client_id)).await.map_err(|error| TokenRequestError::Transient {
        maybe_received: !error.never_left(),
        pause: PAUSE_DEFAULT,
        what: error.to_string(),
    })
}

/// The token request of a flow or a refresh.
pub(super) async fn request(
    outbound: &Outbound,
    endpoint: &str,
    proof: &ClientCredentials,
    fields: Vec<(&str, Field<'_>)>,
    now: impl Fn() -> Timestamp,
) -> Result<TokenResponse, TokenRequestError> {
    let asked_at = now();
    let response = post(outbound, endpoint, proof, fields).await?;
    read(&rules::host_of(endpoint), &response, asked_at)
}

/// What the parameters of an answer are, whatever its content type says (L27).
fn parameters(body: &[u8]) -> Option<Value> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value @ Value::Object(_)) => Some(value),
        Ok(_) => None,
        Err(_) => {
            let pairs: serde_json::Map<String, Value> = url::form_urlencoded::parse(body)
                .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
                .collect();
            let known = ["access_token", "error"].iter().any(|key| pairs.contains_key(*key));
            known.then_some(Value::Object(pairs))
        }
    }
}

/// Reads a token answer. A 200 may carry an error, and an error any status (GitHub, Slack).
pub(super) fn read(host: &str, response: &Response, asked_at: Timestamp) -> Result<TokenResponse, TokenRequestError> {
    let status = response.status;
    let failure = |code: Option<&str>, description: Option<&str>| {
        let retry_after = response.header("retry-after");
        rules::failure(host, &TokenErrorResponse { status, code, description, retry_after })
    };
    let Some(Value::Object(mut answer)) = parameters(&response.body) else {
        // 200 without anything readable: the server may have done its part, so nothing is concluded.
        return Err(failure(None, None));
    };
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    if text("error").is_some() || !response.is_success() {
        return Err(failure(text("error"), text("error_description")));
    }
    let mut take = |key: &str| match answer.remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let access_token = take("access_token").map(Secret::from_text);
    let refresh_token = take("refresh_token").map(Secret::from_text);
    let bearer = take("token_type").is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    // Control characters separate too: a database may refuse one, and the tokens would be lost with it.
    let apart = |letter: char| letter == ',' || letter.is_whitespace() || letter.is_control();
    let scopes =
        take("scope").map(|text| text.split(apart).filter(|part| !part.is_empty()).map(str::to_owned).collect());
    let account = take("account").or_else(|| take("sub"));
    let lifetime = answer.get("expires_in").and_then(seconds);
    let Some(access_token) = access_token else { return Err(failure(None, None)) };
    if ![Some(&access_token), refresh_token.as_ref()].into_iter().flatten().all(is_sendable) {
        return Err(TokenRequestError::GrantRefused("token_unusable".to_owned()));
    }
    if !bearer {
        return Err(TokenRequestError::GrantRefused("token_type_not_supported".to_owned()));
    }
    let expires_at = lifetime.map(|lifetime| asked_at.plus(lifetime.clamp(REFRESH_INTERVAL_MIN, LIFETIME_MAX)));
    Ok(TokenResponse { grant: TokenSet { access_token, refresh_token, expires_at }, scopes, account })
}

/// Whether a token can stand in a header and in a form: printable ASCII without spaces. RFC 6750 allows less.
fn is_sendable(token: &Secret) -> bool {
    token.expose().iter().all(u8::is_ascii_graphic)
}

/// `expires_in` as a number or a text, whole or not; anything else is as good as missing, and so is 0, with which some
/// servers mean a token that does not expire: the resource will say so.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LIFETIME_MAX))
}
