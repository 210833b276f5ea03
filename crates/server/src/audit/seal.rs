//! The sealer: chains recorded events per tenant, apart from the hot path, and signs a checkpoint each minute.
//!
//! Invariant: it takes what is not sealed, whatever its time, so an event that committed late is sealed late, not lost.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use thinkwork_primitives::{TenantId, Timestamp, crypto};

use super::{Audit, Error, rules, store};

/// Events chained in one transaction.
const BATCH: u64 = 500;
/// How long between two checkpoints of a tenant that has news.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Seals one deployment's record. One per process is enough; several do no harm: a sequence exists once.
pub struct Sealer {
    audit: Audit,
    checkpoints: Mutex<HashMap<TenantId, Timestamp>>,
}

impl Sealer {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, checkpoints: Mutex::default() }
    }

    /// Seals everything that waits, of every tenant.
    ///
    /// # Errors
    /// The database's; what was sealed before stays.
    pub async fn seal_all(&self) -> Result<(), Error> {
        let mut tx = self.audit.db.read_shared().await?;
        let tenants = store::unsealed_tenants(&mut tx).await?;
        drop(tx);
        for tenant in tenants {
            while self.seal(tenant).await? {}
        }
        Ok(())
    }

    /// Seals one batch of a tenant. False when there was nothing.
    async fn seal(&self, tenant: TenantId) -> Result<bool, Error> {
        let now = self.audit.clock.now();
        let mut tx = self.audit.db.write(tenant).await?;
        let events = store::unsealed_list(&mut tx, BATCH).await?;
        if events.is_empty() {
            return Ok(false);
        }
        let (mut sequence, mut head) = store::seal_head(&mut tx).await?.unwrap_or((0, rules::GENESIS.to_vec()));
        let mut seals = Vec::with_capacity(events.len());
        for (event, payload) in &events {
            sequence = sequence.saturating_add(1);
            let hash = rules::link(payload, &head, sequence).to_vec();
            seals.push(store::NewSeal { sequence, event: *event, previous: head, hash: hash.clone() });
            head = hash;
        }
        store::seals_insert(&mut tx, seals, now).await?;
        if self.checkpoint_is_due(tenant, now) {
            let text = rules::checkpoint(tenant, sequence, &head, now);
            let signature = sign(&self.audit, text.as_bytes())?;
            store::checkpoint_insert(&mut tx, sequence, &head, now, &signature).await?;
            // The log is the second place: whoever cuts the table does not cut the log.
            tracing::info!(checkpoint = %text, signature = %crypto::base64url(&signature), "audit checkpoint");
        }
        tx.commit().await?;
        Ok(true)
    }

    fn checkpoint_is_due(&self, tenant: TenantId, now: Timestamp) -> bool {
        let mut checkpoints = self.checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = checkpoints.get(&tenant).is_none_or(|last| now.since(*last) >= CHECKPOINT_EVERY);
        if due {
            checkpoints.insert(tenant, now);
        }
        due
    }
}

/// The key that signs checkpoints, derived from the key ring.
pub(super) fn signer(audit: &Audit) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_seed_unchecked(audit.vault.signing_seed().expose()).map_err(|_| Error::Signing)
}

fn sign(audit: &Audit, text: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(signer(audit)?.sign(text).as_ref().to_vec())
}
