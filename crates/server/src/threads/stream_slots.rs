//! How many streams each caller has open at this process: each holds a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use thinkwork_primitives::Principal;

/// Streams that one caller may have open at one process: more than anybody has tabs with threads in them.
pub(super) const STREAMS_MAX: u32 = 50;

/// The open streams by the printed id of their caller. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct StreamSlots(Arc<Mutex<HashMap<String, u32>>>);

/// One open stream; it counts until it is dropped.
pub(super) struct StreamSlot {
    stream_slots: StreamSlots,
    caller: String,
}

impl StreamSlots {
    /// A place for one more stream of this caller, where they have not too many.
    pub(super) fn acquire(&self, caller: &Principal) -> Option<StreamSlot> {
        let caller = caller.requester().id();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(caller.clone()).or_default();
        if *count >= STREAMS_MAX {
            return None;
        }
        *count += 1;
        drop(open);
        Some(StreamSlot { stream_slots: self.clone(), caller })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.stream_slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}
