//! The chain as it is read back: by the sealer, which goes on from its end, and by `audit verify`, which reads all of it.
//!
//! Invariant: a link is taken for ours only where its hash and its event's MAC were made with the key of the record, it
//! follows the one before, and the event's columns say what was recorded.

use thinkwork_primitives::{RecordKey, TenantId};

use super::rules;
use super::store::chain::Link;
use super::verify::Finding;

/// A place in a chain: a link, by its sequence and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub sequence: i64,
    pub hash: Vec<u8>,
}

impl Position {
    /// Before the first link.
    pub fn beginning() -> Self {
        Self { sequence: 0, hash: rules::GENESIS.to_vec() }
    }
}

/// What is wrong with the link that comes behind `before`, the first thing first.
pub(super) fn check(key: &RecordKey, tenant: TenantId, before: &Position, link: &Link) -> Vec<Finding> {
    let mut findings = Vec::new();
    let next = before.sequence.saturating_add(1);
    if link.sequence > next {
        findings.push(Finding::Missing(next, link.sequence.saturating_sub(1)));
    } else if link.sequence < next || link.previous != before.hash {
        findings.push(Finding::Broken(link.sequence));
    }
    let Some(event) = &link.event else {
        findings.push(Finding::EventGone(link.sequence, link.event_id));
        return findings;
    };
    if !rules::is_authentic(key, tenant, event) {
        findings.push(Finding::EventChanged(link.sequence, link.event_id));
    } else if rules::link(key, &event.payload, &link.previous, link.sequence).as_slice() != link.hash {
        findings.push(Finding::ForgedLink(link.sequence));
    }
    findings
}
