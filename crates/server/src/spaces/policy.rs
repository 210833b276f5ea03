//! Who is in a Space, and which sources of tools serve it: the second half of the face.
//!
//! Invariants: nobody enters a private Space without a row that says who let them in; a source serves a Space only
//! after it was put here.

use thinkwork_database::{Topic, Tx};
use thinkwork_primitives::{Actor, DomainEvent, Principal, SpaceId, Timestamp, ToolSourceId, UserId};

use super::{Announcement, Error, SourcePolicy, SpaceMember, SpaceSource, Spaces, rules, store};
use crate::audit::{self, Event};

/// Announcements that one page shows.
const ANNOUNCEMENTS_MAX: u64 = 20;

impl Spaces {
    /// Members, in the order of their ids, at most `limit`, after `after`. The caller must have been let see the Space.
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
    pub async fn member(&self, tx: &mut Tx, space: SpaceId, user: UserId) -> Result<Option<SpaceMember>, Error> {
        store::member_find(tx, space, user).await
    }

    /// Lets a person in. `by` sees the Space, or lets in themselves as an operator, which the record says. Twice is
    /// once.
    ///
    /// # Errors
    /// [`Error::NotFound`] where `by` may not, and for someone who is no enabled person of the tenant; of `access` where
    /// an operator joins without a fresh sign-in, which a token is not.
    pub async fn member_set(&self, tx: &mut Tx, space: SpaceId, user: UserId, by: &Principal) -> Result<(), Error> {
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
        let joins_unseen = !sees && by.user() == Some(user);
        if joins_unseen {
            // It opens what others wrote among themselves.
            self.access.require_fresh_session(by)?;
        }
        let now = self.clock.now();
        if store::member_insert(tx, space, user, &by.actor(), now).await? {
            let event = Event::by(by.actor(), "space.member_added").on("space", space);
            let event = event.detail("user_id", user.to_string()).detail("joined_unseen", !sees);
            audit::record(tx, now, event)?;
            if joins_unseen {
                store::announcement_insert(tx, space, Announcement { user, joined_at: now }).await?;
            }
            tx.publish(DomainEvent::SpaceAccessChanged { space }, now);
        }
        Ok(())
    }

    /// Who let themselves into a Space since then, the latest first. The caller must have been let see the Space.
    pub async fn announcements(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        since: Timestamp,
    ) -> Result<Vec<Announcement>, Error> {
        store::announcement_list(tx, space, since, ANNOUNCEMENTS_MAX).await
    }

    /// Lets a person go: an operator who sees the Space lets go anyone, everyone themselves.
    pub async fn member_delete(&self, tx: &mut Tx, space: SpaceId, user: UserId, by: &Principal) -> Result<(), Error> {
        store::space_lock(tx, space).await?;
        let found = self.visible(tx, space, by).await?;
        if !rules::may_let_go(by, user) || store::member_find(tx, space, user).await?.is_none() {
            return Err(Error::NotFound);
        }
        if !rules::may_empty(found.access) && store::member_count(tx, space).await? < 2 {
            return Err(Error::LastMember);
        }
        store::member_delete(tx, space, user).await?;
        let event = Event::by(by.actor(), "space.member_removed").on("space", space);
        let now = self.clock.now();
        audit::record(tx, now, event.detail("user_id", user.to_string()))?;
        tx.publish(DomainEvent::SpaceAccessChanged { space }, now);
        // Open streams of this person look again at once.
        tx.wake(Topic::Access, user.uuid());
        Ok(())
    }

    /// The sources of tools that serve a Space. The caller must have been let see it, or work in it.
    pub async fn sources(&self, tx: &mut Tx, space: SpaceId) -> Result<Vec<SpaceSource>, Error> {
        store::source_list(tx, space).await
    }

    /// Lets a source serve a Space, or changes with what. The caller must have been let see the Space, and has seen in
    /// this transaction that the source exists: it belongs to a slice below.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a Space that is not there, [`Error::Invalid`].
    pub async fn source_set(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        source: ToolSourceId,
        policy: &SourcePolicy,
        by: &Actor,
    ) -> Result<(), Error> {
        rules::check_policy(policy)?;
        if store::space_find(tx, space).await?.is_none() {
            return Err(Error::NotFound);
        }
        let now = self.clock.now();
        store::source_set(tx, space, source, policy, by, now).await?;
        let event = Event::by(by.clone(), "space.source_set").on("space", space);
        let event = event.detail("source", source.to_string()).detail("all_tools", policy.tool_allowlist.is_none());
        audit::record(tx, now, event)?;
        Ok(())
    }

    /// Ends a source's service in a Space. The caller must have been let see the Space.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it did not serve.
    pub async fn source_delete(
        &self,
        tx: &mut Tx,
        space: SpaceId,
        source: ToolSourceId,
        by: &Actor,
    ) -> Result<(), Error> {
        if !store::source_delete(tx, space, source).await? {
            return Err(Error::NotFound);
        }
        let event = Event::by(by.clone(), "space.source_removed").on("space", space);
        audit::record(tx, self.clock.now(), event.detail("source", source.to_string()))?;
        Ok(())
    }

    /// Spaces that a source serves. For configuration and work: who may see them is asked apart.
    pub async fn spaces_of_source(&self, tx: &mut Tx, source: ToolSourceId) -> Result<Vec<SpaceId>, Error> {
        store::spaces_of_source(tx, source).await
    }
}
