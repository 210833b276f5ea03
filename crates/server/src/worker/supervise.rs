//! What keeps a panic from ending more than the piece of work that it happened in.
//!
//! Invariant: a loop ends only with the process; one that panics begins again, and `/readyz` tells of it for a minute.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use thinkwork_primitives::{Clock, Timestamp};

/// How long a loop must have gone on without a panic to count as well again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Which loops panicked, and when last. Cheap to clone.
#[derive(Clone, Default)]
pub struct WorkerHealth {
    panicked: Arc<Mutex<HashMap<&'static str, Timestamp>>>,
}

impl WorkerHealth {
    /// Whether no loop panicked within the last minute.
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        let panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        panicked.values().all(|at| now.since(*at) >= HEALTHY_AFTER)
    }

    /// Runs a loop until it ends by itself, again after each panic; `pause` keeps one that panics at once from
    /// filling the log.
    pub(super) async fn run_supervised<R: Future<Output = ()>, P: Future<Output = ()>>(
        &self,
        name: &'static str,
        clock: &Clock,
        run: impl Fn() -> R,
        pause: impl Fn() -> P,
    ) {
        while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
            tracing::error!(name, "a loop of the worker panicked; it begins again");
            self.panicked.lock().unwrap_or_else(PoisonError::into_inner).insert(name, clock.now());
            pause().await;
        }
    }
}

/// Work whose panic is a failure like any other, so that it is counted and put aside in the end.
pub(super) async fn catch_panic<T, E: From<Panicked>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(Panicked.into()))
}

/// The work panicked; the log has the place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its run panicked; the log says where: report it")]
pub struct Panicked;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_loop_that_panics_begins_again_and_is_told_of_until_it_is_well() {
        let loops = WorkerHealth::default();
        let clock = Clock::system();
        let runs = AtomicUsize::new(0);
        let run = || async {
            assert!(runs.fetch_add(1, Ordering::SeqCst) > 1, "a bug of the loop");
        };
        loops.run_supervised("test", &clock, run, || async {}).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3, "it ended only where it wanted to");
        assert!(!loops.is_healthy(clock.now()));
        clock.advance(HEALTHY_AFTER);
        assert!(loops.is_healthy(clock.now()));
    }

    #[tokio::test]
    async fn work_that_panics_has_failed() {
        let failed = catch_panic::<(), Panicked>(async { panic!("a bug of the work") }).await;
        assert_eq!(failed, Err(Panicked));
        assert_eq!(catch_panic::<_, Panicked>(async { Ok(1) }).await, Ok(1));
    }
}
