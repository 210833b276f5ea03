//! What keeps a panic from ending more than the piece of work that it happened in.
//!
//! Invariant: a loop ends only with the process; one that panics begins again, and `/readyz` names it for a minute.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use thinkwork_primitives::Heartbeat;

/// Runs a loop until it ends by itself, again after each panic; `pause` waits as long as it is told, so that one that
/// panics at once does not fill the log.
pub(super) async fn run_supervised<R: Future<Output = ()>, P: Future<Output = ()>>(
    name: &'static str,
    heartbeat: &Heartbeat,
    run: impl Fn() -> R,
    pause: impl Fn(Duration) -> P,
) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        tracing::error!(name, "a loop of the worker panicked; it begins again");
        pause(heartbeat.panicked()).await;
    }
}

/// Work whose panic is a failure like any other, so that it is counted and put aside in the end.
pub(super) async fn catch_panic<T, E: From<Panicked>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(Panicked.into()))
}

/// The work panicked; the log has the slot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("its run panicked; the log says where: report it")]
pub struct Panicked;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use thinkwork_primitives::{Clock, Loops};

    use super::*;

    #[tokio::test]
    async fn l121_a_loop_that_panics_begins_again_and_is_named() {
        let loops = Loops::new(Clock::system());
        let runs = AtomicUsize::new(0);
        let run = || async {
            assert!(runs.fetch_add(1, Ordering::SeqCst) > 1, "a bug of the loop");
        };
        run_supervised("test", &loops.heartbeat("test"), run, |_| async {}).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3, "it ended only where it wanted to");
        assert_eq!(loops.stalled(), ["test"]);
    }

    #[tokio::test]
    async fn work_that_panics_has_failed() {
        let failed = catch_panic::<(), Panicked>(async { panic!("a bug of the work") }).await;
        assert_eq!(failed, Err(Panicked));
        assert_eq!(catch_panic::<_, Panicked>(async { Ok(1) }).await, Ok(1));
    }
}
