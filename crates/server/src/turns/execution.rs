//! One execution of a turn: what it begins with, which way it takes, how it ends.
//!
//! Invariant: whatever ends a turn, its thread says so in plain words; a turn that was cancelled writes nothing more.

use thinkwork_database::jobs::{self, Job};
use thinkwork_primitives::{Effect, Marks, Timestamp};

use super::agent::Agent;
use super::rules::{self, turn_marks};
use super::{Error, Turns, context, store};
use crate::threads::{Message, MessageRole, Step, StepEnd, StepKind, StepStatus, Turn, TurnStatus};
use crate::tools::{self, Ask, LeftOut, Offer};

/// One execution. Nothing it knows is lost with it: all is stored.
pub(super) struct Execution<'a> {
    pub(super) turns: &'a Turns,
    pub(super) job: &'a Job,
    pub(super) turn: Turn,
    pub(super) ask: Ask,
}

/// What a turn begins with, read afresh at each execution.
pub(super) struct Brief {
    pub(super) answered: Message,
    pub(super) history: Vec<Message>,
    pub(super) agent: Agent,
    pub(super) space_prompt: Option<String>,
    pub(super) offer: Offer,
}

/// Where a turn stands between two steps.
pub(super) struct Situation {
    pub(super) steps: Vec<Step>,
    pub(super) marks: Marks,
}

/// Whether a turn goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    /// Somebody cancelled it.
    Stopped,
}

/// One message at the end of a turn.
pub(super) struct Says {
    pub(super) role: MessageRole,
    pub(super) text: String,
    pub(super) marks: Marks,
}

impl Says {
    /// The server's own words.
    pub(super) fn system(text: impl Into<String>) -> Self {
        Self { role: MessageRole::System, text: text.into(), marks: Marks::default() }
    }
}

impl<'a> Execution<'a> {
    pub(super) fn new(turns: &'a Turns, job: &'a Job, turn: Turn) -> Self {
        let ask = Ask {
            tenant: job.tenant,
            space: Some(turn.space),
            requester: turn.requester.clone(),
            may_use: turn.subject,
            reads_only: false,
            thread: Some(turn.thread),
            turn: Some(turn.id),
        };
        Self { turns, job, turn, ask }
    }

    /// Runs the turn to its end, or goes on where a crash left it.
    pub(super) async fn run(&self) -> Result<(), Error> {
        let Some(brief) = self.prepare().await? else { return Ok(()) };
        let by_person = brief.answered.role == MessageRole::User && self.turn.requester.user().is_some();
        let command = if by_person { rules::parse_command(&brief.answered.text) } else { None };
        match (command, &brief.agent.model) {
            (Some(Ok(command)), _) => self.command(&brief, command).await,
            (Some(Err(error)), _) => {
                self.finish(TurnStatus::Failed, Some("command_malformed"), vec![Says::system(error.to_string())]).await
            }
            (None, None) => self.finish(TurnStatus::Succeeded, None, vec![Says::system(no_model(&brief.offer))]).await,
            (None, Some(model)) => self.converse(&brief, model).await,
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
        self.hold(&mut tx).await?;
        tx.commit().await?;
        let says = Says::system(
            "Something failed here again and again, so this turn was given up. Write again to try once more, and tell \
             an operator if it stays.",
        );
        self.finish(TurnStatus::Failed, Some("internal"), vec![says]).await
    }

    /// Reads what the turn begins with and stores which tools it gets. Nothing where the turn ended here.
    async fn prepare(&self) -> Result<Option<Brief>, Error> {
        let offer = match self.turns.tools.assemble(&self.ask).await {
            Ok(offer) => offer,
            Err(tools::Error::NotAdmitted) => {
                let says = Says::system("You no longer have access to this Space, so nothing was done.");
                self.finish(TurnStatus::Failed, Some("no_access"), vec![says]).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        let names: Vec<String> = offer.tools.iter().map(|tool| tool.name.clone()).collect();
        self.turns.threads.turn_tools(&mut tx, self.turn.id, &names, &left_out_json(&offer.left_out)).await?;
        self.hold(&mut tx).await?;
        tx.commit().await?;
        let mut tx = self.turns.db.read(self.job.tenant).await?;
        let answered = self.turns.threads.message(&mut tx, self.turn.message).await?;
        let answered = answered.ok_or(Error::Record("the message it answers is gone"))?;
        let history = self.history(&mut tx, &answered).await?;
        let space = self.turns.spaces.find_for_work(&mut tx, self.turn.space).await?;
        let agent = store::agent_find(&mut tx).await?;
        Ok(Some(Brief { answered, history, agent, space_prompt: space.and_then(|space| space.prompt), offer }))
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
    pub(super) async fn situation(&self, brief: &Brief) -> Result<Situation, Error> {
        let mut tx = self.turns.db.read(self.job.tenant).await?;
        let steps = self.turns.threads.steps(&mut tx, self.turn.id).await?;
        let read = context::read(&self.turn, &brief.answered, &brief.history);
        let marks = turn_marks(&self.turn, &read, &steps);
        Ok(Situation { steps, marks })
    }

    /// Fails where another process has taken the thread over. Last in a transaction, before its commit.
    pub(super) async fn hold(&self, tx: &mut thinkwork_database::Tx) -> Result<(), Error> {
        if jobs::holds(tx, self.job).await? { Ok(()) } else { Err(Error::TakenOver) }
    }

    /// Ends the turn and says how, unless it was cancelled meanwhile.
    pub(super) async fn finish(&self, status: TurnStatus, failure: Option<&str>, says: Vec<Says>) -> Result<(), Error> {
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        if !self.turns.threads.turn_is_running(&mut tx, self.turn.id).await? {
            return Ok(());
        }
        for Says { role, text, marks } in says {
            let text = bounded(&text);
            self.turns.threads.message_append(&mut tx, &self.turn, role, text, marks).await?;
        }
        self.turns.threads.turn_finish(&mut tx, self.turn.id, status, failure).await?;
        self.hold(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The time now.
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
fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(thinkwork_primitives::limits::MESSAGE_TEXT_BYTES_MAX)).unwrap_or(text)
}

/// What is left out, as stored and as the API shows it.
fn left_out_json(left_out: &[LeftOut]) -> serde_json::Value {
    left_out
        .iter()
        .map(|left_out| match &left_out.connect_url {
            Some(link) => {
                serde_json::json!({"server": left_out.server, "reason": left_out.reason.word(), "connect_url": link})
            }
            None => serde_json::json!({"server": left_out.server, "reason": left_out.reason.word()}),
        })
        .collect()
}

/// The next step where no model is set up.
fn no_model(offer: &Offer) -> String {
    let mut text =
        "No model is set up, so nobody answers here: an operator can choose one under Agent. You can still run a tool \
         by its name, like: /tool name {\"argument\":\"value\"}."
            .to_owned();
    if !offer.tools.is_empty() {
        let names: Vec<&str> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
        text.push_str(&format!(" Tools here: {}.", names.join(", ")));
    }
    for left_out in &offer.left_out {
        text.push(' ');
        text.push_str(&left_out_sentence(left_out));
    }
    text
}

/// One sentence for the requester about a server that is left out.
pub(super) fn left_out_sentence(left_out: &LeftOut) -> String {
    match &left_out.connect_url {
        Some(link) => {
            format!("The server {} is left out: {}. Connect it here: {link}", left_out.server, left_out.reason.plain())
        }
        None => format!("The server {} is left out: {}.", left_out.server, left_out.reason.plain()),
    }
}
