//! Who calls, on whose request work happens, and whose credential may be or was used.
//!
//! Invariant: none of these is ever built from a payload, a header chosen by the caller or a model's output.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ConnectionId, SessionId, TenantId, Timestamp, TokenId, TriggerId, TurnId, UserId, WebhookId};

/// What a user may do in the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Uses Spaces and connects own accounts.
    Member,
    /// Also configures the tenant.
    Operator,
    /// Also names owners.
    Owner,
}

impl Role {
    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }

    /// The role of this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Member, Self::Operator, Self::Owner].into_iter().find(|role| role.word() == word)
    }
}

/// Where a token works: exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// `/v1`.
    Api,
    /// `/mcp`.
    Mcp,
}

/// How much a `/v1` token may do; each holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// GET.
    Read,
    /// Also what a member may change.
    Write,
    /// Also configuration.
    Admin,
}

/// The authenticated caller of one request. Made by the `access` slice alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, from the session or token.
    pub tenant: TenantId,
    /// The person or service.
    pub who: Who,
    /// How they proved it.
    pub via: Via,
}

/// The person or service behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person of the tenant.
    User {
        /// Their id.
        id: UserId,
        /// Their role, read with this request.
        role: Role,
    },
    /// A service token: no person, so no user-owned credential.
    Service,
}

/// What proved the caller's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A browser session; the only way to consent.
    Session {
        /// The session.
        id: SessionId,
        /// When the password was last given.
        signed_in_at: Timestamp,
    },
    /// A personal or service token.
    Token {
        /// The token.
        id: TokenId,
        /// Where it works.
        audience: Audience,
        /// How much it may do.
        scope: Scope,
    },
    /// A turn's own token: that turn's tools only.
    Turn {
        /// The turn.
        id: TurnId,
    },
}

impl Principal {
    /// The person, if there is one.
    pub const fn user(&self) -> Option<UserId> {
        match self.who {
            Who::User { id, .. } => Some(id),
            Who::Service => None,
        }
    }

    /// As whom this caller asks for work.
    pub fn requester(&self) -> Requester {
        match (self.who, self.via) {
            (Who::User { id, .. }, _) => Requester::User(id),
            (Who::Service, Via::Token { id, .. }) => Requester::System(id.to_string()),
            (Who::Service, Via::Session { id, .. }) => Requester::System(id.to_string()),
            (Who::Service, Via::Turn { id }) => Requester::System(id.to_string()),
        }
    }
}

/// On whose request something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// A person of the tenant.
    User(UserId),
    /// An inbound endpoint.
    Webhook(WebhookId),
    /// A member's trigger.
    Trigger(TriggerId),
    /// A tenant schedule.
    Schedule(Uuid),
    /// A mounted extension, by name.
    Extension(String),
    /// A service token or the server itself.
    System(String),
}

impl Requester {
    /// The server itself.
    pub fn server() -> Self {
        Self::System("server".to_owned())
    }

    /// The stored kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Webhook(_) => "webhook",
            Self::Trigger(_) => "trigger",
            Self::Schedule(_) => "schedule",
            Self::Extension(_) => "extension",
            Self::System(_) => "system",
        }
    }

    /// The stored id, printed.
    pub fn id(&self) -> String {
        match self {
            Self::User(id) => id.to_string(),
            Self::Webhook(id) => id.to_string(),
            Self::Trigger(id) => id.to_string(),
            Self::Schedule(id) => id.to_string(),
            Self::Extension(name) => name.clone(),
            Self::System(name) => name.clone(),
        }
    }

    /// Reads the two columns back; `None` when they were not written by us.
    pub fn from_columns(kind: &str, id: &str) -> Option<Self> {
        Some(match kind {
            "user" => Self::User(id.parse().ok()?),
            "webhook" => Self::Webhook(id.parse().ok()?),
            "trigger" => Self::Trigger(id.parse().ok()?),
            "schedule" => Self::Schedule(id.parse().ok()?),
            "extension" => Self::Extension(id.to_owned()),
            "system" => Self::System(id.to_owned()),
            _ => return None,
        })
    }

    /// The person, if a person asked.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(*id),
            _ => None,
        }
    }
}

/// Whose credential: on threads, messages and turns whose may be used, on a step whose was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSubject {
    /// Nobody's.
    None,
    /// The tenant's.
    Tenant,
    /// A person's, and which connection once that is known.
    User {
        /// The owner.
        user: UserId,
        /// The grant that was opened.
        connection: Option<ConnectionId>,
    },
}

impl CredentialSubject {
    /// The stored kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tenant => "tenant",
            Self::User { .. } => "user",
        }
    }

    /// The owner, if it is a person's.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::User { user, .. } => Some(*user),
            _ => None,
        }
    }

    /// The connection, if one is named.
    pub const fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::User { connection, .. } => *connection,
            _ => None,
        }
    }

    /// Reads the three columns back; `None` when they were not written by us.
    pub fn from_columns(kind: &str, user: Option<Uuid>, connection: Option<Uuid>) -> Option<Self> {
        Some(match (kind, user) {
            ("none", None) => Self::None,
            ("tenant", None) => Self::Tenant,
            ("user", Some(user)) => {
                Self::User { user: UserId::from_uuid(user), connection: connection.map(ConnectionId::from_uuid) }
            }
            _ => return None,
        })
    }
}

/// The part of the runtime that may open a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A tool call of a turn or of the gateway.
    ToolCall,
    /// A connector's own work.
    Connector,
    /// Checking a webhook's signature.
    WebhookVerification,
    /// Token requests at an authorization server.
    Oauth,
    /// A call to the model.
    ModelCall,
    /// A mounted extension.
    Extension,
}

impl Surface {
    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ToolCall => "tool_call",
            Self::Connector => "connector",
            Self::WebhookVerification => "webhook_verification",
            Self::Oauth => "oauth",
            Self::ModelCall => "model_call",
            Self::Extension => "extension",
        }
    }
}

/// What a tool does to the world, as the operator recorded it. Unset means `Send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Reads only.
    Read,
    /// Changes the requester's own things and tells nobody.
    Write,
    /// Its content or arguments reach someone outside the thread.
    Send,
}

impl Effect {
    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Send => "send",
        }
    }

    /// The effect of this word; anything else, also nothing, is `Send`.
    pub fn from_column(word: Option<&str>) -> Self {
        match word {
            Some("read") => Self::Read,
            Some("write") => Self::Write,
            _ => Self::Send,
        }
    }
}

/// What is in a turn's context. Set by the server, never removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Something read with a credential is in it.
    pub private: bool,
    /// Something the requester did not write is in it.
    pub untrusted: bool,
}

impl Marks {
    /// Both sets of marks together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self { private: self.private || other.private, untrusted: self.untrusted || other.untrusted }
    }
}
