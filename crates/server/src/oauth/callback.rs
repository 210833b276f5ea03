//! The end of a flow: from the callback to the grant.
//!
//! Invariants, in this order: the key names the registration, the state's flow is of that registration, the state is
//! used up by one atomic update, the browser and the session are the starter's, `iss` agrees; only then is a code sent
//! anywhere or a word of the provider shown.

use axum::http::HeaderMap;
use thinkwork_database::{Tx, tenant_lookup};
use thinkwork_outbound::Field;
use thinkwork_primitives::{
    Actor, Chain, ConnectionId, CredentialId, CredentialSubject, DomainEvent, OauthClientId, Secret, SessionId,
    Surface, TenantId, Timestamp, UserId, crypto,
};

use super::authorize::cookie_name;
use super::refresh::StoreRetry;
use super::registration::{CALLBACK_LOOKUP, CLIENT_FORGOTTEN};
use super::rules::{self, AuthorizationResult, TokenRequestError};
use super::store::{self, ClientRow, ConnectionRow, FlowRow, Granted, NewConnection};
use super::tokens::{self, TokenResponse};
use super::{Error, Oauth, revoke};
use crate::audit::{self, Event};
use crate::credentials::{CredentialMeaning, UseContext};
use crate::edge::cookies::cookie;

/// Who sits at the browser that came back.
pub struct CallbackCaller {
    /// The signed-in person's tenant, id and session, if anybody is signed in.
    pub person: Option<(TenantId, UserId, SessionId)>,
    /// The request's headers, for its cookies.
    pub headers: HeaderMap,
}

/// What a callback came to.
#[derive(Debug, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// Go to this path of ours. The second is the Set-Cookie value that removes the flow's cookie.
    Return {
        /// The page, with `status` and `connection` or `reason`.
        to: String,
        /// Removes the flow's cookie.
        set_cookie: String,
    },
    /// No flow that could be gone on with: unknown key, or unknown, used or expired state.
    Unknown,
    /// The link belongs to a flow that somebody else, another browser or nobody signed in started. Nothing was
    /// exchanged and nothing revoked.
    NotYours,
    /// The answer contradicts what the flow recorded; nothing was exchanged.
    Mismatch,
    /// Another tab is at it.
    UnderWay,
    /// We failed; the log has why.
    Failed,
}

/// `address` with parameters added; it has no query of its own.
fn returning(flow: &FlowRow, parameters: &[(&str, &str)]) -> CallbackOutcome {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    CallbackOutcome::Return {
        to: format!("{}?{}", flow.return_to, query.finish()),
        set_cookie: format!("{}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0", cookie_name(flow.flow())),
    }
}

/// A state that was taken and may be gone on with.
struct ClaimedFlow {
    tenant: TenantId,
    flow: FlowRow,
    client: ClientRow,
    outcome: AuthorizationResult,
    actor: Actor,
}

impl Oauth {
    /// Finishes a flow: what a callback's `key` and query came to, for whoever sits at the browser.
    pub async fn callback(&self, key: &str, query: &str, caller: CallbackCaller) -> CallbackOutcome {
        let result = match self.flow_claim(key, query, &caller).await {
            Ok(Ok(claimed)) => {
                let this = self.clone();
                self.run_detached(async move { this.flow_complete(claimed).await }).await
            }
            Ok(Err(finished)) => Ok(finished),
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| {
            tracing::error!(error = %Chain(&error), "a flow could not be finished");
            CallbackOutcome::Failed
        })
    }

    /// Checks everything that can be checked without asking anybody, and uses the state up. A flow that fails a check
    /// has ended: its code goes nowhere.
    async fn flow_claim(
        &self,
        key: &str,
        query: &str,
        caller: &CallbackCaller,
    ) -> Result<Result<ClaimedFlow, CallbackOutcome>, Error> {
        let Some(route) = tenant_lookup::find(&self.db, CALLBACK_LOOKUP, key).await? else {
            return Ok(Err(CallbackOutcome::Unknown));
        };
        let Some(answer) = rules::callback_answer(query) else { return Ok(Err(CallbackOutcome::Unknown)) };
        let now = self.clock.now();
        let tenant = route.tenant;
        let mut tx = self.db.write(tenant).await?;
        let of_key = OauthClientId::from_uuid(route.row);
        let hash = crypto::sha256(answer.state.as_bytes());
        let (Some(client), Some(flow)) =
            (store::client_find(&mut tx, of_key).await?, store::flow_by_state(&mut tx, &hash).await?)
        else {
            return Ok(Err(CallbackOutcome::Unknown));
        };
        // The key first: another registration's callback must not even learn that the state exists (L08).
        if flow.client() != of_key {
            return Ok(Err(CallbackOutcome::Unknown));
        }
        let same_person = caller.person.is_some_and(|(at, user, _)| (at, user) == (tenant, flow.starter()));
        if !store::flow_consume(&mut tx, flow.flow(), now).await? {
            return self.flow_already_used(&mut tx, &flow, same_person).await.map(Err);
        }
        let cookie = cookie(&caller.headers, &cookie_name(flow.flow())).unwrap_or_default();
        let same_browser = crypto::constant_time_eq(&crypto::sha256(cookie.as_bytes()), &flow.cookie_hash);
        let refusal = if !same_person || !same_browser {
            Some(("not_the_starter", CallbackOutcome::NotYours))
        } else if !rules::issuer_agrees(&answer.iss, &flow.issuer, client.iss_required) {
            Some(("issuer_mismatch", CallbackOutcome::Mismatch))
        } else if client.replaced_at.is_some() {
            Some(("registration_replaced", CallbackOutcome::Unknown))
        } else {
            None
        };
        if let Some((outcome, finished)) = refusal {
            self.flow_close(&mut tx, &flow, outcome, &Actor::server()).await?;
            tx.commit().await?;
            return Ok(Err(finished));
        }
        tx.commit().await?;
        let Some((_, user, session)) = caller.person else { return Ok(Err(CallbackOutcome::NotYours)) };
        Ok(Ok(ClaimedFlow { tenant, flow, client, outcome: answer.outcome, actor: Actor::at_page(user, session) }))
    }

    /// A second tap or a reload: harmless for the starter, nothing for anybody else.
    async fn flow_already_used(
        &self,
        tx: &mut Tx,
        flow: &FlowRow,
        same_person: bool,
    ) -> Result<CallbackOutcome, Error> {
        if !same_person {
            return Ok(CallbackOutcome::Unknown);
        }
        match flow.outcome.as_deref() {
            Some("connected") => {
                let row = store::connection_at(tx, flow.starter(), flow.target()?).await?;
                let id = row.map(|row| row.connection().to_string()).unwrap_or_default();
                Ok(returning(flow, &[("status", "connected"), ("connection", &id)]))
            }
            None if flow.consumed_at.is_some() => Ok(CallbackOutcome::UnderWay),
            _ => Ok(CallbackOutcome::Unknown),
        }
    }

    async fn flow_refuse(
        &self,
        tenant: TenantId,
        flow: &FlowRow,
        reason: &str,
        by: &Actor,
    ) -> Result<CallbackOutcome, Error> {
        let mut tx = self.db.write(tenant).await?;
        self.flow_close(&mut tx, flow, reason, by).await?;
        self.retire_client(&mut tx, flow.client(), by).await?;
        tx.commit().await?;
        Ok(returning(flow, &[("status", "error"), ("reason", reason)]))
    }

    async fn flow_complete(&self, claimed: ClaimedFlow) -> Result<CallbackOutcome, Error> {
        let ClaimedFlow { tenant, flow, client, outcome, actor } = claimed;
        let code = match outcome {
            AuthorizationResult::Code(code) => code,
            AuthorizationResult::Refused(reason) => return self.flow_refuse(tenant, &flow, &reason, &actor).await,
            AuthorizationResult::Unclear => return self.flow_refuse(tenant, &flow, "unclear_answer", &actor).await,
        };
        match self.exchange(tenant, &flow, &client, &code, &actor).await? {
            Ok(answer) => {
                let reason = [("status", "error"), ("reason", "registration_replaced")];
                Ok(match self.connect(tenant, &flow, &client, answer, &actor).await? {
                    Some(id) => returning(&flow, &[("status", "connected"), ("connection", &id.to_string())]),
                    None => returning(&flow, &reason),
                })
            }
            Err(TokenRequestError::GrantRefused(reason)) => self.flow_refuse(tenant, &flow, &reason, &actor).await,
            Err(TokenRequestError::ClientRefused(reason)) if client.is_dynamic() => {
                self.client_forgotten(tenant, &client, &reason).await?;
                self.flow_refuse(tenant, &flow, CLIENT_FORGOTTEN, &actor).await
            }
            Err(TokenRequestError::ClientRefused(reason)) => self.flow_refuse(tenant, &flow, &reason, &actor).await,
            Err(TokenRequestError::Transient { what, .. }) => {
                tracing::warn!(%what, "a code could not be exchanged");
                self.flow_refuse(tenant, &flow, "provider_unreachable", &actor).await
            }
        }
    }

    /// Sends the code with its verifier to the pinned token endpoint.
    async fn exchange(
        &self,
        tenant: TenantId,
        flow: &FlowRow,
        client: &ClientRow,
        code: &Secret,
        actor: &Actor,
    ) -> Result<Result<TokenResponse, TokenRequestError>, Error> {
        let context = UseContext::by(actor.clone());
        let mut tx = self.db.write(tenant).await?;
        let starter = CredentialSubject::User { user: flow.starter(), connection: None };
        let opening = context.request(Surface::Oauth, starter);
        let verifier = self.credentials.open(&mut tx, flow.verifier(), &flow.meaning(client)?, opening).await?.secret;
        let proof = self.proof(&mut tx, client, &context).await?;
        tx.commit().await?;
        let mut fields = vec![
            ("grant_type", Field::Text("authorization_code")),
            ("code", Field::Secret(code)),
            ("redirect_uri", Field::Text(&flow.redirect_uri)),
            ("code_verifier", Field::Secret(&verifier)),
        ];
        if let Some(resource) = &flow.resource {
            fields.push(("resource", Field::Text(resource)));
        }
        let now = || self.clock.now();
        Ok(tokens::request(&self.outbound, &client.token_endpoint, &proof, fields, now).await)
    }

    /// Stores the grant, again while the database refuses: its tokens exist nowhere else (L17), and of two first consents
    /// at once the second finds the connection of the first.
    async fn connect(
        &self,
        tenant: TenantId,
        flow: &FlowRow,
        client: &ClientRow,
        answer: TokenResponse,
        actor: &Actor,
    ) -> Result<Option<ConnectionId>, Error> {
        let TokenResponse { grant, scopes, account } = answer;
        let granted = Granted {
            account: rules::account_label(account.as_deref(), &client.issuer),
            scopes: scopes.unwrap_or_else(|| store::scopes_from(&flow.scopes)),
            expires_at: grant.expires_at,
            has_refresh_token: grant.refresh_token.is_some(),
        };
        let secret = grant.to_secret()?;
        let issued = IssuedGrant { flow, client, actor, granted, account, secret };
        let mut tries = StoreRetry::new();
        loop {
            match self.connect_once(tenant, &issued).await {
                Err(error) => tries.after(&self.clock, error).await?,
                Ok(id) => return Ok(id),
            }
        }
    }

    async fn connect_once(&self, tenant: TenantId, issued: &IssuedGrant<'_>) -> Result<Option<ConnectionId>, Error> {
        let flow = issued.flow;
        let now = self.clock.now();
        let by = issued.actor.clone();
        let mut tx = self.db.write(tenant).await?;
        // The target may have been moved, rejected or deleted while its issuer was asked.
        let current = store::client_lock(&mut tx, issued.client.client()).await?;
        if current.is_none_or(|client| client.replaced_at.is_some()) {
            self.refuse_late(&mut tx, issued, "registration_replaced", &by, now).await?;
            tx.commit().await?;
            return Ok(None);
        }
        // And its owner may have been disabled: their row is locked, so that of the two one comes first.
        if !self.access.confirm_user(&mut tx, flow.starter()).await? {
            self.refuse_late(&mut tx, issued, "owner_disabled", &by, now).await?;
            tx.commit().await?;
            return Ok(None);
        }
        let before = store::connection_at_lock(&mut tx, flow.starter(), flow.target()?).await?;
        let id = before.as_ref().map_or_else(ConnectionId::new, |row| row.connection());
        match &before {
            Some(row) => self.replace(&mut tx, row, issued, &by, now).await?,
            None => {
                let credential = self.credentials.create(&mut tx, &issued.meaning(id)?, &issued.secret, &by).await?;
                store::connection_insert(&mut tx, &issued.row(id, credential, None)?, &issued.granted, now).await?;
            }
        }
        let action = if before.is_some() { "connection.reconnected" } else { "connection.connected" };
        let event = Event::by(by.clone(), action).on("connection", id).detail("target", flow.target()?.to_string());
        audit::record(&mut tx, now, event)?;
        tx.publish(DomainEvent::ConnectionConnected { connection: id }, now);
        self.flow_close(&mut tx, flow, "connected", &by).await?;
        tx.commit().await?;
        Ok(Some(id))
    }

    /// Puts the grant in the place of the one before (L13).
    async fn replace(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        issued: &IssuedGrant<'_>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<(), Error> {
        let id = row.connection();
        let client = issued.client;
        if row.client() != client.client() {
            let credential = self.credentials.create(tx, &issued.meaning(id)?, &issued.secret, by).await?;
            store::connection_reconnect(tx, id, client.client(), credential, &issued.granted, now).await?;
            self.keep_replaced(tx, row, by).await?;
            return Ok(self.credentials.revoke(tx, row.credential(), by).await?);
        }
        // The connection's row before the credential's, as when a token is handed out.
        store::connection_reconnect(tx, id, client.client(), row.credential(), &issued.granted, now).await?;
        if rules::another_account(&row.account, issued.account.as_deref(), &client.issuer) {
            self.keep_replaced(tx, row, by).await?;
        }
        let meaning = issued.meaning(id)?;
        self.credentials.rotate(tx, row.credential(), &meaning, &issued.secret, std::time::Duration::ZERO, by).await?;
        Ok(())
    }

    /// Tokens that came too late, for a registration that was replaced or a person who was disabled meanwhile: nobody's
    /// connection, only to be revoked.
    async fn refuse_late(
        &self,
        tx: &mut Tx,
        issued: &IssuedGrant<'_>,
        outcome: &str,
        by: &Actor,
        now: Timestamp,
    ) -> Result<(), Error> {
        let id = ConnectionId::new();
        let credential = self.credentials.create(tx, &issued.meaning(id)?, &issued.secret, by).await?;
        revoke::insert_to_revoke(tx, &issued.row(id, credential, Some(now))?, &issued.granted, now).await?;
        self.flow_close(tx, issued.flow, outcome, by).await
    }
}

/// What an issuer gave at the end of a flow.
struct IssuedGrant<'a> {
    flow: &'a FlowRow,
    client: &'a ClientRow,
    actor: &'a Actor,
    granted: Granted,
    /// The account as the issuer named it, if it did.
    account: Option<String>,
    secret: Secret,
}

impl IssuedGrant<'_> {
    /// What its tokens are for, as this connection.
    fn meaning(&self, id: ConnectionId) -> Result<CredentialMeaning, Error> {
        store::grant_meaning(id, self.flow.starter(), self.flow.target()?, self.client)
    }

    fn row(
        &self,
        id: ConnectionId,
        credential: CredentialId,
        ended_at: Option<Timestamp>,
    ) -> Result<NewConnection, Error> {
        let user = self.flow.starter();
        let target = self.flow.target()?;
        let client = self.client.client();
        Ok(NewConnection { id, user, target, client, credential, ended_at })
    }
}
