//! The client side of streamable HTTP: JSON-RPC over `outbound`, with `rmcp`'s types for what the protocol says.
//!
//! Invariants: a session never holds a credential, each request names its own; sessions are kept per (tenant, server
//! version, user, credential version), so no two people share one; every answer is scrubbed of the secret that was
//! sent before anything reads it. Protocols 2025-11-25 and older with `initialize`, 2026-07-28 without.

mod begin;
mod exchange;
mod failure;
mod param_headers;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{ClientCapabilities, Implementation, ProtocolVersion, RequestMetaObject, Tool};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Clock, CredentialId, McpServerId, Secret, TenantId, TraceContext, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use begin::Lifecycles;
use exchange::Exchange;
use wire::RequestHeaders;

pub use failure::UpstreamError;

/// Sessions kept at once: beyond that the longest unused one goes, and its next call begins anew.
const SESSIONS_MAX: u64 = 2_000;
/// How long an unused session is kept: below the half hour after which common servers drop theirs.
const SESSION_IDLE: Duration = Duration::from_secs(10 * 60);
/// How long listing a server's tools may take, its first greeting included.
pub(super) const LIST_DEADLINES: Deadlines = Deadlines::fixed(Duration::from_secs(10));
/// Tools taken of one server: more help no model.
const TOOLS_MAX: usize = 500;
/// Longest definition that is kept of a tool: what is stored of it is shorter still.
const DEFINITION_BYTES_MAX: usize = 2 * super::rules::TOOL_DEFINITION_BYTES_MAX;
/// Pages of a tool list that are asked for.
const PAGES_MAX: usize = 250;
/// How long a server may take to answer the end of a session.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// How long a server may take to be told that a request is cancelled.
pub(super) const CANCEL_DEADLINE: Duration = Duration::from_millis(500);

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
    /// Whether an earlier session may serve.
    pub session: SessionUse,
    pub deadlines: Deadlines,
    /// Which trace the requests belong to.
    pub trace: Option<TraceContext>,
    /// Ends the work when its result is no longer wanted.
    pub cancellation: CancellationToken,
}

/// How long everything until the answer may take.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// Since the request, or the server's last report of progress.
    pub without_progress: Duration,
    /// Since the request.
    pub total: Duration,
}

impl Deadlines {
    /// One that no progress extends.
    pub(super) const fn fixed(total: Duration) -> Self {
        Self { without_progress: total, total }
    }
}

/// Whether an earlier session may serve a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionUse {
    /// A cached session, or a new one that is cached.
    Kept,
    /// A new session, ended with the request, with its protocol negotiated again: for an operator's test or refresh.
    New,
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
    /// Definitions that cannot be used.
    pub skipped: Vec<SkippedTool>,
    /// Which part of the list was left out because it is too long, as a sentence.
    pub truncated: Option<String>,
}

impl ToolList {
    /// Adds the tools of a page, as far as there is room; the cursor of the next one, where there is one to ask for.
    fn read_page(&mut self, page: &Value, is_stateless: bool) -> Option<String> {
        for definition in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
            if self.tools.len().saturating_add(self.skipped.len()) == TOOLS_MAX {
                self.truncated = Some(format!("It offers more than {TOOLS_MAX} tools; the rest are left out."));
                return None;
            }
            match read_tool(definition, is_stateless) {
                Ok(tool) => self.tools.push(tool),
                Err(skipped) => self.skipped.push(skipped),
            }
        }
        let next = page.get("nextCursor").and_then(Value::as_str).filter(|next| !next.is_empty());
        next.map(str::to_owned)
    }
}

/// A definition that cannot be used.
pub(super) struct SkippedTool {
    pub name: String,
    /// What is wrong with it, to stand after its name.
    pub reason: String,
}

/// A call of a tool.
pub(super) struct ToolCall<'a> {
    pub name: &'a str,
    pub input_schema: &'a Map<String, Value>,
    pub arguments: Map<String, Value>,
}

/// One request of the protocol.
#[derive(Clone)]
struct McpRequest<'a> {
    method: &'static str,
    params: Map<String, Value>,
    /// That of the tool that is called.
    schema: Option<&'a Map<String, Value>>,
    /// When its deadlines start.
    begun: Instant,
}

/// A session in use.
struct OpenSession {
    session: Arc<Session>,
    /// Whether it was cached, so that the server may have forgotten it.
    was_kept: bool,
}

/// All upstream sessions of this process. Cheap to clone.
#[derive(Clone)]
pub(super) struct UpstreamClient {
    outbound: Outbound,
    clock: Clock,
    sessions: moka::sync::Cache<SessionKey, Arc<Session>>,
    lifecycles: Lifecycles,
}

impl UpstreamClient {
    pub(super) fn new(outbound: Outbound, clock: Clock) -> Self {
        let sessions = moka::sync::Cache::builder().max_capacity(SESSIONS_MAX).time_to_idle(SESSION_IDLE).build();
        Self { outbound, clock, sessions, lifecycles: begin::lifecycles() }
    }

    /// Every tool the upstream has for this peer.
    pub(super) async fn tools(&self, target: &UpstreamTarget<'_>) -> Result<ToolList, UpstreamError> {
        let begun = Instant::now();
        let work = async {
            let mut opened = self.open(target).await?;
            let listed = self.tool_pages(target, &mut opened, begun).await;
            self.close(target, opened, listed.as_ref().err()).await;
            listed
        };
        within(target.deadlines.total, Box::pin(work)).await
    }

    async fn tool_pages(
        &self,
        target: &UpstreamTarget<'_>,
        opened: &mut OpenSession,
        begun: Instant,
    ) -> Result<ToolList, UpstreamError> {
        let mut list =
            ToolList { protocol_version: String::new(), tools: Vec::new(), skipped: Vec::new(), truncated: None };
        let mut cursors = HashSet::new();
        let mut params = Map::new();
        loop {
            let request = McpRequest { method: "tools/list", params, schema: None, begun };
            let page = self.ask(target, opened, request).await?;
            list.protocol_version = opened.session.version.to_string();
            let is_stateless = opened.session.is_stateless();
            let reading = tokio::task::spawn_blocking(move || {
                let next = list.read_page(&page, is_stateless);
                (list, next)
            });
            let next;
            (list, next) = reading.await.map_err(|_| UpstreamError::Cancelled)?;
            let Some(next) = next.filter(|next| cursors.insert(next.clone())) else { return Ok(list) };
            if cursors.len() == PAGES_MAX {
                list.truncated = Some(format!("Its list has more than {PAGES_MAX} pages; the rest are left out."));
                return Ok(list);
            }
            params = one("cursor", json!(next));
        }
    }

    /// Calls a tool; the result object as the upstream gave it.
    pub(super) async fn call(&self, target: &UpstreamTarget<'_>, call: &ToolCall<'_>) -> Result<Value, UpstreamError> {
        let begun = Instant::now();
        let mut params = one("name", json!(call.name));
        params.insert("arguments".to_owned(), Value::Object(call.arguments.clone()));
        let request = McpRequest { method: "tools/call", params, schema: Some(call.input_schema), begun };
        let work = async {
            let mut opened = self.open(target).await?;
            let result = self.ask(target, &mut opened, request).await;
            self.close(target, opened, result.as_ref().err()).await;
            result
        };
        let result = self.unless_cancelled(target, Box::pin(work)).await?;
        match result.get("resultType").and_then(Value::as_str) {
            None | Some("complete") => Ok(result),
            Some(_) => {
                Err(UpstreamError::Protocol("it asks back for more input, which cannot be given here".to_owned()))
            }
        }
    }

    /// Work that ends at its deadline or when it is cancelled, after the server was told so.
    async fn unless_cancelled<T>(
        &self,
        target: &UpstreamTarget<'_>,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let cancelled = async {
            target.cancellation.cancelled().await;
            self.clock.pause(CANCEL_DEADLINE).await;
        };
        let work = async {
            tokio::select! {
                biased;
                result = work => result,
                () = cancelled => Err(UpstreamError::Cancelled),
            }
        };
        within(target.deadlines.total.saturating_add(CANCEL_DEADLINE), work).await
    }

    /// A session for this peer: the cached one, where that may serve, else a new one.
    async fn open(&self, target: &UpstreamTarget<'_>) -> Result<OpenSession, UpstreamError> {
        match target.session {
            SessionUse::Kept => {
                if let Some(session) = self.sessions.get(&target.key) {
                    return Ok(OpenSession { session, was_kept: true });
                }
            }
            SessionUse::New => self.lifecycles.invalidate(&begin::lifecycle_key(target)),
        }
        Ok(OpenSession { session: Arc::new(Box::pin(self.begin(target)).await?), was_kept: false })
    }

    /// One request. Where the server no longer knows a kept session, another is begun, once, and the request sent again.
    async fn ask(
        &self,
        target: &UpstreamTarget<'_>,
        opened: &mut OpenSession,
        request: McpRequest<'_>,
    ) -> Result<Value, UpstreamError> {
        match self.request(target, &opened.session, request.clone()).await {
            Err(failure) if opened.was_kept && failure.may_refuse_session() => {
                tracing::debug!(server = %target.key.server, error = %failure, "an upstream session is begun anew");
                self.sessions.invalidate(&target.key);
                if opened.session.is_stateless() {
                    self.lifecycles.invalidate(&begin::lifecycle_key(target));
                }
                *opened = OpenSession { session: Arc::new(Box::pin(self.begin(target)).await?), was_kept: false };
                self.request(target, &opened.session, request).await
            }
            other => other,
        }
    }

    /// Caches the session for later requests, unless it can no longer be used or was for this one alone.
    async fn close(&self, target: &UpstreamTarget<'_>, opened: OpenSession, failure: Option<&UpstreamError>) {
        if target.session == SessionUse::New {
            return self.end(target, &opened.session).await;
        }
        if failure.is_some_and(|failure| failure.ends_session() || failure.may_refuse_session()) {
            self.sessions.invalidate(&target.key);
        } else if !opened.was_kept {
            self.sessions.insert(target.key.clone(), opened.session);
        }
    }

    /// Tells the server that the session has ended; what it answers changes nothing.
    async fn end(&self, target: &UpstreamTarget<'_>, session: &Session) {
        if session.id.is_some() {
            let headers = RequestHeaders::of(session);
            let told = wire::delete(&self.outbound, target, &headers, END_DEADLINE);
            if let Err(error) = within(END_DEADLINE, told).await {
                tracing::debug!(server = %target.key.server, %error, "an upstream session was not ended");
            }
        }
    }

    /// One request in a session.
    async fn request(
        &self,
        target: &UpstreamTarget<'_>,
        session: &Session,
        request: McpRequest<'_>,
    ) -> Result<Value, UpstreamError> {
        let McpRequest { method, mut params, schema, begun } = request;
        let id = session.next_request.fetch_add(1, Ordering::Relaxed);
        let headers = RequestHeaders::of_request(session, method, &params, schema);
        let mut meta = Map::new();
        if session.is_stateless() {
            let context = RequestMetaObject::with_client_context(
                session.version.clone(),
                client(),
                ClientCapabilities::default(),
            );
            if let Ok(Value::Object(context)) = serde_json::to_value(context) {
                meta = context;
            }
        }
        if target.deadlines.total > target.deadlines.without_progress {
            meta.insert("progressToken".to_owned(), json!(id));
        }
        if !meta.is_empty() {
            params.insert("_meta".to_owned(), Value::Object(meta));
        }
        let message = wire::request(id, method, Value::Object(params));
        // On the heap: what is asked of it stands deep in the stack of others.
        let exchange = Box::pin(Exchange::new(self, target, session, id, begun).run(&headers, &message));
        let result = tokio::select! {
            biased;
            result = exchange => result,
            () = target.cancellation.cancelled() => Err(UpstreamError::Cancelled),
        };
        if matches!(result, Err(UpstreamError::Cancelled | UpstreamError::Timeout)) {
            self.cancel(target, session, id).await;
        }
        result
    }

    /// Tells the server that the answer to a request is no longer wanted; what it answers changes nothing. From 2026-07-28
    /// on the closed request says so by itself.
    async fn cancel(&self, target: &UpstreamTarget<'_>, session: &Session, request: u64) {
        if session.is_stateless() {
            return;
        }
        let params = json!({ "requestId": request, "reason": "The result is no longer needed." });
        let message = wire::notification("notifications/cancelled", params);
        let headers = RequestHeaders::of(session);
        let told = wire::post(&self.outbound, target, &headers, &message, CANCEL_DEADLINE);
        if let Err(error) = within(CANCEL_DEADLINE, told).await {
            tracing::debug!(server = %target.key.server, %error, "an upstream was not told of a cancelled request");
        }
    }
}

/// What a tool can do without.
const TOOL_OPTIONAL: [&str; 6] = ["title", "description", "outputSchema", "annotations", "icons", "_meta"];

/// Reads one definition of a tool. An optional part that is malformed is left out: living servers write hints as text, and
/// a hint decides nothing.
fn read_tool(definition: &Value, is_stateless: bool) -> Result<Tool, SkippedTool> {
    let name = definition.get("name").and_then(Value::as_str).unwrap_or("(no name)");
    let skipped = |reason: String| SkippedTool { name: super::rules::plain(name), reason };
    // Looked at first, since up to 500 of them are held at once.
    if definition.to_string().len() > DEFINITION_BYTES_MAX {
        return Err(skipped("has a name or definition that is too long".to_owned()));
    }
    let tool = Tool::deserialize(definition).or_else(|_| Tool::deserialize(without_malformed(definition)));
    let tool = tool.map_err(|error| skipped(format!("is malformed ({})", super::rules::plain(&error.to_string()))))?;
    match param_headers::problem(&tool.input_schema).filter(|_| is_stateless) {
        Some(problem) => Err(skipped(format!("has invalid annotations: {problem}"))),
        None => Ok(tool),
    }
}

/// A definition without the optional parts that cannot be read.
fn without_malformed(definition: &Value) -> Value {
    let Some(definition) = definition.as_object() else { return Value::Null };
    let is_required = |key: &str| !TOOL_OPTIONAL.contains(&key);
    let required: Map<String, Value> = definition
        .iter()
        .filter(|(key, _)| is_required(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut readable = required.clone();
    for (key, value) in definition.iter().filter(|(key, _)| !is_required(key)) {
        let mut alone = required.clone();
        alone.insert(key.clone(), value.clone());
        if Tool::deserialize(Value::Object(alone)).is_ok() {
            readable.insert(key.clone(), value.clone());
        }
    }
    Value::Object(readable)
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
