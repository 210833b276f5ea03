//! A turn that a person typed: `/tool name {json}`, one step, no model.

use super::Error;
use super::execution::{Execution, TurnInput, left_out_sentence};
use super::rules::Command;
use super::tool_step::{REFUSALS, ToolAnswer, ToolRequest};
use crate::threads::{MessageRole, NewReply, Step, StepStatus, TurnStatus};
use crate::tools::{CallOrigin, OfferedTools, rules::slug_of};

impl Execution<'_> {
    /// Runs the command, or goes on where a crash left it.
    pub(super) async fn command(&self, input: &TurnInput, command: Command) -> Result<(), Error> {
        let progress = self.progress(input).await?;
        let name = command.name.clone();
        let typed = if input.answered.is_written_at_page() { CallOrigin::Person } else { CallOrigin::Software };
        let asked = ToolRequest { name: command.name, arguments: Ok(command.arguments), typed };
        let answer = match progress.steps.last() {
            Some(step) if step.status == StepStatus::Running => self.tool_step_resume(step, asked, &progress).await?,
            Some(step) => Some(stored(step)),
            None if !input.offered.tools.iter().any(|tool| tool.name == name) => {
                let says = NewReply::system(not_offered(&input.offered, &name));
                return self.finish(TurnStatus::Failed, Some("tool_not_offered"), vec![says]).await;
            }
            None => self.tool_step(asked, &progress).await?,
        };
        match answer {
            Some(answer) => self.command_finish(input, &name, &answer).await,
            None => Ok(()),
        }
    }

    async fn command_finish(&self, input: &TurnInput, name: &str, answer: &ToolAnswer) -> Result<(), Error> {
        let marks = self.progress(input).await?.marks;
        let said = || NewReply { role: MessageRole::Data, text: answer.text.clone(), marks };
        let (status, failure, says) = match (answer.status, answer.failure) {
            (StepStatus::Succeeded, _) => (TurnStatus::Succeeded, None, vec![said()]),
            (_, Some(failure)) if REFUSALS.contains(&failure) => {
                (TurnStatus::Failed, Some(failure), vec![NewReply::system(answer.text.clone())])
            }
            (_, Some("interrupted")) => {
                (TurnStatus::Failed, Some("outcome_unknown"), vec![NewReply::system(outcome_unknown(name))])
            }
            (StepStatus::Unknown, _) => {
                (TurnStatus::Failed, Some("outcome_unknown"), vec![said(), NewReply::system(outcome_unknown(name))])
            }
            (StepStatus::Failed | StepStatus::Running, _) => {
                let text = format!("The tool {name} failed. See its output above, correct the command and try again.");
                (TurnStatus::Failed, Some("tool_failed"), vec![said(), NewReply::system(text)])
            }
        };
        self.finish(status, failure, says).await
    }
}

/// The answer of a step that ended before a crash.
fn stored(step: &Step) -> ToolAnswer {
    let known = ["tool_error", "upstream", "outcome_unknown", "interrupted"];
    let failure = step.failure.as_deref();
    ToolAnswer {
        status: step.status,
        failure: REFUSALS.into_iter().chain(known).find(|word| failure == Some(word)),
        text: step.output.clone().unwrap_or_default(),
    }
}

fn outcome_unknown(name: &str) -> String {
    format!(
        "It is not known whether {name} was carried out, so it was not repeated. Look there first, and type it again \
         only if nothing happened."
    )
}

/// Why a tool is not offered, and what mends it.
fn not_offered(offered: &OfferedTools, name: &str) -> String {
    let slug = slug_of(name);
    if let Some(left_out) = offered.left_out.iter().find(|left_out| left_out.server == slug) {
        return left_out_sentence(left_out);
    }
    let names: Vec<&str> = offered.tools.iter().map(|tool| tool.name.as_str()).collect();
    if names.is_empty() {
        return "This tool is not available here. An operator can add MCP servers to this Space.".to_owned();
    }
    format!("This tool is not available here. Available tools: {}.", names.join(", "))
}
