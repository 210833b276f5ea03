//! Pure decisions: who may be whose subject, what becomes of a status, what of a step is shown to whom.

use thinkwork_primitives::{Channel, CredentialSubject, Marks, Principal, Requester, UserId, limits};

use super::{Error, IncomingMessage, Message, MessageRole, Step, ThreadStatus, Turn, TurnStatus};
use crate::edge::visible::is_unfit_for_names;
use crate::edge::{InvalidField, validation};

/// Text of data messages: a webhook's largest body, written out as JSON with room for its escapes.
const DATA_TEXT_BYTES_MAX: usize = limits::UPSTREAM_BODY_BYTES_MAX;

/// Whether a turn with this status has ended.
pub(super) const fn is_over(status: TurnStatus) -> bool {
    matches!(status, TurnStatus::Succeeded | TurnStatus::Failed | TurnStatus::Cancelled)
}

/// Whether a thread with this status is closed.
pub(super) const fn is_closed(status: ThreadStatus) -> bool {
    matches!(status, ThreadStatus::Done | ThreadStatus::Cancelled)
}

/// The status after new input: closed work is open again, anything else stays what people said it is.
pub(super) const fn status_after_input(status: ThreadStatus) -> ThreadStatus {
    if is_closed(status) { ThreadStatus::InProgress } else { status }
}

/// The status once a turn runs.
pub(super) const fn status_after_start(status: ThreadStatus) -> ThreadStatus {
    match status {
        ThreadStatus::Backlog | ThreadStatus::Todo => ThreadStatus::InProgress,
        other => other,
    }
}

/// Refuses attribution that would lend somebody's credential to work that is not theirs.
///
/// A person's message has that person as subject; a trigger's has its owner; all else has nobody's.
pub(super) fn check_attribution(requester: &Requester, subject: CredentialSubject) -> Result<(), Error> {
    match (requester, subject.user()) {
        (Requester::User(asker), Some(owner)) if *asker == owner => Ok(()),
        (Requester::User(_), _) => {
            Err(InvalidField::new("text", "a person's message has that person as credential subject").into())
        }
        (Requester::Trigger(_), Some(_)) => Ok(()),
        (Requester::Trigger(_), None) => {
            Err(InvalidField::new("text", "a trigger's message has its owner as credential subject").into())
        }
        (_, Some(_)) => Err(InvalidField::new("text", "work without a user has no user as credential subject").into()),
        (_, None) => Ok(()),
    }
}

/// Whether a step on this request, in a turn that may use `may`, may open what `used` owns. There is no fallback.
pub(super) fn may_open(requester: &Requester, may: CredentialSubject, used: CredentialSubject) -> bool {
    match used.user() {
        None => true,
        Some(owner) => may.user() == Some(owner) && check_attribution(requester, may).is_ok(),
    }
}

/// Refuses what never arrives: agent and system text, and instructions from those who only send data.
pub(super) fn check_incoming(incoming: &IncomingMessage) -> Result<(), Error> {
    check_attribution(&incoming.requester, incoming.subject)?;
    let fits = match (incoming.role, &incoming.requester) {
        (MessageRole::User, Requester::User(_) | Requester::System(_) | Requester::Schedule(_)) => true,
        (MessageRole::Data, Requester::User(_)) => false,
        (MessageRole::Data, _) => true,
        _ => false,
    };
    if !fits {
        return Err(InvalidField::new("text", "this requester cannot write in this role").into());
    }
    check_text(incoming.role, &incoming.text)
}

fn check_text(role: MessageRole, text: &str) -> Result<(), Error> {
    let (most, sentence) = match role {
        MessageRole::Data => (DATA_TEXT_BYTES_MAX, "the text is too long; send a shorter one"),
        _ => (limits::MESSAGE_TEXT_BYTES_MAX, "a message has at most 65,536 bytes; longer texts are files"),
    };
    if text.trim().is_empty() && role != MessageRole::Data {
        return Err(InvalidField::new("text", "the message is empty; write something").into());
    }
    if text.len() > most { Err(InvalidField::new("text", sentence).into()) } else { Ok(()) }
}

/// The marks of a message that arrived: what the requester did not write is untrusted, a trigger's is private too.
pub(super) fn arrival_marks(incoming: &IncomingMessage) -> Marks {
    let trigger = matches!(incoming.requester, Requester::Trigger(_));
    let untrusted = trigger || incoming.role == MessageRole::Data;
    incoming.marks.with(Marks { private: trigger, untrusted, private_to: None })
}

/// Text as both engines store it: PostgreSQL takes no zero character.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The title of a new thread: the given one, else the first line of the text, cut to what a list shows.
pub(super) fn title_of(given: Option<&str>, text: &str) -> String {
    let first = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").to_owned();
    let title = match given.map(first) {
        Some(title) if !title.is_empty() => title,
        _ => first(text),
    };
    let title: String = title.chars().map(|char| if is_unfit_for_names(char) { ' ' } else { char }).collect();
    let title = title.trim();
    if title.is_empty() {
        "Untitled".to_owned()
    } else if title.chars().count() > limits::NAME_CHARS_MAX {
        title.chars().take(limits::NAME_CHARS_MAX.saturating_sub(1)).chain(std::iter::once('…')).collect()
    } else {
        title.to_owned()
    }
}

/// A title that somebody typed into a form.
pub(super) fn check_title(title: &str) -> Result<String, Error> {
    let problem = "a title is one line of 1 to 120 characters";
    let title = validation::name(title).ok_or(InvalidField::new("title", problem))?;
    Ok(title.to_owned())
}

/// What this caller writes, as an inbound message; and whether they typed it in a session.
pub(super) fn incoming_of(caller: &Principal, new: super::NewMessage) -> IncomingMessage {
    let subject = match caller.user() {
        Some(user) => CredentialSubject::User { user, connection: None },
        None => CredentialSubject::None,
    };
    IncomingMessage {
        space: new.space,
        thread: new.thread,
        channel: Channel::Chat,
        title: new.title,
        role: MessageRole::User,
        text: new.text,
        data: None,
        requester: caller.requester(),
        client: caller.client(),
        subject,
        correlation: None,
        priority: new.priority,
        marks: Marks::default(),
        source_event: None,
    }
}

/// Whether this viewer may read the message: what was read with somebody's own credential is theirs alone until they
/// share it.
pub fn may_read(message: &Message, viewer: Option<UserId>) -> bool {
    message.marks.private_to.is_none_or(|owner| viewer == Some(owner))
}

/// The steps of a turn as `viewer` may see them: the one place where previews are withheld.
///
/// A preview is for the owner of the credential that the step opened, and so is every later preview of that turn,
/// whose context holds what was read. A turn that is private to somebody from its start, because an earlier turn of
/// theirs read something, shows its previews to them alone. Whole inputs and outputs are shown to nobody.
pub fn visible_steps(turn: &Turn, steps: Vec<Step>, viewer: Option<UserId>) -> Vec<Step> {
    let mut owner = turn.marks.private_to;
    steps
        .into_iter()
        .map(|step| {
            owner = step.subject.user().or(owner);
            visible_step(step, owner, viewer)
        })
        .collect()
}

fn visible_step(mut step: Step, owner: Option<UserId>, viewer: Option<UserId>) -> Step {
    step.input = None;
    step.output = None;
    if owner.is_some() && owner != viewer {
        step.input_preview = None;
        step.output_preview = None;
        // What an upstream said of a failure can quote what it read.
        step.failure = None;
    }
    step
}

/// Whether previews of this turn's step were withheld from this viewer, for the page to say so.
pub fn is_withheld(turn: &Turn, step: &Step, viewer: Option<UserId>) -> bool {
    let owner = step.subject.user().or(turn.marks.private_to);
    owner.is_some() && owner != viewer
}
