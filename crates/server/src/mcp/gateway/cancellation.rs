//! `notifications/cancelled` of foreign clients (MCP 2025-11-25, "Cancellation").
//!
//! A client cancels a request by a second one, and most keep the first one open. The session id that `initialize` returns
//! ties the two together, since all clients of a token count their request ids alike. It has no other use: any process
//! serves any request. A cancellation reaches only calls of the process that receives it; closing the request ends a call
//! in any process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rmcp::model::RequestId;
use serde::Deserialize;
use thinkwork_primitives::{ActingClient, crypto};
use tokio_util::sync::CancellationToken;

pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// Longest session id that is accepted; ours have 32 characters.
const SESSION_BYTES_MAX: usize = 64;
/// Longest body that is parsed here: a cancellation has a request id and a reason, and `initialize` is short.
const BODY_BYTES_MAX: usize = 16_384;

/// A client's session: its token, and the id that it was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    client: ActingClient,
    id: String,
}

impl SessionKey {
    /// The session that a request names, if any.
    pub(super) fn of(client: ActingClient, headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(SESSION_HEADER)?.to_str().ok()?;
        (id.len() <= SESSION_BYTES_MAX).then(|| Self { client, id: id.to_owned() })
    }
}

/// A new session id: random, and stored nowhere.
pub(super) fn session_id() -> Option<HeaderValue> {
    HeaderValue::from_str(&crypto::hex(&crypto::random::<16>().ok()?)).ok()
}

/// The calls of this process that a client may cancel. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct RunningCalls(Arc<Mutex<HashMap<(SessionKey, RequestId), CancellationToken>>>);

impl RunningCalls {
    fn calls(&self) -> MutexGuard<'_, HashMap<(SessionKey, RequestId), CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a call until the guard is dropped.
    pub(super) fn insert(
        &self,
        session: SessionKey,
        request: RequestId,
        cancellation: CancellationToken,
    ) -> RunningCallGuard {
        let key = (session, request);
        self.calls().insert(key.clone(), cancellation);
        RunningCallGuard { calls: self.clone(), key }
    }

    /// Cancels a call of this session, if it still runs here.
    pub(super) fn cancel(&self, session: SessionKey, request: RequestId) {
        if let Some(cancellation) = self.calls().get(&(session, request)) {
            cancellation.cancel();
        }
    }
}

pub(super) struct RunningCallGuard {
    calls: RunningCalls,
    key: (SessionKey, RequestId),
}

impl Drop for RunningCallGuard {
    fn drop(&mut self) {
        self.calls.calls().remove(&self.key);
    }
}

/// What a body means for the session of its client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionMessage {
    /// The client opens a session.
    Initialize,
    /// The client cancels this request.
    Cancelled(RequestId),
    Other,
}

impl SessionMessage {
    pub(super) fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Message {
            method: String,
            params: Option<Params>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            request_id: Option<RequestId>,
        }
        if body.len() > BODY_BYTES_MAX {
            return Self::Other;
        }
        let Ok(message) = serde_json::from_slice::<Message>(body) else { return Self::Other };
        match (message.method.as_str(), message.params.and_then(|params| params.request_id)) {
            ("initialize", _) => Self::Initialize,
            ("notifications/cancelled", Some(request)) => Self::Cancelled(request),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_messages_of_a_session_are_recognised() {
        let check = |body: &str, expect: SessionMessage| {
            assert_eq!(SessionMessage::read(body.as_bytes()), expect, "{body}");
        };
        check(r#"{"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#, SessionMessage::Initialize);
        check(
            r#"{"method":"notifications/cancelled","params":{"requestId":9,"reason":"x"}}"#,
            SessionMessage::Cancelled(RequestId::Number(9)),
        );
        check(
            r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#,
            SessionMessage::Cancelled(RequestId::String("a".into())),
        );
        check(r#"{"method":"notifications/cancelled","params":{}}"#, SessionMessage::Other);
        check(r#"{"method":"tools/call","params":{"requestId":9}}"#, SessionMessage::Other);
        check(r#"[{"method":"initialize"}]"#, SessionMessage::Other);
        check("", SessionMessage::Other);
    }
}
