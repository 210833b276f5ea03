//! Which marks a turn has, and which messages its agent may read.
//!
//! Invariant: marks are derived from what is stored, so a crash loses none; what was read with one person's credential
//! is nobody else's to read.

use thinkwork_primitives::{Marks, Requester, UserId};

use crate::threads::{Message, MessageRole, Step, StepKind, StepStatus, Turn};
use crate::turns::tool_step::REFUSALS;

/// Whose results may enter this turn: the requester's, or the owner's of the requesting trigger.
fn owner(turn: &Turn) -> Option<UserId> {
    match &turn.requester {
        Requester::User(user) => Some(*user),
        Requester::Trigger(_) => turn.subject.user(),
        _ => None,
    }
}

/// Whether the message holds what was read with the credential of somebody else than the turn's owner, and that person
/// did not share it. What a trigger brought was read with its owner's, though the whole Space may see it.
pub(crate) fn belongs_to_another(turn: &Turn, message: &Message) -> bool {
    let of = match message.requester {
        Requester::Trigger(_) => message.subject.user(),
        _ => message.marks.private_to,
    };
    of.is_some() && of != owner(turn)
}

/// Whether the message is of another hand than the turn's requester and the agent's answers to that requester.
pub(crate) fn is_foreign(turn: &Turn, message: &Message) -> bool {
    message.role == MessageRole::Data || message.requester != turn.requester
}

/// The marks of a turn whose context is `read` and whose steps so far are `steps`.
pub(crate) fn turn_marks(turn: &Turn, read: &[&Message], steps: &[Step]) -> Marks {
    let start = Marks { untrusted: turn.requester.user().is_none(), ..Marks::default() };
    let messages = read.iter().fold(turn.marks.with(start), |marks, message| {
        marks.with(message.marks).with(Marks { untrusted: is_foreign(turn, message), ..Marks::default() })
    });
    steps.iter().filter(|step| left_us(step)).fold(messages, |marks, step| marks.with(Marks::of_answer(step.subject)))
}

/// Whether a tool may have answered in this step: not where we refused the call ourselves.
fn left_us(step: &Step) -> bool {
    let refused = step.failure.as_deref().is_some_and(|failure| REFUSALS.contains(&failure));
    step.kind == StepKind::Tool && !(step.status == StepStatus::Failed && refused)
}
