//! Who is in a Space, and which MCP servers serve it: the second half of the face.
//!
//! Invariants: nobody enters a private Space without a row that says who let them in; a server serves a Space only
//! after it was put here.

use thinkwork_database::{Topic, Tx};
use thinkwork_primitives::{McpServerId, Principal, Requester, SpaceId, UserId};

use super::{Error, SpaceMember, SpaceServer, Spaces, rules, store};
use crate::audit::{self, Event};

impl Spaces {
    /// Members, in the order of their ids, at most `limit`, after `after`. The caller must have been let see the Space.
    ///
    /// # Errors
    /// The database's.
    pub async fn members(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        limit: u64,
        after: Option<UserId>,
    ) -> Result<Vec<SpaceMember>, Error> {
        store::member_list(tx, space, limit, after).await
    }

    /// One member, if they are one.
    ///
    /// # Errors
    /// The database's.
    pub async fn member(&self, tx: &mut Tx, space: SpaceId, user: UserId) -> Result<Option<SpaceMember>, Error> {
        store::member_find(tx, space, user).await
    }

    /// Lets a person in. `by` sees the Space, or lets in themselves as an operator, which the record says. Twice is
    /// once.
    ///
    /// # Errors
    /// [`Error::NotFound`] where `by` may not, and for someone who is no enabled person of the tenant.
    pub async fn member_put(&self, tx: &mut Tx, space: SpaceId, user: UserId, by: &Principal) -> Result<(), Error> {
        store::space_lock(tx, space).await?;
        let found = store::space_find(tx, space).await?.ok_or(Error::NotFound)?;
        let sees = self.visible(tx, space, by).await.is_ok();
        let members = store::member_count(tx, space).await?;
        if !rules::may_let_in(found.access, sees, members, by, user) {
            return Err(Error::NotFound);
        }
        if !self.access.is_active(tx, user).await? {
            return Err(Error::NotFound);
        }
        let now = self.clock.now();
        if store::member_insert(tx, space, user, &by.requester(), now).await? {
            let event = Event::by(by.requester(), "space.member_added").on("space", space);
            let event = event.detail("user_id", user.to_string()).detail("joined_unseen", !sees);
            audit::record(tx, now, event)?;
        }
        Ok(())
    }

    /// Lets a person go: an operator who sees the Space lets go anyone, everyone themselves.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::LastMember`].
    pub async fn member_remove(&self, tx: &mut Tx, space: SpaceId, user: UserId, by: &Principal) -> Result<(), Error> {
        store::space_lock(tx, space).await?;
        let found = self.visible(tx, space, by).await?;
        if !rules::may_let_go(by, user) || store::member_find(tx, space, user).await?.is_none() {
            return Err(Error::NotFound);
        }
        if !rules::may_empty(found.access) && store::member_count(tx, space).await? < 2 {
            return Err(Error::LastMember);
        }
        store::member_delete(tx, space, user).await?;
        let event = Event::by(by.requester(), "space.member_removed").on("space", space);
        audit::record(tx, self.clock.now(), event.detail("user_id", user.to_string()))?;
        // Open streams of this person look again at once.
        tx.wake(Topic::Access, user.uuid());
        Ok(())
    }

    /// The MCP servers that serve a Space. The caller must have been let see it, or work in it.
    ///
    /// # Errors
    /// The database's.
    pub async fn servers(&self, tx: &mut Tx, space: SpaceId) -> Result<Vec<SpaceServer>, Error> {
        store::server_list(tx, space).await
    }

    /// Lets a server serve a Space, or changes with what. The caller must have been let see the Space.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a Space or server that is not there, [`Error::Invalid`].
    pub async fn server_put(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        server: SpaceServer,
        by: &Requester,
    ) -> Result<(), Error> {
        rules::check_policy(&server)?;
        if store::space_find(tx, space).await?.is_none() || !store::mcp_server_exists(tx, server.server).await? {
            return Err(Error::NotFound);
        }
        let now = self.clock.now();
        store::server_put(tx, space, &server, by, now).await?;
        let event = Event::by(by.clone(), "space.server_put").on("space", space);
        let event = event
            .detail("mcp_server_id", server.server.to_string())
            .detail("all_tools", server.tool_allowlist.is_none());
        audit::record(tx, now, event)?;
        Ok(())
    }

    /// Ends a server's service in a Space. The caller must have been let see the Space.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it did not serve.
    pub async fn server_remove(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        server: McpServerId,
        by: &Requester,
    ) -> Result<(), Error> {
        if !store::server_delete(tx, space, server).await? {
            return Err(Error::NotFound);
        }
        let event = Event::by(by.clone(), "space.server_removed").on("space", space);
        audit::record(tx, self.clock.now(), event.detail("mcp_server_id", server.to_string()))?;
        Ok(())
    }

    /// Spaces that a server serves. For configuration and work: who may see them is asked apart.
    ///
    /// # Errors
    /// The database's.
    pub async fn spaces_of_server(&self, tx: &mut Tx, server: McpServerId) -> Result<Vec<SpaceId>, Error> {
        store::spaces_of_server(tx, server).await
    }

    /// Names of people, for the pages.
    pub(super) async fn names(&self, tx: &mut Tx, ids: &[UserId]) -> Result<Vec<(UserId, String)>, Error> {
        Ok(self.access.user_names(tx, ids).await?)
    }
}
