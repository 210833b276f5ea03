//! The trace that a caller says its request belongs to (W3C Trace Context, level 1), to be named in the log and to
//! upstreams.
//!
//! Invariant: it is a correlation id of somebody else's choosing and nothing is decided by it.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A `traceparent`: which trace, which span of it is the parent, and whether the caller records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    is_sampled: bool,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct ParseTraceError;

/// Length of a `traceparent` of version 00; later versions may go on behind another dash (section 3.2.4).
const VERSION_00_BYTES: usize = 55;

impl TraceContext {
    /// The first span of a trace that is called after a record of ours.
    pub fn begin(trace_id: Uuid) -> Self {
        Self { trace_id: trace_id.as_u128(), parent_id: span_id(), is_sampled: false }
    }

    /// The same trace with a span of our own as the parent: what a request to an upstream carries.
    #[must_use]
    pub fn child(self) -> Self {
        Self { parent_id: span_id(), ..self }
    }

    /// The trace's id as 32 hexadecimal digits.
    pub fn trace_id(self) -> impl fmt::Display {
        TraceId(self.trace_id)
    }
}

struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The random half of a UUID: its variant keeps it from being zero, which would mean that there is none.
fn span_id() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

impl FromStr for TraceContext {
    type Err = ParseTraceError;

    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        let (known, rest) = text.split_at_checked(VERSION_00_BYTES).ok_or(ParseTraceError)?;
        let mut parts = known.split('-').map(digits);
        let mut next = |length: usize| parts.next().flatten().filter(|(_, found)| *found == length);
        let (version, _) = next(2).ok_or(ParseTraceError)?;
        let (trace_id, _) = next(32).ok_or(ParseTraceError)?;
        let (parent_id, _) = next(16).ok_or(ParseTraceError)?;
        let (flags, _) = next(2).ok_or(ParseTraceError)?;
        let goes_on = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let parent_id = u64::try_from(parent_id).map_err(|_| ParseTraceError)?;
        if version == 0xff || !goes_on || trace_id == 0 || parent_id == 0 {
            return Err(ParseTraceError);
        }
        Ok(Self { trace_id, parent_id, is_sampled: flags & 1 == 1 })
    }
}

/// The value of lower-case hexadecimal digits and how many they are.
fn digits(text: &str) -> Option<(u128, usize)> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return None;
    }
    Some((u128::from_str_radix(text, 16).ok()?, text.len()))
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_passed_on() {
        let trace: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(trace.to_string(), EXAMPLE);
        assert_eq!(trace.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let child = trace.child().to_string();
        assert_eq!((&child[..36], &child[52..]), (&EXAMPLE[..36], &EXAMPLE[52..]));
        assert_ne!(child, EXAMPLE);
        assert_eq!(child.parse::<TraceContext>().unwrap().to_string(), child);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let check = |text: &str, expect: bool| assert_eq!(text.parse::<TraceContext>().is_ok(), expect, "{text}");
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check("", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", false);
        check("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more", false);
        check(&"é".repeat(60), false);
    }
}
