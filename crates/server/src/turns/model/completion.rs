//! Reading a chat completion: an answer, calls of tools, or one of the ways in which there is neither.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::failure::{FailureCode, ModelError, of_error};
use crate::turns::rules::{AssistantMessage, ToolCall};

/// Calls that one answer may ask for; the rest is cut off, and the model can ask again.
const TOOL_CALLS_MAX: usize = 16;
/// Why an answer ended that the model or a filter of its provider declined to give: OpenAI and Azure, Anthropic, Gemini.
const DECLINED: [&str; 5] = ["content_filter", "refusal", "safety", "prohibited_content", "blocklist"];

#[derive(Deserialize)]
struct Completion {
    /// Some servers answer with status 200 and an error.
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<ChatMessage>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// What Anthropic calls the same.
    #[serde(default)]
    stop_reason: Option<Value>,
    /// What a router passes on of it.
    #[serde(default)]
    native_finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct ChatMessage {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ChatToolCall>>,
}

#[derive(Deserialize)]
struct ChatToolCall {
    #[serde(default)]
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Reads the body of an answer with a status of success.
pub(super) fn read(body: &[u8]) -> Result<AssistantMessage, ModelError> {
    let completion: Completion = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if let Some(error) = completion.error.filter(|error| !error.is_null()) {
        return Err(of_error(&error));
    }
    let choice = completion.choices.into_iter().next().ok_or_else(unreadable)?;
    if let Some(error) = choice.error.as_ref().filter(|error| !error.is_null()) {
        return Err(of_error(error));
    }
    let is_declined = choice.is_declined();
    let finish_reason = choice.finish_reason.unwrap_or_default();
    let message = choice.message.ok_or_else(unreadable)?;
    let parts = Parts::of(message.content);
    let refusal = message.refusal.or(parts.refusal).filter(|refusal| !refusal.trim().is_empty());
    if is_declined || (refusal.is_some() && parts.text.trim().is_empty()) {
        return Err(declined(refusal.as_deref()));
    }
    let tool_calls = tool_calls(message.tool_calls.unwrap_or_default());
    if parts.text.trim().is_empty() && tool_calls.is_empty() {
        return Err(no_answer(&finish_reason));
    }
    Ok(AssistantMessage { content: parts.text, tool_calls })
}

impl Choice {
    fn is_declined(&self) -> bool {
        let stop_reason = self.stop_reason.as_ref().and_then(Value::as_str);
        [self.finish_reason.as_deref(), stop_reason, self.native_finish_reason.as_deref()]
            .into_iter()
            .flatten()
            .any(|reason| DECLINED.iter().any(|declined| reason.eq_ignore_ascii_case(declined)))
    }
}

/// The content of a message: a text, or parts of which some are text.
#[derive(Default)]
struct Parts {
    text: String,
    refusal: Option<String>,
}

impl Parts {
    fn of(content: Option<Value>) -> Self {
        match content {
            Some(Value::String(text)) => Self { text, refusal: None },
            Some(Value::Array(parts)) => {
                let all = |name: &str| -> String {
                    parts.iter().filter_map(|part| part.get(name).and_then(Value::as_str)).collect()
                };
                Self { text: all("text"), refusal: Some(all("refusal")) }
            }
            _ => Self::default(),
        }
    }
}

fn tool_calls(mut calls: Vec<ChatToolCall>) -> Vec<ToolCall> {
    calls.truncate(TOOL_CALLS_MAX);
    let ids: HashSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    let usable = ids.len() == calls.len() && !ids.contains("");
    let calls = (0_usize..).zip(calls).map(|(place, call)| ToolCall {
        id: if usable { call.id } else { format!("call{place}") },
        name: call.function.name,
        // The format says a string; some servers send the object itself.
        arguments: match call.function.arguments {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        },
    });
    calls.collect()
}

fn unreadable() -> ModelError {
    ModelError::failed(
        "The model's answer could not be read. An operator can check the address under Agent: it must speak the OpenAI \
         chat completions format.",
    )
}

fn declined(refusal: Option<&str>) -> ModelError {
    let text = "The model declined to answer this. Rephrase your message and send it again.";
    ModelError::new(FailureCode::Declined, text).quoting(refusal.unwrap_or_default())
}

fn no_answer(finish_reason: &str) -> ModelError {
    let text = match finish_reason {
        "length" | "max_tokens" | "MAX_TOKENS" => {
            "The model reached the limit of its output before it gave an answer. Ask for a smaller piece, or ask an \
             operator to choose another model under Agent."
        }
        _ => "The model finished without an answer. Send your message again to retry.",
    };
    ModelError::new(FailureCode::NoAnswer, text)
}
