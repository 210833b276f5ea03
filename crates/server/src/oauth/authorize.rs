//! The beginning of a flow, and its end when nobody finishes it.
//!
//! Invariants: the principal is the only source of user and tenant; state and cookie are stored as SHA-256 alone, the
//! verifier is sealed; PKCE S256 always.

use thinkwork_database::jobs::JobType;
use thinkwork_database::{Tx, jobs};
use thinkwork_primitives::{Actor, FlowId, GrantTarget, Secret, TenantId, UserId, crypto, limits};
use url::Url;
use uuid::Uuid;

use super::rules;
use super::store::{self, ClientRow, FlowRow};
use super::{Error, Oauth, StartedFlow};
use crate::audit::{self, Event};
use crate::edge::caller::SessionUser;

/// Erases what a flow that nobody finished left.
pub struct ExpireFlow;

impl JobType for ExpireFlow {
    const NAME: &'static str = "expire_flow";
    type Payload = FlowId;
}

/// What a browser takes to the authorization endpoint.
struct AuthorizationRequest<'a> {
    client: &'a ClientRow,
    redirect_uri: &'a str,
    scopes: &'a str,
    state: &'a Secret,
    challenge: &'a str,
}

pub(super) fn cookie_name(flow: FlowId) -> String {
    format!("__Host-tw_flow_{flow}")
}

fn random_failed(error: crypto::RandomError) -> Error {
    Error::Refused(error.to_string())
}

impl Oauth {
    /// Starts a flow for the consenting person: authenticated, bound to session and browser. `return_to` is the path
    /// of a member's page, or nothing for the connections page.
    ///
    /// # Errors
    /// [`Error::ReturnAddress`]; [`Error::NotFound`] where the target has no registration.
    pub async fn start(
        &self,
        caller: &SessionUser,
        target: GrantTarget,
        return_to: &str,
    ) -> Result<StartedFlow, Error> {
        let return_to = rules::return_path(return_to).ok_or(Error::ReturnAddress)?;
        let now = self.clock.now();
        let flow = FlowId::new();
        let by = caller.principal.actor();
        let (state, state_hash) = crypto::generate_token("").map_err(random_failed)?;
        let (cookie, cookie_hash) = crypto::generate_token("").map_err(random_failed)?;
        let (verifier, challenge) = crypto::generate_token("").map_err(random_failed)?;
        let expires_at = now.plus(limits::OAUTH_FLOW_LIFETIME);
        let mut tx = self.access.write_as(&caller.principal).await?;
        let client = store::client_current(&mut tx, target).await?.ok_or(Error::NotFound)?;
        let redirect_uri = self.redirect_uri_of(&client.callback_key)?;
        let scopes = self.scopes_to_request(&mut tx, &client, caller.user, target).await?;
        let request = AuthorizationRequest {
            client: &client,
            redirect_uri: &redirect_uri,
            scopes: &scopes,
            state: &state,
            challenge: &crypto::base64url(&challenge),
        };
        let authorize_url = self.authorize_url(&request)?;
        let mut row = FlowRow {
            id: flow.uuid(),
            tenant_id: tx.tenant().uuid(),
            user_id: caller.user.uuid(),
            oauth_client_id: client.id,
            target_kind: target.kind().to_owned(),
            target_id: target.uuid(),
            purpose: "connection".to_owned(),
            state_hash: state_hash.to_vec(),
            issuer: client.issuer.clone(),
            redirect_uri,
            resource: client.resource.clone(),
            scopes,
            return_to: return_to.to_owned(),
            // Below: what the verifier is sealed for is what this row says.
            verifier_credential_id: Uuid::nil(),
            cookie_hash: cookie_hash.to_vec(),
            created_at: now.micros(),
            expires_at: expires_at.micros(),
            consumed_at: None,
            outcome: None,
        };
        row.verifier_credential_id =
            self.credentials.create(&mut tx, &row.meaning(&client)?, &verifier, &by).await?.uuid();
        store::flow_insert(&mut tx, row).await?;
        // A minute later, so that it never meets an exchange that began at the last moment.
        let end_at = expires_at.plus(rules::LEASE);
        jobs::enqueue::<ExpireFlow>(&mut tx, flow, end_at);
        let event = Event::by(by, "connection.flow_started").on("flow", flow);
        audit::record(&mut tx, now, event.detail("target", target.to_string()))?;
        tx.commit().await?;
        let set_cookie = format!(
            "{}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
            cookie_name(flow),
            cookie.expose_str().unwrap_or_default(),
            limits::OAUTH_FLOW_LIFETIME.as_secs()
        );
        Ok(StartedFlow { flow, authorize_url, expires_at, set_cookie })
    }

    /// The scopes of the registration, and those that the resource has asked this person for since.
    async fn scopes_to_request(
        &self,
        tx: &mut Tx,
        client: &ClientRow,
        user: UserId,
        target: GrantTarget,
    ) -> Result<String, Error> {
        let before = store::connection_at(tx, user, target).await?;
        let mut scopes = client.scope_list();
        let required: Vec<String> = before.iter().flat_map(|row| store::scopes_from(&row.scopes_required)).collect();
        scopes.extend(rules::scopes_missing(&required, &scopes));
        Ok(scopes.join(" "))
    }

    /// RFC 6749 section 4.1.1 with RFC 7636 and RFC 8707; what the endpoint's own query holds is kept.
    fn authorize_url(&self, request: &AuthorizationRequest<'_>) -> Result<String, Error> {
        let client = request.client;
        let checked = self.outbound.check_url(&client.authorization_endpoint);
        let mut url: Url = checked.map_err(|error| Error::Refused(error.to_string()))?;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("state", request.state.expose_str().unwrap_or_default())
            .append_pair("code_challenge", request.challenge)
            .append_pair("code_challenge_method", "S256");
        if !request.scopes.is_empty() {
            query.append_pair("scope", request.scopes);
        }
        if let Some(prompt) = &client.prompt {
            query.append_pair("prompt", prompt);
        }
        if let Some(resource) = &client.resource {
            query.append_pair("resource", resource);
        }
        drop(query);
        Ok(url.into())
    }

    /// Writes down how a flow ended and erases its verifier.
    pub(super) async fn flow_close(&self, tx: &mut Tx, flow: &FlowRow, outcome: &str, by: &Actor) -> Result<(), Error> {
        // The flow's row before its verifier's, as when its state is used up: two orders would wait for each other.
        store::flow_outcome(tx, flow.flow(), outcome).await?;
        self.credentials.revoke(tx, flow.verifier(), by).await?;
        jobs::cancel::<ExpireFlow>(tx, flow.flow()).await?;
        let event = Event::by(by.clone(), "connection.flow_ended").on("flow", flow.flow()).detail("outcome", outcome);
        audit::record(tx, self.clock.now(), event)?;
        Ok(())
    }

    /// Does the job [`ExpireFlow`]: ends a flow that nobody finished in time.
    pub async fn expire_flow(&self, tenant: TenantId, id: FlowId) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        if let Some(flow) = store::flow_find(&mut tx, id).await?.filter(|flow| flow.outcome.is_none()) {
            store::flow_outcome(&mut tx, id, "expired").await?;
            self.credentials.revoke(&mut tx, flow.verifier(), &Actor::server()).await?;
            self.retire_client(&mut tx, flow.client(), &Actor::server()).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
