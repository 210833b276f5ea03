//! What ends a call of a turn early: the turn is cancelled, or this process stops.
//!
//! Invariant: within a second of either, the call is no longer awaited and the upstream of a tool call has been told, so
//! that the next turn of the thread begins at once.

use std::time::Duration;

use thinkwork_database::{Topic, WakeUp};
use thinkwork_primitives::Chain;
use tokio::time::timeout;

use super::Error;
use super::execution::Execution;
use crate::edge::caller::BoxFuture;
use crate::threads::TurnStatus;

/// How often a turn's status is read during a call, in case the hint of its cancellation is lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a call that was ended early may take to tell its upstream.
const NOTICE_DEADLINE: Duration = Duration::from_millis(700);

/// Why a call was ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// A person cancelled the turn.
    Cancelled,
    /// This process stops; another one, or the next, goes on with the turn.
    Stopping,
}

impl Execution<'_> {
    /// Awaits a call, which is dropped when it is interrupted. It lies on the heap, since a call's state is large.
    pub(super) fn unless_interrupted<'a, T: Send>(
        &'a self,
        call: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Interruption>> {
        let call = Box::pin(call);
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.turns.stopping.cancelled() => Err(Interruption::Stopping),
                outcome = call => Ok(outcome),
                () = self.until_cancelled() => Err(Interruption::Cancelled),
            }
        })
    }

    /// Awaits a call of a tool. When it is interrupted, the call gets a moment to tell its upstream.
    pub(super) async fn await_tool_call<T: Send>(
        &self,
        call: impl Future<Output = T> + Send,
    ) -> Result<T, Interruption> {
        let mut call = Box::pin(call);
        let awaited = self.unless_interrupted(call.as_mut()).await;
        if awaited.is_err() {
            self.context.cancellation.cancel();
            drop(timeout(NOTICE_DEADLINE, call).await);
        }
        awaited
    }

    /// Waits until the turn no longer runs.
    async fn until_cancelled(&self) {
        let key = WakeUp { topic: Topic::Turn, id: self.turn.id.uuid() };
        let cancelled = self.turns.db.wake_ups().watch(vec![key]);
        loop {
            drop(timeout(POLL_INTERVAL, cancelled.changed()).await);
            match self.is_running().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(error = %Chain(&error), "a running turn could not be read; trying again"),
            }
        }
    }

    async fn is_running(&self) -> Result<bool, Error> {
        let mut tx = self.turns.db.read(self.job.tenant).await?;
        let turn = self.turns.threads.turn(&mut tx, self.turn.id).await?;
        Ok(turn.is_some_and(|turn| turn.status == TurnStatus::Running))
    }
}
