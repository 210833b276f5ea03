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

use std::collections::BTreeMap;
use strum::{EnumString, IntoStaticStr};

use serde::{Deserialize, Serialize};
use thinkwork_database::{Db, Topic, Tx};
use thinkwork_primitives::{Clock, DomainEvent, Principal, Requester, SpaceId, Timestamp, ToolSourceId, UserId};
use utoipa::ToSchema;

use crate::access::Access;
use crate::audit::{self, Event};
use crate::edge::{InvalidField, Names};

/// What is wrong with a field that names a Space which is not there for the caller.
pub const NO_SUCH_SPACE: &str = "this Space does not exist or you do not have access; choose another.";

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or not visible for the caller: 404.
    #[error("there is no such Space for this caller")]
    NotFound,
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The slug belongs to another Space of the tenant.
    #[error("another Space has this slug")]
    SlugTaken,
    /// `If-Match` named another version.
    #[error("the Space was changed meanwhile")]
    VersionConflict,
    /// Widening a Space is an act of consent: a session's, never a token's.
    #[error("widening a Space needs a person's session")]
    NeedsSession,
    /// A private Space without members would be lost.
    #[error("the last member of a private Space cannot leave it")]
    LastMember,
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
    /// People could not be asked for.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
}

/// Who may see a Space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum SpaceAccess {
    /// Every person and service token of the tenant sees and writes.
    Public,
    /// Its members alone.
    Private,
}

impl SpaceAccess {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A workroom.
#[derive(Clone, Debug)]
pub struct Space {
    pub id: SpaceId,
    /// Its short name, unique in the tenant.
    pub slug: String,
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

/// When a person is asked before a tool runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Approval {
    /// Not asked.
    Never,
    /// Asked at the first call of a thread.
    Once,
    /// Asked at each call.
    Always,
}

impl Approval {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// With what a source of tools serves a Space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcePolicy {
    /// The tools offered here, by upstream name; `None`: all approved ones.
    pub tool_allowlist: Option<Vec<String>>,
    /// By upstream name; where a tool has none, the default of its effect holds.
    pub approvals: BTreeMap<String, Approval>,
}

/// One source of tools that serves a Space.
#[derive(Clone, Debug)]
pub struct SpaceSource {
    pub source: ToolSourceId,
    pub policy: SourcePolicy,
    /// Who put it here, or changed its policy last.
    pub granted_by: Requester,
    pub granted_at: Timestamp,
}

/// A Space to make.
pub struct NewSpace {
    /// As in [`Space`].
    pub slug: String,
    /// As in [`Space`].
    pub name: String,
    pub access: SpaceAccess,
    /// As in [`Space`].
    pub prompt: Option<String>,
    /// As in [`Space`].
    pub reopen: bool,
}

impl NewSpace {
    /// With the defaults of everything else.
    pub const fn new(slug: String, name: String, access: SpaceAccess) -> Self {
        Self { slug, name, access, prompt: None, reopen: true }
    }
}

/// What changes in a Space; `None` leaves it.
#[derive(Default)]
pub struct SpaceUpdate {
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
    pub user: UserId,
    /// Since when.
    pub joined_at: Timestamp,
}

/// An operator let themselves into a private Space that they did not see. Their leaving does not remove it.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    pub user: UserId,
    pub joined_at: Timestamp,
}

#[derive(Clone)]
pub struct Spaces {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    access: Access,
    names: Names,
}

impl Spaces {
    /// Over this database.
    pub const fn new(db: Db, clock: Clock, access: Access, names: Names) -> Self {
        Self { db, clock, access, names }
    }

    /// Makes a Space; its maker, if a person, is its first member.
    pub async fn create(&self, tx: &mut Tx, new: NewSpace, by: &Principal) -> Result<Space, Error> {
        rules::check_slug(&new.slug)?;
        rules::check_prompt(new.prompt.as_deref())?;
        rules::check_first_member(new.access, by.user())?;
        let now = self.clock.now();
        let space = Space {
            id: SpaceId::new(),
            slug: new.slug,
            name: rules::check_name(&new.name)?,
            access: new.access,
            prompt: new.prompt.filter(|prompt| !prompt.trim().is_empty()),
            reopen: new.reopen,
            created_at: now,
            version: 1,
        };
        store::space_insert(tx, &space, &by.actor()).await?;
        let event = Event::by(by.actor(), "space.created").on("space", space.id);
        audit::record(tx, now, event.detail("access", space.access.as_str()))?;
        if let Some(user) = by.user() {
            store::member_insert(tx, space.id, user, &by.actor(), now).await?;
        }
        Ok(space)
    }

    /// Changes a Space that the caller sees. `if_version` refuses when another change came first.
    pub async fn update(
        &self,
        tx: &mut Tx,
        id: SpaceId,
        change: SpaceUpdate,
        if_version: Option<i64>,
        by: &Principal,
    ) -> Result<Space, Error> {
        store::space_lock(tx, id).await?;
        let mut space = self.visible(tx, id, by).await?;
        if if_version.is_some_and(|version| version != space.version) {
            return Err(Error::VersionConflict);
        }
        rules::check_widening(space.access, change.access, by)?;
        rules::check_prompt(change.prompt.as_deref())?;
        let mut event = Event::by(by.actor(), "space.changed").on("space", id);
        if let Some(name) = change.name {
            space.name = rules::check_name(&name)?;
        }
        let access_changes = change.access.is_some_and(|access| access != space.access);
        if let Some(access) = change.access {
            event = event.detail("access", access.as_str());
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
            return Err(Error::VersionConflict);
        }
        space.version = space.version.saturating_add(1);
        let now = self.clock.now();
        audit::record(tx, now, event)?;
        if access_changes {
            tx.publish(DomainEvent::SpaceAccessChanged { space: id }, now);
            // Open streams of its threads check again who may read them.
            tx.wake(Topic::Access, id.uuid());
        }
        Ok(space)
    }

    /// The Space without asking who: for work that has no person (webhooks, worker). Never for a request.
    pub async fn find_for_work(&self, tx: &mut Tx, id: SpaceId) -> Result<Option<Space>, Error> {
        store::space_find(tx, id).await
    }

    /// Those of these Spaces that are there, without asking who: for work.
    pub async fn list_for_work(&self, tx: &mut Tx, ids: &[SpaceId]) -> Result<Vec<Space>, Error> {
        store::spaces_find(tx, ids).await
    }

    /// What these Spaces are called, for work that the caller may see.
    pub async fn names_of(&self, tx: &mut Tx, ids: &[SpaceId]) -> Result<Vec<(SpaceId, String)>, Error> {
        if ids.is_empty() { Ok(Vec::new()) } else { store::space_names(tx, ids).await }
    }

    /// The Space if this caller may see it; service tokens with scope admin see public ones only.
    pub async fn visible(&self, tx: &mut Tx, id: SpaceId, caller: &Principal) -> Result<Space, Error> {
        let space = store::space_find(tx, id).await?.ok_or(Error::NotFound)?;
        if may_see(tx, &space, caller.user()).await? { Ok(space) } else { Err(Error::NotFound) }
    }

    /// Whether this person may see and write in this Space now. Whether they are enabled is `access`'s to say.
    pub async fn admits(&self, tx: &mut Tx, id: SpaceId, user: UserId) -> Result<bool, Error> {
        match store::space_find(tx, id).await? {
            Some(space) => may_see(tx, &space, Some(user)).await,
            None => Ok(false),
        }
    }

    /// The sources of tools that serve this Space, for work of this person, who must be let in now, or without one. `None`
    /// where there is no such Space for them.
    pub async fn served(
        &self,
        tx: &mut Tx,
        id: SpaceId,
        user: Option<UserId>,
    ) -> Result<Option<Vec<SpaceSource>>, Error> {
        let Some((space, sources)) = store::space_with_sources(tx, id).await? else { return Ok(None) };
        let admitted = user.is_none() || may_see(tx, &space, user).await?;
        Ok(admitted.then_some(sources))
    }

    /// Ids of all Spaces this caller may see.
    pub async fn visible_ids(&self, tx: &mut Tx, caller: &Principal) -> Result<Vec<SpaceId>, Error> {
        Ok(ids_seen_by(tx, caller.user()).await?)
    }

    /// The Spaces this caller may see, oldest first, at most `limit`, after `after`.
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

/// Ids of all Spaces that this person, or nobody in particular, may see.
///
/// # Errors
/// The database's.
pub async fn ids_seen_by(tx: &mut Tx, user: Option<UserId>) -> Result<Vec<SpaceId>, thinkwork_database::Error> {
    store::space_ids(tx, user).await
}

/// Whether this person, or work without one, may see the Space. Members are looked up where it depends on them.
async fn may_see(tx: &mut Tx, space: &Space, user: Option<UserId>) -> Result<bool, Error> {
    let is_member = match (space.access, user) {
        (SpaceAccess::Private, Some(user)) => store::is_member(tx, space.id, user).await?,
        _ => false,
    };
    Ok(rules::may_see(space.access, is_member))
}
