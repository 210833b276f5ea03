//! Requests of streamable HTTP: what is sent, with which headers, and why an answer outside 200 to 299 is no result.

use std::time::Duration;

use serde_json::{Map, Value, json};
use thinkwork_outbound::{Outbound, Purpose, Request, Scrubber, StreamResponse};

use super::param_headers::{self, header_text};
use super::{Authorization, Session, UpstreamError, UpstreamTarget};
use crate::mcp::rules::plain;
use crate::oauth;

/// Versions that are read from a refusal.
const SUPPORTED_READ_MAX: usize = 20;

/// Headers that name what a request is about.
#[derive(Default)]
pub(super) struct RequestHeaders<'a> {
    version: Option<&'a str>,
    session: Option<&'a str>,
    /// `Mcp-Method`, `Mcp-Name` and `Mcp-Param-…`, from protocol 2026-07-28 on.
    standard: Vec<(String, String)>,
}

impl<'a> RequestHeaders<'a> {
    /// Of a message within a session.
    pub(super) fn of(session: &'a Session) -> Self {
        Self { version: Some(session.version.as_str()), session: session.id.as_deref(), standard: Vec::new() }
    }

    /// Of a request within a session. `schema` is that of the tool that is called.
    pub(super) fn of_request(
        session: &'a Session,
        method: &str,
        params: &Map<String, Value>,
        schema: Option<&Map<String, Value>>,
    ) -> Self {
        let mut headers = Self::of(session);
        if !session.is_stateless() {
            return headers;
        }
        headers.standard.push(("mcp-method".to_owned(), method.to_owned()));
        if let Some(name) = params.get("name").and_then(Value::as_str) {
            headers.standard.push(("mcp-name".to_owned(), header_text(name)));
        }
        let arguments = params.get("arguments").and_then(Value::as_object);
        if let (Some(schema), Some(arguments)) = (schema, arguments) {
            headers.standard.extend(param_headers::headers(schema, arguments));
        }
        headers
    }
}

/// A JSON-RPC request.
pub(super) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A JSON-RPC notification.
pub(super) fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Sends one message; the answer's headers are there, its body is not.
pub(super) async fn post(
    outbound: &Outbound,
    target: &UpstreamTarget<'_>,
    headers: &RequestHeaders<'_>,
    message: &Value,
    deadline: Duration,
) -> Result<StreamResponse, UpstreamError> {
    let request = Request::post(target.url).json(message)?.header("accept", "application/json, text/event-stream");
    send(outbound, request, target, headers, deadline).await
}

/// Asks for the rest of a stream that ended early, from after the event with this id.
pub(super) async fn resume(
    outbound: &Outbound,
    target: &UpstreamTarget<'_>,
    headers: &RequestHeaders<'_>,
    last_event_id: &str,
    deadline: Duration,
) -> Result<StreamResponse, UpstreamError> {
    let request = Request::get(target.url).header("accept", "text/event-stream").header("last-event-id", last_event_id);
    send(outbound, request, target, headers, deadline).await
}

/// Tells the server that a session has ended.
pub(super) async fn delete(
    outbound: &Outbound,
    target: &UpstreamTarget<'_>,
    headers: &RequestHeaders<'_>,
    deadline: Duration,
) -> Result<(), UpstreamError> {
    send(outbound, Request::delete(target.url), target, headers, deadline).await.map(drop)
}

async fn send(
    outbound: &Outbound,
    request: Request,
    target: &UpstreamTarget<'_>,
    headers: &RequestHeaders<'_>,
    deadline: Duration,
) -> Result<StreamResponse, UpstreamError> {
    let mut request = request
        .purpose(Purpose::Mcp)
        .deadline(deadline)
        .stream_idle(target.deadlines.total)
        .stream_lifetime(target.deadlines.total);
    for (name, value) in [("mcp-protocol-version", headers.version), ("mcp-session-id", headers.session)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    for (name, value) in &headers.standard {
        request = request.header(name, value);
    }
    if let Some(trace) = target.trace {
        request = request.header("traceparent", trace.child().to_string());
    }
    request = match target.authorization {
        Authorization::Nothing => request,
        Authorization::Bearer(secret) => request.secret_header("authorization", "Bearer ", secret),
        Authorization::Header(name, secret) => request.secret_header(name, "", secret),
    };
    Ok(outbound.stream(request).await?)
}

pub(super) fn scrubber(target: &UpstreamTarget<'_>) -> Scrubber {
    match target.authorization {
        Authorization::Nothing => Scrubber::new(&[]),
        Authorization::Bearer(secret) | Authorization::Header(_, secret) => Scrubber::new(&[secret]),
    }
}

pub(super) fn media_type(response: &StreamResponse) -> String {
    let kind = response.header("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A JSON-RPC error as it came with this status.
pub(super) fn refused(status: u16, error: &Value) -> UpstreamError {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    let supported = error.pointer("/data/supported").and_then(Value::as_array);
    let supported = supported.into_iter().flatten().filter_map(Value::as_str).take(SUPPORTED_READ_MAX);
    UpstreamError::Refused { status, code, message: plain(message), supported: supported.map(str::to_owned).collect() }
}

/// Why an answer outside 200 to 299 is no result.
pub(super) async fn refusal(response: StreamResponse, target: &UpstreamTarget<'_>) -> UpstreamError {
    let status = response.status;
    let challenge = oauth::bearer_challenge(&response.headers);
    match (status, challenge) {
        (401, challenge) => return UpstreamError::Unauthorized { challenge },
        (403, Some(challenge)) if challenge.error.as_deref() == Some("insufficient_scope") => {
            return UpstreamError::InsufficientScope { scopes: challenge.scopes.unwrap_or_default() };
        }
        _ => {}
    }
    if status >= 500 || media_type(&response) != "application/json" {
        return UpstreamError::Status(status);
    }
    let scrubber = scrubber(target);
    let body = match response.collect().await {
        Ok(whole) => scrubber.scrub_body(whole.body).await,
        Err(_) => Vec::new(),
    };
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    match message.get("error") {
        Some(error) if error.get("code").is_some_and(Value::is_i64) => refused(status, error),
        _ => UpstreamError::Status(status),
    }
}
