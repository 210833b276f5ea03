//! What the assembly of tools gets to know of MCP servers: what is stored, and at a server's first use what it says.

use thinkwork_database::Tx;
use thinkwork_primitives::{Chain, McpServerId, Requester, ToolSourceId, UserId};

use super::grant::Problem;
use super::{Error, Mcp, Server, ServerTool, rules, store};
use crate::oauth::{Connection, ConnectionStatus, TokenUse};
use crate::spaces::SpaceSource;
use crate::tools::facts::{Grant, KnownTools, OutsideSpaces, SourceFacts, ToolFacts};
use crate::tools::{self, LeftOutReason, ToolContext};

/// How long an empty answer of a server is believed before it is asked again.
const EMPTY_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a server that did not answer in time is not waited for again.
const SILENT_FOR: std::time::Duration = std::time::Duration::from_secs(30);
/// Servers offered outside of Spaces: more than one client takes tools from.
const OUTSIDE_MAX: u64 = 200;

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
            None => outside_spaces(tx).await?,
        };
        let servers = store::servers_with_tools(tx, &ids, only).await?;
        let needs_user = servers.iter().any(|(server, _)| server.auth.uses_oauth());
        let connections = match user.filter(|_| needs_user) {
            Some(user) => self.oauth.connections_of(tx, user).await?,
            None => Vec::new(),
        };
        let facts = servers.into_iter().map(|(server, tools)| SourceFacts {
            tools: self.known_tools(&server, tools, user),
            source: server.id.into(),
            is_approved: server.is_usable(),
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
    fn known_tools(&self, server: &Server, tools: Vec<ServerTool>, user: Option<UserId>) -> KnownTools {
        if tools.is_empty() && self.was_silent(server, user) {
            KnownTools::Failed(LeftOutReason::Timeout)
        } else if self.wants_look(server, &tools) {
            KnownTools::Undiscovered
        } else {
            KnownTools::Known(usable(tools))
        }
    }

    /// Asks a server for its tools, for this ask, and keeps what it says.
    pub(super) async fn source_discover(
        &self,
        context: &ToolContext,
        source: ToolSourceId,
    ) -> Result<Vec<ToolFacts>, LeftOutReason> {
        let user = context.may_use.user();
        let server = match source.try_into() {
            Ok(id) => self.find(context.tenant, id).await,
            Err(_) => Err(Error::NotFound),
        };
        let server = server.map_err(|error| reason_of(source, &Problem::Inside(error)))?;
        match self.look_for(context, &server, user).await {
            Ok(tools) => Ok(usable(tools)),
            Err(problem) => {
                let reason = reason_of(source, &problem);
                if reason == LeftOutReason::Timeout {
                    self.silent.insert((server.id, server.version, user), self.clock.now());
                }
                Err(reason)
            }
        }
    }

    /// It did not answer this caller just now, so nobody waits for it again so soon.
    fn was_silent(&self, server: &Server, user: Option<UserId>) -> bool {
        let at = self.silent.get(&(server.id, server.version, user));
        at.is_some_and(|at| self.clock.now().since(at) < SILENT_FOR)
    }

    /// Nothing is known of its tools yet, and it was not asked just now.
    fn wants_look(&self, server: &Server, tools: &[ServerTool]) -> bool {
        let unknown = rules::is_first_look(tools);
        let now = self.clock.now();
        let asked_now = server.checked_at.is_some_and(|at| now.since(at) < EMPTY_FOR && server.decided_at < Some(at));
        unknown && !(asked_now && server.last_error.is_none())
    }

    async fn look_for(
        &self,
        context: &ToolContext,
        server: &Server,
        user: Option<UserId>,
    ) -> Result<Vec<ServerTool>, Problem> {
        let use_ = TokenUse { actor: context.actor(), thread: context.thread, turn: context.turn, tool: None };
        let listed = self.ask_tools(context.tenant, server, user, &use_).await?;
        Ok(self.snapshot_keep(context.tenant, server, &listed, &context.actor()).await?)
    }
}

/// The servers that are marked for outside of Spaces.
async fn outside_spaces(tx: &mut Tx) -> Result<Vec<McpServerId>, Error> {
    let servers = store::server_list(tx, OUTSIDE_MAX, None).await?;
    Ok(servers.into_iter().filter(|server| server.outside_spaces).map(|server| server.id).collect())
}

/// Who approved a server with the mark for outside of Spaces. One that nobody approved is left out as pending, and its
/// mark is its registrar's.
fn mark_of(server: &Server) -> Option<OutsideSpaces> {
    let by = server.decided_by.as_ref().unwrap_or(&server.created_by);
    let granted_by = by.parse().map_or_else(|_| Requester::System(by.clone()), Requester::User);
    let granted_at = server.decided_at.unwrap_or(server.created_at);
    server.outside_spaces.then_some(OutsideSpaces { granted_by, granted_at })
}

/// The person's grant at a server among all of theirs.
fn grant_at(server: McpServerId, connections: &[Connection]) -> Grant {
    let found = connections.iter().find(|connection| connection.target == server.into());
    match found.map(|connection| (connection.status, connection.id)) {
        Some((ConnectionStatus::Connected, id)) => Grant::Connected(id),
        Some((ConnectionStatus::NeedsReauth | ConnectionStatus::Expired, _)) => Grant::Expired,
        Some((ConnectionStatus::NotConnected, _)) | None => Grant::None,
    }
}

/// The tools that are there and as approved.
fn usable(tools: Vec<ServerTool>) -> Vec<ToolFacts> {
    let usable = tools.into_iter().filter(ServerTool::is_usable).map(|tool| ToolFacts {
        upstream_name: tool.name,
        description: tool.description,
        input_schema: tool.input_schema,
        effect: tool.effect.unwrap_or_default(),
        idempotent: tool.idempotent,
        definition_hash: tool.definition_hash,
    });
    usable.collect()
}

/// Why nothing came of a server's first use.
fn reason_of(source: ToolSourceId, problem: &Problem) -> LeftOutReason {
    match problem {
        Problem::Barred(reason) => *reason,
        Problem::ClientRefused(_) => LeftOutReason::Unreachable,
        Problem::Failed(failure) => failure.reason(),
        Problem::Inside(error) => {
            tracing::error!(%source, error = %Chain(error), "the tools of an MCP server could not be read");
            LeftOutReason::Unreachable
        }
    }
}

/// An error of this slice as one of `tools`.
pub(super) fn inside(error: Error) -> tools::Error {
    match error {
        Error::Database(error) => tools::Error::Database(error),
        other => tools::Error::Other(Box::new(other)),
    }
}
