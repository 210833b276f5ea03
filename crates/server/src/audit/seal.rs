//! The sealer: chains recorded events per tenant, apart from the hot path, and signs a checkpoint each minute.
//!
//! Invariant: it takes what is not sealed, whatever its time, so an event that committed late is sealed late, not lost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use thinkwork_primitives::{TenantId, Timestamp, crypto};

use super::{Audit, Error, rules, store};

/// Events chained in one transaction.
const BATCH: u64 = 500;
/// How long between two looks for heads that are not signed yet.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Seals one deployment's record. One per process is enough; several do no harm: a sequence exists once.
pub struct Sealer {
    audit: Audit,
    /// At which uptime it signed last.
    signed_at: Mutex<Option<Duration>>,
}

impl Sealer {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, signed_at: Mutex::default() }
    }

    /// Seals everything that waits, of every tenant. What was sealed before an error stays.
    pub async fn seal_all(&self) -> Result<(), Error> {
        self.seal_batches(|| {}).await
    }

    /// The same; `sealed` is told after each batch, since many may wait.
    pub async fn seal_batches(&self, sealed: impl Fn()) -> Result<(), Error> {
        let mut tx = self.audit.db.read_shared().await?;
        let tenants = store::unsealed_tenants(&mut tx).await?;
        drop(tx);
        for tenant in tenants {
            while self.seal(tenant).await? {
                sealed();
            }
        }
        Ok(())
    }

    /// Whether a minute has passed since the heads were signed.
    pub fn signing_is_due(&self) -> bool {
        let signed_at = *self.signed_at.lock().unwrap_or_else(PoisonError::into_inner);
        signed_at.is_none_or(|at| self.audit.clock.uptime().saturating_sub(at) >= CHECKPOINT_EVERY)
    }

    /// Signs the heads of these tenants that no checkpoint covers: also of those whose last event was sealed right after
    /// one and who have been silent since.
    pub async fn sign_heads(&self, tenants: impl IntoIterator<Item = TenantId>) -> Result<(), Error> {
        let now = self.audit.clock.now();
        for tenant in tenants {
            self.checkpoint(tenant, now).await?;
        }
        *self.signed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.audit.clock.uptime());
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
        tx.commit().await?;
        Ok(true)
    }

    /// Signs a tenant's head where the last checkpoint does not cover it.
    async fn checkpoint(&self, tenant: TenantId, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.audit.db.read(tenant).await?;
        let head = store::seal_head(&mut tx).await?;
        let covered = store::checkpoint_last(&mut tx).await?;
        drop(tx);
        let Some((sequence, head)) = head.filter(|(sequence, _)| covered.is_none_or(|covered| covered < *sequence))
        else {
            return Ok(());
        };
        let text = rules::checkpoint(tenant, sequence, &head, now);
        let signature = sign(&self.audit, text.as_bytes())?;
        let mut tx = self.audit.db.write(tenant).await?;
        // Another process may have signed the same head meanwhile.
        let stored = store::checkpoint_insert(&mut tx, sequence, &head, now, &signature).await?;
        tx.commit().await?;
        if stored {
            // The log is the second place: whoever cuts the table does not cut the log. Told once it is stored, so that
            // the log never holds a head that the table does not.
            tracing::info!(checkpoint = %text, signature = %crypto::base64url(&signature), "audit checkpoint");
        }
        Ok(())
    }
}

/// The key that signs checkpoints, derived from the key ring.
pub(super) fn signer(audit: &Audit) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_seed_unchecked(audit.vault.signing_seed().expose()).map_err(|_| Error::Signing)
}

fn sign(audit: &Audit, text: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(signer(audit)?.sign(text).as_ref().to_vec())
}
