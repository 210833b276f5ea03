//! A turn with a model: ask, make the calls it asks for, ask again, until it answers.
//!
//! Invariant: what comes next is read from the stored steps each time, so an interrupted turn goes on by itself.

use std::ops::ControlFlow;

use std::time::Duration;

use serde_json::{Map, Value, json};
use thinkwork_primitives::{ActingClient, CredentialSubject, StepId, Surface};
use tracing::Instrument as _;

use super::agent::Model;
use super::cancellation::Interruption;
use super::execution::{Execution, TurnInput, TurnProgress};
use super::model::{FailureCode, ModelError};
use super::model_tools::ModelTools;
use super::rules::{AssistantMessage, Next, ToolCall, next};
use super::schema::Dialect;
use super::tool_step::{ToolRequest, step_span};
use super::{Error, context, model};
use crate::credentials::{OpenedCredential, UseContext};
use crate::threads::StepUseRecorder;
use crate::threads::{MessageRole, NewReply, NewStep, Step, StepEnd, StepKind, StepStatus, TurnStatus};
use crate::tools::CallOrigin;

/// Model calls of one turn: an agent that needs more goes in circles.
const MODEL_CALLS_MAX: usize = 16;
/// How long a turn may take; approvals will stop this clock.
const TURN_DURATION_MAX: Duration = Duration::from_secs(900);
/// Tries of a job after which a model that does not answer fails the turn: about ten seconds of pauses.
const MODEL_TRIES_MAX: i64 = 3;

impl Execution<'_> {
    /// Talks with the model until it answers.
    pub(super) async fn converse(&self, mut input: TurnInput, model: &Model) -> Result<(), Error> {
        let mut tools = self.model_tools(&mut input, model).await?;
        loop {
            let progress = self.progress(&input).await?;
            let flow = match next(&progress.steps) {
                Next::Model { again } => {
                    if let Some((failure, text)) = self.exhausted(&progress, again) {
                        return self.finish(TurnStatus::Failed, Some(failure), vec![NewReply::system(text)]).await;
                    }
                    Box::pin(self.model_step(&input, model, &mut tools, &progress, again)).await?
                }
                Next::Tool { call, interrupted } => {
                    let asked = asked(call);
                    let answer = match interrupted {
                        Some(step) => self.tool_step_resume(step, asked, &progress).await?,
                        None => self.tool_step(asked, &progress).await?,
                    };
                    if answer.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                }
                Next::Answer(text) => {
                    let says = NewReply { role: MessageRole::Agent, text, marks: progress.marks };
                    return self.finish(TurnStatus::Succeeded, None, vec![says]).await;
                }
                Next::ModelFailed(step) => {
                    let code = step.failure.as_deref().and_then(|code| code.parse::<FailureCode>().ok());
                    let code = code.unwrap_or(FailureCode::Failed);
                    let says = NewReply::system(step.output.clone().unwrap_or_default());
                    let says = match code {
                        // The model or its provider is quoted, who can quote what they were given.
                        FailureCode::Rejected | FailureCode::Declined => NewReply { marks: progress.marks, ..says },
                        FailureCode::Failed | FailureCode::NoAnswer => says,
                    };
                    return self.finish(TurnStatus::Failed, Some(code.as_str()), vec![says]).await;
                }
                Next::Damaged => return Err(Error::Record("a stored answer of the model cannot be read")),
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    /// Why the model is not asked once more, if so.
    fn exhausted(&self, progress: &TurnProgress, again: Option<&Step>) -> Option<(&'static str, &'static str)> {
        let calls = progress.steps.iter().filter(|step| step.kind == StepKind::Model).count();
        if again.is_none() && calls >= MODEL_CALLS_MAX {
            return Some((
                "too_many_model_calls",
                "The agent asked its model sixteen times without coming to an answer, so this turn was ended. Ask for \
                 a smaller piece.",
            ));
        }
        let began = self.turn.started_at.unwrap_or(self.turn.created_at);
        (self.now().since(began) > TURN_DURATION_MAX).then_some((
            "deadline",
            "This request took longer than 15 minutes and was stopped. Try again with a smaller request.",
        ))
    }

    /// The offered tools as this model takes them; those that it cannot be given are stored as left out.
    async fn model_tools(&self, input: &mut TurnInput, model: &Model) -> Result<ModelTools, Error> {
        let offered = std::mem::take(&mut input.offered);
        let earlier = self.turn.tools_left_out.as_deref().unwrap_or_default();
        let tools = ModelTools::new(self.turns, offered, Dialect::of(model), earlier).await?;
        if tools.leaves_tools_out() {
            self.tools_store(&tools).await?;
        }
        Ok(tools)
    }

    /// Stores which tools the turn is given, and which are left out.
    async fn tools_store(&self, tools: &ModelTools) -> Result<(), Error> {
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        let offered = &tools.offered;
        self.turns.threads.turn_tools(&mut tx, self.turn.id, &offered.by_source(), &offered.left_out).await?;
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    fn request<'a>(
        &self,
        input: &'a TurnInput,
        model: &'a Model,
        tools: &'a ModelTools,
        progress: &TurnProgress,
    ) -> model::Request<'a> {
        let sources = context::Sources {
            turn: &self.turn,
            instructions: &input.agent.instructions,
            space_prompt: input.space_prompt.as_deref(),
            answered: &input.answered,
            history: &input.history,
            steps: &progress.steps,
            left_out: &tools.offered.left_out,
        };
        model::Request { model: &model.name, messages: context::build(&sources), tools: tools.definitions() }
    }

    /// Asks the model in one step. A tool that its provider refuses is left out, and the model is asked again.
    async fn model_step(
        &self,
        input: &TurnInput,
        model: &Model,
        tools: &mut ModelTools,
        progress: &TurnProgress,
        again: Option<&Step>,
    ) -> Result<ControlFlow<()>, Error> {
        let request = self.request(input, model, tools, progress);
        let Some((step, key)) = self.model_step_start(input, model, progress, again, &request).await? else {
            return Ok(ControlFlow::Break(()));
        };
        drop(request);
        let key = key.as_ref().map(|key| &key.secret);
        let end = loop {
            let request = self.request(input, model, tools, progress);
            let asked = model::complete(&self.turns.outbound, model, key, self.trace, request);
            let outcome = match self.unless_interrupted(asked.instrument(step_span(step))).await {
                Ok(outcome) => outcome,
                Err(Interruption::Cancelled) => break model_cancelled(),
                Err(Interruption::Stopping) => return Err(Error::Stopping),
            };
            match outcome {
                Ok(answer) => break model_answered(&answer),
                Err(failure) if failure.transient && self.job.attempts < MODEL_TRIES_MAX => {
                    return Err(Error::ModelUnavailable(failure.text));
                }
                Err(failure) => match failure.refused_tool.as_deref().filter(|_| tools.may_leave_out()) {
                    Some(tool) => {
                        log_failure(&failure, "the model's provider refused a tool, which is left out of this turn");
                        tools.leave_out(tool);
                        self.tools_store(tools).await?;
                    }
                    None => {
                        log_failure(&failure, "the model gave no answer");
                        break model_failed(failure);
                    }
                },
            }
        };
        self.step_end(step, end, progress.marks).await?;
        Ok(ControlFlow::Continue(()))
    }

    /// Stores the step and opens the key for it. Nothing where the turn was cancelled.
    async fn model_step_start(
        &self,
        input: &TurnInput,
        model: &Model,
        progress: &TurnProgress,
        again: Option<&Step>,
        request: &model::Request<'_>,
    ) -> Result<Option<(StepId, Option<OpenedCredential>)>, Error> {
        // What the model reads may be one person's, and everybody in the Space sees this step: no content in it.
        let about = format!("{} messages, {} tools", request.messages.len(), request.tools.len());
        let mut tx = self.turns.db.write(self.job.tenant).await?;
        if !self.turns.threads.turn_is_running(&mut tx, self.turn.id).await? {
            return Ok(None);
        }
        let step = match again {
            Some(step) => step.id,
            None => {
                let new = NewStep {
                    kind: StepKind::Model,
                    name: model.name.clone(),
                    effect: None,
                    idempotent: true,
                    source: None,
                    definition_hash: None,
                    call_hash: None,
                    input: None,
                    input_preview: Some(about),
                    subject: CredentialSubject::None,
                    client: ActingClient::Agent,
                };
                self.turns.threads.step_start(&mut tx, &self.turn, new).await?
            }
        };
        self.turns.threads.turn_mark(&mut tx, self.turn.id, progress.marks).await?;
        let key = match input.agent.credential {
            Some(credential) => {
                let context = UseContext {
                    actor: self.context.actor(),
                    thread: Some(self.turn.thread),
                    turn: Some(self.turn.id),
                    tool: None,
                };
                let recorder = StepUseRecorder(step);
                let opening = context.request(Surface::ModelCall, CredentialSubject::Tenant);
                let opening = opening.recorded_by(Some(&recorder));
                Some(self.turns.credentials.open(&mut tx, credential, &model.key_meaning(), opening).await?)
            }
            None => None,
        };
        self.check_lease(&mut tx).await?;
        tx.commit().await?;
        Ok(Some((step, key)))
    }
}

fn asked(call: ToolCall) -> ToolRequest {
    let arguments = match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("The arguments must be one JSON object.".to_owned()),
        Err(_) if call.arguments.trim().is_empty() => Ok(Map::new()),
        Err(error) => Err(format!("The arguments are not JSON: {error}.")),
    };
    ToolRequest { name: call.name, arguments, typed: CallOrigin::Software }
}

fn model_answered(answer: &AssistantMessage) -> StepEnd {
    let names: Vec<&str> = answer.tool_calls.iter().map(|call| call.name.as_str()).collect();
    let about = if names.is_empty() { "an answer".to_owned() } else { format!("asks for {}", names.join(", ")) };
    StepEnd {
        status: StepStatus::Succeeded,
        output: Some(json!(answer).to_string()),
        output_preview: Some(super::rules::preview(&about)),
        failure: None,
    }
}

/// A call that a person's cancellation ended.
fn model_cancelled() -> StepEnd {
    let text = "The turn was cancelled before the model answered.".to_owned();
    StepEnd {
        status: StepStatus::Failed,
        output_preview: Some(text.clone()),
        output: Some(text),
        failure: Some("cancelled".to_owned()),
    }
}

fn model_failed(failure: ModelError) -> StepEnd {
    StepEnd {
        status: StepStatus::Failed,
        output_preview: Some(super::rules::preview(&failure.text)),
        output: Some(failure.text),
        failure: Some(failure.code.as_str().to_owned()),
    }
}

/// What the provider said goes to the operator's log, where it can be longer than in the thread.
fn log_failure(failure: &ModelError, event: &str) {
    tracing::warn!(
        failure = failure.code.as_str(),
        tool = failure.refused_tool.as_deref(),
        provider_error = failure.provider_error.as_deref(),
        "{event}"
    );
}
