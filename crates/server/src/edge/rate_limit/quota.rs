//! The requests that one caller or webhook may make in a minute, as this process holds them: shares of the minute's
//! quota, leased from the database.
//!
//! Invariants: all processes together never take more than the limit in a minute; a share that a process does not use is
//! the most that is lost of it; most requests take from a share and ask no database. Where the database does not answer,
//! a process counts alone, up to the limit.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thinkwork_database::{Db, quota};
use thinkwork_primitives::{Chain, Timestamp};

use super::status::{Policy, RateLimitStatus};

/// A share is this part of the limit: twenty leases a minute and process at most, and at most five percent lost per
/// process.
const SHARES: i64 = 20;
/// Longest wait for a lease: whoever only wants a page need not wait for a database that hangs.
const LEASE_DEADLINE: Duration = Duration::from_secs(2);
const MINUTE_SECONDS: i64 = 60;

#[derive(Clone, Copy, Default)]
struct Window {
    minute: i64,
    /// Leased and not taken yet.
    held: i64,
    /// Taken in this minute by this process.
    taken: i64,
    /// What the database had left after the last lease.
    unleased: i64,
    is_exhausted: bool,
}

/// The minute of a time, as quota is counted.
pub fn minute_of(now: Timestamp) -> i64 {
    now.seconds().div_euclid(MINUTE_SECONDS)
}

/// Seconds until the next minute, at least 1.
fn seconds_left(now: Timestamp) -> u64 {
    u64::try_from(MINUTE_SECONDS.saturating_sub(now.seconds().rem_euclid(MINUTE_SECONDS))).unwrap_or(1)
}

/// What this process holds of the minute's quota.
#[derive(Default)]
pub struct MinuteQuota {
    window: Mutex<Window>,
    leasing: tokio::sync::Mutex<()>,
}

impl MinuteQuota {
    /// Takes one of the minute's quota that is counted under `key`. `now` is [`thinkwork_primitives::Clock::steady`].
    pub async fn take(&self, db: &Db, key: &str, policy: Policy, now: Timestamp) -> RateLimitStatus {
        let minute = minute_of(now);
        if let Some(status) = self.take_held(minute, policy, now) {
            return status;
        }
        // One lease at a time: who waited for it usually finds a share there.
        let _leasing = self.leasing.lock().await;
        loop {
            if let Some(status) = self.take_held(minute, policy, now) {
                return status;
            }
            let share = policy.per_minute.div_euclid(SHARES).max(1);
            let lease = Box::pin(quota::lease(db, key, minute, share, policy.per_minute));
            match tokio::time::timeout(LEASE_DEADLINE, lease).await {
                Ok(Ok(lease)) => self.keep(minute, lease),
                Ok(Err(error)) => self.count_locally(minute, share, policy, &Chain(&error).to_string()),
                Err(_) => self.count_locally(minute, share, policy, "the database does not answer in time"),
            }
        }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, minute: i64, lease: quota::Lease) {
        let mut window = self.window();
        if window.minute == minute {
            window.held = window.held.saturating_add(lease.granted);
            window.unleased = lease.left;
            window.is_exhausted = lease.granted == 0;
        }
    }

    /// Goes on without the database, by what this process itself has let through.
    fn count_locally(&self, minute: i64, share: i64, policy: Policy, error: &str) {
        tracing::warn!(error, policy = policy.name, "no quota could be leased; this process counts alone");
        let mut window = self.window();
        if window.minute == minute {
            let left = policy.per_minute.saturating_sub(window.taken).max(0);
            window.held = share.min(left);
            window.unleased = left.saturating_sub(window.held);
            window.is_exhausted = window.held == 0;
        }
    }

    /// Takes one of what is held, or says that the minute's quota is used up; `None` where a share must be leased.
    fn take_held(&self, minute: i64, policy: Policy, now: Timestamp) -> Option<RateLimitStatus> {
        let mut window = self.window();
        // A request that was slower than the turn of the minute counts in the new one.
        if minute > window.minute {
            *window = Window { minute, ..Window::default() };
        }
        let status = |remaining: i64, is_exceeded: bool| RateLimitStatus {
            policy,
            remaining,
            reset_seconds: seconds_left(now),
            is_exceeded,
        };
        if window.held > 0 {
            window.held = window.held.saturating_sub(1);
            window.taken = window.taken.saturating_add(1);
            return Some(status(window.held.saturating_add(window.unleased), false));
        }
        // Nothing is leased for a minute that is over: quota rows of earlier minutes are gone.
        (window.is_exhausted || minute < window.minute).then(|| status(0, true))
    }
}
