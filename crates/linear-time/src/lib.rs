//! For tests: readers of foreign text take time that grows linearly with the text, whatever the text is.
//!
//! A reader is run on hostile texts of its largest size and of an eighth of it. What counts is the processor time of the
//! thread, so that a busy machine does not fail a test.
//!
//! Architecture Invariant: a dev-dependency only; nothing of the product uses it.

use std::hint::black_box;
use std::time::Duration;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rustix::time::{ClockId, clock_gettime};

/// How much smaller the small text is than the large one.
const FACTOR: usize = 8;
/// How much more than linear is still taken for linear: caches and allocators cost more for large texts. A quadratic
/// reader takes eight times as much.
const TOLERANCE: f64 = 2.5;
/// What any reader may take beside that. Less than this harms nobody.
const SLACK: Duration = Duration::from_millis(2);
/// How often a reader is measured before it is taken for slow; its fastest runs count.
const RUNS_MAX: usize = 6;
/// Random texts for each reader.
const RANDOM_TEXTS: usize = 6;
/// Marks in the period of a random text at most.
const PERIOD_MARKS_MAX: usize = 7;

/// A kind of hostile text: what it is, and how it is made in about this many bytes.
struct HostileText {
    name: String,
    of_size: Box<dyn Fn(usize) -> String>,
}

impl HostileText {
    /// Pieces that are repeated up to the size, one after the other: each takes an equal part of it.
    fn new(pieces: &[&str]) -> Self {
        let parts: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let name = format!("{} one after the other", parts.join(" … "));
        let of_size = move |bytes: usize| parts.iter().map(|part| repeated(part, bytes / parts.len().max(1))).collect();
        Self { name, of_size: Box::new(of_size) }
    }
}

fn repeated(piece: &str, bytes: usize) -> String {
    piece.repeat(bytes.checked_div(piece.len()).unwrap_or(0))
}

/// Every kind of hostile text for a reader to whom these marks mean something: each mark alone, with others around it
/// and as one of many short parts, two in turn, one behind the other (opened and closed, or never closed), and random ones.
fn hostile_texts(marks: &[&str]) -> Vec<HostileText> {
    let mut texts = Vec::new();
    for one in marks {
        texts.push(HostileText::new(&[one]));
        texts.push(HostileText::new(&[&format!("{one}ab")]));
        for other in marks.iter().filter(|other| *other != one) {
            texts.push(HostileText::new(&[&format!("{one}{other}")]));
            texts.push(HostileText::new(&[one, other]));
        }
    }
    let mut runner = TestRunner::deterministic();
    let marks: Vec<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
    let period = proptest::collection::vec(proptest::sample::select(marks), 2..=PERIOD_MARKS_MAX);
    for _ in 0..RANDOM_TEXTS {
        if let Ok(period) = period.new_tree(&mut runner) {
            texts.push(HostileText::new(&[&period.current().concat()]));
        }
    }
    texts
}

/// Fails unless `read` takes linear time for every hostile text of up to `bytes_max` bytes that consists of these marks.
#[track_caller]
pub fn assert_linear<R>(marks: &[&str], bytes_max: usize, mut read: impl FnMut(&str) -> R) {
    for text in hostile_texts(marks) {
        let problem = problem(bytes_max, &text.of_size, |text: &String| read(text));
        assert!(problem.is_none(), "{}: {}", text.name, problem.unwrap_or_default());
    }
}

/// Fails unless `read` takes linear time for what `of_size` makes in this size and in an eighth of it.
#[track_caller]
pub fn assert_linear_in<T, R>(size_max: usize, of_size: impl Fn(usize) -> T, mut read: impl FnMut(&T) -> R) {
    let problem = problem(size_max, of_size, |input| read(input));
    assert!(problem.is_none(), "{}", problem.unwrap_or_default());
}

/// What is wrong with a reader's time, if something is.
fn problem<T, R>(size_max: usize, of_size: impl Fn(usize) -> T, mut read: impl FnMut(&T) -> R) -> Option<String> {
    let small = of_size(size_max / FACTOR);
    let large = of_size(size_max);
    let mut of_small = Duration::MAX;
    let mut of_large = Duration::MAX;
    let mut bound = Duration::ZERO;
    for _ in 0..RUNS_MAX {
        of_large = of_large.min(processor_time(|| read(&large)));
        of_small = of_small.min(processor_time(|| read(&small)));
        let factor = u32::try_from(FACTOR).unwrap_or(u32::MAX);
        bound = of_small.saturating_mul(factor).mul_f64(TOLERANCE).saturating_add(SLACK);
        if of_large <= bound {
            return None;
        }
    }
    Some(format!("size {size_max} took {of_large:?}, an eighth of it {of_small:?}; at most {bound:?} are linear"))
}

/// What this thread's processor time was for the work.
pub fn processor_time<R>(work: impl FnOnce() -> R) -> Duration {
    let begun = thread_time();
    black_box(work());
    thread_time().saturating_sub(begun)
}

/// The processor time that this thread has had so far.
pub fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the rest of the text at each of its places.
    fn quadratic(text: &str) -> usize {
        text.bytes().enumerate().filter(|(place, byte)| !text.as_bytes()[place + 1..].contains(&(byte ^ 1))).count()
    }

    fn linear(text: &str) -> usize {
        text.bytes().filter(|byte| *byte == b'a').count()
    }

    #[test]
    fn l108_a_quadratic_reader_is_found_and_a_linear_one_passes() {
        let text = |bytes: usize| "a".repeat(bytes);
        assert!(problem(40_000, text, |text| quadratic(text)).is_some());
        assert_eq!(problem(40_000, text, |text| linear(text)), None);
        let same = std::panic::catch_unwind(|| assert_linear(&["a"], 40_000, quadratic));
        assert!(same.is_err());
        assert_linear(&["a", "\u{e9}"], 40_000, linear);
    }

    #[test]
    fn hostile_texts_have_their_size_and_hold_every_mark() {
        for text in hostile_texts(&["[", "]", "\u{1f600}"]) {
            let made = (text.of_size)(10_000);
            assert!((9_900..=10_000).contains(&made.len()), "{}", text.name);
        }
        assert!(hostile_texts(&["(", ")"]).iter().any(|text| (text.of_size)(8) == "(((())))"));
        assert!(hostile_texts(&["(", ")"]).iter().any(|text| (text.of_size)(8) == "()()()()"));
    }
}
