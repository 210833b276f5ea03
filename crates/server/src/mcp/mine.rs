//! A person and their own connections to the servers: the list, connecting, disconnecting.

use thinkwork_database::Tx;
use thinkwork_primitives::{McpServerId, Principal, UserId};

use super::{Error, Mcp, McpServer, MyServer, registry, rules, store};
use crate::edge::SessionUser;
use crate::oauth::{ConnectionStatus, Revocation, StartedFlow};

/// Servers shown to one person: more than a tenant registers.
const MINE_MAX: u64 = 500;

impl Mcp {
    /// The usable servers with this person's connection to each.
    pub async fn mine(&self, tx: &mut Tx, user: UserId) -> Result<Vec<MyServer>, Error> {
        let approved = store::servers_approved(tx, MINE_MAX).await?;
        let servers: Vec<McpServer> = approved.into_iter().filter(McpServer::is_usable).collect();
        let tools = self.stored_tools(tx, &servers).await?;
        let connections = self.oauth.connections_of(tx, user).await?;
        let mine = servers.into_iter().zip(tools).map(|(server, tools)| {
            let connection = server.auth.uses_oauth().then(|| {
                let found = connections.iter().find(|connection| connection.target == server.id.into());
                found.map_or(ConnectionStatus::NotConnected, |connection| connection.status)
            });
            let offered =
                tools.usable.iter().filter(|tool| rules::is_listed(&server.tool_allowlist, &tool.upstream_name));
            let tool_count = offered.count();
            MyServer { server, connection, tool_count }
        });
        Ok(mine.collect())
    }

    /// Starts connecting this person, in their own session. `return_to` is a page of ours.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotNow`] where there is nothing to connect, and those of the OAuth core.
    pub async fn connect(
        &self,
        consent: &SessionUser,
        id: McpServerId,
        return_to: Option<&str>,
    ) -> Result<StartedFlow, Error> {
        let server = self.find(consent.principal.tenant, id).await?;
        if !server.auth.uses_oauth() {
            return Err(Error::NotNow("This server does not require you to connect an account.".to_owned()));
        }
        if server.is_altered() {
            self.suspend_altered(consent.principal.tenant, id).await?;
        }
        if !server.is_usable() {
            return Err(Error::NotNow(
                "This server has not been approved yet. Ask an operator to approve it.".to_owned(),
            ));
        }
        let mut tx = self.db.read(consent.principal.tenant).await?;
        let may_be_forgotten = self.oauth.may_be_forgotten(&mut tx, id.into(), consent.user).await?;
        drop(tx);
        if may_be_forgotten {
            self.client_register(&server, &consent.principal).await?;
        }
        Ok(self.oauth.start(consent, id.into(), return_to.unwrap_or("/me/mcp-servers")).await?)
    }

    /// Ends this person's own connection to a server, also to one that is no longer approved.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, and those of the OAuth core.
    pub async fn disconnect(
        &self,
        caller: &Principal,
        user: UserId,
        id: McpServerId,
    ) -> Result<Vec<Revocation>, Error> {
        let mut tx = self.db.read(caller.tenant).await?;
        registry::find(&mut tx, id).await?;
        let connection = self.oauth.connection(&mut tx, user, id.into()).await?.ok_or(Error::NotFound)?;
        drop(tx);
        Ok(self.oauth.disconnect(caller, connection.id).await?)
    }
}
