//! `Prefer: wait=N`: holds the answer until the event is applied, to name its thread.
//!
//! Invariant: the event is stored before anybody waits, and nothing depends on the wait.

use std::time::Duration;

use axum::http::HeaderMap;
use thinkwork_database::WakeUp;
use thinkwork_primitives::{DeliveryId, TenantId, ThreadId};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use crate::webhooks::{Outcome, Webhooks, rules, store};

/// How often to look where no hint comes.
const SWEEP: Duration = Duration::from_secs(1);
/// Shortest pause between two looks, so that a busy server is not asked at every hint.
const PAUSE: Duration = Duration::from_millis(50);

/// One request's wish to wait.
pub(super) struct Waiter<'a> {
    webhooks: &'a Webhooks,
    tenant: TenantId,
    wish: Option<(Instant, broadcast::Receiver<WakeUp>)>,
}

impl<'a> Waiter<'a> {
    /// Reads the wish and, if there is one, begins to listen, so that no hint after the append is missed.
    pub(super) fn new(webhooks: &'a Webhooks, tenant: TenantId, headers: &HeaderMap) -> Self {
        let wish = rules::wait_seconds(headers).map(|seconds| {
            let until = Instant::now().checked_add(Duration::from_secs(seconds)).unwrap_or_else(Instant::now);
            (until, webhooks.parts.db.wake_ups().subscribe())
        });
        Self { webhooks, tenant, wish }
    }

    pub(super) const fn waits(&self) -> bool {
        self.wish.is_some()
    }

    /// The thread of a delivery once it is applied; `None` when that takes longer than the sender waits, or when it
    /// ended without one.
    pub(super) async fn thread(&mut self, delivery: DeliveryId) -> Option<ThreadId> {
        let (until, hints) = self.wish.as_mut()?;
        loop {
            if let Some(ended) = look(self.webhooks, self.tenant, delivery).await {
                return ended;
            }
            let next = (Instant::now() + SWEEP).min(*until);
            // A hint, a missed hint or the sweep: all mean to look again.
            drop(timeout_at(next, hints.recv()).await);
            if Instant::now() >= *until {
                return look(self.webhooks, self.tenant, delivery).await.flatten();
            }
            tokio::time::sleep_until((Instant::now() + PAUSE).min(*until)).await;
        }
    }
}

/// How a delivery ended, if it has: with its thread or without one.
async fn look(webhooks: &Webhooks, tenant: TenantId, delivery: DeliveryId) -> Option<Option<ThreadId>> {
    let mut tx = webhooks.parts.db.read(tenant).await.ok()?;
    let found = store::delivery_find(&mut tx, delivery).await.ok()??;
    (found.result != Outcome::Accepted).then_some(found.thread)
}
