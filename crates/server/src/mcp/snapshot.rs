//! Asking a server for its tools and keeping what it says.

use thinkwork_primitives::{Actor, TenantId, Timestamp, UserId};

use super::grant::{CallError, Grant};
use super::upstream::{LIST_DEADLINES, SessionUse, ToolList};
use super::{Error, Mcp, McpServer, ServerTool, UpstreamError, rules, store};
use crate::audit::{self, Event};
use crate::credentials::UseContext;
use crate::tools::LeftOutReason;

impl Mcp {
    /// The server's tools as it describes them now to this person (or to the tenant). A refused token is refreshed
    /// once and the request sent once more; where that does not help either, its authorization server may have moved.
    pub(super) async fn fetch_tools(
        &self,
        tenant: TenantId,
        server: &McpServer,
        user: Option<UserId>,
        session: SessionUse,
        context: &UseContext,
    ) -> Result<ToolList, CallError> {
        let grant = self.grant_for_discovery(tenant, server, user, context).await?;
        let asked = self.upstreams.tools(&grant.target(tenant, server, session, LIST_DEADLINES)).await;
        match (asked, &grant) {
            (Err(UpstreamError::Unauthorized { challenge }), Grant::Token(user, token)) => {
                let again = async {
                    let grant = self.person_token(tenant, server, *user, Some(token.version), context, None).await?;
                    match self.upstreams.tools(&grant.target(tenant, server, session, LIST_DEADLINES)).await {
                        Err(UpstreamError::Unauthorized { .. }) => Err(CallError::Unavailable(LeftOutReason::Expired)),
                        other => other.map_err(CallError::Upstream),
                    }
                };
                let listed = again.await;
                match listed {
                    Err(problem)
                        if self.authorization_server_moved(tenant, server, challenge, &context.actor).await =>
                    {
                        tracing::debug!(server = %server.id, ?problem, "the authorization server moved");
                        Err(CallError::Unavailable(LeftOutReason::Pending))
                    }
                    listed => listed,
                }
            }
            (other, _) => other.map_err(CallError::Upstream),
        }
    }

    /// Keeps what the server said: the first snapshot of an approved server as it is, later changes on hold.
    pub(super) async fn snapshot_save(
        &self,
        tenant: TenantId,
        server: &McpServer,
        listed: ToolList,
        by: &Actor,
    ) -> Result<Vec<ServerTool>, Error> {
        let now = self.clock.now();
        let reading = tokio::task::spawn_blocking(move || Seen::of(listed, now));
        let Seen { tools: seen, note } = reading.await.map_err(|_| interrupted())?;
        let mut tx = self.db.write(tenant).await?;
        // Read again, and locked: the address that was asked must still be the registered one.
        let current = store::server_lock(&mut tx, server.id).await?.ok_or(Error::NotFound)?;
        if current.url != server.url {
            return Err(Error::NotNow("The server was changed in the meantime. Reload and try again.".to_owned()));
        }
        let known = store::tool_list(&mut tx, server.id).await?;
        let first = current.is_usable() && rules::is_undiscovered(&known);
        let merged = rules::merge(&known, seen, first, now);
        store::tools_set(&mut tx, server.id, &merged.write).await?;
        store::server_checked(&mut tx, server.id, now, note).await?;
        if !merged.write.is_empty() {
            let action = if first { "mcp_server.tools_first_seen" } else { "mcp_server.tools_changed" };
            let event = Event::by(by.clone(), action)
                .on("mcp_server", server.id)
                .detail("added", merged.added)
                .detail("changed", merged.changed)
                .detail("gone", merged.gone);
            audit::record(&mut tx, now, event)?;
        }
        let tools = store::tool_list(&mut tx, server.id).await?;
        tx.commit().await?;
        Ok(tools)
    }

    /// Notes on the server what went wrong, for its operator.
    pub(super) async fn record_error(
        &self,
        tenant: TenantId,
        server: &McpServer,
        sentence: String,
    ) -> Result<(), Error> {
        let mut tx = self.db.write(tenant).await?;
        store::server_checked(&mut tx, server.id, self.clock.now(), Some(sentence)).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn interrupted() -> Error {
    Error::NotNow("The server is stopping. Try again.".to_owned())
}

/// What a look at a server saw: its usable tools, and a note of those that are not.
struct Seen {
    tools: Vec<ServerTool>,
    note: Option<String>,
}

impl Seen {
    fn of(listed: ToolList, now: Timestamp) -> Self {
        let mut tools = Vec::with_capacity(listed.tools.len());
        let mut skipped: Vec<String> =
            listed.skipped.iter().map(|skipped| format!("{} {}", skipped.name, skipped.reason)).collect();
        for tool in &listed.tools {
            match rules::tool_from(tool, now) {
                Some(tool) => tools.push(tool),
                None => skipped.push(format!("{} has a name or definition that is too long", rules::plain(&tool.name))),
            }
        }
        Self { tools, note: rules::skipped_sentence(&skipped, listed.truncated.as_deref()) }
    }
}
