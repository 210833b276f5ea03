//! Verifies the record: finds whatever was changed, removed, forged, cut or signed again, and names it.
//!
//! Invariant: what cannot be shown to be as it was recorded is a finding; a record that is not there is one, too.
//!
//! Not covered: events removed within the second before sealing, or cut off within the minute before signing; and someone
//! who holds the key file.

use std::collections::{HashMap, HashSet};

use thinkwork_primitives::{AuditId, RecordKey, TenantId, Timestamp};
use uuid::Uuid;

use super::chain::{self, Position};
use super::checkpoint::{Checkpoint, Checkpoints};
use super::{Audit, Error, Heads, rules, seal, store};

/// Rows read at once.
const BATCH: u64 = 1_000;
/// Ids compared at once.
const IDS_AT_ONCE: u64 = 10_000;
/// Findings that are named. Whoever changed a whole record needs no million lines to be found out.
const FINDINGS_MAX: usize = 1_000;

/// What a verification found wrong; each names the first thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The chain has a gap.
    #[error("the links {0} to {1} of the chain are missing")]
    Missing(i64, i64),
    /// A link does not follow from the one before.
    #[error("sequence {0} does not follow from the one before: it was reordered or replaced")]
    Broken(i64),
    /// A link was not made with the key of the record.
    #[error("the link at sequence {0} was not made by this server: the chain was made anew")]
    ForgedLink(i64),
    /// A sealed event is gone.
    #[error("the event {1} of sequence {0} is gone")]
    EventGone(i64, AuditId),
    /// A sealed event is not what was recorded.
    #[error("the event {1} of sequence {0} was changed")]
    EventChanged(i64, AuditId),
    /// An event neither sealed nor waiting to be.
    #[error("the event {0} was never sealed: it was added behind the record's back")]
    Unsealed(AuditId),
    /// An event that waits was not recorded by this server.
    #[error("the event {0} waits to be sealed, but this server did not record it like this: it was forged or changed")]
    Forged(AuditId),
    /// An event is on the list of those that wait, and nowhere else.
    #[error("the event {0} waits to be sealed, but is gone: it was removed before, or never there")]
    WaitingGone(AuditId),
    /// Somebody made the sealer pass over an event.
    #[error("the event {0} is this server's and was kept from being sealed")]
    HeldBack(AuditId),
    /// Every record begins with a checkpoint.
    #[error("the record has no signed beginning: it was emptied, or its checkpoints were removed")]
    NoBeginning,
    /// A checkpoint's signature is not ours.
    #[error("the checkpoint at sequence {0} has a wrong signature")]
    Signature(i64),
    /// A checkpoint that was signed is not in the database.
    #[error(
        "the checkpoint at sequence {0}, which was signed, is not in the database: it was removed, or the database is older"
    )]
    CheckpointGone(i64),
    /// A checkpoint says more than the chain holds.
    #[error(
        "the chain ends before sequence {0}, where a checkpoint was signed: its tail was cut, or the database is older"
    )]
    Cut(i64),
    /// A checkpoint says something else than the chain.
    #[error("the chain at sequence {0} is not the one that was signed")]
    Rewritten(i64),
    /// There are checkpoints, and none was kept beside the key file.
    #[error(
        "no signed head is kept beside the key file, so a cut is not noticed: the file was lost, or this machine runs no \
         worker"
    )]
    NoKeptHead,
    /// A head of a tenant was signed, and there is no such tenant.
    #[error("the tenant is not in the database, although its record was signed up to sequence {0}")]
    TenantGone(i64),
}

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub struct Verified {
    /// Links of the chain.
    pub links: u64,
    /// Checkpoints compared, the beginning not counted.
    pub checkpoints: u64,
    /// What is wrong, the first [`FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// What is wrong beside that.
    pub further: u64,
}

/// What the checkpoints of the database say.
#[derive(Default)]
struct StoredCheckpoints {
    /// The head at each sequence.
    heads: HashMap<i64, Vec<u8>>,
    /// When the first was signed, the beginning not counted.
    signed_since: Option<Timestamp>,
}

impl Verified {
    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.further = self.further.saturating_add(1);
        }
    }
}

/// What the record of a tenant is held against.
pub struct Evidence<'a> {
    /// What is kept beside the key file.
    pub heads: &'a Heads,
    /// What was kept elsewhere.
    pub checkpoints: &'a Checkpoints,
}

impl Evidence<'_> {
    /// Tenants that somebody saw signed and that are none of these, with the last sequence of each.
    pub fn of_others(&self, tenants: &[TenantId]) -> Vec<(TenantId, Finding)> {
        let mut last: HashMap<TenantId, i64> = HashMap::new();
        for checkpoint in self.heads.iter().chain(self.checkpoints.last()) {
            let seen = last.entry(checkpoint.tenant).or_default();
            *seen = checkpoint.sequence.max(*seen);
        }
        last.retain(|tenant, _| !tenants.contains(tenant));
        last.into_iter().map(|(tenant, sequence)| (tenant, Finding::TenantGone(sequence))).collect()
    }
}

impl Audit {
    /// Verifies one tenant's record. `progress` is told how many links were looked at, now and then.
    ///
    /// # Errors
    /// The database's. What is wrong with the record is no error but a finding.
    pub async fn verify(
        &self,
        tenant: TenantId,
        evidence: &Evidence<'_>,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        // The kept head was read before the database is, which holds it since before that.
        let kept = evidence.heads.get(tenant);
        let mut seen: Vec<&Checkpoint> = evidence.checkpoints.of(tenant).iter().chain(kept).collect();
        seen.sort_by_key(|checkpoint| checkpoint.sequence);
        let stored = self.verify_checkpoints(tenant, &seen, &mut verified).await?;
        // What was signed in the last minute may be kept only after the heads were read.
        let is_kept_by_now = |at: Timestamp| evidence.heads.read_at.since(at) > seal::CHECKPOINT_EVERY;
        if kept.is_none() && stored.signed_since.is_some_and(is_kept_by_now) {
            verified.add(Finding::NoKeptHead);
        }
        let end = self.verify_chain(tenant, &stored.heads, &mut verified, progress).await?;
        let stored = stored.heads.into_keys();
        let mut cut: Vec<i64> = seen.iter().map(|checkpoint| checkpoint.sequence).chain(stored).collect();
        cut.sort_unstable();
        cut.dedup();
        cut.into_iter().filter(|sequence| *sequence > end).for_each(|sequence| verified.add(Finding::Cut(sequence)));
        self.verify_waiting(tenant, &mut verified).await?;
        self.verify_all_are_sealed(tenant, &mut verified).await?;
        Ok(verified)
    }

    /// Looks at every checkpoint of the database once, and holds what was seen elsewhere against them.
    async fn verify_checkpoints(
        &self,
        tenant: TenantId,
        seen: &[&Checkpoint],
        verified: &mut Verified,
    ) -> Result<StoredCheckpoints, Error> {
        let mut stored = StoredCheckpoints::default();
        let mut last: Option<Checkpoint> = None;
        loop {
            let mut tx = self.db.read(tenant).await?;
            let key = tx.record_key()?.clone();
            let from = last.as_ref().map_or(i64::MIN, |last| last.sequence.saturating_add(1));
            let found = store::chain::checkpoint_list(&mut tx, from, BATCH).await?;
            drop(tx);
            if found.is_empty() {
                break;
            }
            for checkpoint in found {
                match &last {
                    None if !checkpoint.is_beginning() => verified.add(Finding::NoBeginning),
                    Some(last) if checkpoint.previous != Some(last.sequence) => {
                        verified.add(Finding::CheckpointGone(checkpoint.previous.unwrap_or_default()));
                    }
                    _ => {}
                }
                if !checkpoint.is_authentic(&key) {
                    verified.add(Finding::Signature(checkpoint.sequence));
                }
                if !checkpoint.is_beginning() {
                    verified.checkpoints = verified.checkpoints.saturating_add(1);
                    stored.signed_since.get_or_insert(checkpoint.at);
                }
                stored.heads.insert(checkpoint.sequence, checkpoint.head.clone());
                last = Some(checkpoint);
            }
        }
        if last.is_none() {
            verified.add(Finding::NoBeginning);
        }
        let key = self.db.read(tenant).await?.record_key()?.clone();
        for checkpoint in seen {
            match stored.heads.get(&checkpoint.sequence) {
                _ if !checkpoint.is_authentic(&key) => verified.add(Finding::Signature(checkpoint.sequence)),
                None => verified.add(Finding::CheckpointGone(checkpoint.sequence)),
                Some(head) if *head != checkpoint.head => verified.add(Finding::Rewritten(checkpoint.sequence)),
                Some(_) => {}
            }
        }
        Ok(stored)
    }

    /// Follows the chain from its beginning, whatever is wrong with it. Returns its last sequence.
    async fn verify_chain(
        &self,
        tenant: TenantId,
        heads: &HashMap<i64, Vec<u8>>,
        verified: &mut Verified,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<i64, Error> {
        let mut position = Position::beginning();
        let mut from = i64::MIN;
        loop {
            let mut tx = self.db.read(tenant).await?;
            let key = tx.record_key()?.clone();
            let links = store::chain::seal_list(&mut tx, from, BATCH).await?;
            drop(tx);
            let Some(last) = links.last() else { return Ok(position.sequence) };
            from = last.sequence.saturating_add(1);
            for link in links {
                chain::check(&key, tenant, &position, &link).into_iter().for_each(|finding| verified.add(finding));
                if heads.get(&link.sequence).is_some_and(|head| *head != link.hash) {
                    verified.add(Finding::Rewritten(link.sequence));
                }
                position = Position { sequence: link.sequence, hash: link.hash };
                verified.links = verified.links.saturating_add(1);
            }
            progress(verified.links);
        }
    }

    /// Looks at the events that wait to be sealed, and at those that the sealer refused.
    async fn verify_waiting(&self, tenant: TenantId, verified: &mut Verified) -> Result<(), Error> {
        let key = self.db.read(tenant).await?.record_key()?.clone();
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.db.read(tenant).await?;
            let waiting = store::unsealed_list(&mut tx, after, BATCH).await?;
            drop(tx);
            let Some(last) = waiting.last() else { break };
            after = last.id.uuid();
            waiting.iter().filter_map(|event| check_waiting(&key, tenant, event)).for_each(|found| verified.add(found));
        }
        after = Uuid::nil();
        loop {
            let mut tx = self.db.read(tenant).await?;
            let refused = store::refused_list(&mut tx, after, BATCH).await?;
            drop(tx);
            let Some(last) = refused.last() else { return Ok(()) };
            after = last.id.uuid();
            for event in &refused {
                let found = check_waiting(&key, tenant, event).unwrap_or(Finding::HeldBack(event.id));
                verified.add(found);
            }
        }
    }

    /// Compares the ids of all events with those of the chain and of the list of what waits, each in its order.
    async fn verify_all_are_sealed(&self, tenant: TenantId, verified: &mut Verified) -> Result<(), Error> {
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.db.read(tenant).await?;
            let events = store::event_ids(&mut tx, after, IDS_AT_ONCE).await?;
            let Some(last) = events.last().copied() else { return Ok(()) };
            // In this order: an event that is sealed meanwhile is off the list only once it is in the chain.
            let waiting = store::unsealed_ids(&mut tx, after, last, IDS_AT_ONCE).await?;
            let refused = store::refused_ids(&mut tx, after, last, IDS_AT_ONCE).await?;
            let sealed = store::chain::sealed_ids(&mut tx, after, last).await?;
            drop(tx);
            let known: HashSet<Uuid> = waiting.into_iter().chain(refused).chain(sealed).collect();
            let strangers = events.into_iter().filter(|id| !known.contains(id)).map(AuditId::from_uuid);
            strangers.for_each(|id| verified.add(Finding::Unsealed(id)));
            after = last;
        }
    }
}

/// What is wrong with an event that waits to be sealed.
fn check_waiting(key: &RecordKey, tenant: TenantId, waiting: &store::Waiting) -> Option<Finding> {
    match &waiting.event {
        None => Some(Finding::WaitingGone(waiting.id)),
        Some(event) if !rules::is_authentic(key, tenant, event) => Some(Finding::Forged(waiting.id)),
        Some(_) => None,
    }
}
