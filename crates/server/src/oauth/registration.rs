//! Registering us as a client: by hand or dynamically (RFC 7591). One registration and one callback key per target and
//! issuer.
//!
//! Invariant: endpoints are pinned here; a registration whose issuer, token endpoint or client changes becomes another
//! row with another callback key, so that an old grant's tokens only ever go where they came from.

use serde::Deserialize;
use serde_json::{Value, json};
use thinkwork_database::{Tx, tenant_lookup};
use thinkwork_outbound::{Field, Purpose, Request, Response};
use thinkwork_primitives::{Actor, GrantTarget, OauthClientId, Secret, TenantId, UserId, crypto};

use super::rules::{self, REQUEST_DEADLINE, TokenRequestError};
use super::store::{self, ClientRow};
use super::{ClientSettings, Error, Oauth, discovery, tokens};
use crate::audit::{self, Event};
use crate::credentials::UseContext;

/// The kind of route that leads from a callback key to its registration.
pub(super) const CALLBACK_LOOKUP: &str = "callback";
/// The reason of grants whose client registration the issuer no longer knows.
pub(super) const CLIENT_FORGOTTEN: &str = "client_forgotten";
/// The scope of OpenID Connect for a refresh token.
const OFFLINE_ACCESS: &str = "offline_access";
/// How we introduce ourselves to authorization servers.
const CLIENT_NAME: &str = "ThinkWork";
/// A refresh token that no server issues.
const UNKNOWN_TOKEN: &str = "thinkwork-registration-check";
/// Largest answer of a registration endpoint: real ones have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 65_536;

/// What an authorization server gave us.
struct Registered {
    client_id: String,
    secret: Option<Secret>,
    method: String,
}

/// A registration that is made and not yet written down.
pub struct Registration {
    client: ClientSettings,
    /// None where the current one still fits.
    fresh: Option<Fresh>,
}

struct Fresh {
    kind: &'static str,
    key: String,
    registered: Registered,
}

#[derive(Deserialize)]
struct ClientRegistrationResponse {
    client_id: String,
    client_secret: Option<Secret>,
    token_endpoint_auth_method: Option<String>,
    redirect_uris: Option<Vec<String>>,
}

fn refused(text: impl Into<String>) -> Error {
    Error::Refused(text.into())
}

impl Oauth {
    /// Makes our client registration for this target, or finds that the current one still fits: pre-registered, else
    /// RFC 7591. At approval. Nothing is written; [`Oauth::store_registration`] does that.
    ///
    /// # Errors
    /// [`Error::Refused`] with a sentence for the operator, [`Error::Unreachable`].
    pub async fn prepare_registration(
        &self,
        tenant: TenantId,
        client: ClientSettings,
        by: &Actor,
    ) -> Result<Registration, Error> {
        let found = &client.discovered;
        if !found.pkce_s256 && !client.pkce_though_silent {
            return Err(refused(format!(
                "{} does not say that it supports PKCE with S256; record \"supports PKCE though silent\" if you know \
                 that it does.",
                rules::host_of(&found.issuer)
            )));
        }
        let mut endpoints = vec![found.authorization_endpoint.clone(), found.token_endpoint.clone()];
        endpoints.extend(found.registration_endpoint.clone());
        endpoints.extend(found.revocation_endpoint.clone());
        for endpoint in &endpoints {
            discovery::check_endpoint(&self.outbound, endpoint).await?;
        }
        let current = store::client_current(&mut self.db.read(tenant).await?, client.target).await?;
        if let Some(row) = current.filter(|row| fits(row, &client))
            && self.is_still_registered(tenant, &row, by).await?
        {
            return Ok(Registration { client, fresh: None });
        }
        let key = crypto::base64url(&crypto::random::<32>().map_err(|error| refused(error.to_string()))?);
        let (kind, registered) = match &client.pre_registered {
            Some(known) => ("pre_registered", self.known(&client, known)?),
            None => ("dynamic", self.register_dynamically(&client, &key).await?),
        };
        Ok(Registration { client, fresh: Some(Fresh { kind, key, registered }) })
    }

    /// Writes a registration down, in the transaction that has seen that the target is still the one it was made for.
    /// Grants of another registration stay with the endpoints that gave them.
    ///
    /// # Errors
    /// [`Error::Refused`] where the registration was changed meanwhile.
    pub async fn store_registration(&self, tx: &mut Tx, registration: Registration, by: &Actor) -> Result<(), Error> {
        let Registration { client, fresh } = registration;
        let current = store::client_current(tx, client.target).await?;
        match (fresh, current) {
            (Some(fresh), current) => self.registration_insert(tx, &client, fresh, current, by).await,
            (None, Some(row)) if fits(&row, &client) => self.renew(tx, &row, &client, by).await,
            (None, _) => Err(refused("The registration was changed meanwhile; try again.")),
        }
    }

    /// Keeps the current registration, and brings what is asked for up to date.
    async fn renew(&self, tx: &mut Tx, row: &ClientRow, client: &ClientSettings, by: &Actor) -> Result<(), Error> {
        let found = &client.discovered;
        if let (Some(credential), Some(secret)) = (row.secret(), offered(client)) {
            let meaning = row.secret_meaning()?;
            self.credentials.rotate(tx, credential, &meaning, secret, std::time::Duration::ZERO, by).await?;
        }
        let scopes = scopes(client).join(" ");
        let prompt = client.prompt.as_deref();
        let endpoint = &found.authorization_endpoint;
        store::client_renew(tx, row.client(), &scopes, prompt, found.iss_required, endpoint).await?;
        let event = Event::by(by.clone(), "oauth_client.renewed").on("oauth_client", row.client());
        audit::record(tx, self.clock.now(), event.detail("target", client.target.to_string()))?;
        Ok(())
    }

    fn known(&self, client: &ClientSettings, known: &super::PreRegistered) -> Result<Registered, Error> {
        if known.client_id.trim().is_empty() {
            return Err(refused("The client id is empty; enter the one that the authorization server gave you."));
        }
        let secret = known.client_secret.as_ref().map(|secret| Secret::from_bytes(secret.expose().to_vec()));
        let method = match &client.token_auth_method {
            Some(method) => method.clone(),
            None => auth_method(&client.discovered.token_auth_methods, secret.is_some()),
        };
        Ok(Registered { client_id: known.client_id.clone(), secret, method })
    }

    /// RFC 7591 section 3.1. The request carries no secret; the answer may.
    async fn register_dynamically(&self, client: &ClientSettings, key: &str) -> Result<Registered, Error> {
        let host = rules::host_of(&client.discovered.issuer);
        let Some(endpoint) = &client.discovered.registration_endpoint else {
            let takes_documents = client.discovered.takes_client_documents;
            let cause = if takes_documents {
                "accepts only clients that publish a metadata document"
            } else {
                "lets no client register itself"
            };
            return Err(refused(format!("{host} {cause}. Register ThinkWork there by hand and enter its client ID.")));
        };
        let methods = &client.discovered.token_auth_methods;
        let method = match &client.token_auth_method {
            Some(method) => method.clone(),
            None if methods.iter().any(|method| method == "none") => "none".to_owned(),
            None => auth_method(methods, true),
        };
        let redirect_uri = self.redirect_uri_of(key)?;
        // Servers that follow OpenID Connect allow http for native clients alone.
        let application_type = if self.public_url.scheme() == "https" { "web" } else { "native" };
        let mut metadata = json!({
            "client_name": CLIENT_NAME,
            "application_type": application_type,
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
        });
        let scopes = scopes(client).join(" ");
        if let Some(metadata) = metadata.as_object_mut().filter(|_| !scopes.is_empty()) {
            metadata.insert("scope".to_owned(), json!(scopes));
        }
        let mut response = self.send_registration(endpoint, &metadata).await?;
        if response.status == 400 && metadata.as_object_mut().and_then(|all| all.remove("scope")).is_some() {
            // Some servers know only their own scopes here, and take those of a resource with each flow.
            response = self.send_registration(endpoint, &metadata).await?;
        }
        if response.status == 429 || response.status >= 500 {
            return Err(Error::Unreachable(format!("{host} answered {}", response.status)));
        }
        if !response.is_success() {
            return Err(refused(format!(
                "{host} refused to register us ({}); register ThinkWork there by hand and enter its client id.",
                response.status
            )));
        }
        let answer: ClientRegistrationResponse =
            response.json().map_err(|_| refused(format!("The registration answer of {host} cannot be read.")))?;
        if answer.redirect_uris.is_some_and(|uris| !uris.contains(&redirect_uri)) {
            return Err(refused(format!("{host} registered another callback than ours; it cannot be used.")));
        }
        let secret = answer.client_secret.filter(|secret| !secret.is_empty());
        let method = answer.token_endpoint_auth_method.unwrap_or(method);
        Ok(Registered { client_id: answer.client_id, secret: secret.filter(|_| method != "none"), method })
    }

    async fn send_registration(&self, endpoint: &str, metadata: &Value) -> Result<Response, Error> {
        let request = Request::post(endpoint)
            .purpose(Purpose::Oauth)
            .header("accept", "application/json")
            .deadline(REQUEST_DEADLINE)
            .body_bytes_max(ANSWER_BYTES_MAX)
            .json(metadata)
            .map_err(|error| refused(error.to_string()))?;
        self.outbound.send(request).await.map_err(|error| match error.is_transient() {
            true => Error::Unreachable(error.to_string()),
            false => refused(error.to_string()),
        })
    }

    /// Whether the issuer may have lost our registration for this target: it said so, or a flow of this person did not come
    /// back. An issuer reports an unknown client to the person and never to us (RFC 6749 section 4.1.2.1).
    pub async fn may_be_forgotten(&self, tx: &mut Tx, target: GrantTarget, user: UserId) -> Result<bool, Error> {
        let Some(client) = store::client_current(tx, target).await?.filter(ClientRow::is_dynamic) else {
            return Ok(false);
        };
        let flows = store::flows_open(tx, user).await?;
        Ok(client.refused_at.is_some() || flows.iter().any(|flow| flow.client() == client.client()))
    }

    /// Whether the issuer still knows a registration of ours. A dynamic registration is probed: a refresh with an unknown
    /// token gets `invalid_client` only if the client is unknown as well (RFC 6749 section 5.2). Any other answer, or none,
    /// counts as known.
    async fn is_still_registered(&self, tenant: TenantId, client: &ClientRow, by: &Actor) -> Result<bool, Error> {
        if !client.is_dynamic() {
            return Ok(true);
        }
        let mut tx = self.db.write(tenant).await?;
        let proof = self.proof(&mut tx, client, &UseContext::by(by.clone())).await?;
        tx.commit().await?;
        let unknown = Secret::from_text(UNKNOWN_TOKEN.to_owned());
        let fields = vec![("grant_type", Field::Text("refresh_token")), ("refresh_token", Field::Secret(&unknown))];
        let now = || self.clock.now();
        match tokens::request(&self.outbound, &client.token_endpoint, &proof, fields, now).await {
            Err(TokenRequestError::ClientRefused(code)) if code == "invalid_client" => {
                self.client_forgotten(tenant, client, &code).await?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// The issuer no longer knows a registration of ours: the owners of its grants have to connect again, and the next
    /// connect or approval registers anew first (L90).
    pub(super) async fn client_forgotten(&self, tenant: TenantId, client: &ClientRow, code: &str) -> Result<(), Error> {
        tracing::warn!(client = %client.client(), %code, "an authorization server does not know our registration");
        let now = self.clock.now();
        let by = Actor::server();
        let mut tx = self.db.write(tenant).await?;
        if store::client_refused(&mut tx, client.client(), now).await? {
            let event = Event::by(by.clone(), "oauth_client.forgotten").on("oauth_client", client.client());
            audit::record(&mut tx, now, event.detail("code", code.to_owned()))?;
        }
        let rows = store::connections_of_client(&mut tx, client.client()).await?;
        for row in rows.iter().filter(|row| row.ended_at.is_none() && row.dead().is_none()) {
            self.require_reauth(&mut tx, row, CLIENT_FORGOTTEN, &by).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn registration_insert(
        &self,
        tx: &mut Tx,
        client: &ClientSettings,
        fresh: Fresh,
        before: Option<ClientRow>,
        by: &Actor,
    ) -> Result<(), Error> {
        let Fresh { kind, key, registered } = fresh;
        let id = OauthClientId::new();
        let now = self.clock.now();
        let found = &client.discovered;
        if let Some(before) = &before {
            store::client_replace(tx, before.client(), now).await?;
        }
        tenant_lookup::add(tx, CALLBACK_LOOKUP, &key, id.uuid()).await?;
        let mut row = ClientRow {
            id: id.uuid(),
            tenant_id: tx.tenant().uuid(),
            target_kind: client.target.kind().to_owned(),
            target_id: client.target.uuid(),
            registration: kind.to_owned(),
            issuer: found.issuer.clone(),
            callback_key: key,
            client_id: registered.client_id,
            credential_id: None,
            token_auth_method: registered.method,
            authorization_endpoint: found.authorization_endpoint.clone(),
            token_endpoint: found.token_endpoint.clone(),
            revocation_endpoint: found.revocation_endpoint.clone(),
            iss_required: found.iss_required,
            scopes: scopes(client).join(" "),
            resource: resource(client),
            audience: client.audience.clone(),
            prompt: client.prompt.clone(),
            refused_at: None,
            created_at: now.micros(),
            replaced_at: None,
        };
        if let Some(secret) = &registered.secret {
            row.credential_id = Some(self.credentials.create(tx, &row.secret_meaning()?, secret, by).await?.uuid());
        }
        store::client_insert(tx, row).await?;
        if let Some(before) = before {
            if before.issuer != found.issuer {
                // A grant is its issuer's: what another one gave does not serve this target any more (L37).
                self.suspend_target(tx, client.target, "issuer_changed", by).await?;
            }
            self.retire_client(tx, before.client(), by).await?;
        }
        let event = Event::by(by.clone(), "oauth_client.registered")
            .on("oauth_client", id)
            .detail("target", client.target.to_string())
            .detail("registration", kind);
        audit::record(tx, now, event)?;
        Ok(())
    }

    /// The redirect URI of a callback key; from the configuration alone, never from a request (L06).
    pub(super) fn redirect_uri_of(&self, key: &str) -> Result<String, Error> {
        self.public_url
            .join(&format!("/oauth/callback/{key}"))
            .map(String::from)
            .map_err(|_| refused("The public URL of this deployment cannot carry a callback; check public_url."))
    }
}

/// Whether the registration is still the one that is asked for.
fn fits(row: &ClientRow, client: &ClientSettings) -> bool {
    let found = &client.discovered;
    let same_client = match &client.pre_registered {
        // A secret that comes or goes changes how the client proves itself: that is another registration.
        Some(known) => {
            row.registration == "pre_registered"
                && row.client_id == known.client_id
                && row.secret().is_some() == known.client_secret.is_some()
        }
        None => row.is_dynamic() && row.refused_at.is_none(),
    };
    let same_method = client.token_auth_method.as_ref().is_none_or(|method| *method == row.token_auth_method);
    same_client
        && same_method
        && row.issuer == found.issuer
        && row.token_endpoint == found.token_endpoint
        && row.revocation_endpoint == found.revocation_endpoint
        && row.resource == resource(client)
        && row.audience == client.audience
}

fn offered(client: &ClientSettings) -> Option<&Secret> {
    client.pre_registered.as_ref().and_then(|known| known.client_secret.as_ref())
}

/// The scopes to ask for. Without `offline_access` some servers give no refresh token (OpenID Connect Core section 11):
/// it is added where the server lists it, unless the operator chose the scopes or recorded that it is left out (L93).
fn scopes(client: &ClientSettings) -> Vec<String> {
    if let Some(chosen) = &client.scopes {
        return chosen.clone();
    }
    let mut scopes = client.discovered.scopes.clone();
    scopes.retain(|scope| scope != OFFLINE_ACCESS);
    if client.discovered.offers_offline_access && !client.without_offline_access {
        scopes.push(OFFLINE_ACCESS.to_owned());
    }
    scopes
}

/// RFC 8707: the resource to ask for, unless the operator recorded that it is left out.
fn resource(client: &ClientSettings) -> Option<String> {
    (!client.without_resource).then(|| client.discovered.resource.clone())
}

/// How a client authenticates: the first supported method in the server's list; no list means Basic (RFC 8414 section 2).
fn auth_method(offered: &[String], has_secret: bool) -> String {
    if !has_secret {
        return "none".to_owned();
    }
    let known = ["client_secret_basic", "client_secret_post"];
    let listed = offered.iter().find(|method| known.contains(&method.as_str()));
    match listed {
        Some(method) => method.clone(),
        None if offered.is_empty() => "client_secret_basic".to_owned(),
        None => "client_secret_post".to_owned(),
    }
}
