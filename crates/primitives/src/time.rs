//! Time as whole microseconds since the Unix epoch, and the only place that reads the clock.
//!
//! Invariant: nothing outside [`Clock`] asks what time it is, so a test can move time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use uuid::Uuid;

/// Microseconds since 1970-01-01T00:00:00Z; stored as BIGINT, printed as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time with this count of microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// No id that was made then or later is smaller: ids begin with their time (RFC 9562, UUIDv7).
    pub fn first_id(self) -> Uuid {
        let millis = u128::try_from(self.0.div_euclid(1_000)).unwrap_or(0);
        Uuid::from_u128(millis << 80)
    }

    /// When an id was made, to the millisecond; `None` for an id that is no UUIDv7.
    pub fn of_id(id: Uuid) -> Option<Self> {
        let millis = id.as_u128() >> 80;
        let micros = i64::try_from(millis).ok()?.checked_mul(1_000)?;
        (id.get_version_num() == 7).then_some(Self(micros))
    }

    /// Reads RFC 3339, any offset.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000)).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0).saturating_mul(1_000))
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("out of range"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a time is RFC 3339, like 2026-01-31T12:00:00Z"))
    }
}

/// Where the time comes from: the machine's clocks plus offsets that only tests and the demonstration move.
#[derive(Clone)]
pub struct Clock {
    began: Instant,
    /// How far time was moved.
    moved_micros: Arc<AtomicI64>,
    /// How far the time of day alone was set back.
    set_back_micros: Arc<AtomicI64>,
    /// The most by which the time of day was ever ahead of the uptime.
    ahead_micros: Arc<AtomicI64>,
    /// Wakes whoever waits when time is moved.
    moved: Arc<Notify>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self {
            began: Instant::now(),
            moved_micros: Arc::default(),
            set_back_micros: Arc::default(),
            ahead_micros: Arc::new(AtomicI64::new(i64::MIN)),
            moved: Arc::default(),
        }
    }

    /// The time now. Whoever sets the machine's clock moves it in either direction; [`Clock::uptime`] measures durations
    /// within this process.
    pub fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        let moved = self.moved_micros.load(Ordering::Relaxed);
        Timestamp(micros.saturating_add(moved).saturating_sub(self.set_back_micros.load(Ordering::Relaxed)))
    }

    /// The time by which this process measures leases, pauses and the windows of limits: the time of day, except that it
    /// never goes back. After somebody set the clock back it goes on from where it was.
    pub fn steady(&self) -> Timestamp {
        let uptime = i64::try_from(self.uptime().as_micros()).unwrap_or(i64::MAX);
        let ahead = self.now().0.saturating_sub(uptime);
        let most = self.ahead_micros.fetch_max(ahead, Ordering::Relaxed).max(ahead);
        Timestamp(most.saturating_add(uptime))
    }

    /// How long ago this clock was made, by a clock that nobody sets.
    pub fn uptime(&self) -> Duration {
        let moved = u64::try_from(self.moved_micros.load(Ordering::Relaxed)).unwrap_or(0);
        self.began.elapsed().saturating_add(Duration::from_micros(moved))
    }

    /// Moves every holder of this clock forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.moved_micros.fetch_add(micros, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// Waits until this much time has passed, by [`Clock::uptime`].
    pub async fn pause(&self, duration: Duration) {
        let until = self.uptime().saturating_add(duration);
        loop {
            // Before the look, so that no move falls between look and wait.
            let moved = self.moved.notified();
            let left = until.saturating_sub(self.uptime());
            if left.is_zero() {
                return;
            }
            // Whether the time passed or was moved: the clock says how much is left.
            drop(tokio::time::timeout(left, moved).await);
        }
    }

    /// Sets the time of day back for every holder, as somebody who sets the machine's clock does. No time passes.
    pub fn set_back(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.set_back_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_rfc_3339_and_reads_back() {
        let time = Timestamp::from_micros(1_764_000_000_123_456);
        assert_eq!(time.to_string(), "2025-11-24T16:00:00.123456Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_clock_moves_for_all_its_holders() {
        let clock = Clock::system();
        let other = clock.clone();
        let before = other.now();
        clock.advance(Duration::from_secs(3_600));
        assert!(other.now().since(before) >= Duration::from_secs(3_600));
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_clock_is_moved() {
        let clock = Clock::system();
        let other = clock.clone();
        let moved = async {
            tokio::task::yield_now().await;
            other.advance(Duration::from_secs(3_600));
        };
        tokio::join!(clock.pause(Duration::from_secs(3_600)), moved);
        assert!(clock.uptime() >= Duration::from_secs(3_600));
        clock.pause(Duration::ZERO).await;
    }

    #[test]
    fn l125_setting_the_time_of_day_back_lets_no_duration_shrink() {
        let clock = Clock::system();
        let other = clock.clone();
        clock.advance(Duration::from_secs(60));
        let before = (other.now(), other.uptime(), other.steady());
        assert!(before.2 >= before.0, "it is the time of day as long as nobody sets that back");
        clock.set_back(Duration::from_secs(3_600));
        assert!(other.now() < before.0 && other.uptime() >= before.1 && other.steady() >= before.2);
        clock.advance(Duration::from_secs(60));
        assert!(other.steady().since(before.2) >= Duration::from_secs(60));
        clock.advance(Duration::from_secs(7_200));
        assert!(other.steady().since(other.now()) >= Duration::from_secs(3_599));
    }
}
