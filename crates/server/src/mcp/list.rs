//! What the assembly of tools gets to know of MCP servers: what is stored, and at a server's first use what it says.

use std::collections::HashMap;
use std::sync::Arc;

use thinkwork_database::Tx;
use thinkwork_primitives::{Chain, McpServerId, Requester, ToolSourceId, UserId};

use super::grant::CallError;
use super::upstream::SessionUse;
use super::{Error, Mcp, McpServer, ServerTool, rules, store};
use crate::credentials::UseContext;
use crate::oauth::{Connection, ConnectionStatus};
use crate::spaces::SpaceSource;
use crate::tools::facts::{ApprovedTool, GrantStatus, KnownTools, OutsideSpaces, SourceFacts};
use crate::tools::{self, LeftOutReason, ToolContext};

/// How long an empty answer of a server is believed before it is asked again.
const EMPTY_LIST_TTL: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a server that did not answer in time is not waited for again.
const TIMEOUT_BACKOFF: std::time::Duration = std::time::Duration::from_secs(30);
/// Servers offered outside of Spaces: more than one client takes tools from.
const OUTSIDE_MAX: u64 = 200;

/// The tools of this process's servers as they were parsed, by server and `tools_version`: a new version is another key,
/// so nothing in it is ever out of date.
pub(super) type ToolCache = moka::sync::Cache<(McpServerId, i64), Arc<StoredTools>>;

/// Bytes of definitions in a [`ToolCache`] at most.
const CACHED_BYTES_MAX: u64 = 64 * 1_024 * 1_024;

pub(super) fn tool_cache() -> ToolCache {
    let bytes = |_: &(McpServerId, i64), stored: &Arc<StoredTools>| u32::try_from(stored.bytes).unwrap_or(u32::MAX);
    moka::sync::Cache::builder().max_capacity(CACHED_BYTES_MAX).weigher(bytes).build()
}

/// What is stored of one server's tools.
pub(super) struct StoredTools {
    /// Those that are there and as approved.
    pub(super) usable: Vec<Arc<ApprovedTool>>,
    is_empty: bool,
    is_undiscovered: bool,
    /// The size of the definitions as JSON.
    bytes: usize,
}

impl StoredTools {
    fn new(tools: Vec<ServerTool>) -> Self {
        let is_empty = tools.is_empty();
        let is_undiscovered = rules::is_undiscovered(&tools);
        let usable = usable(tools);
        let size = |tool: &Arc<ApprovedTool>| {
            let schema = serde_json::to_string(&*tool.input_schema).map_or(0, |schema| schema.len());
            let details = serde_json::to_string(&*tool.details).map_or(0, |details| details.len());
            [schema, details, tool.description.len(), tool.upstream_name.len()]
                .into_iter()
                .fold(0, usize::saturating_add)
        };
        let bytes = usable.iter().map(size).sum();
        Self { usable, is_empty, is_undiscovered, bytes }
    }
}

impl Mcp {
    /// What is stored of the servers that serve the Space, or that are marked for outside of Spaces. `only`: of the one
    /// with this slug.
    pub(super) async fn source_facts(
        &self,
        tx: &mut Tx,
        context: &ToolContext,
        policies: Option<&[SpaceSource]>,
        only: Option<&str>,
    ) -> Result<Vec<SourceFacts>, Error> {
        let user = context.may_use.user();
        let ids = match policies {
            Some(policies) => policies.iter().filter_map(|policy| policy.source.try_into().ok()).collect(),
            None => store::servers_outside_spaces(tx, OUTSIDE_MAX).await?,
        };
        let servers = store::server_list_of(tx, &ids, only).await?;
        let tools = self.stored_tools(tx, &servers).await?;
        let needs_user = servers.iter().any(|server| server.auth.uses_oauth());
        let connections = match user.filter(|_| needs_user) {
            Some(user) => self.oauth.connections_of(tx, user).await?,
            None => Vec::new(),
        };
        let facts = servers.into_iter().zip(tools).map(|(server, tools)| SourceFacts {
            tools: self.known_tools(&server, &tools, user),
            source: server.id.into(),
            is_approved: server.is_usable() || server.is_altered(),
            needs: server.auth.needs(),
            grant: grant_at(server.id, &connections),
            outside_spaces: mark_of(&server),
            connect_url: server.auth.uses_oauth().then(|| self.connect_url(server.id)),
            slug: server.slug,
            tool_allowlist: server.tool_allowlist,
        });
        Ok(facts.collect())
    }

    /// What is known of a server's tools, without asking it.
    fn known_tools(&self, server: &McpServer, stored: &StoredTools, user: Option<UserId>) -> KnownTools {
        if server.is_altered() {
            // Asked for, it is put back to those that wait for an operator.
            KnownTools::Undiscovered
        } else if stored.is_empty && self.timed_out_recently(server, user) {
            KnownTools::Failed(LeftOutReason::Timeout)
        } else if self.needs_discovery(server, stored) {
            KnownTools::Undiscovered
        } else {
            KnownTools::Known(stored.usable.clone())
        }
    }

    /// What is stored of the tools of each of these servers, which the same transaction read. What was parsed before is
    /// taken from memory where the server's `tools_version` is still the same.
    pub(super) async fn stored_tools(
        &self,
        tx: &mut Tx,
        servers: &[McpServer],
    ) -> Result<Vec<Arc<StoredTools>>, Error> {
        let remembered = |server: &McpServer| self.stored_tools.get(&(server.id, server.tools_version));
        let mut tools: Vec<Option<Arc<StoredTools>>> = servers.iter().map(remembered).collect();
        let missing = servers.iter().zip(&tools).filter(|(_, tools)| tools.is_none());
        let missing: Vec<McpServerId> = missing.map(|(server, _)| server.id).collect();
        let mut read: HashMap<McpServerId, Vec<ServerTool>> = HashMap::new();
        for (server, tool) in store::tool_list_of(tx, &missing).await? {
            read.entry(server).or_default().push(tool);
        }
        for (server, tools) in servers.iter().zip(&mut tools).filter(|(_, tools)| tools.is_none()) {
            let stored = Arc::new(StoredTools::new(read.remove(&server.id).unwrap_or_default()));
            self.stored_tools.insert((server.id, server.tools_version), Arc::clone(&stored));
            *tools = Some(stored);
        }
        Ok(tools.into_iter().flatten().collect())
    }

    /// Asks a server for its tools, for this ask, and keeps what it says.
    pub(super) async fn source_discover(
        &self,
        context: &ToolContext,
        source: ToolSourceId,
    ) -> Result<Vec<Arc<ApprovedTool>>, LeftOutReason> {
        let user = context.may_use.user();
        let server = match source.try_into() {
            Ok(id) => self.find(context.tenant, id).await,
            Err(_) => Err(Error::NotFound),
        };
        let server = server.map_err(|error| reason_of(source, &CallError::Internal(error)))?;
        if server.is_altered() {
            let suspended = self.suspend_altered(context.tenant, server.id).await;
            suspended.map_err(|error| reason_of(source, &CallError::Internal(error)))?;
            return Err(LeftOutReason::Pending);
        }
        match self.discover_tools(context, &server, user).await {
            Ok(tools) => Ok(usable(tools)),
            Err(problem) => {
                let reason = reason_of(source, &problem);
                if reason == LeftOutReason::Timeout {
                    self.silent.insert((server.id, server.version, user), self.clock.uptime());
                }
                Err(reason)
            }
        }
    }

    /// It did not answer this caller just now, so nobody waits for it again so soon.
    fn timed_out_recently(&self, server: &McpServer, user: Option<UserId>) -> bool {
        let at = self.silent.get(&(server.id, server.version, user));
        at.is_some_and(|at| self.clock.uptime().saturating_sub(at) < TIMEOUT_BACKOFF)
    }

    /// Nothing is known of its tools yet, and it was not asked just now.
    fn needs_discovery(&self, server: &McpServer, stored: &StoredTools) -> bool {
        let now = self.clock.now();
        let asked_now = server
            .checked_at
            .is_some_and(|at| at <= now && now.since(at) < EMPTY_LIST_TTL && server.decided_at < Some(at));
        stored.is_undiscovered && !(asked_now && server.last_error.is_none())
    }

    async fn discover_tools(
        &self,
        context: &ToolContext,
        server: &McpServer,
        user: Option<UserId>,
    ) -> Result<Vec<ServerTool>, CallError> {
        let use_context = UseContext { actor: context.actor(), thread: context.thread, turn: context.turn, tool: None };
        let listed = self.fetch_tools(context.tenant, server, user, SessionUse::Kept, &use_context).await?;
        Ok(self.snapshot_save(context.tenant, server, listed, &context.actor()).await?)
    }
}

/// Who approved a server with the mark for outside of Spaces. One that nobody approved is left out as pending, and its
/// mark is its registrar's.
fn mark_of(server: &McpServer) -> Option<OutsideSpaces> {
    let by = server.decided_by.as_ref().unwrap_or(&server.created_by);
    let granted_by = by.parse().map_or_else(|_| Requester::System(by.clone()), Requester::User);
    let granted_at = server.decided_at.unwrap_or(server.created_at);
    server.outside_spaces.then_some(OutsideSpaces { granted_by, granted_at })
}

/// The person's grant at a server among all of theirs.
fn grant_at(server: McpServerId, connections: &[Connection]) -> GrantStatus {
    let found = connections.iter().find(|connection| connection.target == server.into());
    match found.map(|connection| (connection.status, connection.id)) {
        Some((ConnectionStatus::Connected, id)) => GrantStatus::Connected(id),
        Some((ConnectionStatus::NeedsReauth | ConnectionStatus::Expired, _)) => GrantStatus::Expired,
        Some((ConnectionStatus::NotConnected, _)) | None => GrantStatus::None,
    }
}

/// The tools that are there and as approved.
fn usable(tools: Vec<ServerTool>) -> Vec<Arc<ApprovedTool>> {
    let usable = tools.into_iter().filter(ServerTool::is_usable).map(|tool| {
        Arc::new(ApprovedTool {
            upstream_name: tool.name,
            description: tool.description,
            input_schema: tool.input_schema,
            details: tool.details,
            effect: tool.effect.unwrap_or_default(),
            idempotent: tool.idempotent,
            definition_hash: tool.definition_hash,
        })
    });
    usable.collect()
}

/// Why nothing came of a server's first use.
fn reason_of(source: ToolSourceId, problem: &CallError) -> LeftOutReason {
    match problem {
        CallError::Unavailable(reason) => *reason,
        CallError::ClientRefused(_) => LeftOutReason::Unreachable,
        CallError::ClientForgotten => LeftOutReason::Expired,
        CallError::NotNow(_) => LeftOutReason::Unreachable,
        CallError::Upstream(failure) => failure.reason(),
        CallError::Internal(error) => {
            tracing::error!(%source, error = %Chain(error), "the tools of an MCP server could not be read");
            LeftOutReason::Unreachable
        }
    }
}

/// An error of this slice as one of `tools`.
pub(super) fn into_tools_error(error: Error) -> tools::Error {
    match error {
        Error::Database(error) => tools::Error::Database(error),
        other => tools::Error::Other(Box::new(other)),
    }
}
