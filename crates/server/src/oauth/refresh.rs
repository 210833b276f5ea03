//! Refreshing: one refresh per connection across processes.
//!
//! Invariants: whoever holds the row's lease refreshes, everyone else takes its result; the start is recorded and the
//! refresh token's opening committed before anything is sent; nothing is sent with too little of the lease left; the
//! write is a compare-and-set on the credential's version; a passing failure never marks a grant dead.

use std::time::Duration;

use thinkwork_database::Topic;
use thinkwork_outbound::Field;
use thinkwork_primitives::{Actor, Chain, Clock, CredentialSubject, Surface, TenantId, Timestamp};
use uuid::Uuid;

use super::rules::{self, LEASE, LEASE_LEFT_MIN, TokenRequestError};
use super::store::{self, ClientRow, ConnectionRow, Granted};
use super::tokens::{self, ClientCredentials, TokenResponse, TokenSet};
use super::{Error, Oauth};
use crate::audit::{self, Event};
use crate::credentials::{self, OpenPurpose, UseContext};

/// How often new tokens are tried to be stored: they exist nowhere else.
const STORE_ATTEMPTS: u32 = 4;
/// Pause before the second of these tries; doubled each time.
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// The tries to store tokens that were just given (L17), whichever part of the transaction is refused: the sealing, the
/// row or the record.
pub(super) struct StoreRetry {
    left: u32,
    pause: Duration,
}

impl StoreRetry {
    pub(super) const fn new() -> Self {
        Self { left: STORE_ATTEMPTS - 1, pause: STORE_PAUSE }
    }

    /// Waits for the next try; the error itself where none is left.
    pub(super) async fn after(&mut self, clock: &Clock, error: Error) -> Result<(), Error> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Err(error),
        };
        tracing::warn!(error = %Chain(&error), left = self.left, "new tokens could not be stored; trying again");
        clock.pause(self.pause).await;
        self.pause = self.pause.saturating_mul(2);
        Ok(())
    }
}

/// What became of a refresh, where the row does not say it.
pub(super) enum Refreshed {
    /// Look at the row.
    Reload,
    /// The authorization server does not accept our registration, with this word: the grant waits until it does.
    ClientRefused(String),
}

/// A refresh whose lease is held and whose secrets are opened and recorded.
pub(super) struct StartedRefresh {
    tenant: TenantId,
    row: ConnectionRow,
    client: ClientRow,
    lease: Uuid,
    lease_until: Timestamp,
    version: i64,
    /// An earlier refresh began and its answer was never stored.
    interrupted_before: bool,
    grant: TokenSet,
    proof: ClientCredentials,
    context: UseContext,
}

pub(super) fn subject(row: &ConnectionRow) -> CredentialSubject {
    CredentialSubject::User { user: row.owner(), connection: Some(row.connection()) }
}

impl Oauth {
    /// One refresh from its lease to its end, unless somebody else was faster.
    pub(super) async fn refresh(
        &self,
        tenant: TenantId,
        seen: &ConnectionRow,
        version: i64,
        forced: bool,
        context: &UseContext,
    ) -> Result<Refreshed, Error> {
        match self.refresh_begin(tenant, seen, version, forced, context).await? {
            Some(started) => self.refresh_run(started).await,
            None => Ok(Refreshed::Reload),
        }
    }

    /// Takes the lease, records the start, opens the secrets: one transaction. `None`: somebody else was faster.
    async fn refresh_begin(
        &self,
        tenant: TenantId,
        seen: &ConnectionRow,
        version: i64,
        forced: bool,
        context: &UseContext,
    ) -> Result<Option<StartedRefresh>, Error> {
        let now = self.clock.now();
        let lease = Uuid::now_v7();
        let id = seen.connection();
        let mut tx = self.db.write(tenant).await?;
        let Some(row) = store::connection_lock(&mut tx, id).await? else { return Ok(None) };
        if row.credential_id != seen.credential_id || !store::refresh_begin(&mut tx, id, lease, forced, now).await? {
            return Ok(None);
        }
        let client = store::client_find(&mut tx, row.client()).await?.ok_or(Error::NotConnected)?;
        // Asking the issuer is also how a grant of an older database is checked.
        let opening = context.request(Surface::Oauth, subject(&row)).to(OpenPurpose::Recheck);
        let opened = self.credentials.open(&mut tx, row.credential(), &row.meaning(&client)?, opening).await;
        let opened = opened.map_err(not_opened)?;
        if opened.version != version {
            return Ok(None);
        }
        let proof = self.proof(&mut tx, &client, context).await?;
        tx.commit().await?;
        Ok(Some(StartedRefresh {
            tenant,
            interrupted_before: row.refresh_started_at.is_some(),
            row,
            client,
            lease,
            lease_until: now.plus(LEASE),
            version,
            grant: TokenSet::from_secret(&opened.secret)?,
            proof,
            context: context.clone(),
        }))
    }

    /// Asks, and writes down what came of it. What to do next is read from the row afterwards.
    async fn refresh_run(&self, started: StartedRefresh) -> Result<Refreshed, Error> {
        let Some(refresh_token) = &started.grant.refresh_token else {
            self.mark_needs_reauth(started.tenant, &started.row, started.version, "expired").await?;
            return Ok(Refreshed::Reload);
        };
        // The machine may have stood still since the lease was taken.
        if self.clock.now().plus(LEASE_LEFT_MIN) > started.lease_until {
            self.refresh_later(&started, rules::PAUSE_DEFAULT, started.interrupted_before).await?;
            return Ok(Refreshed::Reload);
        }
        let mut fields =
            vec![("grant_type", Field::Text("refresh_token")), ("refresh_token", Field::Secret(refresh_token))];
        if let Some(resource) = &started.client.resource {
            fields.push(("resource", Field::Text(resource)));
        }
        let now = || self.clock.now();
        let endpoint = &started.client.token_endpoint;
        let answer = tokens::request(&self.outbound, endpoint, &started.proof, fields, now).await;
        self.refreshes.with_label_values(&[outcome_of(&answer)]).inc();
        match answer {
            Ok(answer) => self.refresh_store(started, answer).await?,
            Err(TokenRequestError::Transient { maybe_received, pause, what }) => {
                tracing::warn!(connection = %started.row.connection(), %what, "a refresh failed for now");
                self.refresh_later(&started, pause, maybe_received || started.interrupted_before).await?;
            }
            Err(TokenRequestError::ClientRefused(code)) if started.client.is_dynamic() => {
                self.client_forgotten(started.tenant, &started.client, &code).await?;
            }
            Err(TokenRequestError::ClientRefused(code)) => {
                // Nothing is wrong with the grant; whoever mends the registration mends it for everybody.
                tracing::warn!(client = %started.row.client(), %code, "our registration was refused at a refresh");
                self.refresh_later(&started, rules::PAUSE_MAX, started.interrupted_before).await?;
                return Ok(Refreshed::ClientRefused(code));
            }
            Err(TokenRequestError::GrantRefused(code)) => {
                let reason = rules::dead_reason(code, started.interrupted_before);
                self.mark_needs_reauth(started.tenant, &started.row, started.version, &reason).await?;
            }
        }
        Ok(Refreshed::Reload)
    }

    async fn refresh_later(&self, started: &StartedRefresh, pause: Duration, keep_mark: bool) -> Result<(), Error> {
        let until = self.clock.now().plus(pause);
        let mut tx = self.db.write(started.tenant).await?;
        store::refresh_paused(&mut tx, started.row.connection(), started.lease, until, keep_mark).await?;
        tx.wake(Topic::Credential, started.row.credential_id);
        tx.commit().await?;
        Ok(())
    }

    /// Marks the grant dead, unless another refresh or a new consent won meanwhile.
    pub(super) async fn mark_needs_reauth(
        &self,
        tenant: TenantId,
        row: &ConnectionRow,
        version: i64,
        reason: &str,
    ) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        let current = store::connection_lock(&mut tx, row.connection()).await?;
        let sealed = self.credentials.describe(&mut tx, row.credential()).await?;
        let still_ours = current.is_some_and(|current| current.credential_id == row.credential_id)
            && sealed.is_some_and(|sealed| sealed.version == version);
        if still_ours {
            self.require_reauth(&mut tx, row, reason, &Actor::server()).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Stores new tokens; tries again while the database refuses, since they exist nowhere else (L17).
    async fn refresh_store(&self, mut started: StartedRefresh, answer: TokenResponse) -> Result<(), Error> {
        let TokenResponse { mut grant, scopes, .. } = answer;
        if grant.refresh_token.is_none() {
            // RFC 6749 section 6: no new refresh token means that the old one goes on (L24).
            grant.refresh_token = started.grant.refresh_token.take();
        }
        let granted = Granted {
            account: started.row.account.clone(),
            scopes: scopes.unwrap_or_else(|| store::scopes_from(&started.row.scopes)),
            expires_at: grant.expires_at,
            has_refresh_token: grant.refresh_token.is_some(),
        };
        let mut tries = StoreRetry::new();
        loop {
            match self.refresh_store_once(&started, &grant, &granted).await {
                Err(error) => tries.after(&self.clock, error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn refresh_store_once(
        &self,
        started: &StartedRefresh,
        grant: &TokenSet,
        granted: &Granted,
    ) -> Result<(), Error> {
        let StartedRefresh { tenant, row, client, version, context, .. } = started;
        let now = self.clock.now();
        let id = row.connection();
        let secret = grant.to_secret()?;
        let mut tx = self.db.write(*tenant).await?;
        let Some(current) = store::connection_lock(&mut tx, id).await? else { return Ok(()) };
        if current.ended_at.is_some() {
            // Disconnected while the provider answered: what it gave is revoked like the rest.
            self.late_tokens(&mut tx, &current, client, *version, &secret).await?;
            tx.commit().await?;
            return Ok(());
        }
        let credential = row.credential();
        if current.credential() != credential {
            return Ok(());
        }
        // The connection's row before the credential's, as when a token is handed out; undone where another won.
        store::refresh_done(&mut tx, id, granted, now).await?;
        let meaning = current.meaning(client)?;
        if self.credentials.rotate_if(&mut tx, credential, &meaning, *version, &secret, &context.actor).await? {
            let event = Event::by(context.actor.clone(), "connection.refreshed")
                .on("connection", id)
                .using(subject(row), Surface::Oauth)
                .within(context.thread, context.turn);
            audit::record(&mut tx, now, event)?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// What it means for the owner that their grant does not open.
pub(super) fn not_opened(error: credentials::Error) -> Error {
    match error {
        credentials::Error::Gone(_) => Error::NotConnected,
        credentials::Error::Outdated(_) => Error::NeedsReauth(rules::OUTDATED.to_owned()),
        error if error.is_damaged() => {
            tracing::error!(error = %Chain(&error), "a grant does not open");
            Error::NeedsReauth(rules::ALTERED.to_owned())
        }
        error => Error::Credentials(error),
    }
}

/// How a refresh ended, in a word for the measurements.
fn outcome_of<T>(answer: &Result<T, TokenRequestError>) -> &'static str {
    match answer {
        Ok(_) => "refreshed",
        Err(TokenRequestError::Transient { .. }) => "later",
        Err(TokenRequestError::ClientRefused(_)) => "client_refused",
        Err(TokenRequestError::GrantRefused(_)) => "ended",
    }
}
