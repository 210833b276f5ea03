//! One execution of a turn: what it begins with, which way it takes, how it ends.
//!
//! Invariant: whatever ends a turn, its thread says so in plain words; a turn that was cancelled writes nothing more.

use thinkwork_database::jobs::{self, Job};
use thinkwork_primitives::{ActingClient, Effect, Marks, TenantId, Timestamp, TraceContext};
use tokio_util::sync::CancellationToken;
use tracing::{Span, field};

use super::agent::Agent;
use super::cancellation::Interruption;
use super::rules::{self, turn_marks};
use super::{Error, Turns, context, store};
use crate::threads::{Message, MessageRole, NewReply, Step, StepEnd, StepKind, StepStatus, Turn, TurnEnd, TurnStatus};
use crate::tools::{self, LeftOut, OfferedTools, ToolContext};

/// One execution. Nothing it knows is lost with it: all is stored.
pub(super) struct Execution<'a> {
    pub(super) turns: &'a Turns,
    pub(super) job: &'a Job,
    pub(super) turn: Turn,
    pub(super) context: ToolContext,
    /// What its calls to the model and to tools name as their trace: the turn.
    pub(super) trace: TraceContext,
}

/// What a turn begins with, read afresh at each execution.
pub(super) struct TurnInput {
    pub(super) answered: Message,
    pub(super) history: Vec<Message>,
    pub(super) agent: Agent,
    pub(super) space_prompt: Option<String>,
    pub(super) offered: OfferedTools,
}

/// Where a turn stands between two steps.
pub(super) struct TurnProgress {
    pub(super) steps: Vec<Step>,
    pub(super) marks: Marks,
}

impl<'a> Execution<'a> {
    pub(super) fn new(turns: &'a Turns, job: &'a Job, turn: Turn) -> Self {
        let trace = TraceContext::begin(turn.id.uuid());
        let context = tool_context(job.tenant, &turn, Some(trace));
        Self { turns, job, turn, context, trace }
    }

    /// The span of this turn's work.
    pub(super) fn span(&self) -> Span {
        let turn = &self.turn;
        tracing::error_span!(
            "turn",
            turn = %turn.id,
            thread = %turn.thread,
            requester = turn.requester.id(),
            subject = turn.subject.user().map(field::display),
            trace_id = %self.trace.trace_id(),
        )
    }

    /// Runs the turn to its end, or goes on where a crash left it.
    pub(super) async fn run(&self) -> Result<(), Error> {
        let Some(input) = self.prepare().await? else { return Ok(()) };
        let by_person = input.answered.role == MessageRole::User && self.turn.requester.user().is_some();
        let command = if by_person { rules::parse_command(&input.answered.text) } else { None };
        match (command, &input.agent.model) {
            (Some(Ok(command)), _) => self.command(&input, command).await,
            (Some(Err(error)), _) => {
                self.finish(TurnStatus::Failed, Some("command_malformed"), vec![NewReply::system(error.to_string())])
                    .await
            }
            (None, None) => {
                self.finish(TurnStatus::Succeeded, None, vec![NewReply::system(no_model(&input.offered))]).await
            }
            (None, Some(model)) => {
                let model = model.clone();
                Box::pin(self.converse(input, &model)).await
            }
        }
    }

    /// Ends a turn that failed too often.
    pub(super) async fn give_up(&self) -> Result<(), Error> {
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        for step in self.turns.threads.steps(&mut tx, self.turn.id).await? {
            if step.status == StepStatus::Running {
                self.turns.threads.step_finish(&mut tx, step.id, interrupted(&step)).await?;
            }
        }
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        let says = NewReply::system(
            "Something went wrong repeatedly, so this request was stopped. Send your message again to retry, and tell \
             an operator if it happens again.",
        );
        self.finish(TurnStatus::Failed, Some("internal"), vec![says]).await
    }

    /// Reads what the turn begins with and stores which tools it gets. Nothing where the turn ended here.
    async fn prepare(&self) -> Result<Option<TurnInput>, Error> {
        let assembled = match self.unless_interrupted(self.turns.tools.assemble(&self.context)).await {
            Ok(assembled) => assembled,
            Err(Interruption::Cancelled) => return Ok(None),
            Err(Interruption::Stopping) => return Err(Error::Stopping),
        };
        let offered = match assembled {
            Ok(offered) => offered,
            Err(tools::Error::NotAdmitted) => {
                let TurnEnd { status, failure, messages } = no_access();
                self.finish(status, failure, messages).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        self.turns.threads.turn_tools(&mut tx, self.turn.id, &offered.by_source(), &offered.left_out).await?;
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        let mut tx = self.turns.db.read(self.job.tenant).await?;
        let answered = self.turns.threads.message(&mut tx, self.turn.message).await?;
        let answered = answered.ok_or(Error::Record("the message it answers is gone"))?;
        let history = self.history(&mut tx, &answered).await?;
        let space = self.turns.spaces.find_for_work(&mut tx, self.turn.space).await?;
        let agent = store::agent_find(&mut tx).await?;
        Ok(Some(TurnInput { answered, history, agent, space_prompt: space.and_then(|space| space.prompt), offered }))
    }

    /// The messages before the answered one, and what the agent wrote since: later messages have turns of their own.
    async fn history(&self, tx: &mut thinkwork_database::Tx, answered: &Message) -> Result<Vec<Message>, Error> {
        let after = answered.sequence.saturating_sub(context::MESSAGES_MAX).max(0);
        let limit = u64::try_from(context::MESSAGES_MAX.saturating_mul(2)).unwrap_or(1);
        let messages = self.turns.threads.messages(tx, self.turn.thread, limit, Some(after)).await?;
        Ok(messages
            .into_iter()
            .filter(|message| message.id != answered.id)
            .filter(|message| message.sequence < answered.sequence || message.role == MessageRole::Agent)
            .collect())
    }

    /// Where the turn stands now, from what is stored.
    pub(super) async fn progress(&self, input: &TurnInput) -> Result<TurnProgress, Error> {
        let mut tx = self.turns.db.read(self.job.tenant).await?;
        let steps = self.turns.threads.steps(&mut tx, self.turn.id).await?;
        let read = context::read(&self.turn, &input.answered, &input.history);
        let marks = turn_marks(&self.turn, &read, &steps);
        Ok(TurnProgress { steps, marks })
    }

    /// Fails where another process has taken the thread over. Last in a transaction, before its commit.
    pub(super) async fn check_lease(&self, tx: &mut thinkwork_database::Tx) -> Result<(), Error> {
        if jobs::holds_lease(tx, self.job).await? { Ok(()) } else { Err(Error::TakenOver) }
    }

    /// Ends the turn and says how, unless it was cancelled meanwhile.
    pub(super) async fn finish(
        &self,
        status: TurnStatus,
        failure: Option<&'static str>,
        says: Vec<NewReply>,
    ) -> Result<(), Error> {
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        let messages = says.into_iter().map(|reply| NewReply { text: bounded(reply.text), ..reply }).collect();
        if self.turns.threads.turn_end(&mut tx, &self.turn, TurnEnd { status, failure, messages }).await? {
            self.check_lease(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.turns.clock.now()
    }
}

/// How a step ends whose outcome nobody knows; one that only read has simply failed.
pub(super) fn interrupted(step: &Step) -> StepEnd {
    let harmless = step.kind == StepKind::Model || step.effect == Some(Effect::Read);
    StepEnd {
        status: if harmless { StepStatus::Failed } else { StepStatus::Unknown },
        output: Some("The server stopped while this ran. It was not repeated.".to_owned()),
        output_preview: Some("The server stopped while this ran. It was not repeated.".to_owned()),
        failure: Some("interrupted".to_owned()),
    }
}

/// The beginning of a text that fits one message.
fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(thinkwork_primitives::limits::MESSAGE_TEXT_BYTES_MAX));
    text
}

/// How a turn ends whose requester may not be in its Space any more.
pub(super) fn no_access() -> TurnEnd {
    let says = NewReply::system("You no longer have access to this Space, so nothing was done.");
    TurnEnd { status: TurnStatus::Failed, failure: Some("no_access"), messages: vec![says] }
}

/// For whom and where a turn asks for tools.
pub(super) fn tool_context(tenant: TenantId, turn: &Turn, trace: Option<TraceContext>) -> ToolContext {
    ToolContext {
        tenant,
        space: Some(turn.space),
        requester: turn.requester.clone(),
        client: ActingClient::Agent,
        may_use: turn.subject,
        reads_only: false,
        thread: Some(turn.thread),
        turn: Some(turn.id),
        trace,
        cancellation: CancellationToken::new(),
    }
}

/// The next step where no model is set up.
pub(super) fn no_model(offered: &OfferedTools) -> String {
    let mut text =
        "No model is set up, so the agent cannot answer. An operator can choose one under Agent. You can still run a \
         tool by its name, for example: /tool name {\"argument\":\"value\"}."
            .to_owned();
    if !offered.tools.is_empty() {
        let names: Vec<&str> = offered.tools.iter().map(|tool| tool.name.as_str()).collect();
        text.push_str(&format!(" Available tools: {}.", names.join(", ")));
    }
    for left_out in &offered.left_out {
        text.push(' ');
        text.push_str(&left_out_sentence(left_out));
    }
    text
}

/// One sentence for the requester about a server or a tool that is left out.
pub(super) fn left_out_sentence(left_out: &LeftOut) -> String {
    let why = left_out.with_detail(left_out.reason.plain());
    let sentence = format!("The {} {} is not available: {why}.", left_out.kind(), left_out.name());
    match &left_out.connect_url {
        Some(link) => format!("{sentence} Connect it here: {link}"),
        None => sentence,
    }
}
