//! A turn that a person typed: `/tool name {json}`, one step, no model.

use super::Error;
use super::execution::{Brief, Execution, Says, left_out_sentence};
use super::rules::Command;
use super::tool_step::{Answer, Asked, REFUSALS};
use crate::threads::{MessageRole, Step, StepStatus, TurnStatus};
use crate::tools::{Offer, Typed, rules::slug_of};

impl Execution<'_> {
    /// Runs the command, or goes on where a crash left it.
    pub(super) async fn command(&self, brief: &Brief, command: Command) -> Result<(), Error> {
        let situation = self.situation(brief).await?;
        let name = command.name.clone();
        let typed = if brief.answered.typed_in_session { Typed::ByPerson } else { Typed::Otherwise };
        let asked = Asked { name: command.name, arguments: Ok(command.arguments), typed };
        let answer = match situation.steps.last() {
            Some(step) if step.status == StepStatus::Running => self.tool_step_resume(step, asked, &situation).await?,
            Some(step) => Some(stored(step)),
            None if !brief.offer.tools.iter().any(|tool| tool.name == name) => {
                let says = Says::system(not_offered(&brief.offer, &name));
                return self.finish(TurnStatus::Failed, Some("tool_not_offered"), vec![says]).await;
            }
            None => self.tool_step(asked, &situation).await?,
        };
        match answer {
            Some(answer) => self.command_finish(brief, &name, &answer).await,
            None => Ok(()),
        }
    }

    async fn command_finish(&self, brief: &Brief, name: &str, answer: &Answer) -> Result<(), Error> {
        let marks = self.situation(brief).await?.marks;
        let said = || Says { role: MessageRole::Data, text: answer.text.clone(), marks };
        let (status, failure, says) = match (answer.status, answer.failure) {
            (StepStatus::Succeeded, _) => (TurnStatus::Succeeded, None, vec![said()]),
            (_, Some(failure)) if REFUSALS.contains(&failure) => {
                (TurnStatus::Failed, Some(failure), vec![Says::system(answer.text.clone())])
            }
            (_, Some("interrupted")) => {
                (TurnStatus::Failed, Some("outcome_unknown"), vec![Says::system(outcome_unknown(name))])
            }
            (StepStatus::Unknown, _) => {
                (TurnStatus::Failed, Some("outcome_unknown"), vec![said(), Says::system(outcome_unknown(name))])
            }
            (StepStatus::Failed | StepStatus::Running, _) => {
                let text = format!("The tool {name} failed. What it said stands above; correct it and type it again.");
                (TurnStatus::Failed, Some("tool_failed"), vec![said(), Says::system(text)])
            }
        };
        self.finish(status, failure, says).await
    }
}

/// The answer of a step that ended before a crash.
fn stored(step: &Step) -> Answer {
    let known = ["tool_error", "upstream", "outcome_unknown", "interrupted"];
    let failure = step.failure.as_deref();
    Answer {
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
fn not_offered(offer: &Offer, name: &str) -> String {
    let slug = slug_of(name);
    if let Some(left_out) = offer.left_out.iter().find(|left_out| left_out.server == slug) {
        return left_out_sentence(left_out);
    }
    let names: Vec<&str> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
    if names.is_empty() {
        return "There is no tool of that name here; an operator can let a server's tools serve this Space.".to_owned();
    }
    format!("There is no tool of that name here. Tools here: {}.", names.join(", "))
}
