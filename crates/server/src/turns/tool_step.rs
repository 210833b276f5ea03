//! One tool call as a step: stored as running, made, stored with its outcome.
//!
//! Invariants: nothing is sent before the running step is committed; what a crash left running is made again only
//! where the operator recorded the tool as `read` or idempotent; a refused call never left us.

use serde_json::{Map, Value};
use thinkwork_primitives::{ActingClient, CredentialSubject, Effect, Marks, StepId};
use tracing::Instrument as _;

use super::cancellation::Interruption;
use super::execution::{Execution, TurnProgress, interrupted, left_out_sentence};
use super::{Error, context, rules};
use crate::threads::{NewStep, Step, StepEnd, StepKind, StepStatus};
use crate::tools::{self, CallOrigin, CredentialRequirement, Receipt, Tool, ToolContext, ToolResult};

/// Failures of calls that we refused ourselves: nothing was sent, and nothing foreign came back.
pub(super) const REFUSALS: [&str; 3] = ["tool_not_offered", "approval_required", "arguments"];
/// Longest name of a tool that is stored of what a model or person wrote.
const NAME_BYTES_MAX: usize = 128;

/// A call that a model asks for or a person typed.
pub(super) struct ToolRequest {
    /// The tool's full name, as written.
    pub(super) name: String,
    /// The arguments, or what is wrong with them.
    pub(super) arguments: Result<Map<String, Value>, String>,
    /// Who wrote it.
    pub(super) typed: CallOrigin,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(super) struct ToolAnswer {
    pub(super) status: StepStatus,
    pub(super) failure: Option<&'static str>,
    /// What the tool said, or what we say where it said nothing.
    pub(super) text: String,
}

impl ToolAnswer {
    const fn failed(failure: &'static str, text: String) -> Self {
        Self { status: StepStatus::Failed, failure: Some(failure), text }
    }
}

/// The outcome of a stored tool step in a word for the model.
pub(super) fn outcome_code(step: &Step) -> &str {
    match (step.status, step.failure.as_deref()) {
        (StepStatus::Succeeded, _) => "ok",
        (StepStatus::Running, _) => "running",
        (StepStatus::Unknown, _) => "unknown: it may or may not have been carried out; it was not repeated",
        (StepStatus::Failed, failure) => failure.unwrap_or("failed"),
    }
}

impl Execution<'_> {
    /// Makes a call in a step of its own. Nothing where the turn was cancelled.
    pub(super) async fn tool_step(
        &self,
        asked: ToolRequest,
        progress: &TurnProgress,
    ) -> Result<Option<ToolAnswer>, Error> {
        let found = match &asked.arguments {
            Ok(_) => match self.turns.tools.find(&self.context, &asked.name).await {
                Ok(tool) => Ok(tool),
                Err(error) => Err(refused(error)?),
            },
            Err(problem) => Err(ToolAnswer::failed("arguments", problem.clone())),
        };
        let Some(step) = self.tool_step_start(&asked, found.as_ref(), progress).await? else { return Ok(None) };
        match (found, asked.arguments) {
            (Ok(tool), Ok(arguments)) => self.tool_call(step, &tool, arguments, asked.typed, progress).await.map(Some),
            (Err(answer), _) => Ok(Some(answer)),
            (Ok(_), Err(problem)) => Ok(Some(ToolAnswer::failed("arguments", problem))),
        }
    }

    /// Goes on with a call that a crash interrupted.
    pub(super) async fn tool_step_resume(
        &self,
        step: &Step,
        asked: ToolRequest,
        progress: &TurnProgress,
    ) -> Result<Option<ToolAnswer>, Error> {
        let repeatable = step.effect == Some(Effect::Read) || step.idempotent;
        let found = if repeatable {
            self.turns.tools.find(&self.context, &asked.name).await
        } else {
            Err(tools::Error::Unknown)
        };
        if let (Ok(tool), Ok(arguments)) = (found, asked.arguments) {
            return self.tool_call(step.id, &tool, arguments, asked.typed, progress).await.map(Some);
        }
        let end = interrupted(step);
        let answer = ToolAnswer {
            status: end.status,
            failure: Some("interrupted"),
            text: end.output.clone().unwrap_or_default(),
        };
        self.step_end(step.id, end, progress.marks).await?;
        Ok(Some(answer))
    }

    /// The software that makes a call: what a person typed it into, or the agent.
    const fn client(&self, typed: CallOrigin) -> ActingClient {
        match typed {
            CallOrigin::Person => self.turn.client,
            CallOrigin::Software => ActingClient::Agent,
        }
    }

    /// Stores the step: running where it will be made, ended where it is refused. Nothing where the turn was cancelled.
    async fn tool_step_start(
        &self,
        asked: &ToolRequest,
        found: Result<&Tool, &ToolAnswer>,
        progress: &TurnProgress,
    ) -> Result<Option<StepId>, Error> {
        let input = asked.arguments.as_ref().ok().and_then(|arguments| serde_json::to_string(arguments).ok());
        let tool = found.ok();
        let name = asked.name.get(..asked.name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or("");
        let new = NewStep {
            kind: StepKind::Tool,
            name: tool.map_or_else(|| rules::preview(name), |tool| tool.name.clone()),
            effect: tool.map(|tool| tool.effect),
            idempotent: tool.is_some_and(|tool| tool.idempotent),
            source: tool.map(|tool| tool.source),
            definition_hash: tool.map(|tool| tool.definition_hash.clone()),
            call_hash: None,
            input_preview: input.as_deref().map(rules::preview),
            input,
            subject: CredentialSubject::None,
            client: self.client(asked.typed),
        };
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        if !self.turns.threads.turn_is_running(&mut tx, self.turn.id).await? {
            return Ok(None);
        }
        let step = self.turns.threads.step_start(&mut tx, &self.turn, new).await?;
        self.turns.threads.turn_mark(&mut tx, self.turn.id, progress.marks).await?;
        if let Err(answer) = found {
            self.turns.threads.step_finish(&mut tx, step, end(answer)).await?;
        }
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        Ok(Some(step))
    }

    /// Makes the call of a committed running step and stores how it ended.
    async fn tool_call(
        &self,
        step: StepId,
        tool: &Tool,
        arguments: Map<String, Value>,
        typed: CallOrigin,
        progress: &TurnProgress,
    ) -> Result<ToolAnswer, Error> {
        let marks = progress.marks;
        let receipt = Receipt::Step(step);
        let context = ToolContext { client: self.client(typed), ..self.context.clone() };
        let call = self.turns.tools.call(&context, &tool.name, arguments, marks, typed, receipt);
        let is_repeatable = tool.effect == Effect::Read || tool.idempotent;
        let result = match self.await_tool_call(call.instrument(step_span(step))).await {
            Ok(result) => result,
            // Whoever goes on makes it again.
            Err(Interruption::Stopping) if is_repeatable => return Err(Error::Stopping),
            Err(interruption) => {
                let answer = interrupted_call(tool, interruption);
                self.step_end(step, end(&answer), marks).await?;
                return Ok(answer);
            }
        };
        let (answer, marks) = match result {
            Ok(outcome) => {
                let read = Marks::of_answer(outcome.used.subject);
                let reading = tokio::task::spawn_blocking(move || answered(&outcome));
                (reading.await.map_err(|_| Error::Stopping)?, marks.with(read))
            }
            Err(tools::Error::Upstream { message, unknown_outcome }) => {
                let read = match tool.needs {
                    CredentialRequirement::Nothing => CredentialSubject::None,
                    CredentialRequirement::TenantKey => CredentialSubject::Tenant,
                    CredentialRequirement::UserGrant => self.turn.subject,
                };
                (upstream_failed(tool, message, unknown_outcome), marks.with(Marks::of_answer(read)))
            }
            Err(error) => (refused(error)?, marks),
        };
        self.step_end(step, end(&answer), marks).await?;
        Ok(answer)
    }

    /// Stores how a step ended, with the marks that its outcome brings.
    pub(super) async fn step_end(&self, step: StepId, end: StepEnd, marks: Marks) -> Result<(), Error> {
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        self.turns.threads.step_finish(&mut tx, step, end).await?;
        self.turns.threads.turn_mark(&mut tx, self.turn.id, marks).await?;
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The span of a step's call.
pub(super) fn step_span(step: StepId) -> tracing::Span {
    tracing::error_span!("step", %step)
}

fn end(answer: &ToolAnswer) -> StepEnd {
    StepEnd {
        status: answer.status,
        output: Some(answer.text.clone()),
        output_preview: Some(rules::preview(&answer.text)),
        failure: answer.failure.map(str::to_owned),
    }
}

/// A call that was not made, and why; what is no refusal fails the execution, which is tried again.
fn refused(error: tools::Error) -> Result<ToolAnswer, Error> {
    Ok(match error {
        tools::Error::Unknown | tools::Error::NotAdmitted => {
            ToolAnswer::failed("tool_not_offered", "There is no tool of that name here.".to_owned())
        }
        tools::Error::LeftOut(left_out) => ToolAnswer::failed("tool_not_offered", left_out_sentence(&left_out)),
        tools::Error::ApprovalRequired => ToolAnswer::failed(
            "approval_required",
            "This call needs a person's approval, so it was not made and nothing was sent. A person can make it by \
             typing it in this thread: /tool, the tool's name and its arguments."
                .to_owned(),
        ),
        tools::Error::Arguments(problem) => {
            ToolAnswer::failed("arguments", format!("The arguments are not valid: {problem}."))
        }
        error => return Err(error.into()),
    })
}

/// A call that was under way when its turn was cancelled or this process was stopped.
fn interrupted_call(tool: &Tool, interruption: Interruption) -> ToolAnswer {
    let (subject, failure) = match interruption {
        Interruption::Cancelled => ("The turn was cancelled", "cancelled"),
        Interruption::Stopping => ("The server was stopped", "interrupted"),
    };
    if tool.effect == Effect::Read {
        return ToolAnswer::failed(failure, format!("{subject} before this call was answered."));
    }
    let text = format!(
        "{subject} while this call was under way. It is not known whether it was carried out, and it is not repeated."
    );
    ToolAnswer { status: StepStatus::Unknown, failure: Some(failure), text }
}

fn upstream_failed(tool: &Tool, message: String, unknown_outcome: bool) -> ToolAnswer {
    if unknown_outcome && tool.effect != Effect::Read && !tool.idempotent {
        return ToolAnswer { status: StepStatus::Unknown, failure: Some("outcome_unknown"), text: message };
    }
    ToolAnswer::failed("upstream", message)
}

fn answered(outcome: &ToolResult) -> ToolAnswer {
    let texts: Vec<String> = outcome.content.iter().map(block_text).collect();
    let text = rules::result_text(&texts, outcome.structured.as_ref(), context::RESULT_BYTES_MAX);
    if outcome.is_error {
        ToolAnswer::failed("tool_error", text)
    } else {
        ToolAnswer { status: StepStatus::Succeeded, failure: None, text }
    }
}

/// One MCP content block as text (MCP 2025-06-18, "Tool Result").
fn block_text(block: &Value) -> String {
    let word = |name: &str| block.get(name).and_then(Value::as_str);
    match (word("type"), word("text")) {
        (Some("text"), Some(text)) => text.to_owned(),
        (Some("resource"), _) => {
            let text = block.pointer("/resource/text").and_then(Value::as_str);
            text.map_or_else(|| "[a resource without text]".to_owned(), str::to_owned)
        }
        (Some("resource_link"), _) => format!("[a link: {}]", word("uri").unwrap_or("?")),
        (Some("image"), _) => "[an image]".to_owned(),
        (Some("audio"), _) => "[a sound]".to_owned(),
        _ => "[something that is no text]".to_owned(),
    }
}
