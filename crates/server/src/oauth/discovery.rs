//! Finding the authorization server of a protected resource: RFC 9728, then RFC 8414, then OpenID Connect Discovery.
//!
//! Invariants: only public documents are read, without any credential; the metadata's `resource` covers the server, its
//! `issuer` is byte for byte the one asked, the slash of a bare origin aside, and from then on the metadata's spelling is
//! the issuer; every endpoint passed the address guard. A value that differs is taken only where an operator entered
//! that very value.

use serde::Deserialize;
use serde_json::Value;
use thinkwork_outbound::{Outbound, Response};
use url::Url;

use super::rules::{self, REQUEST_DEADLINE};
use super::{AcceptedDeviations, BearerChallenge, Deviation, Error, Oauth, ProviderMetadata};

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
    #[serde(default)]
    client_id_metadata_document_supported: bool,
}

fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}

impl Oauth {
    /// Finds the authorization server of a protected resource. `challenge`: what its 401 said, if it did. Where the server
    /// has no resource metadata, its own origin counts as its authorization server, as MCP 2025-03-26 had it; that is
    /// noted as a deviation.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence for the operator, [`Error::Unreachable`].
    pub async fn discover(
        &self,
        resource_url: &str,
        challenge: Option<&BearerChallenge>,
        accepted: AcceptedDeviations<'_>,
    ) -> Result<ProviderMetadata, Error> {
        let server = self.outbound.check_url(resource_url).map_err(|error| refused(error.to_string()))?;
        let mut deviations = Vec::new();
        let resource = match resource_metadata(&self.outbound, &server, challenge).await? {
            Some(found) => found,
            None => {
                deviations.push(Deviation::NoResourceMetadata);
                ResourceMetadata {
                    resource: resource_url.to_owned(),
                    authorization_servers: vec![server.origin().ascii_serialization()],
                    scopes_supported: Vec::new(),
                }
            }
        };
        if !rules::resource_covers(&resource.resource, resource_url) {
            if accepted.resource != Some(resource.resource.as_str()) {
                return Err(refused(format!(
                    "The server's metadata names the resource {}, but the server's address is {resource_url}. If its \
                     documentation says that both are the same server, enter that resource as accepted resource.",
                    resource.resource
                )));
            }
            deviations.push(Deviation::OtherResource);
        }
        let Some(issuer) = resource.authorization_servers.first() else {
            return Err(refused(format!(
                "The metadata of {} names no authorization server; ask who runs that server.",
                rules::host_of(resource_url)
            )));
        };
        let found = match server_metadata(&self.outbound, issuer).await? {
            Some(found) => found,
            None if deviations.contains(&Deviation::NoResourceMetadata) => {
                return Err(refused(format!(
                    "{} does not say which authorization server it uses (RFC 9728), and has no authorization server of \
                     its own (RFC 8414). Choose another way to authorise it.",
                    rules::host_of(resource_url)
                )));
            }
            None => {
                let host = rules::host_of(issuer);
                return Err(refused(format!("{host} has no metadata (RFC 8414); it cannot be used to connect.")));
            }
        };
        if !rules::issuer_named(&found.issuer, issuer) {
            if accepted.issuer != Some(found.issuer.as_str()) {
                return Err(refused(format!(
                    "The authorization server {issuer} has metadata that names the issuer {}. If its documentation names \
                     that issuer, enter it as accepted issuer; everyone would sign in there.",
                    found.issuer
                )));
            }
            deviations.push(Deviation::OtherIssuer);
        }
        let scopes = challenge.and_then(|challenge| challenge.scopes.clone()).unwrap_or(resource.scopes_supported);
        let found = checked(&self.outbound, resource.resource, found, scopes).await?;
        Ok(ProviderMetadata { deviations, ..found })
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
    let offers_offline_access = found.scopes_supported.iter().any(|scope| scope == "offline_access");
    Ok(ProviderMetadata {
        resource,
        issuer: found.issuer,
        authorization_endpoint,
        token_endpoint,
        registration_endpoint: found.registration_endpoint,
        revocation_endpoint: found.revocation_endpoint,
        scopes,
        offers_offline_access,
        pkce_s256,
        iss_required: found.authorization_response_iss_parameter_supported,
        token_auth_methods: found.token_endpoint_auth_methods_supported.unwrap_or_default(),
        takes_client_documents: found.client_id_metadata_document_supported,
        deviations: Vec::new(),
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
/// `None`: the server has none, and its challenge names none.
async fn resource_metadata(
    outbound: &Outbound,
    server: &Url,
    challenge: Option<&BearerChallenge>,
) -> Result<Option<ResourceMetadata>, Error> {
    if let Some(named) = challenge.and_then(|challenge| challenge.resource_metadata.as_ref()) {
        return match first_document(outbound, std::slice::from_ref(named)).await? {
            Some(found) => Ok(Some(found)),
            None => Err(refused(format!(
                "{} says that its metadata is at {named}, where there is none; ask who runs that server.",
                rules::host_of(server.as_str())
            ))),
        };
    }
    let mut root = server.clone();
    root.set_path("/.well-known/oauth-protected-resource");
    root.set_query(None);
    let mut places = vec![well_known(server, "oauth-protected-resource"), root.to_string()];
    places.dedup();
    first_document(outbound, &places).await
}

/// RFC 8414 path-inserted, then OpenID Connect path-inserted and appended.
async fn server_metadata(outbound: &Outbound, issuer: &str) -> Result<Option<ServerMetadata>, Error> {
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
    first_document(outbound, &places).await
}

fn well_known(url: &Url, name: &str) -> String {
    let mut place = url.clone();
    place.set_path(&format!("/.well-known/{name}{}", url.path().trim_end_matches('/')));
    place.set_query(None);
    place.set_fragment(None);
    place.to_string()
}

/// The first place that has the document. "Not here" leads on: a 4xx, and a page that is no JSON, as applications send it
/// for every address (L92). "Not now" is an error, so that an outage never makes us take another document for it.
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
        let host = rules::host_of(place);
        match response.status {
            200 => {
                let Ok(Value::Object(document)) = response.json() else { continue };
                let document = serde_json::from_value(Value::Object(document));
                return document.map(Some).map_err(|_| refused(format!("The metadata of {host} cannot be read.")));
            }
            300..=499 if response.status != 429 => {}
            status => return Err(Error::Unreachable(format!("{host} answered {status}"))),
        }
    }
    Ok(None)
}
