//! One request and everything until its answer: JSON or a stream of events, scrubbed and matched to the request; a
//! stream that ends early is resumed, and what the server asks meanwhile is answered at once.
//!
//! Invariant: every loop here is bounded by a deadline and a count, whatever the server sends.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sse_stream::{Sse, SseStream};
use thinkwork_outbound::{Scrubber, StreamResponse};
use tokio::time::Instant;

use super::wire::{self, RequestHeaders};
use super::{Session, UpstreamClient, UpstreamError, UpstreamTarget};

/// Pause before a stream is resumed where the server names none (WHATWG HTML section 9.2.3 leaves it to the client).
const RESUME_AFTER_DEFAULT: Duration = Duration::from_millis(500);
/// The shortest and the longest pause that is taken from the server.
const RESUME_AFTER_MIN: Duration = Duration::from_millis(100);
const RESUME_AFTER_MAX: Duration = Duration::from_secs(10);
/// How often one answer is resumed.
const RESUMES_MAX: usize = 200;
/// How many requests of the server are answered during one of ours.
const SERVER_REQUESTS_MAX: usize = 100;
/// How long the server has to take such an answer.
const REPLY_DEADLINE: Duration = Duration::from_secs(5);
/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32_601;

/// What is larger is read on a thread for blocking work.
const INLINE_BYTES_MAX: usize = 32 * 1_024;

/// One request in a session.
pub(super) struct Exchange<'a> {
    client: &'a UpstreamClient,
    target: &'a UpstreamTarget<'a>,
    session: &'a Session,
    /// The id of the request.
    id: u64,
    scrubber: Scrubber,
    deadline: Instant,
    deadline_max: Instant,
    last_event_id: Option<String>,
    resume_after: Duration,
    replies_left: usize,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        client: &'a UpstreamClient,
        target: &'a UpstreamTarget<'a>,
        session: &'a Session,
        id: u64,
        begun: Instant,
    ) -> Self {
        Self {
            client,
            target,
            session,
            id,
            scrubber: wire::scrubber(target),
            deadline: begun + target.deadlines.without_progress,
            deadline_max: begun + target.deadlines.total,
            last_event_id: None,
            resume_after: RESUME_AFTER_DEFAULT,
            replies_left: SERVER_REQUESTS_MAX,
        }
    }

    /// Sends the request and reads its answer: the result, or why there is none.
    pub(super) async fn run(self, headers: &RequestHeaders<'_>, message: &Value) -> Result<Value, UpstreamError> {
        let sent = wire::post(&self.client.outbound, self.target, headers, message, self.time_left());
        let response = self.before_deadline(sent).await?;
        self.answer(response).await
    }

    /// Reads the answer.
    pub(super) async fn answer(mut self, response: StreamResponse) -> Result<Value, UpstreamError> {
        if !response.is_success() {
            return Err(wire::refusal(response, self.target).await);
        }
        match wire::media_type(&response).as_str() {
            "application/json" => {
                let whole = self.before_deadline(async { Ok(response.collect().await?) }).await?;
                match self.read(whole.body).await {
                    Incoming::Answer(answer) => answer,
                    Incoming::Message(_) | Incoming::Unknown => Err(not_mcp()),
                }
            }
            "text/event-stream" => self.stream(response).await,
            "text/html" => Err(UpstreamError::Protocol("its answer is a web page; check the address".to_owned())),
            _ => Err(not_mcp()),
        }
    }

    /// Reads a stream, and its continuations where it ends before the answer (MCP 2025-11-25, resumability).
    async fn stream(&mut self, response: StreamResponse) -> Result<Value, UpstreamError> {
        let mut response = response;
        for _ in 0..RESUMES_MAX {
            let ended = match self.events(response).await {
                Ok(Some(result)) => return result,
                Ok(None) => UpstreamError::Protocol("its stream ended without an answer".to_owned()),
                Err(UpstreamError::Timeout) => return Err(UpstreamError::Timeout),
                Err(failure) => failure,
            };
            let Some(last_event_id) = self.last_event_id.clone() else { return Err(ended) };
            let pause = self.resume_after;
            self.before_deadline(async {
                self.client.clock.pause(pause).await;
                Ok(())
            })
            .await?;
            let headers = RequestHeaders::of(self.session);
            let asked = wire::resume(&self.client.outbound, self.target, &headers, &last_event_id, self.time_left());
            response = match self.before_deadline(asked).await {
                Ok(next) if next.is_success() && wire::media_type(&next) == "text/event-stream" => next,
                Err(UpstreamError::Timeout) => return Err(UpstreamError::Timeout),
                _ => return Err(ended),
            };
        }
        Err(UpstreamError::Protocol("its stream ended too often without an answer".to_owned()))
    }

    /// Reads events until the answer; `None` where the stream ends before it.
    async fn events(
        &mut self,
        response: StreamResponse,
    ) -> Result<Option<Result<Value, UpstreamError>>, UpstreamError> {
        let mut events = std::pin::pin!(SseStream::from_bytes_stream(response.into_stream()));
        loop {
            let next = tokio::time::timeout_at(self.deadline, events.next());
            let Some(event) = next.await.map_err(|_| UpstreamError::Timeout)? else { return Ok(None) };
            let event = event.map_err(broken)?;
            self.record_position(&event);
            match self.read(event.data.unwrap_or_default().into()).await {
                Incoming::Answer(answer) => return Ok(Some(answer)),
                Incoming::Message(message) => self.handle_server_message(&message).await?,
                Incoming::Unknown => {}
            }
        }
    }

    /// Reads what came without the secrets, on a thread for blocking work where it is large.
    async fn read(&self, body: Bytes) -> Incoming {
        if body.len() <= INLINE_BYTES_MAX {
            return Incoming::read(&self.scrubber.scrub_bytes(&body), self.id);
        }
        let scrubber = self.scrubber.clone();
        let id = self.id;
        let reading = tokio::task::spawn_blocking(move || Incoming::read(&scrubber.scrub_bytes(&body), id));
        // A task that was cut off has no answer.
        reading.await.unwrap_or(Incoming::Unknown)
    }

    /// Records where and when to resume if the stream ends here.
    fn record_position(&mut self, event: &Sse) {
        if let Some(id) = event.id.as_ref().filter(|id| !id.is_empty()) {
            self.last_event_id = Some(id.clone());
        }
        if let Some(retry) = event.retry {
            self.resume_after = Duration::from_millis(retry).clamp(RESUME_AFTER_MIN, RESUME_AFTER_MAX);
        }
    }

    /// Handles a message that is not the answer: progress extends the deadline, a request of the server is answered.
    async fn handle_server_message(&mut self, message: &ServerMessage) -> Result<(), UpstreamError> {
        let ServerMessage { method, id } = message;
        let Some(id) = id else {
            if method == "notifications/progress" {
                self.deadline = (Instant::now() + self.target.deadlines.without_progress).min(self.deadline_max);
            }
            return Ok(());
        };
        self.replies_left = self
            .replies_left
            .checked_sub(1)
            .ok_or_else(|| UpstreamError::Protocol("it asks back without end".to_owned()))?;
        let reply = match method.as_str() {
            "ping" => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
            _ => json!({ "jsonrpc": "2.0", "id": id, "error": {
                "code": METHOD_NOT_FOUND,
                "message": "ThinkWork does not offer this to servers.",
            } }),
        };
        let headers = RequestHeaders::of(self.session);
        let sent = wire::post(&self.client.outbound, self.target, &headers, &reply, REPLY_DEADLINE);
        // A server that does not take it waits in vain; our own deadline ends that.
        drop(tokio::time::timeout(REPLY_DEADLINE, sent).await);
        Ok(())
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn before_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        tokio::time::timeout_at(self.deadline, work).await.unwrap_or(Err(UpstreamError::Timeout))
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

/// What came from a server.
enum Incoming {
    /// The answer to the request.
    Answer(Result<Value, UpstreamError>),
    /// What the server asks or tells by itself.
    Message(ServerMessage),
    /// Nothing that is read here, such as the answer to another request.
    Unknown,
}

/// A request of the server, or a notification, which has no id.
struct ServerMessage {
    method: String,
    id: Option<Value>,
}

impl Incoming {
    /// Reads a message, or the one in a batch that answers the request with this id.
    fn read(body: &[u8], id: u64) -> Self {
        let Ok(mut message) = serde_json::from_slice::<Value>(body) else { return Self::Unknown };
        if let Some(answer) = outcome(&mut message, id) {
            return Self::Answer(answer);
        }
        let method = message.get("method").and_then(Value::as_str).map(str::to_owned);
        let id = message.get_mut("id").map(Value::take).filter(|id| !id.is_null());
        method.map_or(Self::Unknown, |method| Self::Message(ServerMessage { method, id }))
    }
}

/// The answer to the request with this id, taken out of the message; batches of older servers are searched.
fn outcome(message: &mut Value, id: u64) -> Option<Result<Value, UpstreamError>> {
    if let Some(batch) = message.as_array_mut() {
        return batch.iter_mut().find_map(|message| outcome(message, id));
    }
    if let Some(error) = message.get("error") {
        // An error about a request that could not be read has no id.
        let is_about_this = message.get("id").is_none_or(|other| other.is_null() || is_id(other, id));
        return is_about_this.then(|| Err(wire::refused(200, error)));
    }
    let is_about_this = is_id(message.get("id")?, id);
    let result = message.get_mut("result")?;
    is_about_this.then(|| Ok(result.take()))
}

/// Whether this is our id; some servers send numbers back as text.
fn is_id(value: &Value, id: u64) -> bool {
    value.as_u64() == Some(id) || value.as_str().and_then(|text| text.parse().ok()) == Some(id)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use thinkwork_linear_time::{assert_linear, assert_linear_in};

    use super::*;

    /// A part of the largest answer: it keeps the tests short, and what is quadratic takes seconds for it.
    const ANSWER_BYTES: usize = thinkwork_primitives::limits::UPSTREAM_BODY_BYTES_MAX / 64;

    #[test]
    fn an_answer_is_told_from_what_the_server_asks() {
        let answer = |text: &str| match Incoming::read(text.as_bytes(), 7) {
            Incoming::Answer(Ok(result)) => result.to_string(),
            Incoming::Answer(Err(error)) => error.to_string(),
            Incoming::Message(ServerMessage { method, id }) => format!("{method} {id:?}"),
            Incoming::Unknown => "unknown".to_owned(),
        };
        assert_eq!(answer(r#"{"id":7,"result":[1]}"#), "[1]");
        assert_eq!(answer(r#"[{"id":6,"result":0},{"id":"7","result":1}]"#), "1");
        assert_eq!(answer(r#"{"id":null,"error":{"message":"no"}}"#), "the server refused: no");
        assert_eq!(answer(r#"{"id":6,"result":1}"#), "unknown");
        assert_eq!(answer(r#"{"method":"ping","id":1}"#), "ping Some(Number(1))");
        assert_eq!(answer(r#"{"method":"notifications/progress","id":null}"#), "notifications/progress None");
        assert_eq!(answer("nothing"), "unknown");
    }

    #[test]
    fn l108_an_answer_is_read_in_linear_time() {
        let marks = ["[", "{\"id\":7,\"a\":", "\"", "\\u0041"];
        assert_linear(&marks, ANSWER_BYTES, |body| matches!(Incoming::read(body.as_bytes(), 7), Incoming::Unknown));
        for inside in ["[],", "{\"\":0},", "\"\\n\",", "{\"id\":6,\"result\":[]},"] {
            let of_size = |bytes: usize| {
                let items = inside.repeat(bytes / inside.len() / 2);
                format!("[{items}{{\"id\":7,\"result\":[{items}0]}}]")
            };
            assert_linear_in(ANSWER_BYTES, of_size, |body| {
                assert!(matches!(Incoming::read(body.as_bytes(), 7), Incoming::Answer(Ok(_))));
            });
        }
    }

    #[test]
    fn l108_a_stream_of_events_is_read_in_linear_time() {
        let marks = ["data: a\n", "\n", "\r", ":"];
        for chunk_bytes in [1, 7, 16_384] {
            let bytes = if chunk_bytes == 1 { ANSWER_BYTES / 4 } else { ANSWER_BYTES };
            assert_linear(if chunk_bytes == 1 { &marks[..3] } else { &marks[..] }, bytes, |text| {
                let chunks = text.as_bytes().chunks(chunk_bytes).map(Bytes::copy_from_slice);
                let chunks: Vec<Result<Bytes, std::io::Error>> = chunks.map(Ok).collect();
                let events = SseStream::from_bytes_stream(futures_util::stream::iter(chunks));
                events.map(|event| event.is_ok()).collect::<Vec<bool>>().now_or_never()
            });
        }
    }
}
