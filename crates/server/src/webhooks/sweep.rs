//! Deletes the keys of events that no copy could be taken for any more, and old deliveries.

use std::time::Duration;

use thinkwork_database::retention::{self, StoredRows};
use thinkwork_database::{Tx, quota};
use thinkwork_primitives::{TenantId, Timestamp};

use super::schemes::Scheme;
use super::{Error, SOURCE_PREFIX, Webhooks, store};
use crate::credentials::CredentialInfo;
use crate::edge::rate_limit::minute_of;

/// How long the key of an event is kept at least: senders retry for days, and operators look back for weeks.
const KEYS_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

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

    /// Deletes the contents of deliveries from before then, at most `count`.
    pub async fn delete_contents_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        Ok(retention::delete_before(&self.inner.db, tenant, store::CONTENT_COLUMNS, before, count).await?)
    }

    /// Deletes deliveries from before then with their contents, at most `count`. An event that is not applied yet has no
    /// delivery and stays.
    pub async fn delete_deliveries_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        // Contents refer to their delivery. Both are deleted oldest first, so no delivery goes before its contents.
        self.delete_contents_before(tenant, before, count).await?;
        Ok(retention::delete_before(&self.inner.db, tenant, store::DELIVERY_COLUMNS, before, count).await?)
    }

    /// How many deliveries of the transaction's tenant still have their contents, and when the oldest arrived.
    pub async fn contents_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(retention::stored(tx, &store::CONTENT_COLUMNS, now).await?)
    }

    /// How many deliveries the transaction's tenant has, and when the oldest arrived.
    pub async fn deliveries_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(retention::stored(tx, &store::DELIVERY_COLUMNS, now).await?)
    }

    /// Forgets the used quota of minutes that are over, at most `count`.
    pub async fn limits_sweep(&self, count: u64) -> Result<(), Error> {
        quota::forget(&self.inner.db, SOURCE_PREFIX, minute_of(self.inner.clock.now()), count).await?;
        Ok(())
    }
}
