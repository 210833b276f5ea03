//! `Prefer: wait=N`: holds the answer until the event is applied, to name its thread.
//!
//! Invariant: the event is stored before anybody waits, and nothing depends on the wait.

use std::time::Duration;

use axum::http::HeaderMap;
use thinkwork_database::{Topic, WakeUp};
use thinkwork_primitives::{DeliveryId, TenantId, ThreadId, WebhookId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use crate::webhooks::{DeliveryResult, Webhooks, rules, store};

/// How often to look where no hint comes.
const SWEEP: Duration = Duration::from_secs(1);

/// One request's wish to wait.
pub(super) struct Waiter<'a> {
    webhooks: &'a Webhooks,
    tenant: TenantId,
    webhook: WebhookId,
    wish: Option<(Instant, broadcast::Receiver<WakeUp>)>,
}

impl<'a> Waiter<'a> {
    /// Reads the wish and, if there is one, begins to listen, so that no hint after the append is missed.
    pub(super) fn new(webhooks: &'a Webhooks, tenant: TenantId, webhook: WebhookId, headers: &HeaderMap) -> Self {
        let wish = rules::wait_seconds(headers).map(|seconds| {
            let until = Instant::now().checked_add(Duration::from_secs(seconds)).unwrap_or_else(Instant::now);
            (until, webhooks.inner.db.wake_ups().subscribe())
        });
        Self { webhooks, tenant, webhook, wish }
    }

    pub(super) const fn waits(&self) -> bool {
        self.wish.is_some()
    }

    /// The thread of a delivery once it is applied; `None` when that takes longer than the sender waits, or when it
    /// ended without one.
    pub(super) async fn thread(&mut self, delivery: DeliveryId) -> Option<ThreadId> {
        let (until, wake_ups) = self.wish.as_mut()?;
        loop {
            if let Some(ended) = look(self.webhooks, self.tenant, delivery).await {
                return ended;
            }
            let next = (Instant::now() + SWEEP).min(*until);
            // The worker's hint, a lost one or the sweep: all mean to look again.
            drop(timeout_at(next, applied(wake_ups, self.webhook)).await);
            if Instant::now() >= *until {
                return look(self.webhooks, self.tenant, delivery).await.flatten();
            }
        }
    }
}

/// Waits for the hint that events of this webhook were applied.
async fn applied(wake_ups: &mut broadcast::Receiver<WakeUp>, webhook: WebhookId) {
    loop {
        match wake_ups.recv().await {
            Ok(hint) if (hint.topic, hint.id) == (Topic::Webhook, webhook.uuid()) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// How a delivery ended, if it has: with its thread or without one.
async fn look(webhooks: &Webhooks, tenant: TenantId, delivery: DeliveryId) -> Option<Option<ThreadId>> {
    let mut tx = webhooks.inner.db.read(tenant).await.ok()?;
    let found = store::delivery_find(&mut tx, delivery).await.ok()??;
    (found.result != DeliveryResult::Accepted).then_some(found.thread)
}
