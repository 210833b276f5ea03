//! The rate limit of one webhook in this process: shares of the minute's quota, leased from the database.
//!
//! Invariant: all processes together never take more than the limit in a minute; a share that a process does not use is
//! the most that is lost of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use thinkwork_database::{Db, quota};
use thinkwork_primitives::Timestamp;

use crate::webhooks::Error;

/// A share is this part of the limit: fifty leases a minute at most, and at most two percent lost per process.
const SHARES: i64 = 50;
const MINUTE_SECONDS: i64 = 60;

#[derive(Clone, Copy, Default)]
struct Window {
    minute: i64,
    left: i64,
    exhausted: bool,
}

/// The minute of a time, as quota is counted.
pub(crate) const fn window(now: Timestamp) -> i64 {
    now.seconds().div_euclid(MINUTE_SECONDS)
}

/// Seconds until the next minute.
pub(crate) fn seconds_left(now: Timestamp) -> u64 {
    u64::try_from(MINUTE_SECONDS.saturating_sub(now.seconds().rem_euclid(MINUTE_SECONDS))).unwrap_or(1)
}

/// What this process holds of the minute's quota.
#[derive(Default)]
pub(crate) struct Limit {
    window: Mutex<Window>,
    leasing: tokio::sync::Mutex<()>,
}

impl Limit {
    /// Takes one of the minute's quota. The inner error is the number of seconds until the next minute.
    ///
    /// # Errors
    /// The database's, where a share had to be leased and could not.
    pub(crate) async fn take(
        &self,
        db: &Db,
        source: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<Result<(), u64>, Error> {
        let minute = window(now);
        let retry_after = seconds_left(now);
        if let Some(taken) = self.take_held(minute) {
            return Ok(if taken { Ok(()) } else { Err(retry_after) });
        }
        // One lease at a time: who waited for it usually finds a share there.
        let _leasing = self.leasing.lock().await;
        loop {
            if let Some(taken) = self.take_held(minute) {
                return Ok(if taken { Ok(()) } else { Err(retry_after) });
            }
            let share = limit.div_euclid(SHARES).max(1);
            let granted = quota::lease(db, source, minute, share, limit).await?;
            let mut window = self.window();
            if window.minute == minute {
                window.left = window.left.saturating_add(granted);
                window.exhausted = granted == 0;
            }
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of what is held; false where the minute's quota is used up, `None` where a share must be leased.
    fn take_held(&self, minute: i64) -> Option<bool> {
        let mut window = self.window();
        // A request that was slower than the turn of the minute counts in the new one.
        if minute > window.minute {
            *window = Window { minute, left: 0, exhausted: false };
        }
        if window.left > 0 {
            window.left = window.left.saturating_sub(1);
            return Some(true);
        }
        if window.exhausted {
            return Some(false);
        }
        // Nothing is leased for a minute that is over: quota rows of earlier minutes are gone.
        (minute < window.minute).then_some(false)
    }
}
