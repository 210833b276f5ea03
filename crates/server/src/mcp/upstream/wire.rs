//! One POST of streamable HTTP and its answer: JSON or a stream of events, scrubbed and matched to the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sse_stream::SseStream;
use thinkwork_outbound::{Outbound, Purpose, Request, Scrubber, StreamResponse};

use super::{Authorization, Session, UpstreamError, UpstreamTarget};
use crate::mcp::rules::plain;

/// Headers that name what a request is about.
pub(super) struct RequestHeaders<'a> {
    version: Option<&'a str>,
    session: Option<&'a str>,
    /// `Mcp-Method` and `Mcp-Name`, from protocol 2026-07-28 on.
    method: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> RequestHeaders<'a> {
    /// Before anything is agreed.
    pub(super) const fn handshake() -> Self {
        Self { version: None, session: None, method: None, name: None }
    }

    /// Within a session.
    pub(super) fn of(session: &'a Session, method: &'a str, name: Option<&'a str>) -> Self {
        let stateless = session.is_stateless();
        Self {
            version: Some(session.version.as_str()),
            session: session.id.as_deref(),
            method: stateless.then_some(method),
            name: name.filter(|_| stateless),
        }
    }
}

/// A JSON-RPC request.
pub(super) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// Sends one message; the answer's headers are there, its body is not.
pub(super) async fn post(
    outbound: &Outbound,
    target: &UpstreamTarget<'_>,
    names: &RequestHeaders<'_>,
    message: &Value,
) -> Result<StreamResponse, UpstreamError> {
    let mut request = Request::post(target.url)
        .purpose(Purpose::Mcp)
        .json(message)?
        .header("accept", "application/json, text/event-stream")
        .deadline(target.deadline)
        .stream_idle(target.deadline)
        .stream_lifetime(target.deadline);
    let headers =
        [("mcp-protocol-version", names.version), ("mcp-session-id", names.session), ("mcp-method", names.method)];
    for (name, value) in headers {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    if let Some(trace) = target.trace {
        request = request.header("traceparent", trace.child().to_string());
    }
    if let Some(name) = names.name {
        request = request.header("mcp-name", header_text(name));
    }
    request = match target.authorization {
        Authorization::Nothing => request,
        Authorization::Bearer(secret) => request.secret_header("authorization", "Bearer ", secret),
        Authorization::Header(name, secret) => request.secret_header(name, "", secret),
    };
    Ok(outbound.stream(request).await?)
}

/// A name as a header can carry it; others in base64 within `=?base64?…?=` (MCP 2026-07-28, standard headers).
fn header_text(name: &str) -> String {
    let plain = name.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) && !name.starts_with("=?base64?");
    if plain { name.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(name)) }
}

fn scrubber(target: &UpstreamTarget<'_>) -> Scrubber {
    match target.authorization {
        Authorization::Nothing => Scrubber::new(&[]),
        Authorization::Bearer(secret) | Authorization::Header(_, secret) => Scrubber::new(&[secret]),
    }
}

/// Reads the answer to a notification.
pub(super) async fn accepted(response: StreamResponse, target: &UpstreamTarget<'_>) -> Result<(), UpstreamError> {
    if response.is_success() { Ok(()) } else { Err(refusal(response, target, false).await) }
}

/// Reads the answer to the request `id`: its result, or why there is none.
pub(super) async fn answer(
    response: StreamResponse,
    target: &UpstreamTarget<'_>,
    id: u64,
    in_session: bool,
) -> Result<Value, UpstreamError> {
    if !response.is_success() {
        return Err(refusal(response, target, in_session).await);
    }
    let scrubber = scrubber(target);
    match media_type(&response).as_str() {
        "application/json" => {
            let body = scrubber.scrub_body(response.collect().await?.body).await;
            let message: Value = serde_json::from_slice(&body).map_err(|_| not_mcp())?;
            outcome(&message, id).unwrap_or_else(|| Err(not_mcp()))
        }
        "text/event-stream" => {
            let mut events = std::pin::pin!(SseStream::from_bytes_stream(response.into_stream()));
            while let Some(event) = events.next().await {
                let data = event.map_err(broken)?.data.unwrap_or_default();
                let data = scrubber.scrub_body(data.into()).await;
                let message = serde_json::from_slice(&data).unwrap_or(Value::Null);
                if let Some(found) = outcome(&message, id) {
                    return found;
                }
            }
            Err(UpstreamError::Protocol("its stream ended without an answer".to_owned()))
        }
        _ => Err(not_mcp()),
    }
}

/// Why a stream ended early: the network's own reason, or what came was no stream of events.
fn broken(error: sse_stream::Error) -> UpstreamError {
    match error {
        sse_stream::Error::Body(error) => {
            error.downcast().map_or_else(|_| not_mcp(), |error| UpstreamError::Outbound(*error))
        }
        _ => not_mcp(),
    }
}

fn not_mcp() -> UpstreamError {
    UpstreamError::Protocol("its answer is no JSON-RPC response; check the address".to_owned())
}

fn media_type(response: &StreamResponse) -> String {
    let kind = response.header("content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What the response with this id says; `None` for other messages. Old servers may answer in a batch.
fn outcome(message: &Value, id: u64) -> Option<Result<Value, UpstreamError>> {
    if let Some(batch) = message.as_array() {
        return batch.iter().find_map(|message| outcome(message, id));
    }
    if let Some(error) = message.get("error") {
        // An error about a request that could not be read has no id.
        let about_this = message.get("id").is_none_or(|other| other.is_null() || is_id(other, id));
        return about_this.then(|| Err(refused(error)));
    }
    let result = message.get("result")?;
    is_id(message.get("id")?, id).then(|| Ok(result.clone()))
}

fn is_id(value: &Value, id: u64) -> bool {
    value.as_u64() == Some(id)
}

fn refused(error: &Value) -> UpstreamError {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
    UpstreamError::Refused { code: error.get("code").and_then(Value::as_i64).unwrap_or(0), message: plain(message) }
}

/// Why an answer outside 200 to 299 is no result.
async fn refusal(response: StreamResponse, target: &UpstreamTarget<'_>, in_session: bool) -> UpstreamError {
    let status = response.status;
    match status {
        401 => {
            let challenge = response.header("www-authenticate").map(str::to_owned);
            return UpstreamError::Unauthorized { challenge };
        }
        404 if in_session => return UpstreamError::SessionGone,
        _ => {}
    }
    if media_type(&response) != "application/json" || status >= 500 {
        return UpstreamError::Status(status);
    }
    let scrubber = scrubber(target);
    let body = match response.collect().await {
        Ok(whole) => scrubber.scrub_body(whole.body).await,
        Err(_) => Vec::new(),
    };
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    match message.get("error") {
        Some(error) if error.get("code").is_some_and(Value::is_i64) => refused(error),
        _ => UpstreamError::Status(status),
    }
}
