//! The client side of streamable HTTP: JSON-RPC over `outbound`, with `rmcp`'s types for what the protocol says.
//!
//! Invariants: a session never holds a credential, each request names its own; sessions are kept per (tenant, server
//! version, user, credential version), so no two people share one; every answer is scrubbed of the secret that was
//! sent before anything reads it. Protocols 2025-11-25 and older with `initialize`, 2026-07-28 without.

mod failure;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{
    ClientCapabilities, DiscoverResult, Implementation, InitializeRequestParams, InitializeResult, ProtocolVersion,
    RequestMetaObject, Tool,
};
use serde_json::{Map, Value, json};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{CredentialId, McpServerId, Secret, TenantId, TraceContext, UserId};

pub use failure::UpstreamError;

/// Sessions kept at once: beyond that the longest unused one goes, and its next call begins anew.
const SESSIONS_MAX: u64 = 2_000;
/// How long an unused session is kept: below the half hour after which common servers drop theirs.
const SESSION_IDLE: Duration = Duration::from_secs(10 * 60);
/// How long listing a server's tools may take, its first greeting included.
pub(super) const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// Tools taken of one server: more help no model.
const TOOLS_MAX: usize = 500;
/// Pages of a tool list that are asked for.
const PAGES_MAX: usize = 20;

/// What a session belongs to; nobody else may use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionKey {
    pub tenant: TenantId,
    pub server: McpServerId,
    pub server_version: i64,
    pub user: Option<UserId>,
    pub credential: Option<(CredentialId, i64)>,
}

/// What a request presents to the upstream.
#[derive(Clone, Copy)]
pub(super) enum Authorization<'a> {
    Nothing,
    /// `Authorization: Bearer …`.
    Bearer(&'a Secret),
    /// The bare key in a header of its own.
    Header(&'a str, &'a Secret),
}

/// One upstream, as one caller may use it.
pub(super) struct UpstreamTarget<'a> {
    pub key: SessionKey,
    pub url: &'a str,
    pub authorization: Authorization<'a>,
    /// For everything until the answer.
    pub deadline: Duration,
    /// Which trace the requests belong to.
    pub trace: Option<TraceContext>,
}

/// What was agreed with an upstream.
struct Session {
    version: ProtocolVersion,
    /// `Mcp-Session-Id`, where the server gave one.
    id: Option<String>,
    next_request: AtomicU64,
}

impl Session {
    fn new(version: ProtocolVersion, id: Option<String>) -> Self {
        Self { version, id, next_request: AtomicU64::new(1) }
    }

    fn is_stateless(&self) -> bool {
        !self.version.has_initialize()
    }
}

/// The tools of an upstream, as it describes them now.
pub(super) struct ToolList {
    pub protocol_version: String,
    pub tools: Vec<Tool>,
    /// Definitions that were no tools.
    pub skipped: usize,
}

/// All upstream sessions of this process. Cheap to clone.
#[derive(Clone)]
pub(super) struct UpstreamClient {
    outbound: Outbound,
    sessions: moka::sync::Cache<SessionKey, Arc<Session>>,
}

impl UpstreamClient {
    pub(super) fn new(outbound: Outbound) -> Self {
        let sessions = moka::sync::Cache::builder().max_capacity(SESSIONS_MAX).time_to_idle(SESSION_IDLE).build();
        Self { outbound, sessions }
    }

    /// Every tool the upstream has for this peer.
    pub(super) async fn tools(&self, target: &UpstreamTarget<'_>) -> Result<ToolList, UpstreamError> {
        let work = async {
            let mut listed = ToolList { protocol_version: String::new(), tools: Vec::new(), skipped: 0 };
            let mut cursor: Option<String> = None;
            for _ in 0..PAGES_MAX {
                let params = cursor.as_ref().map_or_else(Map::new, |cursor| one("cursor", json!(cursor)));
                let (page, version) = self.ask(target, "tools/list", params).await?;
                listed.protocol_version = version;
                for definition in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
                    match serde_json::from_value(definition.clone()) {
                        Ok(tool) if listed.tools.len() < TOOLS_MAX => listed.tools.push(tool),
                        _ => listed.skipped = listed.skipped.saturating_add(1),
                    }
                }
                let next = page.get("nextCursor").and_then(Value::as_str).filter(|next| !next.is_empty());
                match next {
                    Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                    _ => break,
                }
            }
            Ok(listed)
        };
        within(target.deadline, work).await
    }

    /// Calls a tool; the result object as the upstream gave it.
    pub(super) async fn call(
        &self,
        target: &UpstreamTarget<'_>,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, UpstreamError> {
        let mut params = one("name", json!(tool));
        params.insert("arguments".to_owned(), Value::Object(arguments));
        let (result, _) = within(target.deadline, self.ask(target, "tools/call", params)).await?;
        match result.get("resultType").and_then(Value::as_str) {
            None | Some("complete") => Ok(result),
            Some(_) => {
                Err(UpstreamError::Protocol("it asks back for more input, which cannot be given here".to_owned()))
            }
        }
    }

    /// One request in the peer's session; a session that the server no longer knows is begun anew, once.
    async fn ask(
        &self,
        target: &UpstreamTarget<'_>,
        method: &str,
        params: Map<String, Value>,
    ) -> Result<(Value, String), UpstreamError> {
        let session = self.session(target).await?;
        let asked = self.request(target, &session, method, params.clone()).await;
        match asked {
            Err(UpstreamError::SessionGone) => {
                self.sessions.invalidate(&target.key);
                let session = self.session(target).await?;
                let result = self.request(target, &session, method, params).await?;
                Ok((result, session.version.to_string()))
            }
            Err(failure) => {
                if failure.ends_session() {
                    self.sessions.invalidate(&target.key);
                }
                Err(failure)
            }
            Ok(result) => Ok((result, session.version.to_string())),
        }
    }

    async fn session(&self, target: &UpstreamTarget<'_>) -> Result<Arc<Session>, UpstreamError> {
        if let Some(session) = self.sessions.get(&target.key) {
            return Ok(session);
        }
        let session = Arc::new(self.begin(target).await?);
        self.sessions.insert(target.key.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// Greets the upstream: `initialize`, and `server/discover` where a server knows no handshake any more.
    async fn begin(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        match self.initialize(target).await {
            Err(failure) if failure.may_be_of_newer_server() => match self.discover(target).await {
                Ok(session) => Ok(session),
                Err(challenge @ UpstreamError::Unauthorized { .. }) => Err(challenge),
                Err(_) => Err(failure),
            },
            other => other,
        }
    }

    async fn initialize(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        let hello = InitializeRequestParams::new(ClientCapabilities::default(), client())
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
        let params = serde_json::to_value(hello).ok();
        let fresh = Session::new(ProtocolVersion::LATEST_WITH_INITIALIZE, None);
        let message = wire::request(0, "initialize", params.unwrap_or_default());
        let response = wire::post(&self.outbound, target, &wire::RequestHeaders::handshake(), &message).await?;
        let id = response.header("mcp-session-id").map(str::to_owned);
        let result = wire::answer(response, target, 0, fresh.id.is_some()).await?;
        let result: InitializeResult = serde_json::from_value(result)
            .map_err(|_| UpstreamError::Protocol("its answer to initialize is no initialize result".to_owned()))?;
        if !ProtocolVersion::KNOWN_VERSIONS.contains(&result.protocol_version) {
            return Err(UpstreamError::Version(super::rules::plain(result.protocol_version.as_str())));
        }
        let session = Session::new(result.protocol_version, id);
        if !session.is_stateless() {
            let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            let response =
                wire::post(&self.outbound, target, &wire::RequestHeaders::of(&session, "", None), &done).await?;
            wire::accepted(response, target).await?;
        }
        Ok(session)
    }

    async fn discover(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        let session = Session::new(ProtocolVersion::NO_INITIALIZE, None);
        let result = self.request(target, &session, "server/discover", Map::new()).await?;
        let result: DiscoverResult = serde_json::from_value(result)
            .map_err(|_| UpstreamError::Protocol("its answer to server/discover is no discover result".to_owned()))?;
        if result.supported_versions.contains(&session.version) {
            Ok(session)
        } else {
            let versions: Vec<&str> = result.supported_versions.iter().map(ProtocolVersion::as_str).collect();
            Err(UpstreamError::Version(super::rules::plain(&versions.join(", "))))
        }
    }

    async fn request(
        &self,
        target: &UpstreamTarget<'_>,
        session: &Session,
        method: &str,
        mut params: Map<String, Value>,
    ) -> Result<Value, UpstreamError> {
        let id = session.next_request.fetch_add(1, Ordering::Relaxed);
        let name = params.get("name").and_then(Value::as_str).map(str::to_owned);
        if session.is_stateless() {
            let meta = RequestMetaObject::with_client_context(
                session.version.clone(),
                client(),
                ClientCapabilities::default(),
            );
            params.insert("_meta".to_owned(), serde_json::to_value(meta).unwrap_or_default());
        }
        let message = wire::request(id, method, Value::Object(params));
        let names = wire::RequestHeaders::of(session, method, name.as_deref());
        let response = wire::post(&self.outbound, target, &names, &message).await?;
        wire::answer(response, target, id, session.id.is_some()).await
    }
}

fn client() -> Implementation {
    Implementation::new("thinkwork", env!("CARGO_PKG_VERSION"))
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(UpstreamError::Timeout))
}
