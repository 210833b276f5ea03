//! What a thread's page shows of messages and turns, as one viewer may see them.

use thinkwork_database::Tx;
use thinkwork_primitives::{MessageId, Requester};

use super::words::failure_sentence;
use crate::edge::moment::duration_words;
use crate::edge::{ApiError, Moment, PageCaller};
use crate::threads::attribution::{Attribution, Labels};
use crate::threads::text::{self, Author};
use crate::threads::{Message, MessageRole, Step, StepKind, Threads, Turn, TurnStatus, rules, store};

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
    /// Rendered marks for agent and server; empty where `text` is shown as it is.
    pub html: String,
    pub at: Moment,
    pub is_untrusted: bool,
    /// The line under what nobody of the tenant typed.
    pub line: Option<Attribution>,
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
    pub server: String,
    pub reason: String,
    pub href: String,
}

/// Messages from the place `from` on, each followed by the turn that answers it.
pub(super) async fn entries(
    threads: &Threads,
    tx: &mut Tx,
    caller: &PageCaller,
    messages: Vec<Message>,
) -> Result<Vec<Entry>, ApiError> {
    let Some(thread) = messages.first().map(|message| message.thread) else { return Ok(Vec::new()) };
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let mut turns = store::turn::turns_of_messages(tx, thread, &ids).await?;
    let mut labels = Labels::new(caller.user, caller.is_operator());
    let mut entries = Vec::with_capacity(messages.len().saturating_mul(2));
    for message in messages {
        let answered_by = turns.iter().position(|turn| turn.message == message.id);
        entries.push(Entry::Message(message_view(threads, tx, &mut labels, message).await?));
        if let Some(place) = answered_by {
            let turn = turns.swap_remove(place);
            entries.push(Entry::Turn(turn_view(threads, tx, caller, &mut labels, turn).await?));
        }
    }
    Ok(entries)
}

async fn message_view(
    threads: &Threads,
    tx: &mut Tx,
    labels: &mut Labels,
    message: Message,
) -> Result<MessageView, ApiError> {
    let asked = threads.asked_by(tx, labels, &message.requester).await?;
    let is_persons = matches!(message.requester, Requester::User(_));
    let (author, html) = match message.role {
        // What a person's own tool call brought: their words it is not, and the turn above says whose credential it used.
        MessageRole::Data if is_persons => ("Tool result".to_owned(), String::new()),
        MessageRole::User | MessageRole::Data => (asked.asker.clone(), String::new()),
        MessageRole::Agent => ("Agent".to_owned(), text::render(&message.text, Author::Agent)),
        MessageRole::System => ("ThinkWork".to_owned(), text::render(&message.text, Author::Server)),
    };
    let line = match message.role {
        MessageRole::User | MessageRole::Data if !is_persons => Some(asked),
        _ => None,
    };
    Ok(MessageView {
        id: message.id.to_string(),
        role: rules::role_word(message.role),
        author,
        html,
        at: Moment::of(message.created_at, threads.clock.now()),
        is_untrusted: message.marks.untrusted,
        text: message.text,
        line,
    })
}

async fn turn_view(
    threads: &Threads,
    tx: &mut Tx,
    caller: &PageCaller,
    labels: &mut Labels,
    turn: Turn,
) -> Result<TurnView, ApiError> {
    let steps = threads.steps_visible(tx, &turn, &caller.principal).await?;
    let line = threads.attribution(tx, labels, &turn.requester, &steps).await?;
    let owner = match turn.subject.user() {
        Some(user) => threads.requester_label(tx, &Requester::User(user)).await?,
        None => String::new(),
    };
    let summary = summary(&turn, steps.len());
    let mut views = Vec::with_capacity(steps.len());
    for step in steps {
        let credential = threads.credential_label(tx, labels, step.subject, step.server).await?;
        views.push(step_view(&turn, step, credential, &owner, caller));
    }
    let is_over = rules::is_over(turn.status);
    Ok(TurnView {
        id: turn.id.to_string(),
        status: rules::turn_status_word(turn.status),
        summary,
        is_open: matches!(turn.status, TurnStatus::Running | TurnStatus::WaitingApproval | TurnStatus::Failed),
        may_stop: !is_over,
        line,
        failure: failure_sentence(turn.failure.as_deref().unwrap_or_default()),
        steps: views,
        left_out: left_out(&turn, caller),
    })
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
        status: rules::step_status_word(step.status),
        duration,
        credential,
        input: step.input_preview.unwrap_or_default(),
        output: step.output_preview.unwrap_or_default(),
        hidden: if is_hidden { format!("Only {owner} sees what was read.") } else { String::new() },
        failure: failure_sentence(step.failure.as_deref().unwrap_or_default()),
    }
}

fn summary(turn: &Turn, steps: usize) -> String {
    let count = match steps {
        0 => "No steps".to_owned(),
        1 => "1 step".to_owned(),
        many => format!("{many} steps"),
    };
    let left_out = turn.tools_left_out.as_ref().and_then(|all| all.as_array()).map_or(0, Vec::len);
    let mut parts = vec![count];
    if let (Some(start), Some(end)) = (turn.started_at, turn.finished_at) {
        parts.push(duration_words(end.since(start)));
    }
    if left_out > 0 {
        parts.push(format!("{left_out} left out"));
    }
    parts.join(" · ")
}

/// What was left out; the link that mends it is the requester's own, since nobody else's consent would help.
fn left_out(turn: &Turn, caller: &PageCaller) -> Vec<LeftOutView> {
    let is_own = turn.subject.user() == Some(caller.user);
    let text = |item: &serde_json::Value, name: &str| {
        item.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    };
    let all = turn.tools_left_out.as_ref().and_then(|all| all.as_array());
    all.into_iter()
        .flatten()
        .map(|item| LeftOutView {
            server: text(item, "server"),
            reason: text(item, "reason"),
            href: if is_own { own_path(&text(item, "connect_url")) } else { String::new() },
        })
        .collect()
}

/// The path of a connect link: pages link within this site only.
fn own_path(connect_url: &str) -> String {
    let path = url::Url::parse(connect_url).map(|url| url.path().to_owned()).unwrap_or_default();
    if path.starts_with("/me/") { path } else { String::new() }
}
