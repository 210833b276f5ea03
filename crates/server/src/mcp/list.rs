//! Which tools an ask gets of the servers of its Space, and which servers are left out and why.

use std::collections::HashMap;

use thinkwork_database::Tx;
use thinkwork_primitives::{McpServerId, UserId};
use tokio::task::JoinSet;

use super::grant::Problem;
use super::{Auth, Error, Mcp, Server, ServerTool, rules, store};
use crate::oauth::{ConnectionStatus, TokenUse};
use crate::spaces::SpaceServer;
use crate::tools::{self, Ask, LeftOut, LeftOutReason, Needs, Offer, Tool};

/// How long an empty answer of a server is believed before it is asked again.
const EMPTY_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a server that did not answer in time is not waited for again.
const SILENT_FOR: std::time::Duration = std::time::Duration::from_secs(30);
/// Servers offered outside of Spaces: more than one client takes tools from.
const OUTSIDE_MAX: u64 = 200;

/// What the database says about one ask.
struct Known {
    served: Vec<(SpaceServer, Server)>,
    tools: HashMap<McpServerId, Vec<ServerTool>>,
    connections: HashMap<McpServerId, ConnectionStatus>,
}

impl Mcp {
    /// The offer for one ask: from what is stored, and at a server's first use from the server itself. Servers are
    /// asked side by side, each with its own deadline, so one that fails holds up nobody. `only`: of the server with
    /// this slug.
    pub(super) async fn offer(
        &self,
        ask: &Ask,
        served: Option<&[SpaceServer]>,
        only: Option<&str>,
    ) -> Result<Offer, tools::Error> {
        let user = ask.may_use.user();
        let mut known = self.known(ask, served, only).await.map_err(inside)?;
        let mut offer = Offer::default();
        let mut asked = JoinSet::new();
        for (index, (_, server)) in known.served.iter().enumerate() {
            if let Some(reason) = self.barred(server, user, &known.connections) {
                offer.left_out.push(self.left_out(server.id, &server.slug, reason));
            } else if self.was_silent(server, user) && known.tools.get(&server.id).is_none_or(Vec::is_empty) {
                offer.left_out.push(self.left_out(server.id, &server.slug, LeftOutReason::Timeout));
            } else if self.wants_look(server, known.tools.get(&server.id)) {
                let (mcp, ask, server) = (self.clone(), ask.clone(), server.clone());
                asked.spawn(async move { (index, mcp.look_for(&ask, &server, user).await) });
            }
        }
        while let Some(done) = asked.join_next().await {
            let Ok((index, looked)) = done else { continue };
            let Some((_, server)) = known.served.get(index) else { continue };
            match looked {
                Ok(tools) => drop(known.tools.insert(server.id, tools)),
                Err(problem) => {
                    let left_out = self.left_out_by(server, &problem);
                    if left_out.reason == LeftOutReason::Timeout {
                        self.silent.insert((server.id, server.version, user), self.clock.now());
                    }
                    offer.left_out.push(left_out);
                }
            }
        }
        for (served, server) in &known.served {
            if offer.left_out.iter().any(|left| left.server == server.slug) {
                continue;
            }
            let tools = known.tools.get(&server.id).map(Vec::as_slice).unwrap_or_default();
            let usable = tools.iter().filter(|tool| {
                tool.is_usable()
                    && rules::is_listed(&server.tool_allowlist, &tool.name)
                    && rules::is_listed(&served.tool_allowlist, &tool.name)
            });
            offer.tools.extend(usable.map(|tool| offered(served, server, tool)));
        }
        Ok(offer)
    }

    async fn known(&self, ask: &Ask, served: Option<&[SpaceServer]>, only: Option<&str>) -> Result<Known, Error> {
        let mut tx = self.db.read(ask.tenant).await?;
        let spaces = match served {
            Some(served) => served.to_vec(),
            None => self.marked(&mut tx).await?,
        };
        let ids: Vec<McpServerId> = spaces.iter().map(|served| served.server).collect();
        let (mut servers, mut tools) = (HashMap::new(), HashMap::new());
        for (server, of_server) in store::servers_with_tools(&mut tx, &ids, only).await? {
            tools.insert(server.id, of_server);
            servers.insert(server.id, server);
        }
        let needs_user = servers.values().any(|server: &Server| matches!(server.auth, Auth::UserOauth(_)));
        let connections = match ask.may_use.user().filter(|_| needs_user) {
            Some(user) => self.oauth.connections_of(&mut tx, user).await?,
            None => Vec::new(),
        };
        Ok(Known {
            served: spaces
                .into_iter()
                .filter_map(|served| servers.remove(&served.server).map(|server| (served, server)))
                .collect(),
            tools,
            connections: connections.into_iter().map(|connection| (connection.server, connection.status)).collect(),
        })
    }

    /// The servers that are marked for outside of Spaces.
    async fn marked(&self, tx: &mut Tx) -> Result<Vec<SpaceServer>, Error> {
        let marked =
            store::server_list(tx, OUTSIDE_MAX, None).await?.into_iter().filter(|server| server.outside_spaces);
        let as_served =
            |server: Server| SpaceServer { server: server.id, tool_allowlist: None, approvals: serde_json::Map::new() };
        Ok(marked.map(as_served).collect())
    }

    /// It did not answer this caller just now, so nobody waits for it again so soon.
    fn was_silent(&self, server: &Server, user: Option<UserId>) -> bool {
        let at = self.silent.get(&(server.id, server.version, user));
        at.is_some_and(|at| self.clock.now().since(at) < SILENT_FOR)
    }

    /// Why this server offers this ask nothing, by what is stored.
    fn barred(
        &self,
        server: &Server,
        user: Option<UserId>,
        connections: &HashMap<McpServerId, ConnectionStatus>,
    ) -> Option<LeftOutReason> {
        if !server.is_usable() {
            return Some(LeftOutReason::Pending);
        }
        if !matches!(server.auth, Auth::UserOauth(_)) {
            return None;
        }
        if user.is_none() {
            return Some(LeftOutReason::NoUser);
        }
        match connections.get(&server.id) {
            Some(ConnectionStatus::Connected) => None,
            Some(ConnectionStatus::NeedsReauth | ConnectionStatus::Expired) => Some(LeftOutReason::Expired),
            Some(ConnectionStatus::NotConnected) | None => Some(LeftOutReason::NeedsConnection),
        }
    }

    /// Nothing is known of its tools yet, and it was not asked just now.
    fn wants_look(&self, server: &Server, tools: Option<&Vec<ServerTool>>) -> bool {
        let unknown = tools.is_none_or(|tools| rules::is_first_look(tools));
        let now = self.clock.now();
        let asked_now = server.checked_at.is_some_and(|at| now.since(at) < EMPTY_FOR && server.decided_at < Some(at));
        unknown && !(asked_now && server.last_error.is_none())
    }

    async fn look_for(&self, ask: &Ask, server: &Server, user: Option<UserId>) -> Result<Vec<ServerTool>, Problem> {
        let use_ = TokenUse { requester: ask.requester.clone(), thread: ask.thread, turn: ask.turn, tool: None };
        let listed = self.ask_tools(ask.tenant, server, user, &use_).await?;
        Ok(self.snapshot_keep(ask.tenant, server, &listed, &ask.requester).await?)
    }

    /// The left-out entry for what went wrong at first use.
    fn left_out_by(&self, server: &Server, problem: &Problem) -> LeftOut {
        let reason = match problem {
            Problem::Barred(reason) => *reason,
            Problem::ClientRefused(_) => LeftOutReason::Unreachable,
            Problem::Failed(failure) => failure.reason(),
            Problem::Inside(error) => {
                tracing::error!(server = %server.id, %error, "the tools of an MCP server could not be read");
                LeftOutReason::Unreachable
            }
        };
        self.left_out(server.id, &server.slug, reason)
    }
}

fn offered(served: &SpaceServer, server: &Server, tool: &ServerTool) -> Tool {
    Tool {
        // The assembly writes the full name, where it sees all others.
        name: tool.name.clone(),
        server: server.id,
        server_slug: server.slug.clone(),
        upstream_name: tool.name.clone(),
        description: tool.description.clone(),
        input_schema: tool.input_schema.clone(),
        effect: tool.effect.unwrap_or(thinkwork_primitives::Effect::Send),
        idempotent: tool.idempotent,
        definition_hash: tool.definition_hash.clone(),
        needs: match &server.auth {
            Auth::None => Needs::Nothing,
            Auth::TenantKey { .. } => Needs::TenantKey,
            Auth::UserOauth(_) => Needs::UserGrant,
        },
        approval: served.approvals.get(&tool.name).and_then(|word| word.as_str()).map(str::to_owned),
    }
}

/// An error of this slice as one of `tools`.
pub(super) fn inside(error: Error) -> tools::Error {
    match error {
        Error::Database(error) => tools::Error::Database(error),
        other => tools::Error::Other(Box::new(other)),
    }
}
