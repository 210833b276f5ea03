//! The domain types of threads: what a thread, a message, a turn and a step are.
//!
//! Invariant: requester and credential subject are never optional. Re-exported by the slice's face.

use serde_json::Value;
use thinkwork_primitives::{
    Channel, CredentialSubject, Effect, Marks, McpServerId, MessageId, Requester, SpaceId, StepId, ThreadId, Timestamp,
    TurnId,
};

/// Whose words a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The word of the API and the pages.
    pub const fn word(self) -> &'static str {
        super::rules::status_word(self)
    }
}

/// How pressing a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A call to the model.
    Model,
    /// A call to a tool.
    Tool,
}

/// The durable record of one piece of work in a Space.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its id; its channel is part of it.
    pub id: ThreadId,
    /// Its Space.
    pub space: SpaceId,
    /// One line.
    pub title: String,
    /// Where it stands.
    pub status: ThreadStatus,
    /// How pressing it is.
    pub priority: Priority,
    /// On whose request it began.
    pub requester: Requester,
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
    /// Its id.
    pub id: MessageId,
    /// Its thread.
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
    /// Whose credential may be used for it.
    pub subject: CredentialSubject,
    /// The turn that wrote it; `None` for what arrived.
    pub turn: Option<TurnId>,
    /// What its text carries.
    pub marks: Marks,
    /// Whether the requester typed it in a browser session, which makes `/tool` the approval of that very call.
    pub typed_in_session: bool,
    /// Moment it was written.
    pub created_at: Timestamp,
}

/// One execution of the agent: the answer to one message, on its author's request.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// Its thread.
    pub thread: ThreadId,
    /// Its Space.
    pub space: SpaceId,
    /// The message it answers.
    pub message: MessageId,
    /// Where it stands.
    pub status: TurnStatus,
    /// The author of that message.
    pub requester: Requester,
    /// Whose credential may be used.
    pub subject: CredentialSubject,
    /// What is in its context.
    pub marks: Marks,
    /// The tools it was offered, once assembled.
    pub tools_offered: Option<Vec<String>>,
    /// The servers it was not offered: `[{server, reason, connect_url?}]`.
    pub tools_left_out: Option<Value>,
    /// Why it failed, for people.
    pub failure: Option<String>,
    /// Moment it was queued.
    pub created_at: Timestamp,
    /// Moment it began.
    pub started_at: Option<Timestamp>,
    /// Moment it ended.
    pub finished_at: Option<Timestamp>,
}

/// One model call or tool call of a turn.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its turn.
    pub turn: TurnId,
    /// Its thread.
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
    /// Whose credential was opened.
    pub subject: CredentialSubject,
    /// The tool's server.
    pub server: Option<McpServerId>,
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

/// Something that arrived and becomes work.
#[derive(Clone, Debug)]
pub struct Inbound {
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
    /// On whose request.
    pub requester: Requester,
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

/// What became of an [`Inbound`].
#[derive(Clone, Debug)]
pub struct Received {
    /// Its thread.
    pub thread: Thread,
    /// Its message.
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
    /// The tool's server.
    pub server: Option<McpServerId>,
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
    /// Of this Space.
    pub space: Option<SpaceId>,
    /// With this status.
    pub status: Option<ThreadStatus>,
    /// Of this channel.
    pub channel: Option<Channel>,
    /// On the request of this id, as printed.
    pub requester: Option<String>,
    /// With these words in the title.
    pub words: Option<String>,
}

/// What changes in a thread; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct ThreadChange {
    /// The new title.
    pub title: Option<String>,
    /// The new status.
    pub status: Option<ThreadStatus>,
    /// The new priority.
    pub priority: Option<Priority>,
}

/// What happened in a thread: one item of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEvent {
    /// Its place in the thread, from 1: the SSE id.
    pub sequence: i64,
    /// To what it happened.
    pub what: Changed,
}

/// To what an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The thread itself.
    Thread(ThreadId),
    /// A new message.
    Message(MessageId),
    /// A turn: queued, begun, its tools known, ended.
    Turn(TurnId),
    /// A step: begun, a credential opened, ended.
    Step(StepId),
}
