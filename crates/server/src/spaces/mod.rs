//! Spaces, their members and their tool policy.
//!
//! Invariants: a private Space and all in it does not exist for those who are not its members, operators included;
//! every change is written with its audit event. Used by every slice below; it uses `access` and `audit`.

pub mod http;
pub mod pages;
mod policy;
mod rules;
mod store;
#[cfg(test)]
mod tests;

use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{Clock, McpServerId, Principal, SpaceId, Timestamp, UserId};

use crate::access::Access;
use crate::audit::{self, Event};

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or not visible for the caller: 404.
    #[error("there is no such Space for this caller")]
    NotFound,
    /// A field does not fit: its name and what to do.
    #[error("the field {0} is not acceptable: {1}")]
    Invalid(&'static str, &'static str),
    /// The slug belongs to another Space of the tenant.
    #[error("another Space has this slug")]
    SlugTaken,
    /// `If-Match` named another version.
    #[error("the Space was changed meanwhile")]
    Changed,
    /// Widening a Space is an act of consent: a session's, never a token's.
    #[error("widening a Space needs a person's session")]
    NeedsSession,
    /// A private Space without members would be lost.
    #[error("the last member of a private Space cannot leave it")]
    LastMember,
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The record refused.
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
    /// People could not be asked for.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
}

/// Who may see a Space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceAccess {
    /// Every person and service token of the tenant sees and writes.
    Public,
    /// Its members alone.
    Private,
}

/// A workroom.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its id.
    pub id: SpaceId,
    /// Its short name, unique in the tenant.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Who may see it.
    pub access: SpaceAccess,
    /// What the agent is told in each turn of this Space.
    pub prompt: Option<String>,
    /// Whether an event of a closed thread reopens it; else it begins a new one.
    pub reopen: bool,
    /// Moment it was made.
    pub created_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: i64,
}

/// One MCP server that serves a Space, and with which of its tools (upstream names; `None`: all approved ones).
#[derive(Clone, Debug)]
pub struct SpaceServer {
    /// The server.
    pub server: McpServerId,
    /// The tools offered here.
    pub tool_allowlist: Option<Vec<String>>,
    /// Tool name -> `never` | `once` | `always`; as the operator set it.
    pub approvals: serde_json::Map<String, serde_json::Value>,
}

/// A Space to make.
pub struct NewSpace {
    /// As in [`Space`].
    pub slug: String,
    /// As in [`Space`].
    pub name: String,
    /// As in [`Space`].
    pub access: SpaceAccess,
    /// As in [`Space`].
    pub prompt: Option<String>,
    /// As in [`Space`].
    pub reopen: bool,
}

/// What changes in a Space; `None` leaves it.
#[derive(Default)]
pub struct SpaceChange {
    /// The new name.
    pub name: Option<String>,
    /// The new access. Widening to public takes a session.
    pub access: Option<SpaceAccess>,
    /// The new prompt; an empty one removes it.
    pub prompt: Option<String>,
    /// Whether closed threads are reopened.
    pub reopen: Option<bool>,
}

/// A member of a Space.
#[derive(Clone, Copy, Debug)]
pub struct SpaceMember {
    /// Who.
    pub user: UserId,
    /// Since when.
    pub joined_at: Timestamp,
    /// Whether nobody let them in but themselves: its maker, or an operator who joined later.
    pub by_themselves: bool,
}

/// The slice.
#[derive(Clone)]
pub struct Spaces {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    access: Access,
}

impl Spaces {
    /// Over this database.
    pub const fn new(db: Db, clock: Clock, access: Access) -> Self {
        Self { db, clock, access }
    }

    /// Makes a Space; its maker, if a person, is its first member.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::SlugTaken`].
    pub async fn create(&self, tx: &mut Tx, new: NewSpace, by: &Principal) -> Result<Space, Error> {
        rules::check_slug(&new.slug)?;
        rules::check_prompt(new.prompt.as_deref())?;
        rules::check_first_member(new.access, by.user())?;
        let now = self.clock.now();
        let space = Space {
            id: SpaceId::new(),
            slug: new.slug,
            name: rules::checked_name(&new.name)?,
            access: new.access,
            prompt: new.prompt.filter(|prompt| !prompt.trim().is_empty()),
            reopen: new.reopen,
            created_at: now,
            version: 1,
        };
        store::space_insert(tx, &space, &by.requester()).await?;
        let event = Event::by(by.requester(), "space.created").on("space", space.id);
        audit::record(tx, now, event.detail("access", rules::access_word(space.access)))?;
        if let Some(user) = by.user() {
            store::member_insert(tx, space.id, user, &by.requester(), now).await?;
        }
        Ok(space)
    }

    /// Changes a Space that the caller sees. `if_version` refuses when another change came first.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Changed`], [`Error::Invalid`], [`Error::NeedsSession`].
    pub async fn change(
        &self,
        tx: &mut Tx,
        id: SpaceId,
        change: SpaceChange,
        if_version: Option<i64>,
        by: &Principal,
    ) -> Result<Space, Error> {
        store::space_lock(tx, id).await?;
        let mut space = self.visible(tx, id, by).await?;
        if if_version.is_some_and(|version| version != space.version) {
            return Err(Error::Changed);
        }
        rules::check_widening(space.access, change.access, by)?;
        rules::check_prompt(change.prompt.as_deref())?;
        let mut event = Event::by(by.requester(), "space.changed").on("space", id);
        if let Some(name) = change.name {
            space.name = rules::checked_name(&name)?;
        }
        if let Some(access) = change.access {
            event = event.detail("access", rules::access_word(access));
            space.access = access;
        }
        if let Some(prompt) = change.prompt {
            event = event.detail("prompt_changed", true);
            space.prompt = Some(prompt).filter(|prompt| !prompt.trim().is_empty());
        }
        if let Some(reopen) = change.reopen {
            space.reopen = reopen;
        }
        if space.access == SpaceAccess::Private && store::member_count(tx, id).await? == 0 {
            return Err(Error::LastMember);
        }
        if !store::space_update(tx, &space).await? {
            return Err(Error::Changed);
        }
        space.version = space.version.saturating_add(1);
        audit::record(tx, self.clock.now(), event)?;
        Ok(space)
    }

    /// The Space without asking who: for work that has no person (webhooks, worker). Never for a request.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_for_work(&self, tx: &mut Tx, id: SpaceId) -> Result<Option<Space>, Error> {
        store::space_find(tx, id).await
    }

    /// The Space if this caller may see it; service tokens with scope admin see public ones only.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn visible(&self, tx: &mut Tx, id: SpaceId, caller: &Principal) -> Result<Space, Error> {
        let space = store::space_find(tx, id).await?.ok_or(Error::NotFound)?;
        if may_see(tx, &space, caller.user()).await? { Ok(space) } else { Err(Error::NotFound) }
    }

    /// Whether this person may see and write in this Space now. Whether they are enabled is `access`'s to say.
    ///
    /// # Errors
    /// The database's.
    pub async fn admits(&self, tx: &mut Tx, id: SpaceId, user: UserId) -> Result<bool, Error> {
        match store::space_find(tx, id).await? {
            Some(space) => may_see(tx, &space, Some(user)).await,
            None => Ok(false),
        }
    }

    /// The MCP servers that serve this Space, for work of this person, who must be let in now, or without one. `None`
    /// where there is no such Space for them.
    ///
    /// # Errors
    /// The database's.
    pub async fn served(
        &self,
        tx: &mut Tx,
        id: SpaceId,
        user: Option<UserId>,
    ) -> Result<Option<Vec<SpaceServer>>, Error> {
        let Some((space, servers)) = store::space_with_servers(tx, id).await? else { return Ok(None) };
        let admitted = user.is_none() || may_see(tx, &space, user).await?;
        Ok(admitted.then_some(servers))
    }

    /// Ids of all Spaces this caller may see.
    ///
    /// # Errors
    /// The database's.
    pub async fn visible_ids(&self, tx: &mut Tx, caller: &Principal) -> Result<Vec<SpaceId>, Error> {
        store::space_ids(tx, caller.user()).await
    }

    /// The Spaces this caller may see, oldest first, at most `limit`, after `after`.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(
        &self,
        tx: &mut Tx,
        caller: &Principal,
        limit: u64,
        after: Option<SpaceId>,
    ) -> Result<Vec<Space>, Error> {
        store::space_list(tx, caller.user(), limit, after).await
    }
}

/// Whether this person, or work without one, may see the Space. Members are looked up where it depends on them.
async fn may_see(tx: &mut Tx, space: &Space, user: Option<UserId>) -> Result<bool, Error> {
    let is_member = match (space.access, user) {
        (SpaceAccess::Private, Some(user)) => store::is_member(tx, space.id, user).await?,
        _ => false,
    };
    Ok(rules::may_see(space.access, is_member))
}
