//! What comes next in a turn, from its stored steps alone: so that going on and resuming after a crash are one path.
//!
//! The tool steps behind a model step are the calls it asked for, in its order, one step each.

use serde::{Deserialize, Serialize};

use crate::threads::{Step, StepKind, StepStatus};

/// What a model answered, as it is stored in its step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AssistantMessage {
    /// The text, if there is one.
    #[serde(default)]
    pub(crate) content: String,
    /// The calls it asks for.
    #[serde(default)]
    pub(crate) tool_calls: Vec<ToolCall>,
}

/// One call that a model asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    /// Its id, unique in the answer.
    pub(crate) id: String,
    /// The tool's full name, as the model wrote it.
    pub(crate) name: String,
    /// The arguments, as the model wrote them: JSON, if it was careful.
    pub(crate) arguments: String,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Ask the model; `again` in the step that a crash left running.
    Model { again: Option<&'a Step> },
    /// Make a call; `interrupted` is the step of it that a crash left running.
    Tool { call: ToolCall, interrupted: Option<&'a Step> },
    /// Give this answer.
    Answer(String),
    /// The model failed; the step says how.
    ModelFailed(&'a Step),
    /// A stored answer cannot be read.
    Damaged,
}

/// What to do next after these steps, given in their order.
pub(crate) fn next(steps: &[Step]) -> Next<'_> {
    let Some(place) = steps.iter().rposition(|step| step.kind == StepKind::Model) else {
        return Next::Model { again: None };
    };
    let (Some(model), Some(tools)) = (steps.get(place), steps.get(place.saturating_add(1)..)) else {
        return Next::Damaged;
    };
    match model.status {
        StepStatus::Running => return Next::Model { again: Some(model) },
        StepStatus::Failed | StepStatus::Unknown => return Next::ModelFailed(model),
        StepStatus::Succeeded => {}
    }
    let Some(answer) = assistant_message(model) else { return Next::Damaged };
    if answer.tool_calls.is_empty() {
        return Next::Answer(answer.content);
    }
    if let Some(running) = tools.last().filter(|step| step.status == StepStatus::Running) {
        let place = tools.len().saturating_sub(1);
        return match answer.tool_calls.into_iter().nth(place) {
            Some(call) => Next::Tool { call, interrupted: Some(running) },
            None => Next::Damaged,
        };
    }
    match answer.tool_calls.into_iter().nth(tools.len()) {
        Some(call) => Next::Tool { call, interrupted: None },
        None => Next::Model { again: None },
    }
}

/// The answer that a model step holds.
pub(crate) fn assistant_message(step: &Step) -> Option<AssistantMessage> {
    serde_json::from_str(step.output.as_deref()?).ok()
}
