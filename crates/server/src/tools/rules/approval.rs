//! Whether a call runs: effect x marks x the Space's policy x who typed it (product: "What a turn may do").

use thinkwork_primitives::{Effect, Marks};

use crate::spaces::Approval;
use crate::tools::CallOrigin;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Run,
    /// It waits for a person's approval of this very call, and nothing is sent before.
    NeedsApproval,
}

/// Decides. `Once` counts approvals given before; while none can be stored, each call is the first one and asks.
pub fn decide(effect: Effect, marks: Marks, approval: Approval, typed: CallOrigin) -> Decision {
    let asks = match (effect, approval) {
        // With both marks no setting lets a call that reaches others pass; `once` never serves for one.
        (Effect::Send, _) if marks.private && marks.untrusted => true,
        (_, Approval::Never) => false,
        (_, Approval::Once | Approval::Always) => true,
    };
    match (asks, typed) {
        (false, _) | (true, CallOrigin::Person) => Decision::Run,
        (true, CallOrigin::Software) => Decision::NeedsApproval,
    }
}

/// What holds where the Space says nothing about a tool.
pub const fn default_approval(effect: Effect) -> Approval {
    match effect {
        Effect::Read | Effect::Write => Approval::Never,
        Effect::Send => Approval::Always,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Marks = Marks { private: false, untrusted: false, private_to: None };
    const PRIVATE: Marks = Marks { private: true, untrusted: false, private_to: None };
    const UNTRUSTED: Marks = Marks { private: false, untrusted: true, private_to: None };
    const BOTH: Marks = Marks { private: true, untrusted: true, private_to: None };

    #[track_caller]
    fn check(effect: Effect, policy: Option<Approval>, runs_by_marks: [bool; 4]) {
        let approval = policy.unwrap_or(default_approval(effect));
        for (marks, runs) in [NONE, PRIVATE, UNTRUSTED, BOTH].into_iter().zip(runs_by_marks) {
            let expected = if runs { Decision::Run } else { Decision::NeedsApproval };
            assert_eq!(
                decide(effect, marks, approval, CallOrigin::Software),
                expected,
                "{effect:?} {policy:?} {marks:?}"
            );
            assert_eq!(
                decide(effect, marks, approval, CallOrigin::Person),
                Decision::Run,
                "{effect:?} {policy:?} typed"
            );
        }
    }

    #[test]
    fn s01_the_whole_table_of_effect_marks_policy_and_typist() {
        check(Effect::Read, None, [true, true, true, true]);
        check(Effect::Read, Some(Approval::Never), [true, true, true, true]);
        check(Effect::Read, Some(Approval::Once), [false, false, false, false]);
        check(Effect::Read, Some(Approval::Always), [false, false, false, false]);
        check(Effect::Write, None, [true, true, true, true]);
        check(Effect::Write, Some(Approval::Never), [true, true, true, true]);
        check(Effect::Write, Some(Approval::Once), [false, false, false, false]);
        check(Effect::Write, Some(Approval::Always), [false, false, false, false]);
        check(Effect::Send, None, [false, false, false, false]);
        check(Effect::Send, Some(Approval::Never), [true, true, true, false]);
        check(Effect::Send, Some(Approval::Once), [false, false, false, false]);
        check(Effect::Send, Some(Approval::Always), [false, false, false, false]);
    }

    #[test]
    fn s02_an_effect_that_nobody_set_asks() {
        check(Effect::default(), None, [false, false, false, false]);
    }
}
