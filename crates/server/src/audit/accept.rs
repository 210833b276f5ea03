//! Accepting the database as it is: an operator's way out after an older database was put in place on purpose.
//!
//! Invariant: only what a restore leaves is accepted, a record that ends earlier and a list of what waits that fits no
//! events. A record that was changed is not made right by it. That it was accepted is itself an event of the record.

use thinkwork_primitives::{Actor, TenantId};
use uuid::Uuid;

use super::verify::{Evidence, Finding};
use super::{Audit, Checkpoints, Error, Event, Heads, record, store};

/// Rows looked at in one transaction.
const BATCH: u64 = 500;

/// What was accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Up to where the record was signed, as it was kept beside the key file.
    pub kept: Option<i64>,
    /// Up to where it is signed now.
    pub sequence: i64,
    /// How many events waited to be sealed and were gone.
    pub gone: u64,
}

/// A record that ends earlier than it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Up to where it was signed, as it is kept beside the key file.
    pub kept: i64,
    /// Up to where it is signed in the database.
    pub sequence: i64,
}

impl Audit {
    /// Whether the record of this tenant ends earlier than what is kept beside the key file: before it is accepted, nothing
    /// more is sealed.
    ///
    /// # Errors
    /// The database's.
    pub async fn behind(&self, tenant: TenantId, heads: &Heads) -> Result<Option<Behind>, Error> {
        let Some(kept) = heads.get(tenant) else { return Ok(None) };
        let last = store::chain::checkpoint_last(&mut self.db.read(tenant).await?).await?;
        let sequence = last.map_or(0, |last| last.sequence);
        Ok((sequence < kept.sequence).then_some(Behind { kept: kept.sequence, sequence }))
    }

    /// Accepts the record of this tenant as the database has it.
    ///
    /// # Errors
    /// [`Error::NotAcceptable`] where something else is wrong with it.
    pub async fn accept(&self, tenant: TenantId) -> Result<Accepted, Error> {
        let heads = self.heads().await?;
        let kept = heads.get(tenant).map(|kept| kept.sequence);
        // Held against itself alone; what was kept is what an older database does not have.
        let evidence = Evidence { heads: &Heads::none(heads.read_at), checkpoints: &Checkpoints::default() };
        let verified = self.verify(tenant, &evidence, |_| {}).await?;
        let is_left_by_a_restore =
            |found: &Finding| matches!(found, Finding::NoKeptHead | Finding::WaitingGone(_) | Finding::HeldBack(_));
        if let Some(finding) = verified.findings.into_iter().find(|found| !is_left_by_a_restore(found)) {
            return Err(Error::NotAcceptable { tenant, finding });
        }
        let gone = self.clear_waiting(tenant).await?;
        let mut tx = self.db.write(tenant).await?;
        let last = store::chain::checkpoint_last(&mut tx).await?;
        let last = last.ok_or(Error::NotAcceptable { tenant, finding: Finding::NoBeginning })?;
        let sequence = last.sequence;
        let event = Event::by(Actor::server(), "audit.accepted").on("tenant", tenant).detail("sequence", sequence);
        record(&mut tx, self.clock.now(), event.detail("kept_sequence", kept).detail("events_gone", gone))?;
        tx.commit().await?;
        self.change_heads(move |heads| heads.set(last)).await?;
        Ok(Accepted { kept, sequence, gone })
    }

    /// Forgets the kept head of a tenant that the database does not have. Returns up to where its record was signed; `None`
    /// where no head of it was kept.
    ///
    /// # Errors
    /// The file's.
    pub async fn accept_without(&self, tenant: TenantId) -> Result<Option<i64>, Error> {
        let removed = self.change_heads(move |heads| heads.remove(tenant)).await?;
        Ok(removed.map(|head| head.sequence))
    }

    /// Forgets the events that wait or were refused and are gone, and lets the sealer look at the others once more.
    async fn clear_waiting(&self, tenant: TenantId) -> Result<u64, Error> {
        let mut gone = 0_u64;
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.db.write(tenant).await?;
            let waiting = store::unsealed_list(&mut tx, after, BATCH).await?;
            let Some(last) = waiting.last() else { break };
            after = last.id.uuid();
            let absent: Vec<_> = waiting.iter().filter(|event| event.event.is_none()).map(|event| event.id).collect();
            store::unsealed_delete(&mut tx, &absent).await?;
            tx.commit().await?;
            gone = gone.saturating_add(u64::try_from(absent.len()).unwrap_or(u64::MAX));
        }
        loop {
            let mut tx = self.db.write(tenant).await?;
            let refused = store::refused_list(&mut tx, Uuid::nil(), BATCH).await?;
            if refused.is_empty() {
                return Ok(gone);
            }
            let all: Vec<_> = refused.iter().map(|event| event.id).collect();
            store::refused_delete(&mut tx, &all).await?;
            for event in refused {
                match event.event {
                    Some(_) => store::unsealed_insert(&mut tx, event.id),
                    None => gone = gone.saturating_add(1),
                }
            }
            tx.commit().await?;
        }
    }
}
