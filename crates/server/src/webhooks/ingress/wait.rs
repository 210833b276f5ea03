//! `Prefer: wait=N`: holds the answer until the event is applied, to name its thread.
//!
//! Invariant: the event is stored before anybody waits, and nothing depends on the wait.

use std::time::Duration;

use axum::http::HeaderMap;
use thinkwork_database::{Topic, WakeUp, Watch};
use thinkwork_primitives::{DeliveryId, TenantId, ThreadId, WebhookId};
use tokio::time::{Instant, timeout_at};

use crate::webhooks::{DeliveryResult, Webhooks, rules, store};

/// How often to look where no hint comes.
const SWEEP: Duration = Duration::from_secs(1);

/// One request's wish to wait.
pub(super) struct Waiter<'a> {
    webhooks: &'a Webhooks,
    tenant: TenantId,
    wish: Option<(Instant, Watch)>,
}

impl<'a> Waiter<'a> {
    /// Reads the wish and, if there is one, begins to listen, so that no hint after the append is missed.
    pub(super) fn new(webhooks: &'a Webhooks, tenant: TenantId, webhook: WebhookId, headers: &HeaderMap) -> Self {
        let wish = rules::wait_seconds(headers).map(|seconds| {
            let until = Instant::now().checked_add(Duration::from_secs(seconds)).unwrap_or_else(Instant::now);
            let applied = WakeUp { topic: Topic::Webhook, id: webhook.uuid() };
            (until, webhooks.inner.db.wake_ups().watch(vec![applied]))
        });
        Self { webhooks, tenant, wish }
    }

    pub(super) const fn waits(&self) -> bool {
        self.wish.is_some()
    }

    /// The thread of a delivery once it is applied; `None` when that takes longer than the sender waits, or when it
    /// ended without one.
    pub(super) async fn thread(&mut self, delivery: DeliveryId) -> Option<ThreadId> {
        let (until, applied) = self.wish.as_ref()?;
        loop {
            if let Some(ended) = look(self.webhooks, self.tenant, delivery).await {
                return ended;
            }
            let next = (Instant::now() + SWEEP).min(*until);
            // The worker's hint, a lost one or the sweep: all mean to look again.
            drop(timeout_at(next, applied.changed()).await);
            if Instant::now() >= *until {
                return look(self.webhooks, self.tenant, delivery).await.flatten();
            }
        }
    }
}

/// How a delivery ended, if it has: with its thread or without one.
async fn look(webhooks: &Webhooks, tenant: TenantId, delivery: DeliveryId) -> Option<Option<ThreadId>> {
    let mut tx = webhooks.inner.db.read(tenant).await.ok()?;
    let found = store::delivery_find(&mut tx, delivery).await.ok()??;
    (found.result != DeliveryResult::Accepted).then_some(found.thread)
}
