//! Forgetting what makes an event known, once no copy of it could be taken any more, and deliveries that are old.

use std::time::Duration;

use thinkwork_database::quota;
use thinkwork_primitives::{TenantId, Timestamp};

use super::schemes::Scheme;
use super::{Error, SOURCE_PREFIX, Webhooks, store};
use crate::credentials::CredentialInfo;
use crate::edge::rate_limit::minute_of;

/// How long the key of an event is kept at least: senders retry for days, and operators look back for weeks.
const KEYS_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Rows forgotten in one transaction: on SQLite everybody who writes waits for it.
const ROWS_AT_ONCE: u64 = 1_000;

/// Before when keys may be forgotten. A request that is signed with its time is refused for its age long before; one
/// that is not verifies as long as its secret does, so its key lives as long (a deleted webhook has none).
fn forgotten_before(scheme: &Scheme, secret: Option<&CredentialInfo>, now: Timestamp) -> Timestamp {
    let aged = now.minus(KEYS_KEPT);
    match secret {
        Some(secret) if !scheme.verifier().description().signs_time => {
            let oldest = if secret.previous_ends_at.is_some() { secret.created_at } else { secret.rotated_at };
            aged.min(oldest)
        }
        _ => aged,
    }
}

impl Webhooks {
    /// Forgets keys of a tenant's events that no copy could be taken for, at most `count` of each webhook.
    pub async fn sweep(&self, tenant: TenantId, count: u64) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.db.read(tenant).await?;
        let mut due = Vec::new();
        for (id, scheme, credential) in store::webhooks_ever(&mut tx).await? {
            let secret = self.inner.credentials.describe(&mut tx, credential).await?;
            due.push((id, forgotten_before(&scheme, secret.as_ref(), now)));
        }
        drop(tx);
        for (id, before) in due {
            self.inner.intake.forget(tenant, &Self::source(id), before, count).await?;
        }
        Ok(())
    }

    /// Forgets the contents of deliveries that came before then, at most `count`.
    pub async fn contents_forget(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let mut tx = self.inner.db.write(tenant).await?;
            let gone = store::envelopes_forget(&mut tx, before, left.min(ROWS_AT_ONCE)).await?;
            tx.commit().await?;
            left = if gone < ROWS_AT_ONCE { 0 } else { left.saturating_sub(gone) };
        }
        Ok(())
    }

    /// Forgets deliveries that came before then and what is left of their contents, at most `count`. What is not applied yet
    /// has no row and stays.
    pub async fn deliveries_forget(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let mut tx = self.inner.db.write(tenant).await?;
            let gone = store::deliveries_forget(&mut tx, before, left.min(ROWS_AT_ONCE)).await?;
            tx.commit().await?;
            left = if gone < ROWS_AT_ONCE { 0 } else { left.saturating_sub(gone) };
        }
        Ok(())
    }

    /// Forgets the used quota of minutes that are over, at most `count`.
    pub async fn limits_sweep(&self, count: u64) -> Result<(), Error> {
        quota::forget(&self.inner.db, SOURCE_PREFIX, minute_of(self.inner.clock.now()), count).await?;
        Ok(())
    }
}
