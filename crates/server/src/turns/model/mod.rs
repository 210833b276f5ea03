//! One request to an OpenAI-compatible model (`POST {base}/chat/completions`), through the one HTTP client.
//!
//! Invariant: the key goes to the agent's own address only; what comes back is searched for it; no error shows a body.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thinkwork_outbound::{Outbound, Purpose, Request as HttpRequest, Response, Scrubber};
use thinkwork_primitives::{Secret, TraceContext};

use super::agent::Model;
use super::rules::{AssistantMessage, ToolCall};

/// How long one answer of a model may take: long answers of slow models come within it.
const DEADLINE: Duration = Duration::from_secs(180);
/// Calls that one answer may ask for; the rest is cut off, and the model can ask again.
const TOOL_CALLS_MAX: usize = 16;

/// What is asked.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Value>,
}

/// Why there is no answer, in words for the thread.
pub(super) struct ModelError {
    pub(super) text: String,
    /// Whether the same request may succeed later by itself.
    pub(super) transient: bool,
}

impl ModelError {
    fn permanent(text: impl Into<String>) -> Self {
        Self { text: text.into(), transient: false }
    }
}

/// Asks the model.
pub(super) async fn complete(
    outbound: &Outbound,
    model: &Model,
    key: Option<&Secret>,
    trace: TraceContext,
    request: Request<'_>,
) -> Result<AssistantMessage, ModelError> {
    let url = format!("{}/chat/completions", model.base_url.trim_end_matches('/'));
    let mut http = HttpRequest::post(url)
        .purpose(Purpose::Model)
        .header("accept", "application/json")
        .header("traceparent", trace.child().to_string())
        .deadline(DEADLINE);
    if let Some(key) = key {
        http = http.secret_header("authorization", "Bearer ", key);
    }
    let http = http.json(&request).map_err(|error| ModelError::permanent(error.to_string()))?;
    let response = outbound.send(http).await.map_err(|error| ModelError {
        transient: error.is_transient(),
        text: format!("The model could not be asked: {error}."),
    })?;
    if !response.is_success() {
        return Err(refused(response.status));
    }
    read(response, key).await.ok_or_else(|| {
        ModelError::permanent(
            "The model's answer could not be read. An operator can check the address under Agent: it must speak the \
             OpenAI chat completions format.",
        )
    })
}

fn refused(status: u16) -> ModelError {
    let text =
        match status {
            401 | 403 => "The model's server refused the key. An operator can enter a new one under Agent.".to_owned(),
            404 => "The model's server does not know that address or model. An operator can correct it under Agent."
                .to_owned(),
            429 => "The model's server has too much to do or its quota is used up (HTTP 429). Write again later."
                .to_owned(),
            500.. => format!("The model's server failed (HTTP {status}). Write again later."),
            _ => format!("The model's server refused the request (HTTP {status}). Tell an operator."),
        };
    ModelError { text, transient: status == 429 || status >= 500 }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: ChatMessage,
}

#[derive(Deserialize)]
struct ChatMessage {
    #[serde(default)]
    content: Option<String>,
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

async fn read(response: Response, key: Option<&Secret>) -> Option<AssistantMessage> {
    let secrets: Vec<&Secret> = key.into_iter().collect();
    let clean = Scrubber::new(&secrets).scrub_body(response.body).await;
    let completion: Completion = serde_json::from_slice(&clean).ok()?;
    let answered = completion.choices.into_iter().next()?.message;
    let mut calls = answered.tool_calls.unwrap_or_default();
    calls.truncate(TOOL_CALLS_MAX);
    let ids: HashSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    let usable = ids.len() == calls.len() && !ids.contains("");
    let tool_calls = (0_usize..)
        .zip(calls)
        .map(|(place, call)| ToolCall {
            id: if usable { call.id } else { format!("call{place}") },
            name: call.function.name,
            // The format says a string; some servers send the object itself.
            arguments: match call.function.arguments {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            },
        })
        .collect::<Vec<_>>();
    let content = answered.content.unwrap_or_default();
    if content.trim().is_empty() && tool_calls.is_empty() {
        return None;
    }
    Some(AssistantMessage { content, tool_calls })
}
