//! Whether a call runs: effect x marks x the Space's policy x who typed it (product: "What a turn may do").

use thinkwork_primitives::{Effect, Marks};

use crate::tools::Typed;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It runs.
    Run,
    /// It waits for a person's approval of this very call, and nothing is sent before.
    NeedsApproval,
}

/// How often the operator wants to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Never,
    Once,
    Always,
}

/// Decides. `policy` is the Space's word for the tool; none means the effect's default, an unknown word means `always`.
///
/// `Once` counts approvals given before; while none can be stored, each call is the first one and asks.
pub fn decide(effect: Effect, marks: Marks, policy: Option<&str>, typed: Typed) -> Decision {
    let policy = match policy {
        None => default_of(effect),
        Some("never") => Policy::Never,
        Some("once") => Policy::Once,
        Some(_) => Policy::Always,
    };
    let asks = match (effect, policy) {
        // With both marks no setting lets a call that reaches others pass; `once` never serves for one.
        (Effect::Send, _) if marks.private && marks.untrusted => true,
        (_, Policy::Never) => false,
        (_, Policy::Once | Policy::Always) => true,
    };
    match (asks, typed) {
        (false, _) | (true, Typed::ByPerson) => Decision::Run,
        (true, Typed::Otherwise) => Decision::NeedsApproval,
    }
}

const fn default_of(effect: Effect) -> Policy {
    match effect {
        Effect::Read | Effect::Write => Policy::Never,
        Effect::Send => Policy::Always,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Marks = Marks { private: false, untrusted: false };
    const PRIVATE: Marks = Marks { private: true, untrusted: false };
    const UNTRUSTED: Marks = Marks { private: false, untrusted: true };
    const BOTH: Marks = Marks { private: true, untrusted: true };

    #[track_caller]
    fn check(effect: Effect, policy: Option<&str>, runs_by_marks: [bool; 4]) {
        for (marks, runs) in [NONE, PRIVATE, UNTRUSTED, BOTH].into_iter().zip(runs_by_marks) {
            let expected = if runs { Decision::Run } else { Decision::NeedsApproval };
            assert_eq!(decide(effect, marks, policy, Typed::Otherwise), expected, "{effect:?} {policy:?} {marks:?}");
            assert_eq!(decide(effect, marks, policy, Typed::ByPerson), Decision::Run, "{effect:?} {policy:?} typed");
        }
    }

    #[test]
    fn s01_the_whole_table_of_effect_marks_policy_and_typist() {
        check(Effect::Read, None, [true, true, true, true]);
        check(Effect::Read, Some("never"), [true, true, true, true]);
        check(Effect::Read, Some("once"), [false, false, false, false]);
        check(Effect::Read, Some("always"), [false, false, false, false]);
        check(Effect::Write, None, [true, true, true, true]);
        check(Effect::Write, Some("never"), [true, true, true, true]);
        check(Effect::Write, Some("once"), [false, false, false, false]);
        check(Effect::Write, Some("always"), [false, false, false, false]);
        check(Effect::Send, None, [false, false, false, false]);
        check(Effect::Send, Some("never"), [true, true, true, false]);
        check(Effect::Send, Some("once"), [false, false, false, false]);
        check(Effect::Send, Some("always"), [false, false, false, false]);
    }

    #[test]
    fn s02_what_nobody_set_and_words_nobody_knows_ask() {
        for word in [None, Some(""), Some("Read"), Some("readonly")] {
            check(Effect::from_column(word), None, [false, false, false, false]);
        }
        for effect in [Effect::Read, Effect::Write, Effect::Send] {
            check(effect, Some("Never"), [false, false, false, false]);
            check(effect, Some(""), [false, false, false, false]);
        }
    }
}
