//! The wire types of `http.rs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thinkwork_database::Tx;
use thinkwork_primitives::{Effect, MessageId, SpaceId, StepId, ThreadId, Timestamp, TurnId, UserId};
use utoipa::ToSchema;

use super::{Message, Priority, Step, Thread, ThreadStatus, ThreadUpdate, Threads, Turn, rules};
use crate::edge::NameMap;
use crate::edge::identity::{ActingClientResponse, CredentialSubjectResponse, RequesterResponse};
use crate::tools::LeftOut;
use crate::tools::http::OfferedToolResponse;

/// A thread.
#[derive(Serialize, ToSchema)]
pub(super) struct ThreadResponse {
    #[schema(value_type = String, example = "CHAT-01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: ThreadId,
    /// The Space that it belongs to.
    #[schema(value_type = String)]
    space_id: SpaceId,
    /// Where it began: `CHAT`, `HOOK`, `MAIL`, `CAL`, `AUTO` or `EXT`.
    #[schema(example = "CHAT")]
    channel: &'static str,
    /// Its title.
    #[schema(example = "Open invoices")]
    title: String,
    /// `backlog`, `todo`, `in_progress`, `in_review`, `blocked`, `done` or `cancelled`.
    #[schema(example = "in_progress")]
    status: &'static str,
    /// How urgent it is: `low`, `medium`, `high`, `urgent` or `critical`.
    #[schema(example = "medium")]
    priority: &'static str,
    requester: RequesterResponse,
    acting_client: ActingClientResponse,
    credential_subject: CredentialSubjectResponse,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
    version: i64,
}

impl ThreadResponse {
    pub(super) fn new(thread: Thread, names: &NameMap) -> Self {
        Self {
            id: thread.id,
            space_id: thread.space,
            channel: thread.id.channel().as_str(),
            title: thread.title,
            status: thread.status.as_str(),
            priority: thread.priority.as_str(),
            requester: (&thread.requester).into(),
            acting_client: ActingClientResponse::new(thread.client, names),
            credential_subject: thread.subject.into(),
            created_at: thread.created_at,
            updated_at: thread.updated_at,
            version: thread.version,
        }
    }
}

/// A thread to begin.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateThreadRequest {
    #[schema(value_type = String)]
    pub(super) space_id: SpaceId,
    /// The title; the first line of the text if absent.
    #[schema(example = "Open invoices")]
    pub(super) title: Option<String>,
    /// What the first message says.
    #[schema(example = "Which invoices are open?")]
    pub(super) text: String,
    /// How urgent it is; `medium` if absent.
    pub(super) priority: Option<Priority>,
}

/// A message to write.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateMessageRequest {
    /// What the message says.
    #[schema(example = "Which invoices are open?")]
    pub(super) text: String,
}

/// What changes in a thread; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateThreadRequest {
    /// The new title.
    #[schema(example = "Open invoices")]
    title: Option<String>,
    /// Where it stands.
    status: Option<ThreadStatus>,
    /// How urgent it is.
    priority: Option<Priority>,
}

impl From<UpdateThreadRequest> for ThreadUpdate {
    fn from(change: UpdateThreadRequest) -> Self {
        Self { title: change.title, status: change.status, priority: change.priority }
    }
}

/// A message.
#[derive(Serialize, ToSchema)]
pub(super) struct MessageResponse {
    #[schema(value_type = String, example = "msg_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: MessageId,
    /// The thread that it is in.
    #[schema(value_type = String)]
    thread_id: ThreadId,
    /// Its place in the thread, counted from 1.
    #[schema(example = 1)]
    seq: i64,
    /// Who speaks: `user`, `agent`, `system` or `data`.
    #[schema(example = "user")]
    role: &'static str,
    /// What it says; empty if it is private to another person.
    #[schema(example = "Which invoices are open?")]
    text: String,
    /// What an event brought, as JSON; data, never instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    requester: RequesterResponse,
    acting_client: ActingClientResponse,
    credential_subject: CredentialSubjectResponse,
    /// The person who alone can read it, because it holds what was read with their account; null if everyone in the
    /// Space can. They can share it.
    #[schema(value_type = Option<String>, example = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    private_to: Option<UserId>,
    /// The turn that wrote it; null if no turn did.
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

impl MessageResponse {
    /// As this person may see it, or as work without one.
    pub(super) fn new(message: Message, viewer: Option<UserId>, names: &NameMap) -> Self {
        let is_readable = rules::may_read(&message, viewer);
        Self {
            id: message.id,
            thread_id: message.thread,
            seq: message.sequence,
            role: message.role.as_str(),
            text: if is_readable { message.text } else { String::new() },
            data: message.data.filter(|_| is_readable),
            requester: (&message.requester).into(),
            acting_client: ActingClientResponse::new(message.client, names),
            credential_subject: message.subject.into(),
            private_to: message.marks.private_to,
            turn_id: message.turn,
            marks: marks(message.marks),
            created_at: message.created_at,
        }
    }
}

/// A turn.
#[derive(Serialize, ToSchema)]
pub(super) struct TurnResponse {
    #[schema(value_type = String, example = "trn_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: TurnId,
    /// The thread that it is in.
    #[schema(value_type = String)]
    thread_id: ThreadId,
    /// The message that queued it.
    #[schema(value_type = String, example = "msg_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    message_id: MessageId,
    /// `queued`, `running`, `waiting_approval`, `succeeded`, `failed` or `cancelled`.
    #[schema(example = "succeeded")]
    status: &'static str,
    requester: RequesterResponse,
    acting_client: ActingClientResponse,
    credential_subject: CredentialSubjectResponse,
    /// `private`, `untrusted`, both or none.
    marks: Vec<&'static str>,
    /// The tools that the agent could use.
    tools_offered: Vec<OfferedToolResponse>,
    /// The sources whose tools it could not use, and why.
    tools_left_out: Vec<LeftOut>,
    /// Its calls to the model and to tools, in order.
    steps: Vec<StepResponse>,
    /// Why it failed. Of the model: `model_failed` (no usable answer came), `model_rejected` (its provider rejected the
    /// request), `model_declined` (it declined to answer), `model_no_answer` (it finished without an answer).
    failure: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// When it began, RFC 3339; null if it has not.
    #[schema(value_type = Option<String>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    finished_at: Option<Timestamp>,
    /// When its steps were deleted because their retention period ended, RFC 3339; then `steps` is empty. Null if they
    /// were not.
    #[schema(value_type = Option<String>)]
    steps_deleted_at: Option<Timestamp>,
}

impl TurnResponse {
    /// `steps` as the caller may see them.
    fn of(turn: Turn, steps: Vec<Step>, names: &NameMap) -> Self {
        Self {
            id: turn.id,
            thread_id: turn.thread,
            message_id: turn.message,
            status: turn.status.as_str(),
            requester: (&turn.requester).into(),
            acting_client: ActingClientResponse::new(turn.client, names),
            credential_subject: turn.subject.into(),
            marks: marks(turn.marks),
            tools_offered: OfferedToolResponse::each_of(turn.tools_offered.unwrap_or_default()),
            tools_left_out: turn.tools_left_out.unwrap_or_default(),
            steps: steps.into_iter().map(|step| StepResponse::new(step, names)).collect(),
            failure: turn.failure,
            created_at: turn.created_at,
            started_at: turn.started_at,
            finished_at: turn.finished_at,
            steps_deleted_at: turn.steps_deleted_at,
        }
    }
}

impl Threads {
    /// A turn with its steps as the caller may see them, and the names of the software that acted.
    pub(super) async fn turn_response(
        &self,
        tx: &mut Tx,
        turn: Turn,
        steps: Vec<Step>,
    ) -> Result<TurnResponse, thinkwork_database::Error> {
        let clients = steps.iter().map(|step| step.client).chain([turn.client]).collect::<Vec<_>>();
        let names = self.names.of_clients(tx, &clients).await?;
        Ok(TurnResponse::of(turn, steps, &names))
    }
}

/// A step.
#[derive(Serialize, ToSchema)]
struct StepResponse {
    #[schema(value_type = String, example = "stp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: StepId,
    /// What is called: `model` or `tool`.
    #[schema(example = "tool")]
    kind: &'static str,
    /// The full name of the tool, or the model's name.
    #[schema(example = "notes__search")]
    name: String,
    /// `running`, `succeeded`, `failed`, or `unknown` if it may or may not have acted.
    #[schema(example = "succeeded")]
    status: &'static str,
    /// What the tool does to the world: `read`, `write` or `send`; null for the model.
    #[schema(example = "read")]
    effect: Option<&'static str>,
    #[schema(value_type = String)]
    started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    finished_at: Option<Timestamp>,
    /// The beginning of what was sent; null if you may not see it.
    #[schema(example = "{\"query\":\"invoice\"}")]
    input_preview: Option<String>,
    /// The beginning of what came back; null if you may not see it.
    #[schema(example = "Invoice 2026-17 is open.")]
    output_preview: Option<String>,
    failure: Option<String>,
    credential_subject: CredentialSubjectResponse,
    acting_client: ActingClientResponse,
}

impl StepResponse {
    fn new(step: Step, names: &NameMap) -> Self {
        Self {
            id: step.id,
            kind: step.kind.as_str(),
            name: step.name,
            status: step.status.as_str(),
            effect: step.effect.map(Effect::as_str),
            started_at: step.started_at,
            finished_at: step.finished_at,
            input_preview: step.input_preview,
            output_preview: step.output_preview,
            failure: step.failure,
            credential_subject: step.subject.into(),
            acting_client: ActingClientResponse::new(step.client, names),
        }
    }
}

/// A whole thread.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's description; its pieces are written one after another")]
pub(super) struct Export {
    /// The thread.
    thread: ThreadResponse,
    /// Its messages, oldest first.
    messages: Vec<MessageResponse>,
    /// Its turns, in the order they were queued.
    turns: Vec<TurnResponse>,
}
