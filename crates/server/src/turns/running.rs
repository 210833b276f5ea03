//! Which threads this process runs: a second run of the same thread waits for the first to end.
//!
//! The job's lease does the same between processes. Invariant: an entry lives as long as somebody runs or waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use thinkwork_primitives::ThreadId;
use tokio::sync::OwnedMutexGuard;

type Entries = Mutex<HashMap<ThreadId, Arc<tokio::sync::Mutex<()>>>>;

/// The threads that run here.
#[derive(Clone, Default)]
pub(super) struct ThreadLocks {
    entries: Arc<Entries>,
}

/// Held while a thread runs; dropped also when the run is.
pub(super) struct ThreadLockGuard {
    thread: ThreadId,
    entries: Arc<Entries>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl ThreadLocks {
    /// Waits until nobody else here runs this thread. True: somebody did.
    pub(super) async fn lock(&self, thread: ThreadId) -> (ThreadLockGuard, bool) {
        let mut alone = ThreadLockGuard { thread, entries: Arc::clone(&self.entries), guard: None };
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry(thread).or_default())
        };
        let free = Arc::clone(&entry).try_lock_owned().ok();
        let has_waited = free.is_none();
        alone.guard = Some(match free {
            Some(guard) => guard,
            None => entry.lock_owned().await,
        });
        (alone, has_waited)
    }
}

impl Drop for ThreadLockGuard {
    fn drop(&mut self) {
        self.guard = None;
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds the entry, too; the last one takes it away.
        if entries.get(&self.thread).is_some_and(|entry| Arc::strong_count(entry) == 1) {
            entries.remove(&self.thread);
        }
    }
}
