//! The sealer: chains recorded events per tenant, apart from the hot path, and signs a checkpoint each minute.
//!
//! Invariants: it takes what is not sealed, whatever its time, so an event that committed late is sealed late, not lost. It
//! goes on only from a chain that holds the last signed head, the one in the database and the one that is kept beside the
//! key file, and of which each link since is ours; so nobody gets a changed record signed by the server itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thinkwork_primitives::{Chain, TenantId, Timestamp, crypto};
use uuid::Uuid;

use super::chain::{self, Position};
use super::checkpoint::Checkpoint;
use super::store::{self, chain::NewSeal};
use super::verify::Finding;
use super::{Audit, Error, rules};

/// Events chained in one transaction, and links read at once.
const BATCH: u64 = 500;
/// How long between two looks for heads that are not signed yet.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Held by whoever adds to a tenant's chain or signs its head.
const LOCK: &str = "audit";

/// Seals one deployment's record. One per process is enough; of several one seals a tenant at a time.
pub struct Sealer {
    audit: Audit,
    /// At which uptime it signed last.
    signed_at: Mutex<Option<Duration>>,
    /// Where each tenant's chain ended when this process last looked: what it has seen cannot be taken back unnoticed.
    known: Mutex<HashMap<TenantId, Position>>,
    /// What was logged since the last signing: repeating it each second would add nothing.
    reported: Mutex<HashMap<TenantId, Finding>>,
}

/// What a mutex holds, also after a panic: nothing here is left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sealer {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, signed_at: Mutex::default(), known: Mutex::default(), reported: Mutex::default() }
    }

    /// Seals everything that waits, of every tenant whose chain can be gone on with; the log names the others. What was
    /// sealed before an error stays.
    pub async fn seal_all(&self) -> Result<(), Error> {
        self.seal_batches(|| {}).await
    }

    /// The same; `sealed` is told after each batch, since many may wait.
    pub async fn seal_batches(&self, sealed: impl Fn()) -> Result<(), Error> {
        let mut tx = self.audit.db.read_shared().await?;
        let tenants = store::unsealed_tenants(&mut tx).await?;
        drop(tx);
        for tenant in tenants {
            while self.report_refusal(tenant, self.seal(tenant).await)? == Some(true) {
                sealed();
            }
        }
        Ok(())
    }

    /// Whether a minute has passed since the heads were signed.
    pub fn signing_is_due(&self) -> bool {
        let signed_at = *lock(&self.signed_at);
        signed_at.is_none_or(|at| self.audit.clock.uptime().saturating_sub(at) >= CHECKPOINT_EVERY)
    }

    /// Signs the heads of these tenants that no checkpoint covers, also of those whose last event was sealed right after
    /// one and who have been silent since, and keeps them beside the key file.
    pub async fn sign_heads(&self, tenants: impl IntoIterator<Item = TenantId>) -> Result<(), Error> {
        let now = self.audit.clock.now();
        let kept = self.audit.heads().await?;
        lock(&self.reported).clear();
        let mut later = Vec::new();
        for tenant in tenants {
            let kept = kept.get(tenant);
            let Some(head) = self.report_refusal(tenant, self.checkpoint(tenant, kept, now).await)? else { continue };
            if kept.is_none_or(|kept| kept.sequence < head.sequence) {
                later.push(head);
            }
        }
        // Also where they cannot be kept: trying that each second would sign each second.
        *lock(&self.signed_at) = Some(self.audit.clock.uptime());
        if !later.is_empty() {
            self.audit.change_heads(|heads| later.into_iter().for_each(|head| heads.advance(head))).await?;
        }
        Ok(())
    }

    /// Logs a chain that cannot be continued. That of one tenant holds up no other.
    fn report_refusal<T>(&self, tenant: TenantId, done: Result<T, Error>) -> Result<Option<T>, Error> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Error::Refused { finding, .. }) if lock(&self.reported).get(&tenant) == Some(&finding) => Ok(None),
            Err(error @ Error::Refused { .. }) => {
                tracing::error!(error = %Chain(&error), "the audit record is not sealed any further");
                if let Error::Refused { finding, .. } = error {
                    lock(&self.reported).insert(tenant, finding);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Seals one batch of a tenant. False when there was no more.
    async fn seal(&self, tenant: TenantId) -> Result<bool, Error> {
        let head = self.head(tenant).await?;
        let mut tx = self.audit.db.read(tenant).await?;
        let waiting = store::unsealed_list(&mut tx, Uuid::nil(), BATCH).await?;
        let key = tx.record_key()?.clone();
        drop(tx);
        let more = u64::try_from(waiting.len()).is_ok_and(|found| found >= BATCH);
        let mut position = head.clone();
        let mut seals = Vec::with_capacity(waiting.len());
        let mut sealed = Vec::with_capacity(waiting.len());
        let mut refused = Vec::new();
        for event in waiting {
            let Some(stored) = event.event.filter(|stored| rules::is_authentic(&key, tenant, stored)) else {
                refused.push(event.id);
                continue;
            };
            let sequence = position.sequence.saturating_add(1);
            let hash = rules::link(&key, &stored.payload, &position.hash, sequence).to_vec();
            seals.push(NewSeal { sequence, event: event.id, previous: position.hash, hash: hash.clone() });
            sealed.push(event.id);
            position = Position { sequence, hash };
        }
        let now = self.audit.clock.now();
        let mut tx = self.audit.db.write(tenant).await?;
        if !tx.try_lock(LOCK).await? {
            // Another worker seals this tenant.
            return Ok(false);
        }
        if store::chain::seal_head(&mut tx).await? != head {
            // Another one did, since we looked: what waits is other events now.
            return Ok(true);
        }
        if !seals.is_empty() {
            store::chain::seals_insert(&mut tx, seals, now).await?;
            store::unsealed_delete(&mut tx, &sealed).await?;
        }
        if !refused.is_empty() {
            store::refused_insert(&mut tx, &refused, now).await?;
            store::unsealed_delete(&mut tx, &refused).await?;
        }
        tx.commit().await?;
        lock(&self.known).insert(tenant, position);
        for id in refused {
            tracing::error!(
                tenant = %tenant, event = %id,
                "an event that waits to be sealed is gone, or is none that this server recorded; it is not sealed. Run \
                 `thinkwork audit verify`, which says what it is and what to do"
            );
        }
        Ok(more)
    }

    /// Where the chain ends, after a look at every link since this process last looked.
    async fn head(&self, tenant: TenantId) -> Result<Position, Error> {
        let known = lock(&self.known).get(&tenant).cloned();
        let from = match known {
            Some(known) => known,
            None => {
                let kept = self.audit.heads().await?;
                let last = self.audit.last_checkpoint(tenant, kept.get(tenant)).await?;
                Position { sequence: last.sequence, hash: last.head }
            }
        };
        let head = self.audit.walk(tenant, from).await?;
        lock(&self.known).insert(tenant, head.clone());
        Ok(head)
    }

    /// Signs a tenant's head where the last checkpoint does not cover it. Returns the last one.
    async fn checkpoint(
        &self,
        tenant: TenantId,
        kept: Option<&Checkpoint>,
        now: Timestamp,
    ) -> Result<Checkpoint, Error> {
        let last = self.audit.last_checkpoint(tenant, kept).await?;
        if kept.is_none() && !last.is_beginning() {
            tracing::warn!(
                tenant = %tenant, sequence = last.sequence,
                "no signed head of this tenant was kept beside the key file. It is kept from here on. Where this machine has \
                 sealed for this tenant before, the file was lost: run `thinkwork audit verify` with --checkpoints"
            );
        }
        let head = self.head(tenant).await?;
        if last.sequence > head.sequence {
            return Err(Error::Refused { tenant, finding: Finding::Cut(last.sequence) });
        }
        if last.sequence == head.sequence {
            return Ok(last);
        }
        let mut tx = self.audit.db.write(tenant).await?;
        // Another process may have signed meanwhile, or be about to.
        if !tx.try_lock(LOCK).await? || store::chain::checkpoint_last(&mut tx).await?.as_ref() != Some(&last) {
            return Ok(last);
        }
        let next = last.next(tx.record_key()?, head.sequence, head.hash, now);
        store::chain::checkpoint_insert(&mut tx, &next);
        tx.commit().await?;
        // The log is the second place: whoever cuts the table does not cut the log. Told once it is stored, so that
        // the log never holds a head that the table does not.
        let signature = crypto::base64url(&next.signature);
        tracing::info!(checkpoint = %next.text(), signature = %signature, "audit checkpoint");
        Ok(next)
    }
}

impl Audit {
    /// The last checkpoint in the database, if it is ours and the one that is kept is there, too.
    async fn last_checkpoint(&self, tenant: TenantId, kept: Option<&Checkpoint>) -> Result<Checkpoint, Error> {
        let refused = |finding| Err(Error::Refused { tenant, finding });
        let mut tx = self.db.read(tenant).await?;
        let key = tx.record_key()?.clone();
        let Some(last) = store::chain::checkpoint_last(&mut tx).await? else {
            return refused(Finding::NoBeginning);
        };
        if !last.is_authentic(&key) {
            return refused(Finding::Signature(last.sequence));
        }
        if let Some(kept) = kept {
            if !kept.is_authentic(&key) {
                return refused(Finding::Signature(kept.sequence));
            }
            let stored = store::chain::checkpoint_find(&mut tx, kept.sequence).await?;
            match stored {
                None => return refused(Finding::CheckpointGone(kept.sequence)),
                Some(stored) if stored.head != kept.head => return refused(Finding::Rewritten(kept.sequence)),
                Some(_) => {}
            }
        }
        Ok(last)
    }

    /// Follows the chain from a link to its end. Each one must be ours.
    async fn walk(&self, tenant: TenantId, from: Position) -> Result<Position, Error> {
        let refused = |finding| Err(Error::Refused { tenant, finding });
        let mut position = from;
        loop {
            let mut tx = self.db.read(tenant).await?;
            let key = tx.record_key()?.clone();
            // From the link that was reached on, to see that it is still there.
            let links = store::chain::seal_list(&mut tx, position.sequence.max(1), BATCH).await?;
            drop(tx);
            let is_last = u64::try_from(links.len()).is_ok_and(|found| found < BATCH);
            let mut links = links.into_iter();
            if position.sequence > 0 {
                match links.next() {
                    Some(link) if link.sequence != position.sequence => {
                        return refused(Finding::Cut(position.sequence));
                    }
                    Some(link) if link.hash != position.hash => return refused(Finding::Rewritten(position.sequence)),
                    None => return refused(Finding::Cut(position.sequence)),
                    Some(_) => {}
                }
            }
            for link in links {
                if let Some(finding) = chain::check(&key, tenant, &position, &link).into_iter().next() {
                    return refused(finding);
                }
                position = Position { sequence: link.sequence, hash: link.hash };
            }
            if is_last {
                return Ok(position);
            }
        }
    }
}
