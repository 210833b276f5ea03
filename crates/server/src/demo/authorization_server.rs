//! Sample ID: an OAuth authorization server that stands for somebody else's, on a listener of its own.
//!
//! It follows RFC 8414 (metadata), RFC 7591 (registration), RFC 6749 with RFC 7636 (S256 only), RFC 8707 (resource),
//! RFC 9207 (`iss`), RFC 7009 (revocation), and rotates refresh tokens. It asks for no password: whoever opens its
//! consent page picks one of its sample accounts. ThinkWork reaches it over HTTP only.

mod grants;
mod tokens;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use thinkwork_primitives::Clock;
use url::Url;

use grants::{Asked, Client, Grants, Refusal};

/// The accounts that everybody may pick: e-mail and name.
pub const ACCOUNTS: [(&str, &str); 3] =
    [("ana@sample.test", "Ana"), ("ben@sample.test", "Ben"), ("carla@sample.test", "Carla")];
/// The one scope there is.
pub const SCOPE: &str = "notes";

/// The authorization server. Cheap to clone.
#[derive(Clone)]
pub struct SampleId {
    issuer: String,
    /// The only resource that it gives tokens for.
    resource: String,
    access_life: Duration,
    clock: Clock,
    grants: Arc<Mutex<Grants>>,
}

impl SampleId {
    /// A server with this issuer, for this resource, whose access tokens live so long.
    pub fn new(issuer: String, resource: String, access_life: Duration, clock: Clock) -> Self {
        let grants = Arc::new(Mutex::new(Grants::new(access_life)));
        Self { issuer, resource, access_life, clock, grants }
    }

    /// Whose access token this is, if it is good now. For the resource server, which is of the same company.
    pub fn account_of(&self, token: &str) -> Option<String> {
        self.books().account_of(token, &self.resource, self.clock.now()).map(str::to_owned)
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::to("/log") }))
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/register", post(register))
            .route("/authorize", get(authorize))
            .route("/consent", post(consent))
            .route("/token", post(tokens::token))
            .route("/revoke", post(tokens::revoke))
            .route("/log", get(tokens::log))
            .with_state(self.clone())
    }

    fn books(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code, "error_description": self.description });
        (StatusCode::BAD_REQUEST, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

async fn metadata(State(id): State<SampleId>) -> Json<Value> {
    let issuer = &id.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "registration_endpoint": format!("{issuer}/register"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
        "scopes_supported": [SCOPE],
    }))
}

#[derive(Deserialize)]
struct Registration {
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    client_name: String,
}

async fn register(State(id): State<SampleId>, Json(asked): Json<Registration>) -> Result<Response, Refusal> {
    let name = if asked.client_name.is_empty() { "An unnamed application".to_owned() } else { asked.client_name };
    let client = Client { name: name.clone(), redirect_uris: asked.redirect_uris.clone() };
    let client_id = id.books().register(client)?;
    let body = json!({
        "client_id": client_id,
        "client_id_issued_at": id.clock.now().seconds(),
        "client_name": name,
        "redirect_uris": asked.redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": SCOPE,
    });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Deserialize)]
struct Authorize {
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
    resource: Option<String>,
    scope: Option<String>,
    state: Option<String>,
}

#[derive(Template)]
#[template(path = "demo/templates/consent.html")]
struct ConsentPage {
    title: &'static str,
    client_name: String,
    client_host: String,
    resource: String,
    request: String,
    accounts: [(&'static str, &'static str); 3],
}

#[derive(Template)]
#[template(path = "demo/templates/refused.html")]
struct RefusedPage {
    title: &'static str,
    message: &'static str,
}

fn page(status: StatusCode, page: &impl Template) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    match page.render() {
        Ok(body) => (status, headers, Html(body)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn refused(message: &'static str) -> Response {
    page(StatusCode::BAD_REQUEST, &RefusedPage { title: "Sample ID", message })
}

async fn authorize(State(id): State<SampleId>, Query(asked): Query<Authorize>) -> Response {
    let client = id.books().client(&asked.client_id, &asked.redirect_uri).cloned();
    let (Some(client), Ok(back)) = (client, Url::parse(&asked.redirect_uri)) else {
        // Nobody is sent to an address that the client did not register (RFC 6749 section 4.1.2.1).
        return refused("Unknown application or redirect URI.");
    };
    let wanted = Asked {
        client_id: asked.client_id,
        redirect_uri: asked.redirect_uri,
        state: asked.state,
        challenge: asked.code_challenge,
        resource: asked.resource.unwrap_or_default(),
        scope: SCOPE.to_owned(),
    };
    let problem = if asked.response_type != "code" {
        Some("unsupported_response_type")
    } else if asked.code_challenge_method != "S256" || wanted.challenge.len() != 43 {
        Some("invalid_request")
    } else if wanted.resource != id.resource {
        Some("invalid_target")
    } else if asked.scope.is_some_and(|scope| scope.split(' ').any(|scope| scope != SCOPE)) {
        Some("invalid_scope")
    } else {
        None
    };
    if let Some(code) = problem {
        return send_back(&id, &wanted, ("error", code));
    }
    let request = id.books().ask(wanted, id.clock.now());
    match request {
        Ok(request) => page(
            StatusCode::OK,
            &ConsentPage {
                title: "Sample ID",
                client_name: client.name,
                client_host: back.host_str().unwrap_or_default().to_owned(),
                resource: id.resource.clone(),
                request,
                accounts: ACCOUNTS,
            },
        ),
        Err(refusal) => refused(refusal.description),
    }
}

/// Back to the client with the outcome, its state and our issuer.
fn send_back(id: &SampleId, asked: &Asked, outcome: (&str, &str)) -> Response {
    let Ok(mut back) = Url::parse(&asked.redirect_uri) else {
        return refused("The redirect URI is not valid.");
    };
    back.query_pairs_mut().append_pair(outcome.0, outcome.1).append_pair("iss", &id.issuer);
    if let Some(state) = &asked.state {
        back.query_pairs_mut().append_pair("state", state);
    }
    // 302 and not 303, as most providers answer; after a POST every browser goes on with GET.
    match HeaderValue::from_str(back.as_str()) {
        Ok(target) => (StatusCode::FOUND, [(header::LOCATION, target)]).into_response(),
        Err(_) => refused("The redirect URI is not valid."),
    }
}

#[derive(Deserialize)]
struct Decision {
    request: String,
    #[serde(default)]
    account: String,
    decision: String,
}

async fn consent(State(id): State<SampleId>, Form(decided): Form<Decision>) -> Response {
    let now = id.clock.now();
    let Some(asked) = id.books().take(&decided.request, now) else {
        return refused("This page has expired or was already used. Go back to the application and start again.");
    };
    let account = ACCOUNTS.into_iter().find(|(email, _)| *email == decided.account);
    match (decided.decision.as_str(), account) {
        ("allow", Some((email, _))) => {
            let code = id.books().allow(asked.clone(), email, now);
            match code {
                Ok(code) => send_back(&id, &asked, ("code", &code)),
                Err(refusal) => send_back(&id, &asked, ("error", refusal.code)),
            }
        }
        ("allow", None) => refused("No sample account was selected. Go back to the application and start again."),
        _ => {
            id.books().denied();
            send_back(&id, &asked, ("error", "access_denied"))
        }
    }
}
