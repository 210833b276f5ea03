//! The wire types of `http.rs`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thinkwork_primitives::{
    ConnectionId, CredentialSubject, Effect, MessageId, Requester, SpaceId, StepId, ThreadId, Timestamp, TurnId, UserId,
};
use utoipa::ToSchema;

use super::{Message, Priority, Step, Thread, ThreadChange, ThreadStatus, Turn, rules};

/// On whose request.
#[derive(Serialize, ToSchema)]
struct RequesterWire {
    /// `user`, `webhook`, `trigger`, `schedule`, `extension` or `system`.
    kind: &'static str,
    id: String,
}

impl From<&Requester> for RequesterWire {
    fn from(requester: &Requester) -> Self {
        Self { kind: requester.kind(), id: requester.id() }
    }
}

/// Whose credential.
#[derive(Serialize, ToSchema)]
struct SubjectWire {
    /// `user`, `tenant` or `none`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    connection_id: Option<ConnectionId>,
}

impl From<CredentialSubject> for SubjectWire {
    fn from(subject: CredentialSubject) -> Self {
        Self { kind: subject.kind(), user_id: subject.user(), connection_id: subject.connection() }
    }
}

/// A thread.
#[derive(Serialize, ToSchema)]
pub(super) struct ThreadWire {
    #[schema(value_type = String)]
    id: ThreadId,
    #[schema(value_type = String)]
    space_id: SpaceId,
    channel: &'static str,
    title: String,
    status: &'static str,
    priority: &'static str,
    requester: RequesterWire,
    credential_subject: SubjectWire,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
    version: i64,
}

impl From<Thread> for ThreadWire {
    fn from(thread: Thread) -> Self {
        Self {
            id: thread.id,
            space_id: thread.space,
            channel: thread.id.channel().word(),
            title: thread.title,
            status: rules::status_word(thread.status),
            priority: rules::priority_word(thread.priority),
            requester: (&thread.requester).into(),
            credential_subject: thread.subject.into(),
            created_at: thread.created_at,
            updated_at: thread.updated_at,
            version: thread.version,
        }
    }
}

/// Where a thread stands.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StatusWire {
    Backlog,
    Todo,
    InProgress,
    InReview,
    Blocked,
    Done,
    Cancelled,
}

impl From<StatusWire> for ThreadStatus {
    fn from(status: StatusWire) -> Self {
        match status {
            StatusWire::Backlog => Self::Backlog,
            StatusWire::Todo => Self::Todo,
            StatusWire::InProgress => Self::InProgress,
            StatusWire::InReview => Self::InReview,
            StatusWire::Blocked => Self::Blocked,
            StatusWire::Done => Self::Done,
            StatusWire::Cancelled => Self::Cancelled,
        }
    }
}

/// How pressing a thread is.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PriorityWire {
    Low,
    Medium,
    High,
    Urgent,
    Critical,
}

impl From<PriorityWire> for Priority {
    fn from(priority: PriorityWire) -> Self {
        match priority {
            PriorityWire::Low => Self::Low,
            PriorityWire::Medium => Self::Medium,
            PriorityWire::High => Self::High,
            PriorityWire::Urgent => Self::Urgent,
            PriorityWire::Critical => Self::Critical,
        }
    }
}

/// A thread to begin.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewThreadWire {
    #[schema(value_type = String)]
    pub(super) space_id: SpaceId,
    /// The first line of the text where it is left out.
    pub(super) title: Option<String>,
    pub(super) text: String,
    pub(super) priority: Option<PriorityWire>,
}

/// A message to write.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessageWire {
    pub(super) text: String,
}

/// What changes in a thread; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ThreadChangeBody {
    title: Option<String>,
    status: Option<StatusWire>,
    priority: Option<PriorityWire>,
}

impl From<ThreadChangeBody> for ThreadChange {
    fn from(change: ThreadChangeBody) -> Self {
        Self { title: change.title, status: change.status.map(Into::into), priority: change.priority.map(Into::into) }
    }
}

/// A message.
#[derive(Serialize, ToSchema)]
pub(super) struct MessageWire {
    #[schema(value_type = String)]
    id: MessageId,
    #[schema(value_type = String)]
    thread_id: ThreadId,
    seq: i64,
    role: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    requester: RequesterWire,
    credential_subject: SubjectWire,
    #[schema(value_type = Option<String>)]
    turn_id: Option<TurnId>,
    /// `private`, `untrusted`, both or none.
    marks: Vec<&'static str>,
    #[schema(value_type = String)]
    created_at: Timestamp,
}

fn marks(marks: thinkwork_primitives::Marks) -> Vec<&'static str> {
    [(marks.private, "private"), (marks.untrusted, "untrusted")]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect()
}

impl From<Message> for MessageWire {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            thread_id: message.thread,
            seq: message.sequence,
            role: rules::role_word(message.role),
            text: message.text,
            data: message.data,
            requester: (&message.requester).into(),
            credential_subject: message.subject.into(),
            turn_id: message.turn,
            marks: marks(message.marks),
            created_at: message.created_at,
        }
    }
}

/// A turn.
#[derive(Serialize, ToSchema)]
pub(super) struct TurnWire {
    #[schema(value_type = String)]
    id: TurnId,
    #[schema(value_type = String)]
    thread_id: ThreadId,
    #[schema(value_type = String)]
    message_id: MessageId,
    status: &'static str,
    requester: RequesterWire,
    credential_subject: SubjectWire,
    /// `private`, `untrusted`, both or none.
    marks: Vec<&'static str>,
    tools_offered: Vec<String>,
    /// `{server, reason, connect_url?}` each.
    #[schema(value_type = Vec<Object>)]
    tools_left_out: Value,
    steps: Vec<StepWire>,
    failure: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    finished_at: Option<Timestamp>,
}

impl TurnWire {
    /// `steps` as the caller may see them.
    pub(super) fn of(turn: Turn, steps: Vec<Step>) -> Self {
        Self {
            id: turn.id,
            thread_id: turn.thread,
            message_id: turn.message,
            status: rules::turn_status_word(turn.status),
            requester: (&turn.requester).into(),
            credential_subject: turn.subject.into(),
            marks: marks(turn.marks),
            tools_offered: turn.tools_offered.unwrap_or_default(),
            tools_left_out: turn.tools_left_out.unwrap_or_else(|| json!([])),
            steps: steps.into_iter().map(StepWire::from).collect(),
            failure: turn.failure,
            created_at: turn.created_at,
            started_at: turn.started_at,
            finished_at: turn.finished_at,
        }
    }
}

/// A step.
#[derive(Serialize, ToSchema)]
struct StepWire {
    #[schema(value_type = String)]
    id: StepId,
    kind: &'static str,
    name: String,
    status: &'static str,
    effect: Option<&'static str>,
    #[schema(value_type = String)]
    started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    finished_at: Option<Timestamp>,
    input_preview: Option<String>,
    output_preview: Option<String>,
    failure: Option<String>,
    credential_subject: SubjectWire,
}

impl From<Step> for StepWire {
    fn from(step: Step) -> Self {
        Self {
            id: step.id,
            kind: rules::step_kind_word(step.kind),
            name: step.name,
            status: rules::step_status_word(step.status),
            effect: step.effect.map(Effect::word),
            started_at: step.started_at,
            finished_at: step.finished_at,
            input_preview: step.input_preview,
            output_preview: step.output_preview,
            failure: step.failure,
            credential_subject: step.subject.into(),
        }
    }
}

/// A whole thread.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's description; its pieces are written one after another")]
pub(super) struct Export {
    thread: ThreadWire,
    messages: Vec<MessageWire>,
    turns: Vec<TurnWire>,
}
