//! Openings of webhook secrets, counted in memory and recorded once a minute.
//!
//! Invariant: each request that a cached secret serves is counted with one addition; a count leaves memory only when
//! the event that holds it is committed. What a killed process had counted is lost: the delivery rows are the record.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinkwork_primitives::{CredentialId, TenantId, WebhookId};

/// Whose openings are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OpeningKey {
    pub tenant: TenantId,
    pub webhook: WebhookId,
    pub credential: CredentialId,
    pub version: i64,
}

/// How often one version was opened since it was last recorded.
#[derive(Clone, Default)]
pub(super) struct OpeningCount(Arc<AtomicI64>);

impl OpeningCount {
    pub(super) fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// The counts of this process.
#[derive(Clone, Default)]
pub(super) struct Openings(Arc<Mutex<HashMap<OpeningKey, OpeningCount>>>);

impl Openings {
    fn counts(&self) -> MutexGuard<'_, HashMap<OpeningKey, OpeningCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, counted: OpeningKey) -> OpeningCount {
        self.counts().entry(counted).or_default().clone()
    }

    /// Takes what was counted; counts that nobody adds to any more are forgotten.
    pub(super) fn take(&self) -> Vec<(OpeningKey, i64)> {
        let mut taken = Vec::new();
        self.counts().retain(|counted, count| {
            let opened = count.0.swap(0, Ordering::Relaxed);
            if opened > 0 {
                taken.push((*counted, opened));
            }
            opened > 0 || Arc::strong_count(&count.0) > 1
        });
        taken
    }
}
