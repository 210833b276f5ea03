//! Health of the loops of a process: which of them are stalled.
//!
//! Invariant: time here is the clock's uptime, so that setting the clock neither hides a stall nor makes one up. Each
//! loop tells by its [`Heartbeat`] what it does; `/readyz` asks [`Loops::stalled`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Clock;

/// How long one step of a loop may take. An answer of `/readyz` is kept for a second, so a loop that hangs is named
/// within five.
const STEP_MAX: Duration = Duration::from_secs(4);
/// How long a failure counts: a loop that has work tries again sooner, and one without work must count as well in the end.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// How long a loop must have gone on without a panic to count as well again.
const PANICKED_FOR: Duration = Duration::from_secs(60);
/// Pause after the first panic; twice as long after each that follows within [`PANICKED_FOR`].
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    /// Since when it is at the present step; none where it waits for work.
    step_began: Option<Duration>,
    failed_at: Option<Duration>,
    panicked_at: Option<Duration>,
    pause: Duration,
}

/// The loops of one process. Cheap to clone.
#[derive(Clone)]
pub struct Loops {
    clock: Clock,
    states: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

impl Loops {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, states: Arc::default() }
    }

    /// The heartbeat of the loop of this name.
    pub fn heartbeat(&self, name: &'static str) -> Heartbeat {
        Heartbeat { name, loops: self.clone() }
    }

    /// The names of the stalled loops: at one step for too long, or failed or panicked lately.
    pub fn stalled(&self) -> Vec<&'static str> {
        let now = self.clock.uptime();
        let within = |at: Option<Duration>, most: Duration| at.is_some_and(|at| now.saturating_sub(at) < most);
        let is_stalled = |state: &State| {
            let hangs = state.step_began.is_some_and(|at| now.saturating_sub(at) >= STEP_MAX);
            hangs || within(state.failed_at, FAILED_FOR) || within(state.panicked_at, PANICKED_FOR)
        };
        self.states().iter().filter(|(_, state)| is_stalled(state)).map(|(name, _)| *name).collect()
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one loop tells of itself. Cheap to clone.
#[derive(Clone)]
pub struct Heartbeat {
    name: &'static str,
    loops: Loops,
}

impl Heartbeat {
    /// A step of its work begins.
    pub fn step(&self) {
        let now = self.loops.clock.uptime();
        self.change(|state| state.step_began = Some(now));
    }

    /// Its work is done; it waits for more.
    pub fn idle(&self) {
        self.change(|state| {
            state.step_began = None;
            state.failed_at = None;
        });
    }

    /// Its work failed; it waits to try again.
    pub fn failed(&self) {
        let now = self.loops.clock.uptime();
        self.change(|state| {
            state.step_began = None;
            state.failed_at = Some(now);
        });
    }

    /// It panicked. Returns how long to wait before it begins again.
    pub fn panicked(&self) -> Duration {
        let now = self.loops.clock.uptime();
        let mut pause = PAUSE_FIRST;
        self.change(|state| {
            if state.panicked_at.is_some_and(|at| now.saturating_sub(at) < PANICKED_FOR) {
                pause = state.pause.saturating_mul(2).min(PAUSE_MAX);
            }
            *state = State { panicked_at: Some(now), pause, ..State::default() };
        });
        pause
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(self.loops.states().entry(self.name).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Clock, Loops, Heartbeat) {
        let clock = Clock::system();
        let loops = Loops::new(clock.clone());
        let heartbeat = loops.heartbeat("test");
        (clock, loops, heartbeat)
    }

    #[test]
    fn l121_a_loop_that_hangs_is_named_and_one_that_rests_is_not() {
        let (clock, loops, heartbeat) = fresh();
        heartbeat.step();
        assert!(loops.stalled().is_empty());
        clock.advance(STEP_MAX);
        assert_eq!(loops.stalled(), ["test"]);
        heartbeat.step();
        assert!(loops.stalled().is_empty(), "it goes on");
        heartbeat.idle();
        clock.advance(STEP_MAX * 100);
        assert!(loops.stalled().is_empty(), "it waits for work");
    }

    #[test]
    fn l121_a_loop_that_fails_is_named_until_it_succeeds_or_has_no_work() {
        let (clock, loops, heartbeat) = fresh();
        heartbeat.step();
        heartbeat.failed();
        assert_eq!(loops.stalled(), ["test"]);
        heartbeat.step();
        assert_eq!(loops.stalled(), ["test"], "trying again is no success");
        heartbeat.idle();
        assert!(loops.stalled().is_empty());
        heartbeat.failed();
        clock.advance(FAILED_FOR);
        assert!(loops.stalled().is_empty());
    }

    #[test]
    fn l121_a_loop_that_panics_is_named_for_a_minute_and_pauses_longer_each_time() {
        let (clock, loops, heartbeat) = fresh();
        let pauses: Vec<u64> = (0..7).map(|_| heartbeat.panicked().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        heartbeat.idle();
        assert_eq!(loops.stalled(), ["test"], "it may panic again");
        clock.advance(PANICKED_FOR);
        assert!(loops.stalled().is_empty());
        assert_eq!(heartbeat.panicked(), PAUSE_FIRST);
    }

    #[test]
    fn l125_setting_the_clock_back_hides_no_stall() {
        let (clock, loops, heartbeat) = fresh();
        heartbeat.step();
        clock.set_back(Duration::from_secs(3_600));
        assert!(loops.stalled().is_empty());
        clock.advance(STEP_MAX);
        assert_eq!(loops.stalled(), ["test"]);
    }
}
