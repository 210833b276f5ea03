//! Handing out access tokens: looks, waits or has them refreshed, then opens one and records it.
//!
//! Invariants: only work that the owner asked for gets a token; it is opened in the transaction that also reads the
//! grant's state, and never after its end.

use std::time::Duration;

use thinkwork_database::{Heard, Subscription, Topic, Tx, WakeUp};
use thinkwork_primitives::{ConnectionId, CredentialId, GrantTarget, Surface, TenantId, UserId};

use super::refresh::{Refreshed, not_opened, subject};
use super::rules::{self, Step, TokenFreshness};
use super::store::{self, ClientRow, ConnectionRow};
use super::tokens::TokenSet;
use super::{AccessToken, Error, Oauth};
use crate::credentials::{UseContext, UseRecorder};

/// How long a caller waits for a refresh, its own or another's: a little more than one request takes.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// How often a waiter looks at the row where no hint comes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Whose access token is asked for, and for which work.
#[derive(Clone, Copy)]
pub struct AccessTokenQuery<'a> {
    pub tenant: TenantId,
    pub user: UserId,
    pub target: GrantTarget,
    /// Where the token will be presented. It opens for no other address than the one it was given for.
    pub audience: &'a str,
    pub context: &'a UseContext,
    pub recorder: Option<&'a dyn UseRecorder>,
}

impl Oauth {
    /// The person's access token, refreshed when it ends within the minute; opened with its audit event committed, and
    /// recorded on the step in that same transaction. Only for work that the person themself asked for.
    pub async fn access_token(&self, request: AccessTokenQuery<'_>) -> Result<AccessToken, Error> {
        self.token(request, TokenFreshness::Any).await
    }

    /// The resource refused `version` with 401: refresh once, at most once a minute, only if it is still current. The
    /// fresh token, or the error to report.
    ///
    /// # Errors
    /// As [`Oauth::access_token`].
    pub async fn access_token_after_refusal(
        &self,
        request: AccessTokenQuery<'_>,
        refused: i64,
    ) -> Result<AccessToken, Error> {
        self.token(request, TokenFreshness::NewerThan(refused)).await
    }

    /// Notes that the resource asked for scopes that this connection's token lacks, for its owner's next consent. False
    /// where they were granted already: another consent would change nothing.
    ///
    /// # Errors
    /// [`Error::NotConnected`] where the connection has ended.
    pub async fn require_scopes(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        scopes: &[String],
    ) -> Result<bool, Error> {
        let mut tx = self.db.write(tenant).await?;
        let row = store::connection_lock(&mut tx, connection).await?.ok_or(Error::NotConnected)?;
        let missing = rules::scopes_missing(scopes, &store::scopes_from(&row.scopes));
        if missing.is_empty() && !scopes.is_empty() {
            return Ok(false);
        }
        let mut required = store::scopes_from(&row.scopes_required);
        required.extend(missing);
        required.sort();
        required.dedup();
        store::connection_requires(&mut tx, connection, &required.join(" ")).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn token(&self, request: AccessTokenQuery<'_>, freshness: TokenFreshness) -> Result<AccessToken, Error> {
        if !rules::may_use(&request.context.actor.requester, request.user) {
            return Err(Error::NotConnected);
        }
        let ready = self.token_ready(request, freshness);
        match tokio::time::timeout(WAIT_MAX, ready).await {
            Ok(result) => result?,
            Err(_) => return Err(Error::Unreachable("a refresh is still running; try again".to_owned())),
        }
        self.token_open(request, freshness).await
    }

    /// Looks, refreshes or waits until there is a token to open or a reason why not.
    async fn token_ready(&self, request: AccessTokenQuery<'_>, freshness: TokenFreshness) -> Result<(), Error> {
        let AccessTokenQuery { tenant, user, target, context, .. } = request;
        // Before the first look, so that no hint falls between look and wait.
        let mut wake_ups = self.db.wake_ups().subscribe();
        let mut first = None;
        let mut client_refused = None;
        loop {
            let mut tx = self.db.read(tenant).await?;
            let row = store::connection_at(&mut tx, user, target).await?.ok_or(Error::NotConnected)?;
            let sealed = self.credentials.describe(&mut tx, row.credential()).await?.ok_or(Error::NotConnected)?;
            drop(tx);
            let now = self.clock.now();
            let seen = (row.credential(), sealed.version);
            let alive = row.expires_at().is_none_or(|end| end > now);
            if *first.get_or_insert(seen) != seen && alive && row.dead().is_none() {
                // Fresh while we waited, however short it lives.
                return Ok(());
            }
            match rules::next_step(&row.facts(&sealed), freshness, now) {
                Step::Use => return Ok(()),
                Step::Wait => wait(&mut wake_ups, row.credential()).await,
                Step::Pause => {
                    if let Some(code) = client_refused {
                        return Err(Error::ClientRefused(code));
                    }
                    return Err(Error::Unreachable("it failed a moment ago; try again in a minute".to_owned()));
                }
                Step::Dead(reason) => {
                    self.mark_dead(tenant, &row, sealed.version, &reason).await?;
                    return Err(Error::NeedsReauth(reason));
                }
                Step::Refresh => {
                    let this = self.clone();
                    let forced = freshness != TokenFreshness::Any;
                    let context = context.clone();
                    let refresh = async move { this.refresh(tenant, &row, sealed.version, forced, &context).await };
                    if let Refreshed::ClientRefused(code) = self.run_detached(refresh).await? {
                        client_refused = Some(code);
                    }
                }
            }
        }
    }

    /// A 401 for a token that nothing can replace is final, and so is an earlier state that nothing can check; the page must
    /// not go on saying "connected".
    async fn mark_dead(&self, tenant: TenantId, row: &ConnectionRow, version: i64, reason: &str) -> Result<(), Error> {
        let is_refused = reason == "token_refused" && !row.has_refresh_token;
        if (is_refused || reason == rules::OUTDATED) && row.dead().is_none() {
            self.mark_needs_reauth(tenant, row, version, reason).await?;
        }
        Ok(())
    }

    /// The registration that a grant stands on. A grant is its issuer's: it serves the target only while we are registered
    /// there for it (L37).
    async fn client_of(&self, tx: &mut Tx, row: &ConnectionRow, target: GrantTarget) -> Result<ClientRow, Error> {
        let current = store::client_current(tx, target).await?.ok_or(Error::NotConnected)?;
        if current.client() == row.client() {
            return Ok(current);
        }
        match store::client_find(tx, row.client()).await? {
            Some(own) if own.issuer == current.issuer => Ok(own),
            _ => Err(Error::NeedsReauth("issuer_changed".to_owned())),
        }
    }

    /// Opens the token in the transaction that also reads the grant's state; never one that has ended (L20).
    async fn token_open(&self, request: AccessTokenQuery<'_>, freshness: TokenFreshness) -> Result<AccessToken, Error> {
        let AccessTokenQuery { tenant, user, target, audience, context, recorder } = request;
        let now = self.clock.now();
        let mut tx = self.db.write(tenant).await?;
        let row = store::connection_at_lock(&mut tx, user, target).await?.ok_or(Error::NotConnected)?;
        if let Some(reason) = row.dead() {
            return Err(Error::NeedsReauth(reason.to_owned()));
        }
        let client = self.client_of(&mut tx, &row, target).await?;
        if client.audience != audience {
            return Err(Error::Refused("the grant was given for another address than this server's".to_owned()));
        }
        let meaning = row.meaning(&client)?;
        // The connection's row before the credential's, as in a refresh: two orders would wait for each other.
        store::connection_used(&mut tx, row.connection(), now).await?;
        let opening = context.request(Surface::ToolCall, subject(&row)).recorded_by(recorder);
        let opened = self.credentials.open(&mut tx, row.credential(), &meaning, opening).await;
        let opened = opened.map_err(not_opened)?;
        let grant = TokenSet::from_secret(&opened.secret)?;
        if grant.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::NeedsReauth("expired".to_owned()));
        }
        if freshness == TokenFreshness::NewerThan(opened.version) {
            return Err(Error::NeedsReauth("token_refused".to_owned()));
        }
        tx.commit().await?;
        Ok(AccessToken {
            secret: grant.access_token,
            connection: row.connection(),
            credential: opened.credential,
            version: opened.version,
        })
    }
}

/// Waits for a hint about this credential, or for the next look.
async fn wait(wake_ups: &mut Subscription, credential: CredentialId) {
    let about_this = WakeUp { topic: Topic::Credential, id: credential.uuid() };
    let hint = async { while matches!(wake_ups.recv().await, Heard::Hint(hint) if hint != about_this) {} };
    // Without a hint in time the loop looks again.
    drop(tokio::time::timeout(POLL_INTERVAL, hint).await);
}
