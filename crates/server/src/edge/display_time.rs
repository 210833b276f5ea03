//! A time as pages show it: relative words, the exact time beside them.

use std::time::Duration;

use thinkwork_primitives::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Past this the date says more than a count of days.
const DAYS_RELATIVE_MAX: u64 = 14;

/// What `parts::time` takes.
#[derive(Clone, Debug)]
pub struct DisplayTime {
    /// RFC 3339.
    pub iso: String,
    /// Like `2026-11-23 21:30:16 UTC`.
    pub exact: String,
    /// Like `3 minutes ago`.
    pub relative: String,
}

impl DisplayTime {
    /// `at` as seen from `now`.
    pub fn of(at: Timestamp, now: Timestamp) -> Self {
        let iso = at.to_string();
        let (date, rest) = iso.split_once('T').unwrap_or((&iso, ""));
        let clock: String = rest.chars().take_while(|char| !matches!(char, '.' | 'Z')).collect();
        let exact = format!("{date} {clock} UTC");
        let relative = relative(at, now, date);
        Self { exact, relative, iso }
    }
}

fn relative(at: Timestamp, now: Timestamp, date: &str) -> String {
    let (distance, future) = if at > now { (at.since(now), true) } else { (now.since(at), false) };
    let seconds = distance.as_secs();
    let (count, unit) = match seconds {
        0..MINUTE => return if future { "in a moment" } else { "just now" }.to_owned(),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        _ if seconds / DAY <= DAYS_RELATIVE_MAX => (seconds / DAY, "day"),
        _ => return date.to_owned(),
    };
    let plural = if count == 1 { "" } else { "s" };
    if future { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
}

/// A duration in few words, like `4 ms`, `0.8 s` or `2 min 5 s`.
pub fn duration_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration < Duration::from_millis(100) {
        format!("{} ms", duration.as_millis().max(1))
    } else if seconds < MINUTE {
        format!("{seconds}.{} s", duration.subsec_millis() / 100)
    } else {
        format!("{} min {} s", seconds / MINUTE, seconds % MINUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_words_and_old_ones_are_dates() {
        let now = Timestamp::from_micros(1_764_000_000_000_000);
        let check = |seconds, words: &str| {
            assert_eq!(DisplayTime::of(now.minus(Duration::from_secs(seconds)), now).relative, words);
        };
        check(5, "just now");
        check(60, "1 minute ago");
        check(7_300, "2 hours ago");
        check(86_400 * 3, "3 days ago");
        check(86_400 * 30, "2025-10-25");
        assert_eq!(DisplayTime::of(now, now).exact, "2025-11-24 16:00:00 UTC");
        assert_eq!(duration_words(Duration::ZERO), "1 ms");
        assert_eq!(duration_words(Duration::from_micros(4_200)), "4 ms");
        assert_eq!(duration_words(Duration::from_millis(100)), "0.1 s");
        assert_eq!(duration_words(Duration::from_millis(840)), "0.8 s");
        assert_eq!(duration_words(Duration::from_secs(125)), "2 min 5 s");
    }
}
