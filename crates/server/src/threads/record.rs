//! The domain types of threads: what a thread, a message, a turn and a step are.
//!
//! Invariant: requester and credential subject are never optional. Re-exported by the slice's face.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantArray};
use thinkwork_primitives::{
    ActingClient, Actor, Channel, CredentialSubject, Effect, Marks, MessageId, Requester, SpaceId, StepId, ThreadId,
    Timestamp, ToolSourceId, TurnId,
};
use utoipa::ToSchema;

use crate::tools::{LeftOut, OfferedSource};

/// Whose words a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum MessageRole {
    /// The requester's: a request to the agent.
    User,
    /// The agent's.
    Agent,
    /// The server's own.
    System,
    /// A webhook's, mail's, calendar's or tool's: data, never instructions.
    Data,
}

impl MessageRole {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where a thread stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ThreadStatus {
    /// Not planned yet.
    Backlog,
    /// To be done.
    Todo,
    /// Being done.
    InProgress,
    /// Being looked at.
    InReview,
    /// Something is in the way.
    Blocked,
    /// Finished; new input reopens it.
    Done,
    /// Given up; new input reopens it.
    Cancelled,
}

impl ThreadStatus {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How pressing a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Priority {
    /// Whenever.
    Low,
    /// As usual.
    Medium,
    /// Soon.
    High,
    /// Today.
    Urgent,
    /// Now.
    Critical,
}

impl Priority {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum TurnStatus {
    /// Waits for its place.
    Queued,
    /// Runs; one a thread.
    Running,
    /// Waits for a person's approval of a call.
    WaitingApproval,
    /// Ended well.
    Succeeded,
    /// Ended badly; `failure` says why.
    Failed,
    /// Stopped by a person.
    Cancelled,
}

impl TurnStatus {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StepStatus {
    /// Began and did not end yet.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// It may or may not have acted.
    Unknown,
}

impl StepStatus {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StepKind {
    /// A call to the model.
    Model,
    /// A call to a tool.
    Tool,
}

impl StepKind {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The durable record of one piece of work in a Space.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its id; its channel is part of it.
    pub id: ThreadId,
    pub space: SpaceId,
    /// One line.
    pub title: String,
    /// Where it stands.
    pub status: ThreadStatus,
    /// How pressing it is.
    pub priority: Priority,
    /// On whose request it began.
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential its first message may use.
    pub subject: CredentialSubject,
    /// Moment it began.
    pub created_at: Timestamp,
    /// Moment something happened in it last.
    pub updated_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: i64,
}

/// One entry of the conversation.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: MessageId,
    pub thread: ThreadId,
    /// Its place in the thread, from 1, without gaps.
    pub sequence: i64,
    /// Whose words.
    pub role: MessageRole,
    /// The words.
    pub text: String,
    /// What came with them, as JSON.
    pub data: Option<Value>,
    /// On whose request: for agent and system text that of the turn.
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential may be used for it.
    pub subject: CredentialSubject,
    /// The turn that wrote it; `None` for what arrived.
    pub turn: Option<TurnId>,
    /// What its text carries.
    pub marks: Marks,
    /// Moment it was written.
    pub created_at: Timestamp,
}

/// One execution of the agent: the answer to one message, on its author's request.
#[derive(Clone, Debug)]
pub struct Turn {
    pub id: TurnId,
    pub thread: ThreadId,
    pub space: SpaceId,
    /// The message it answers.
    pub message: MessageId,
    /// The place of that message in the thread. Turns of a thread run in this order.
    pub message_sequence: i64,
    /// Where it stands.
    pub status: TurnStatus,
    /// The author of that message.
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential may be used.
    pub subject: CredentialSubject,
    /// What is in its context.
    pub marks: Marks,
    /// The tools it was offered, once assembled.
    pub tools_offered: Option<Vec<OfferedSource>>,
    /// What it was not offered.
    pub tools_left_out: Option<Vec<LeftOut>>,
    /// Why it failed, for people.
    pub failure: Option<String>,
    /// Moment it was queued.
    pub created_at: Timestamp,
    /// Moment it began.
    pub started_at: Option<Timestamp>,
    /// Moment it ended.
    pub finished_at: Option<Timestamp>,
    /// Moment its steps were deleted.
    pub steps_deleted_at: Option<Timestamp>,
}

/// One model call or tool call of a turn.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: StepId,
    pub turn: TurnId,
    pub thread: ThreadId,
    /// Its place in the turn, from 1.
    pub position: i64,
    /// Model or tool.
    pub kind: StepKind,
    /// The tool's full name, or the model's.
    pub name: String,
    /// Where it stands.
    pub status: StepStatus,
    /// What the tool does to the world.
    pub effect: Option<Effect>,
    /// Whether the operator recorded that it may be repeated.
    pub idempotent: bool,
    /// The turn's requester.
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential was opened.
    pub subject: CredentialSubject,
    /// Where the tool comes from.
    pub source: Option<ToolSourceId>,
    /// The whole input, for resuming; never shown.
    pub input: Option<String>,
    /// The whole output, for resuming; never shown.
    pub output: Option<String>,
    /// What may be shown of the input, see `rules::visible_steps`.
    pub input_preview: Option<String>,
    /// What may be shown of the output, see `rules::visible_steps`.
    pub output_preview: Option<String>,
    /// Why it failed, for people.
    pub failure: Option<String>,
    /// Moment it began.
    pub started_at: Timestamp,
    /// Moment it ended.
    pub finished_at: Option<Timestamp>,
}

/// A source and its key: a thread of the source answers to it.
pub type CorrelationKey = (String, String);

/// Something that arrived and becomes work.
#[derive(Clone, Debug)]
pub struct IncomingMessage {
    /// Where it goes.
    pub space: SpaceId,
    /// Continue this thread; else by correlation, else a new one.
    pub thread: Option<ThreadId>,
    /// Where it came from; used for a new thread.
    pub channel: Channel,
    /// The title of a new thread; else the first line of the text.
    pub title: Option<String>,
    /// Whose words; `User` for people and the tenant's own services, else `Data`.
    pub role: MessageRole,
    /// The words.
    pub text: String,
    /// What came with them.
    pub data: Option<Value>,
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential may be used: a person's own or nobody's personal one.
    pub subject: CredentialSubject,
    /// (source, key): reopen the thread of the same source with this key.
    pub correlation: Option<(String, String)>,
    /// The priority of a new thread; medium where it is left out.
    pub priority: Option<Priority>,
    /// What the text carries; data is `untrusted` whatever is said here.
    pub marks: Marks,
    /// The intake event it came from: makes receive idempotent.
    pub source_event: Option<uuid::Uuid>,
}

impl IncomingMessage {
    /// As whom it was sent, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester.clone(), client: self.client }
    }
}

impl Turn {
    /// As whom it was sent, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester.clone(), client: self.client }
    }
}

impl Message {
    /// As whom it was sent, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester.clone(), client: self.client }
    }

    /// Whether the requester wrote it at a page, in a browser session: then `/tool` in it is the approval of that very
    /// call.
    pub const fn is_written_at_page(&self) -> bool {
        matches!((&self.requester, self.client), (Requester::User(_), ActingClient::Page(_)))
    }
}

impl Thread {
    /// As whom it was sent, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester.clone(), client: self.client }
    }
}

/// What became of an [`IncomingMessage`].
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    pub thread: Thread,
    pub message: MessageId,
    /// The queued turn.
    pub turn: TurnId,
    /// Whether the thread was done or cancelled before and is open again.
    pub reopened: bool,
    /// False when the source event was received before: then this is what it made then.
    pub fresh: bool,
}

/// A tool or model step about to run.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// Model or tool.
    pub kind: StepKind,
    /// The tool's full name, or the model's.
    pub name: String,
    /// What the tool does to the world.
    pub effect: Option<Effect>,
    /// Whether it may be repeated.
    pub idempotent: bool,
    /// Where the tool comes from.
    pub source: Option<ToolSourceId>,
    /// The definition that was offered.
    pub definition_hash: Option<String>,
    /// What an approval would bind to.
    pub call_hash: Option<String>,
    /// The whole input.
    pub input: Option<String>,
    /// What may be shown of it.
    pub input_preview: Option<String>,
    /// Whose credential will be used, as far as known.
    pub subject: CredentialSubject,
    /// The software that acts: the agent, or what sent a typed call.
    pub client: ActingClient,
}

/// How a turn ends.
#[derive(Clone, Debug)]
pub struct TurnEnd {
    /// The outcome.
    pub status: TurnStatus,
    /// Why it failed.
    pub failure: Option<&'static str>,
    /// What is said at its end.
    pub messages: Vec<NewReply>,
}

/// A message that the agent or the server writes in a turn, and what a tool answered to a person who wrote its call, as
/// data. It starts no turn.
#[derive(Clone, Debug)]
pub struct NewReply {
    /// Any but [`MessageRole::User`].
    pub role: MessageRole,
    pub text: String,
    pub marks: Marks,
}

impl NewReply {
    /// The server's own words.
    pub fn system(text: impl Into<String>) -> Self {
        Self { role: MessageRole::System, text: text.into(), marks: Marks::default() }
    }
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepEnd {
    /// The outcome.
    pub status: StepStatus,
    /// The whole output.
    pub output: Option<String>,
    /// What may be shown of it.
    pub output_preview: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// Which threads a list shows; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct ThreadFilter {
    pub space: Option<SpaceId>,
    pub status: Option<ThreadStatus>,
    pub channel: Option<Channel>,
    /// On the request of this id, as printed.
    pub requester: Option<String>,
    /// With words in the title that begin like all of these.
    pub words: Option<String>,
}

/// Where a thread stands in a list.
pub type ThreadCursor = (Timestamp, ThreadId);

/// One page of a list.
#[derive(Debug, Default)]
pub struct ThreadPage {
    /// What it shows. A filter that no index serves may leave a page short, or empty, though there is a next one.
    pub threads: Vec<Thread>,
    /// Where the next one begins; `None` on the last.
    pub next: Option<ThreadCursor>,
}

/// What changes in a thread; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct ThreadUpdate {
    pub title: Option<String>,
    pub status: Option<ThreadStatus>,
    pub priority: Option<Priority>,
}

/// What happened in a thread: one item of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEvent {
    /// Its place in the thread, from 1: the SSE id.
    pub sequence: i64,
    /// To what it happened.
    pub what: ThreadEventKind,
}

/// To what an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadEventKind {
    /// The thread itself.
    Thread(ThreadId),
    Message(MessageId),
    /// A turn: queued, begun, its tools known, ended.
    Turn(TurnId),
    /// A step: begun, a credential opened, ended.
    Step(StepId),
}
