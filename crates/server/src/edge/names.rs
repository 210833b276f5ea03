//! What ids are called. Each slice says how its own are named; pages ask once for all that they show.
//!
//! Invariants: a slice reads names from its own tables alone; names are for showing and never for deciding; the name of
//! what lives in a private Space is told to those alone who see the Space; things that were deleted keep theirs, so that
//! history stays readable, until their retention period ends: then they are told to be deleted.

use std::collections::{HashMap, HashSet};

use thinkwork_database::{Error, Tx};
use thinkwork_primitives::{ActingClient, ConnectionId, GrantTarget, TokenId, ToolSourceId, UserId, WebhookId};

use super::caller::BoxFuture;

/// Something that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    User(UserId),
    Webhook(WebhookId),
    ToolSource(ToolSourceId),
    /// What a grant is for.
    GrantTarget(GrantTarget),
    /// A connection, named by its account at the other end.
    Connection(ConnectionId),
    /// A token, named by who made it.
    Token(TokenId),
}

/// Who is told the names.
#[derive(Clone, Copy, Debug, Default)]
pub enum Reader {
    /// Somebody who sees whatever is named.
    #[default]
    SeesAll,
    /// This person, or nobody in particular: names of what lives in a Space are told to those alone who see the Space.
    Person(Option<UserId>),
}

/// What is to be named, by kind, each once.
#[derive(Debug, Default)]
pub struct NamedIds {
    pub reader: Reader,
    pub users: Vec<UserId>,
    pub webhooks: Vec<WebhookId>,
    pub tool_sources: Vec<ToolSourceId>,
    pub grant_targets: Vec<GrantTarget>,
    pub connections: Vec<ConnectionId>,
    pub tokens: Vec<TokenId>,
}

impl NamedIds {
    fn of(ids: HashSet<Named>, reader: Reader) -> Self {
        let mut by_kind = Self { reader, ..Self::default() };
        for id in ids {
            match id {
                Named::User(id) => by_kind.users.push(id),
                Named::Webhook(id) => by_kind.webhooks.push(id),
                Named::ToolSource(id) => by_kind.tool_sources.push(id),
                Named::GrantTarget(id) => by_kind.grant_targets.push(id),
                Named::Connection(id) => by_kind.connections.push(id),
                Named::Token(id) => by_kind.tokens.push(id),
            }
        }
        by_kind
    }
}

impl Named {
    /// What must be known by name to say which software acted.
    pub const fn of_client(client: ActingClient) -> Option<Self> {
        match client {
            ActingClient::McpClient(id) | ActingClient::ApiToken(id) => Some(Self::Token(id)),
            _ => None,
        }
    }
}

/// How a slice names its own things: it reads the names of those of `ids` that are its own into the map.
pub type NameSource = for<'a> fn(&'a mut Tx, &'a NamedIds, &'a mut NameMap) -> BoxFuture<'a, Result<(), Error>>;

/// The name sources of all slices; the table is in `app`.
#[derive(Clone, Copy)]
pub struct Names(&'static [NameSource]);

impl Names {
    /// Of these slices.
    pub const fn new(sources: &'static [NameSource]) -> Self {
        Self(sources)
    }

    /// The names of all these, one query for each kind that occurs, for whoever sees what they belong to.
    pub async fn find(&self, tx: &mut Tx, ids: impl IntoIterator<Item = Named>) -> Result<NameMap, Error> {
        self.find_for(tx, ids, Reader::SeesAll).await
    }

    /// The names of those that this reader may know.
    pub async fn find_for(
        &self,
        tx: &mut Tx,
        ids: impl IntoIterator<Item = Named>,
        reader: Reader,
    ) -> Result<NameMap, Error> {
        let mut names = NameMap::default();
        let ids: HashSet<Named> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(names);
        }
        let ids = NamedIds::of(ids, reader);
        for source in self.0 {
            source(tx, &ids, &mut names).await?;
        }
        Ok(names)
    }

    /// The names of the software that acted.
    pub async fn of_clients(&self, tx: &mut Tx, clients: &[ActingClient]) -> Result<NameMap, Error> {
        let ids: Vec<Named> = clients.iter().copied().filter_map(Named::of_client).collect();
        self.find(tx, ids).await
    }
}

/// Names that were found.
#[derive(Clone, Debug, Default)]
pub struct NameMap(HashMap<Named, String>);

impl NameMap {
    /// Adds a name.
    pub fn insert(&mut self, id: Named, name: String) {
        self.0.insert(id, name);
    }

    /// The name, if there is one.
    pub fn get(&self, id: Named) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }

    /// What the software that acted is called.
    pub fn client(&self, client: ActingClient) -> String {
        match client {
            ActingClient::Agent => "Agent".to_owned(),
            ActingClient::Page(_) => "Web page".to_owned(),
            ActingClient::System => "ThinkWork".to_owned(),
            ActingClient::Extension(id) => id.to_string(),
            ActingClient::McpClient(id) | ActingClient::ApiToken(id) => {
                self.get(Named::Token(id)).unwrap_or("a deleted token").to_owned()
            }
        }
    }

    /// A person's name; `somebody` where there is none.
    pub fn user(&self, id: UserId) -> &str {
        self.get(Named::User(id)).unwrap_or("somebody")
    }
}
