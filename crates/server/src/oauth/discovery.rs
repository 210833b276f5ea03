//! Finding the authorization server of a protected resource: RFC 9728, then RFC 8414, then OpenID Connect Discovery.
//!
//! Invariants: only public documents are read, without any credential; the metadata's `resource` covers the server, its
//! `issuer` is byte for byte the one asked, the slash of a bare origin aside, and from then on the metadata's spelling is
//! the issuer; every endpoint passed the address guard.

use serde::Deserialize;
use thinkwork_outbound::{Outbound, Response};
use url::Url;

use super::rules::{self, REQUEST_DEADLINE};
use super::{Error, Oauth, ProviderMetadata};

#[derive(Deserialize)]
struct ResourceMetadata {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

#[derive(Deserialize)]
struct ServerMetadata {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}

impl Oauth {
    /// Finds the authorization server of a protected resource. `challenge`: the WWW-Authenticate of its 401, if any.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence for the operator, [`Error::Unreachable`].
    pub async fn discover(&self, resource_url: &str, challenge: Option<&str>) -> Result<ProviderMetadata, Error> {
        let server = self.outbound.check_url(resource_url).map_err(|error| refused(error.to_string()))?;
        let resource = resource_metadata(&self.outbound, &server, challenge).await?;
        if !rules::resource_covers(&resource.resource, resource_url) {
            return Err(refused(format!(
                "The metadata of {} speaks of another resource; ask who runs that server.",
                rules::host_of(resource_url)
            )));
        }
        let Some(issuer) = resource.authorization_servers.first() else {
            return Err(refused(format!(
                "The metadata of {} names no authorization server; ask who runs that server.",
                rules::host_of(resource_url)
            )));
        };
        let found = server_metadata(&self.outbound, issuer).await?;
        let asked = challenge.and_then(|challenge| challenge_parameter(challenge, "scope"));
        let mut scopes = match asked {
            Some(scope) => scope.split_ascii_whitespace().map(str::to_owned).collect(),
            None => resource.scopes_supported,
        };
        // Without it some servers give no refresh token (OpenID Connect Core section 11).
        let offline = "offline_access";
        if found.scopes_supported.iter().any(|scope| scope == offline) && !scopes.iter().any(|scope| scope == offline) {
            scopes.push(offline.to_owned());
        }
        checked(&self.outbound, resource.resource, found, scopes).await
    }
}

/// The metadata's endpoints, each through the guard; PKCE methods that lack S256 are refused here.
async fn checked(
    outbound: &Outbound,
    resource: String,
    found: ServerMetadata,
    scopes: Vec<String>,
) -> Result<ProviderMetadata, Error> {
    let host = rules::host_of(&found.issuer);
    let (Some(authorization_endpoint), Some(token_endpoint)) = (found.authorization_endpoint, found.token_endpoint)
    else {
        return Err(refused(format!("{host} names no authorization or token endpoint; it cannot sign people in.")));
    };
    let optional = [&found.registration_endpoint, &found.revocation_endpoint];
    let endpoints = [&authorization_endpoint, &token_endpoint].into_iter().chain(optional.into_iter().flatten());
    for endpoint in endpoints {
        check_endpoint(outbound, endpoint).await?;
    }
    if let Some(name) = preset_parameter(&authorization_endpoint) {
        return Err(refused(format!(
            "The authorization endpoint of {host} sets {name} by itself, so it could change what people consent to; ask who \
             runs that server."
        )));
    }
    let pkce_s256 = match &found.code_challenge_methods_supported {
        Some(methods) if methods.iter().any(|method| method == "S256") => true,
        Some(_) => return Err(refused(format!("{host} supports PKCE without S256; connecting it would not be safe."))),
        None => false,
    };
    Ok(ProviderMetadata {
        resource,
        issuer: found.issuer,
        authorization_endpoint,
        token_endpoint,
        registration_endpoint: found.registration_endpoint,
        revocation_endpoint: found.revocation_endpoint,
        scopes,
        pkce_s256,
        iss_required: found.authorization_response_iss_parameter_supported,
        token_auth_methods: found.token_endpoint_auth_methods_supported.unwrap_or_default(),
    })
}

/// A parameter of the endpoint's own query that is ours to send: with two of a name, a server may read the first.
fn preset_parameter(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    url.query_pairs()
        .map(|(name, _)| name.into_owned())
        .find(|name| rules::AUTHORIZATION_PARAMETERS.contains(&name.as_str()))
}

/// Refuses an endpoint that the address guard would not reach; a browser is sent to one of them.
pub(super) async fn check_endpoint(outbound: &Outbound, endpoint: &str) -> Result<(), Error> {
    let url = outbound.check_url(endpoint).map_err(|error| refused(error.to_string()))?;
    outbound.resolve_check(&url).await.map_err(|error| match error.is_transient() {
        true => Error::Unreachable(error.to_string()),
        false => refused(error.to_string()),
    })
}

/// The challenge's document, else the path-inserted well-known one, else the root's (RFC 9728 sections 3.1 and 5.1).
async fn resource_metadata(
    outbound: &Outbound,
    server: &Url,
    challenge: Option<&str>,
) -> Result<ResourceMetadata, Error> {
    let named = challenge.and_then(|challenge| challenge_parameter(challenge, "resource_metadata"));
    let mut places = match named {
        Some(url) => vec![url],
        None => vec![well_known(server, "oauth-protected-resource")],
    };
    if places.len() == 1 && challenge.is_none_or(|text| challenge_parameter(text, "resource_metadata").is_none()) {
        let mut root = server.clone();
        root.set_path("/.well-known/oauth-protected-resource");
        root.set_query(None);
        places.push(root.to_string());
    }
    places.dedup();
    match first_document(outbound, &places).await? {
        Some(found) => Ok(found),
        None => Err(refused(format!(
            "{} has no OAuth metadata (RFC 9728), so its authorization server cannot be found; choose another way to \
             authorise it.",
            rules::host_of(server.as_str())
        ))),
    }
}

/// RFC 8414 path-inserted, then OpenID Connect path-inserted and appended.
async fn server_metadata(outbound: &Outbound, issuer: &str) -> Result<ServerMetadata, Error> {
    let url = outbound.check_url(issuer).map_err(|error| refused(error.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("The authorization server's name has a query or fragment, which RFC 8414 forbids."));
    }
    let mut appended = url.clone();
    appended.set_path(&format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/')));
    let mut places = vec![
        well_known(&url, "oauth-authorization-server"),
        well_known(&url, "openid-configuration"),
        appended.to_string(),
    ];
    places.dedup();
    let host = rules::host_of(issuer);
    let found: ServerMetadata = first_document(outbound, &places)
        .await?
        .ok_or_else(|| refused(format!("{host} has no metadata (RFC 8414); it cannot be used to connect.")))?;
    if !rules::issuer_named(&found.issuer, issuer) {
        return Err(refused(format!("The metadata of {host} names another issuer; nobody should be sent there.")));
    }
    Ok(found)
}

fn well_known(url: &Url, name: &str) -> String {
    let mut place = url.clone();
    place.set_path(&format!("/.well-known/{name}{}", url.path().trim_end_matches('/')));
    place.set_query(None);
    place.set_fragment(None);
    place.to_string()
}

/// The first place that has the document. "Not here" (4xx) leads on; "not now" is an error, so that an outage never
/// makes us take another document for it.
async fn first_document<T: serde::de::DeserializeOwned>(
    outbound: &Outbound,
    places: &[String],
) -> Result<Option<T>, Error> {
    for place in places {
        let response: Response =
            outbound.get_metadata(place, REQUEST_DEADLINE).await.map_err(|error| match error.is_transient() {
                true => Error::Unreachable(error.to_string()),
                false => refused(error.to_string()),
            })?;
        match response.status {
            200 => {
                let document = response.json();
                let host = rules::host_of(place);
                return document.map(Some).map_err(|_| refused(format!("The metadata of {host} cannot be read.")));
            }
            300..=499 if response.status != 429 => {}
            status => return Err(Error::Unreachable(format!("{} answered {status}", rules::host_of(place)))),
        }
    }
    Ok(None)
}

/// A parameter of a `WWW-Authenticate` challenge (RFC 9110 section 11.2), quoted or not.
pub(super) fn challenge_parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((before, after)) = rest.split_once('=') {
        let key = before.rsplit([' ', ',', '\t']).next().unwrap_or_default();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => match after.split_once([',', ' ']) {
                Some((value, left)) => (value.to_owned(), left),
                None => (after.to_owned(), ""),
            },
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = left;
    }
    None
}

fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match (char, escaped) {
            ('\\', false) => escaped = true,
            ('"', false) => return (value, text.get(at.saturating_add(1)..).unwrap_or_default()),
            _ => {
                value.push(char);
                escaped = false;
            }
        }
    }
    (value, "")
}
