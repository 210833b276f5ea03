//! Ending connections: at once for every call, then at the issuer (RFC 7009), then the material is erased.
//!
//! Invariants: an ended connection is used for nothing but its revocation; its sealed grant stays until the issuer has
//! answered, and no longer; the job that does it again was enqueued in the transaction that ended it.

use std::time::Duration;

use thinkwork_database::jobs::{self, JobType, RetryPolicy};
use thinkwork_database::{Tx, tenant_lookup};
use thinkwork_outbound::Field;
use thinkwork_primitives::{
    Actor, Chain, ConnectionId, DomainEvent, GrantTarget, Principal, Secret, Surface, TenantId, Timestamp, UserId,
};

use super::authorize::ExpireFlow;
use super::refresh::subject;
use super::registration::CALLBACK_LOOKUP;
use super::rules::{self, LEASE, TokenErrorResponse, TokenRequestError};
use super::store::{self, ClientRow, ConnectionRow, Granted, NewConnection};
use super::tokens::{self, ClientCredentials, TokenSet};
use super::{EndReason, Error, Oauth, Revocation, RevocationResult};
use crate::audit::{self, Event};
use crate::credentials::{self, OpenPurpose, UseContext};

/// Revokes the tokens of an ended connection, again if need be.
pub struct RevokeTokens;

impl JobType for RevokeTokens {
    const NAME: &'static str = "revoke_tokens";
    /// It ends itself when the tokens have expired anyway.
    const RETRY: RetryPolicy = RetryPolicy::Unlimited;
    type Payload = ConnectionId;
}

/// Ends the flows and connections of a person who was disabled.
pub struct EndUserConnections;

impl JobType for EndUserConnections {
    const NAME: &'static str = "end_user_connections";
    type Payload = UserId;
}
/// How long an issuer is asked; after that the material is erased, since tokens that old have ended or never end.
const REVOKED_WITHIN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Writes an ended row with the job that revokes its tokens.
pub(super) async fn insert_to_revoke(
    tx: &mut Tx,
    ended: &NewConnection,
    granted: &Granted,
    now: Timestamp,
) -> Result<(), Error> {
    store::connection_insert(tx, ended, granted, now).await?;
    jobs::enqueue::<RevokeTokens>(tx, ended.id, now);
    Ok(())
}

impl Oauth {
    /// Keeps tokens that are no longer anybody's connection until they are revoked: sealed for an ended row of their own.
    async fn leave_to_revoke(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        client: &ClientRow,
        tokens: &Secret,
        by: &Actor,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let id = ConnectionId::new();
        let user = row.owner();
        let target = row.target()?;
        let meaning = store::grant_meaning(id, user, target, client)?;
        let credential = self.credentials.create(tx, &meaning, tokens, by).await?;
        let kept = Granted {
            account: row.account.clone(),
            scopes: store::scopes_from(&row.scopes),
            expires_at: row.expires_at(),
            has_refresh_token: row.has_refresh_token,
        };
        let new = NewConnection { id, user, target, client: client.client(), credential, ended_at: Some(now) };
        insert_to_revoke(tx, &new, &kept, now).await
    }

    /// Tokens that an issuer gave for a connection which ended meanwhile: sealed and left to the revocation.
    pub(super) async fn late_tokens(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        client: &ClientRow,
        version: i64,
        secret: &Secret,
    ) -> Result<(), Error> {
        let by = Actor::server();
        let meaning = row.meaning(client)?;
        let credentials = &self.credentials;
        if credentials.describe(tx, row.credential()).await?.is_some()
            && credentials.rotate_if(tx, row.credential(), &meaning, version, secret, &by).await?
        {
            credentials.end_use(tx, row.credential()).await?;
            jobs::enqueue::<RevokeTokens>(tx, row.connection(), self.clock.now());
            return Ok(());
        }
        self.leave_to_revoke(tx, row, client, secret, &by).await
    }

    /// Seals the tokens of `row` apart, to be revoked, before a consent of another account takes their place.
    ///
    /// Only of another account: a server may end everything that a person granted to a client when one of its tokens is
    /// revoked (RFC 7009 section 2.1 leaves it open, and large ones do), and for the same account and registration that
    /// is the new grant too. There the old tokens are erased with the new ones' arrival and end by themselves.
    pub(super) async fn keep_replaced(&self, tx: &mut Tx, row: &ConnectionRow, by: &Actor) -> Result<(), Error> {
        if self.credentials.describe(tx, row.credential()).await?.is_none() {
            return Ok(());
        }
        let Some(client) = store::client_find(tx, row.client()).await? else { return Ok(()) };
        let opening = UseContext::by(by.clone()).request(Surface::Oauth, subject(row)).to(OpenPurpose::Revoke);
        match self.credentials.open(tx, row.credential(), &row.meaning(&client)?, opening).await {
            Ok(replaced) => self.leave_to_revoke(tx, row, &client, &replaced.secret, by).await,
            Err(credentials::Error::Vault(error)) => {
                // Nobody can use it either; a new consent has to be possible all the same.
                tracing::error!(connection = %row.connection(), error = %Chain(&error), "replaced tokens cannot be revoked");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Disconnects the caller's own connection: revokes (RFC 7009), erases, audits.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a connection that is not the caller's.
    pub async fn disconnect(&self, caller: &Principal, connection: ConnectionId) -> Result<Vec<Revocation>, Error> {
        let owner = caller.user().ok_or(Error::NotFound)?;
        self.end(caller.tenant, Some(owner), connection, EndReason::ByOwner, caller.actor()).await
    }

    /// Revokes anybody's connection, for an operator.
    pub async fn revoke(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        by: Actor,
    ) -> Result<Vec<Revocation>, Error> {
        self.end(tenant, None, connection, EndReason::ByOperator, by).await
    }

    /// Ends a live connection and tries to revoke its tokens at once.
    async fn end(
        &self,
        tenant: TenantId,
        owner: Option<UserId>,
        id: ConnectionId,
        why: EndReason,
        by: Actor,
    ) -> Result<Vec<Revocation>, Error> {
        let now = self.clock.now();
        let mut tx = self.db.write(tenant).await?;
        let row = match owner {
            Some(owner) => store::connection_own(&mut tx, owner, id).await?,
            None => store::connection_any(&mut tx, id).await?,
        };
        let row = row.filter(|row| row.ended_at.is_none()).ok_or(Error::NotFound)?;
        // The job waits a little: it is for the case that we do not get to it now.
        if !self.end_row(&mut tx, &row, why, &by, now.plus(LEASE)).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        let this = self.clone();
        self.run_detached(async move { this.revoke_tokens(tenant, id, by).await }).await
    }

    /// Does the job [`RevokeTokens`].
    pub async fn revoke_ended(&self, tenant: TenantId, id: ConnectionId) -> Result<(), Error> {
        let failure = match self.revoke_tokens(tenant, id, Actor::server()).await {
            Ok(results) if results.iter().any(|one| one.result == RevocationResult::PendingRetry) => {
                Error::Unreachable("the tokens are not revoked yet".to_owned())
            }
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if self.revoke_give_up(tenant, id).await? { Ok(()) } else { Err(failure) }
    }

    /// Erases what no issuer revoked in a month, and says so in the record. False while it is still tried.
    async fn revoke_give_up(&self, tenant: TenantId, id: ConnectionId) -> Result<bool, Error> {
        let now = self.clock.now();
        let by = Actor::server();
        let mut tx = self.db.write(tenant).await?;
        let Some(row) = store::connection_any(&mut tx, id).await? else { return Ok(true) };
        if row.ended_at.is_none_or(|ended_at| now.since(Timestamp::from_micros(ended_at)) < REVOKED_WITHIN) {
            return Ok(false);
        }
        self.credentials.revoke(&mut tx, row.credential(), &by).await?;
        self.retire_client(&mut tx, row.client(), &by).await?;
        let event = Event::by(by, "connection.revocation_failed").on("connection", id);
        audit::record(&mut tx, now, event.detail("owner", row.owner().to_string()))?;
        tx.commit().await?;
        Ok(true)
    }

    /// Revokes what an ended connection still holds, refresh token first, and erases it once the issuer has answered.
    async fn revoke_tokens(&self, tenant: TenantId, id: ConnectionId, by: Actor) -> Result<Vec<Revocation>, Error> {
        let mut tx = self.db.write(tenant).await?;
        let Some(row) = store::connection_any(&mut tx, id).await?.filter(|row| row.ended_at.is_some()) else {
            return Ok(Vec::new());
        };
        let client = store::client_find(&mut tx, row.client()).await?;
        let Some(sealed) = self.credentials.describe(&mut tx, row.credential()).await? else { return Ok(Vec::new()) };
        let endpoint = client.as_ref().and_then(|client| client.revocation_endpoint.clone());
        let results = match (client, endpoint) {
            (Some(client), Some(endpoint)) => {
                let (grant, proof) = self.open_to_revoke(&mut tx, &row, &client, &by).await?;
                tx.commit().await?;
                self.revoke_at_issuer(&endpoint, &proof, &grant).await
            }
            _ => {
                drop(tx);
                let refresh = row.has_refresh_token.then_some("refresh");
                let not_supported = |token| Revocation { token, result: RevocationResult::NotSupported };
                refresh.into_iter().chain(["access"]).map(not_supported).collect()
            }
        };
        self.revoked(tenant, &row, sealed.version, &results, by).await?;
        Ok(results)
    }

    async fn open_to_revoke(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        client: &ClientRow,
        by: &Actor,
    ) -> Result<(TokenSet, ClientCredentials), Error> {
        let context = UseContext::by(by.clone());
        let opening = context.request(Surface::Oauth, subject(row)).to(OpenPurpose::Revoke);
        let opened = self.credentials.open(tx, row.credential(), &row.meaning(client)?, opening).await?;
        let proof = self.proof(tx, client, &context).await?;
        Ok((TokenSet::from_secret(&opened.secret)?, proof))
    }

    async fn revoke_at_issuer(&self, endpoint: &str, proof: &ClientCredentials, grant: &TokenSet) -> Vec<Revocation> {
        let mut results = Vec::new();
        if let Some(token) = &grant.refresh_token {
            let result = self.revoke_one(endpoint, proof, token, "refresh_token").await;
            results.push(Revocation { token: "refresh", result });
        }
        let result = self.revoke_one(endpoint, proof, &grant.access_token, "access_token").await;
        results.push(Revocation { token: "access", result });
        results
    }

    /// RFC 7009 section 2. 200 also for a token that was void already.
    async fn revoke_one(
        &self,
        endpoint: &str,
        proof: &ClientCredentials,
        token: &Secret,
        hint: &str,
    ) -> RevocationResult {
        let fields = vec![("token", Field::Secret(token)), ("token_type_hint", Field::Text(hint))];
        let response = match tokens::post(&self.outbound, endpoint, proof, fields).await {
            Ok(response) => response,
            Err(_) => return RevocationResult::PendingRetry,
        };
        if response.is_success() {
            return RevocationResult::Revoked;
        }
        let body: Option<serde_json::Value> = response.json().ok();
        let code = body.as_ref().and_then(|body| body.get("error")).and_then(serde_json::Value::as_str);
        let refused = TokenErrorResponse { status: response.status, code, description: None, retry_after: None };
        match rules::failure(&rules::host_of(endpoint), &refused) {
            TokenRequestError::ClientRefused(_) | TokenRequestError::GrantRefused(_) => RevocationResult::NotSupported,
            TokenRequestError::Transient { .. } => RevocationResult::PendingRetry,
        }
    }

    /// Writes the results down; erases the material unless a try is still to come or newer tokens came meanwhile.
    async fn revoked(
        &self,
        tenant: TenantId,
        row: &ConnectionRow,
        version: i64,
        results: &[Revocation],
        by: Actor,
    ) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        let pending = results.iter().any(|revocation| revocation.result == RevocationResult::PendingRetry);
        let sealed = self.credentials.describe(&mut tx, row.credential()).await?;
        let unchanged = sealed.is_some_and(|sealed| sealed.version == version);
        if !pending && unchanged {
            self.credentials.revoke(&mut tx, row.credential(), &by).await?;
            jobs::cancel::<RevokeTokens>(&mut tx, row.connection()).await?;
            self.retire_client(&mut tx, row.client(), &by).await?;
        }
        let mut event = Event::by(by, "connection.tokens_revoked").on("connection", row.connection());
        for revocation in results {
            event = event.detail(revocation.token, revocation.result.as_str());
        }
        audit::record(&mut tx, self.clock.now(), event)?;
        tx.commit().await?;
        Ok(())
    }

    /// Erases the secret of a replaced registration once no grant of it is left.
    pub(super) async fn retire_client(
        &self,
        tx: &mut Tx,
        id: thinkwork_primitives::OauthClientId,
        by: &Actor,
    ) -> Result<(), Error> {
        let Some(client) = store::client_find(tx, id).await?.filter(|client| client.replaced_at.is_some()) else {
            return Ok(());
        };
        if store::flow_exchanging(tx, id).await? {
            // What comes of it may have to be revoked, in this registration's name.
            return Ok(());
        }
        for row in store::connections_of_client(tx, id).await? {
            if self.credentials.describe(tx, row.credential()).await?.is_some() {
                return Ok(());
            }
        }
        tenant_lookup::remove(tx, CALLBACK_LOOKUP, client.id).await?;
        if let Some(secret) = client.secret() {
            self.credentials.revoke(tx, secret, by).await?;
        }
        Ok(())
    }

    /// Ends every grant for a target in the transaction that deletes, rejects or moves it, and its registration; the
    /// tokens are revoked by jobs.
    pub async fn end_target(
        &self,
        tx: &mut Tx,
        target: GrantTarget,
        reason: &'static str,
        by: &Actor,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let client = store::client_current(tx, target).await?;
        if let Some(client) = &client {
            // First of all: a consent that is being exchanged sees this, or its connection is seen below.
            store::client_replace(tx, client.client(), now).await?;
        }
        for row in store::connections_at(tx, target).await? {
            // Where its owner ends it at this moment, there is nothing left to end.
            self.end_row(tx, &row, EndReason::WithTarget(reason), by, now).await?;
        }
        if let Some(client) = &client {
            self.retire_client(tx, client.client(), by).await?;
        }
        Ok(())
    }

    /// Does the job [`EndUserConnections`]: ends every grant and open flow of a person who was disabled; the tokens are
    /// revoked by jobs of their own. A consent whose code is being exchanged at this moment becomes a connection first,
    /// so then the job comes again.
    pub async fn end_user_connections(&self, tenant: TenantId, user: UserId) -> Result<(), Error> {
        let now = self.clock.now();
        let by = Actor::server();
        let mut tx = self.db.write(tenant).await?;
        let mut being_exchanged = false;
        for flow in store::flows_open(&mut tx, user).await? {
            if flow.consumed_at.is_some() {
                being_exchanged = true;
                continue;
            }
            store::flow_outcome(&mut tx, flow.flow(), "owner_disabled").await?;
            self.credentials.revoke(&mut tx, flow.verifier(), &by).await?;
            jobs::cancel::<ExpireFlow>(&mut tx, flow.flow()).await?;
        }
        for row in store::connections_of(&mut tx, user).await? {
            self.end_row(&mut tx, &row, EndReason::WithOwner, &by, now).await?;
        }
        tx.commit().await?;
        if being_exchanged {
            return Err(Error::Unreachable("a consent of this person is being exchanged".to_owned()));
        }
        Ok(())
    }

    /// Every grant for a target whose issuer moved needs its owner, in the transaction that notes the move; nothing is
    /// revoked.
    pub async fn suspend_target(
        &self,
        tx: &mut Tx,
        target: GrantTarget,
        reason: &'static str,
        by: &Actor,
    ) -> Result<(), Error> {
        for row in store::connections_at(tx, target).await? {
            self.require_reauth(tx, &row, reason, by).await?;
        }
        Ok(())
    }

    /// Marks a grant so that its owner has to connect again, records it and tells those who watch.
    pub(super) async fn require_reauth(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        reason: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        store::connection_needs_reauth(tx, row.connection(), reason).await?;
        let event = Event::by(by.clone(), "connection.needs_reauth").on("connection", row.connection());
        audit::record(tx, now, event.detail("reason", reason.to_owned()))?;
        tx.publish(DomainEvent::ConnectionNeedsReauth { connection: row.connection() }, now);
        tx.wake(thinkwork_database::Topic::Credential, row.credential_id);
        Ok(())
    }

    /// From here on no call uses the connection. False where it had ended.
    async fn end_row(
        &self,
        tx: &mut Tx,
        row: &ConnectionRow,
        why: EndReason,
        by: &Actor,
        revoke_at: Timestamp,
    ) -> Result<bool, Error> {
        let now = self.clock.now();
        if !store::connection_end(tx, row.connection(), now).await? {
            return Ok(false);
        }
        self.credentials.end_use(tx, row.credential()).await?;
        jobs::enqueue::<RevokeTokens>(tx, row.connection(), revoke_at);
        tx.publish(DomainEvent::ConnectionEnded { connection: row.connection() }, now);
        let event = Event::by(by.clone(), "connection.ended")
            .on("connection", row.connection())
            .detail("reason", rules::end_reason(why))
            .detail("owner", row.owner().to_string());
        audit::record(tx, now, event)?;
        tx.wake(thinkwork_database::Topic::Credential, row.credential_id);
        Ok(true)
    }
}
