//! Approving and rejecting: what an operator decides about a server and its tools.
//!
//! Invariants: an approval names the hash that the reviewer saw; a tool is approved only with the definition that was
//! shown; the client at the authorization server is registered before the server becomes usable.

use std::collections::{BTreeMap, HashSet};

use thinkwork_primitives::{Actor, CredentialSubject, Effect, McpServerId, Principal, Surface, TenantId};

use super::{Error, Mcp, McpServer, McpServerStatus, SERVER_ALTERED, ServerTool, registry, rules, store};
use crate::audit::{self, Event};
use crate::credentials::UseContext;
use crate::edge::InvalidField;

/// What an operator decided that a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectDecision {
    /// What it does to the world.
    pub effect: Effect,
    /// Whether a call may be repeated.
    pub idempotent: bool,
}

pub struct ApprovalDecision {
    /// The hash of the server's definition that the reviewer saw.
    pub definition_hash: String,
    /// The tools that are approved, by upstream name, each with the hash of its definition that the reviewer saw. One that
    /// is not named stays on hold; but where no tool was approved yet and none is named, all are approved as they are.
    pub tools: BTreeMap<String, String>,
    /// Effects by upstream name. A tool that is not named keeps its effect, unset at first.
    pub effects: BTreeMap<String, EffectDecision>,
}

impl Mcp {
    /// Approves the server as it is now, and the tools that are named. Where the authorization server was not found yet,
    /// it is looked for; what is found changes the definition, so it has to be reviewed first. Where nothing is known of
    /// its tools, its first answer counts as approved, with every effect unset.
    ///
    /// # Errors
    /// [`Error::DefinitionChanged`], [`Error::ToolChanged`], [`Error::NotNow`], [`Error::Invalid`] for tools that do not exist, and
    /// what the authorization server says against a registration.
    pub async fn approve(
        &self,
        id: McpServerId,
        decision: ApprovalDecision,
        by: &Principal,
    ) -> Result<McpServer, Error> {
        let server = self.find(by.tenant, id).await?;
        same_hash(&server, &decision)?;
        if server.auth.uses_oauth() {
            if server.discovered.is_none() {
                let found = self.discover(by.tenant, &server, &by.actor()).await?;
                return Err(Error::DefinitionChanged { current: found.definition_hash });
            }
            self.client_register(&server, by).await?;
        }
        let now = self.clock.now();
        let mut tx = self.access.write_as(by).await?;
        // From here on nobody else writes the server or its tools.
        let mut server = store::server_lock(&mut tx, id).await?.ok_or(Error::NotFound)?;
        same_hash(&server, &decision)?;
        let tools = store::tool_list(&mut tx, id).await?;
        let decided = decide(tools, &decision)?;
        store::tools_set(&mut tx, id, &decided).await?;
        server.status = McpServerStatus::Approved;
        server.approved_hash = Some(server.definition_hash.clone());
        server.decided_by = Some(by.actor().requester.id());
        server.decided_at = Some(now);
        server.reason = None;
        store::server_update(&mut tx, &server).await?;
        let event = Event::by(by.actor(), "mcp_server.approved")
            .on("mcp_server", id)
            .detail("definition_hash", server.definition_hash.clone())
            .detail("tools", decided.iter().filter(|tool| tool.is_usable()).count());
        audit::record(&mut tx, now, event)?;
        tx.commit().await?;
        if !server.auth.uses_oauth() && self.find_with_tools(by.tenant, id).await?.1.is_empty() {
            self.initial_discovery(by.tenant, id, &by.actor()).await;
        }
        self.find(by.tenant, id).await
    }

    /// Refuses a server; its grants end. Another definition makes it pending again.
    pub async fn reject(&self, id: McpServerId, reason: &str, by: &Principal) -> Result<McpServer, Error> {
        let reason = rules::plain(reason);
        if reason.is_empty() {
            return Err(InvalidField::new("reason", "enter a reason.").into());
        }
        let now = self.clock.now();
        let mut tx = self.access.write_as(by).await?;
        let mut server = registry::find(&mut tx, id).await?;
        server.status = McpServerStatus::Rejected;
        server.decided_by = Some(by.actor().requester.id());
        server.decided_at = Some(now);
        server.reason = Some(reason);
        store::server_update(&mut tx, &server).await?;
        audit::record(&mut tx, now, Event::by(by.actor(), "mcp_server.rejected").on("mcp_server", id))?;
        self.oauth.end_target(&mut tx, id.into(), "server_rejected", &by.actor()).await?;
        tx.commit().await?;
        self.find(by.tenant, id).await
    }

    /// Puts a server that was altered back to those that wait for an operator, on the record.
    pub(super) async fn suspend_altered(&self, tenant: TenantId, id: McpServerId) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        let found = store::server_lock(&mut tx, id).await?;
        let Some(mut server) = found.filter(McpServer::is_altered) else { return Ok(()) };
        tracing::error!(server = %id, "an MCP server is not what was approved: its row in the database was changed");
        let event = Event::by(Actor::server(), "mcp_server.altered")
            .on("mcp_server", id)
            .detail("approved_hash", server.approved_hash.clone())
            .detail("definition_hash", server.definition_hash.clone());
        audit::record(&mut tx, self.clock.now(), event)?;
        server.status = McpServerStatus::Pending;
        server.reason = Some(SERVER_ALTERED.to_owned());
        store::server_update(&mut tx, &server).await?;
        Ok(tx.commit().await?)
    }

    /// Registers us as a client at the reviewed authorization server.
    pub(super) async fn client_register(&self, server: &McpServer, by: &Principal) -> Result<(), Error> {
        let Some(discovered) = &server.discovered else { return Ok(()) };
        let client_secret = match server.credential.zip(server.secret_meaning()) {
            Some((credential, meaning)) => {
                let opening = UseContext::by(by.actor()).request(Surface::Oauth, CredentialSubject::Tenant);
                let mut tx = self.access.write_as(by).await?;
                let opened = self.credentials.open(&mut tx, credential, &meaning, opening).await?;
                tx.commit().await?;
                Some(opened.secret)
            }
            None => None,
        };
        let client = server.auth.client(server.id.into(), &server.url, discovered, client_secret);
        let Some(client) = client else { return Ok(()) };
        let made = self.oauth.prepare_registration(by.tenant, client, &by.actor()).await?;
        let mut tx = self.access.write_as(by).await?;
        // It may have been moved or deleted while its authorization server was asked; from here on it waits for us.
        let current = store::server_lock(&mut tx, server.id).await?.ok_or(Error::NotFound)?;
        if current.version != server.version {
            return Err(Error::VersionConflict { current: current.version });
        }
        self.oauth.store_registration(&mut tx, made, &by.actor()).await?;
        Ok(tx.commit().await?)
    }
}

fn same_hash(server: &McpServer, decision: &ApprovalDecision) -> Result<(), Error> {
    if server.definition_hash == decision.definition_hash {
        Ok(())
    } else {
        Err(Error::DefinitionChanged { current: server.definition_hash.clone() })
    }
}

/// The rows that an approval changes.
fn decide(tools: Vec<ServerTool>, decision: &ApprovalDecision) -> Result<Vec<ServerTool>, Error> {
    let here: HashSet<&str> =
        tools.iter().filter(|tool| tool.gone_at.is_none()).map(|tool| tool.name.as_str()).collect();
    let named = decision.tools.keys().chain(decision.effects.keys());
    let unknown: Vec<&str> = named.map(String::as_str).filter(|name| !here.contains(name)).collect();
    if !unknown.is_empty() {
        let problem =
            format!("the server has no tool named {}; reload and review its tools again.", unknown.join(", "));
        return Err(InvalidField::new("tools", problem).into());
    }
    let none_approved = tools.iter().all(|tool| tool.approved_hash.is_none());
    let mut decided = Vec::with_capacity(tools.len());
    for mut tool in tools.into_iter().filter(|tool| tool.gone_at.is_none()) {
        let seen = decision.tools.get(&tool.name);
        if seen.is_some_and(|seen| *seen != tool.definition_hash) {
            return Err(Error::ToolChanged(tool.name));
        }
        let approves = seen.is_some() || (none_approved && decision.tools.is_empty());
        let choice = decision.effects.get(&tool.name);
        if approves {
            tool.approved_hash = Some(tool.definition_hash.clone());
        }
        if let Some(choice) = choice {
            tool.effect = Some(choice.effect);
            tool.idempotent = choice.idempotent;
        }
        if approves || choice.is_some() {
            decided.push(tool);
        }
    }
    Ok(decided)
}
