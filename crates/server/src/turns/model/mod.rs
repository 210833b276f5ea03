//! One request to an OpenAI-compatible model (`POST {base}/chat/completions`), through the one HTTP client.
//!
//! Invariants: the key goes to the agent's own address only; what comes back is searched for it before anything of it
//! is read; what a provider says of an error is bounded and never taken for our own words.

mod completion;
mod failure;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use thinkwork_outbound::{Outbound, Purpose, Request as HttpRequest, Scrubber};
use thinkwork_primitives::{Secret, TraceContext};

use super::agent::Model;
use super::rules::AssistantMessage;

pub(super) use failure::{FailureCode, ModelError};

/// How long one answer of a model may take: long answers of slow models come within it.
const DEADLINE: Duration = Duration::from_secs(180);

/// What is asked.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<ToolDefinition<'a>>,
}

/// A tool as it is told to the model.
#[derive(Serialize)]
pub(super) struct ToolDefinition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionDefinition<'a>,
}

#[derive(Serialize)]
struct FunctionDefinition<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    parameters: &'a Map<String, Value>,
}

impl<'a> ToolDefinition<'a> {
    pub(super) fn new(name: &'a str, description: String, parameters: &'a Map<String, Value>) -> Self {
        Self { kind: "function", function: FunctionDefinition { name, description, parameters } }
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
    let http = http.json(&request).map_err(|error| ModelError::failed(error.to_string()))?;
    let response = outbound.send(http).await.map_err(|error| ModelError::unreachable(&error))?;
    let secrets: Vec<&Secret> = key.into_iter().collect();
    let status = response.status;
    let is_success = response.is_success();
    let scrubber = Scrubber::new(&secrets);
    let reading = tokio::task::spawn_blocking(move || {
        let body = scrubber.scrub_bytes(&response.body);
        if is_success { completion::read(&body) } else { Err(failure::of_response(status, &body)) }
    });
    let answer = reading.await.unwrap_or_else(|error| Err(ModelError::interrupted(&error)));
    answer.map_err(|error| {
        let names: Vec<&str> = request.tools.iter().map(|tool| tool.function.name).collect();
        error.naming_tool(&names)
    })
}
