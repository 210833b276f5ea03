//! What a thread's page shows of messages and turns, as one viewer may see them.

use thinkwork_database::Tx;
use thinkwork_primitives::{Actor, MessageId, Requester};

use super::words::failure_sentence;
use crate::edge::display_time::duration_words;
use crate::edge::{ApiError, DisplayTime, PageCaller};
use crate::threads::attribution::{Attribution, Used, Viewer};
use crate::threads::text::{self, Author};
use crate::threads::{Message, MessageRole, Step, StepKind, Threads, Turn, TurnStatus, rules, store};
use crate::tools::LeftOut;

/// One child of the thread: a message or the turn that answers it.
pub(super) enum Entry {
    Message(MessageView),
    Turn(TurnView),
}

pub(super) struct MessageView {
    pub id: String,
    pub role: &'static str,
    pub author: String,
    pub text: String,
    /// Whose marks the text is rendered with; `None` where it is shown as it is.
    renders_as: Option<Author>,
    pub at: DisplayTime,
    pub is_untrusted: bool,
    /// Whether the viewer alone can read it, and may share it.
    pub is_private: bool,
    /// What stands in place of its text for everybody else; empty for who may read it.
    pub withheld: String,
    /// The line under what nobody of the tenant typed.
    pub line: Option<Attribution>,
}

impl MessageView {
    /// The text with its marks; empty where it is shown as it is. Made when the page is rendered, off the async workers.
    pub fn html(&self) -> String {
        self.renders_as.map_or_else(String::new, |author| text::render(&self.text, author))
    }
}

pub(super) struct TurnView {
    pub id: String,
    pub status: &'static str,
    pub summary: String,
    pub is_open: bool,
    pub may_stop: bool,
    pub line: Attribution,
    pub failure: String,
    pub steps: Vec<StepView>,
    pub left_out: Vec<LeftOutView>,
}

pub(super) struct StepView {
    pub id: String,
    pub kind: &'static str,
    pub name: String,
    pub status: &'static str,
    pub duration: String,
    pub credential: String,
    pub input: String,
    pub output: String,
    pub hidden: String,
    pub failure: String,
}

pub(super) struct LeftOutView {
    pub source: String,
    pub why: String,
    pub href: String,
    pub act: &'static str,
}

/// Messages from the place `from` on, each followed by the turn that answers it.
pub(super) async fn entries(
    threads: &Threads,
    tx: &mut Tx,
    caller: &PageCaller,
    messages: Vec<Message>,
) -> Result<Vec<Entry>, ApiError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let turns = store::turn::turns_of_messages(tx, &ids).await?;
    let mut of_turns: Vec<(Turn, Vec<Step>, Vec<Used>)> = Vec::with_capacity(turns.len());
    for turn in turns {
        let steps = threads.steps_visible(tx, &turn, &caller.principal).await?;
        let mut used: Vec<Used> = steps.iter().map(|step| (step.subject, step.source)).collect();
        used.push((turn.subject, None));
        of_turns.push((turn, steps, used));
    }
    let asked: Vec<(Actor, Vec<Used>)> = messages.iter().map(|message| (message.actor(), Vec::new())).collect();
    let worked: Vec<(Actor, Vec<Used>)> = of_turns.iter().map(|(turn, _, used)| (turn.actor(), used.clone())).collect();
    let work = asked.iter().chain(&worked).map(|(by, used)| (by, used.as_slice()));
    let names = &threads.names;
    let is_operator = caller.is_operator();
    let viewer = Viewer::load(names, tx, caller.user, is_operator, work).await?;
    let mut entries = Vec::with_capacity(messages.len().saturating_mul(2));
    for message in messages {
        let answered_by = of_turns.iter().position(|(turn, ..)| turn.message == message.id);
        entries.push(Entry::Message(message_view(threads, caller, &viewer, message)));
        if let Some(place) = answered_by {
            let (turn, steps, _) = of_turns.swap_remove(place);
            entries.push(Entry::Turn(turn_view(caller, &viewer, turn, steps)));
        }
    }
    Ok(entries)
}

fn message_view(threads: &Threads, caller: &PageCaller, viewer: &Viewer, message: Message) -> MessageView {
    let is_readable = rules::may_read(&message, Some(caller.user));
    let asked = viewer.asked_by(&message.actor());
    let withheld = match message.marks.private_to {
        Some(owner) if !is_readable => {
            let owner = viewer.requester(&Requester::User(owner));
            format!("Only {owner} can see this message. It was read with {owner}'s account.")
        }
        _ => String::new(),
    };
    let text = if is_readable { message.text } else { String::new() };
    let is_persons = matches!(message.requester, Requester::User(_));
    let (author, renders_as) = match message.role {
        // What a person's own tool call brought: their words it is not, and the turn above says whose credential it used.
        MessageRole::Data if is_persons => ("Tool result".to_owned(), None),
        MessageRole::User | MessageRole::Data => (asked.asker.clone(), None),
        MessageRole::Agent => ("Agent".to_owned(), Some(Author::Agent)),
        MessageRole::System => ("ThinkWork".to_owned(), Some(Author::Server)),
    };
    let line = match message.role {
        MessageRole::User | MessageRole::Data if !is_persons => Some(asked),
        _ => None,
    };
    MessageView {
        id: message.id.to_string(),
        role: message.role.as_str(),
        author,
        renders_as,
        at: DisplayTime::of(message.created_at, threads.clock.now()),
        is_untrusted: message.marks.untrusted && is_readable,
        is_private: is_readable && message.marks.private_to.is_some(),
        withheld,
        text,
        line,
    }
}

fn turn_view(caller: &PageCaller, viewer: &Viewer, turn: Turn, steps: Vec<Step>) -> TurnView {
    let used: Vec<Used> = steps.iter().map(|step| (step.subject, step.source)).collect();
    let has_deleted_steps = turn.steps_deleted_at.is_some();
    let line = Attribution { has_deleted_steps, ..viewer.line(&turn.actor(), &used) };
    let owner = turn.subject.user().map(|user| viewer.requester(&Requester::User(user))).unwrap_or_default();
    let summary = summary(&turn, steps.len());
    let step = |step: Step| {
        let credential = viewer.credential(step.subject, step.source);
        step_view(&turn, step, credential, &owner, caller)
    };
    let steps = steps.into_iter().map(step).collect();
    TurnView {
        id: turn.id.to_string(),
        status: turn.status.as_str(),
        summary,
        is_open: matches!(turn.status, TurnStatus::Running | TurnStatus::WaitingApproval | TurnStatus::Failed),
        may_stop: !rules::is_over(turn.status),
        line,
        failure: failure_sentence(turn.failure.as_deref().unwrap_or_default()),
        steps,
        left_out: left_out(&turn, caller),
    }
}

fn step_view(turn: &Turn, step: Step, credential: String, owner: &str, caller: &PageCaller) -> StepView {
    let is_hidden = rules::is_withheld(turn, &step, Some(caller.user));
    let duration = step.finished_at.map_or_else(String::new, |end| duration_words(end.since(step.started_at)));
    StepView {
        id: step.id.to_string(),
        kind: match step.kind {
            StepKind::Model => "model",
            StepKind::Tool => "tool",
        },
        name: step.name,
        status: step.status.as_str(),
        duration,
        credential,
        input: step.input_preview.unwrap_or_default(),
        output: step.output_preview.unwrap_or_default(),
        hidden: if is_hidden { format!("Only {owner} can see this content.") } else { String::new() },
        failure: failure_sentence(step.failure.as_deref().unwrap_or_default()),
    }
}

fn summary(turn: &Turn, steps: usize) -> String {
    let count = match steps {
        _ if turn.steps_deleted_at.is_some() => "Steps deleted".to_owned(),
        0 => "No steps".to_owned(),
        1 => "1 step".to_owned(),
        many => format!("{many} steps"),
    };
    let left_out = turn.tools_left_out.as_ref().map_or(0, Vec::len);
    let mut parts = vec![count];
    if let (Some(start), Some(end)) = (turn.started_at, turn.finished_at) {
        parts.push(duration_words(end.since(start)));
    }
    if left_out > 0 {
        parts.push(format!("{left_out} unavailable"));
    }
    parts.join(" · ")
}

/// What was left out; the link that mends it is the requester's own, since nobody else's consent would help.
fn left_out(turn: &Turn, caller: &PageCaller) -> Vec<LeftOutView> {
    let is_own = turn.subject.user() == Some(caller.user);
    let line = |left_out: &LeftOut| LeftOutView {
        source: left_out.name().to_owned(),
        why: left_out.with_detail(if is_own { left_out.reason.plain() } else { left_out.reason.plain_of_requester() }),
        act: left_out.reason.act(),
        href: left_out.connect_url.as_deref().filter(|_| is_own).map(own_path).unwrap_or_default(),
    };
    turn.tools_left_out.iter().flatten().map(line).collect()
}

/// The path of a connect link: pages link within this site only.
fn own_path(connect_url: &str) -> String {
    let path = url::Url::parse(connect_url).map(|url| url.path().to_owned()).unwrap_or_default();
    if path.starts_with("/me/") { path } else { String::new() }
}
