//! Who calls, on whose request work happens, and whose credential may be or was used.
//!
//! Invariant: none of these is ever built from a payload, a header chosen by the caller or a model's output.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

use crate::{ConnectionId, ExtensionId, SessionId, TenantId, Timestamp, TokenId, TriggerId, TurnId, UserId, WebhookId};

/// What a user may do in the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Uses Spaces and connects own accounts.
    Member,
    /// Also configures the tenant.
    Operator,
    /// Also names owners.
    Owner,
}

impl Role {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Where a token works: exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Audience {
    /// `/v1`.
    Api,
    /// `/mcp`.
    Mcp,
}

impl Audience {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How much a `/v1` token may do; each holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// GET.
    Read,
    /// Also what a member may change.
    Write,
    /// Also configuration.
    Admin,
}

impl Scope {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The authenticated caller of one request. Made by the `access` slice alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant, from the session or token.
    pub tenant: TenantId,
    /// The person or service.
    pub identity: Identity,
    /// How they proved it.
    pub auth: AuthMethod,
}

/// The person or service behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
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
pub enum AuthMethod {
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
        match self.identity {
            Identity::User { id, .. } => Some(id),
            Identity::Service => None,
        }
    }

    /// The software that acts for this caller.
    pub const fn client(&self) -> ActingClient {
        match self.auth {
            AuthMethod::Session { id, .. } => ActingClient::Page(id),
            AuthMethod::Token { id, audience: Audience::Api, .. } => ActingClient::ApiToken(id),
            AuthMethod::Token { id, audience: Audience::Mcp, .. } => ActingClient::McpClient(id),
            AuthMethod::Turn { .. } => ActingClient::Agent,
        }
    }

    /// As whom this caller asks for work, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester(), client: self.client() }
    }

    /// As whom this caller asks for work.
    pub fn requester(&self) -> Requester {
        match (self.identity, self.auth) {
            (Identity::User { id, .. }, _) => Requester::User(id),
            (Identity::Service, AuthMethod::Token { id, .. }) => Requester::System(id.to_string()),
            (Identity::Service, AuthMethod::Session { id, .. }) => Requester::System(id.to_string()),
            (Identity::Service, AuthMethod::Turn { id }) => Requester::System(id.to_string()),
        }
    }
}

/// The software that acted. Its name is shown by id, like a token's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActingClient {
    /// The tenant's agent.
    Agent,
    /// A foreign MCP client at the gateway, by its token.
    McpClient(TokenId),
    /// A program at `/v1`, by its token.
    ApiToken(TokenId),
    /// A page in a signed-in browser.
    Page(SessionId),
    /// A mounted extension.
    Extension(ExtensionId),
    /// The server itself.
    System,
}

impl ActingClient {
    /// The word in the API and in the database.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::McpClient(_) => "mcp_client",
            Self::ApiToken(_) => "api_token",
            Self::Page(_) => "page",
            Self::Extension(_) => "extension",
            Self::System => "system",
        }
    }

    /// The printed id, where its kind has one.
    pub fn id(self) -> Option<String> {
        match self {
            Self::Agent | Self::System => None,
            Self::McpClient(id) | Self::ApiToken(id) => Some(id.to_string()),
            Self::Page(id) => Some(id.to_string()),
            Self::Extension(id) => Some(id.to_string()),
        }
    }

    /// Reads the two columns back; `None` where they were not written by us.
    pub fn from_columns(kind: &str, id: Option<&str>) -> Option<Self> {
        Some(match (kind, id) {
            ("agent", None) => Self::Agent,
            ("system", None) => Self::System,
            ("mcp_client", Some(id)) => Self::McpClient(id.parse().ok()?),
            ("api_token", Some(id)) => Self::ApiToken(id.parse().ok()?),
            ("page", Some(id)) => Self::Page(id.parse().ok()?),
            ("extension", Some(id)) => Self::Extension(id.parse().ok()?),
            _ => return None,
        })
    }
}

/// On whose request something happens, and with which software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// On whose request.
    pub requester: Requester,
    /// The software that acts.
    pub client: ActingClient,
}

impl Actor {
    /// The server itself, for nobody.
    pub fn server() -> Self {
        Self { requester: Requester::server(), client: ActingClient::System }
    }

    /// A person at a page.
    pub const fn at_page(user: UserId, session: SessionId) -> Self {
        Self { requester: Requester::User(user), client: ActingClient::Page(session) }
    }
}

/// On whose request something happens. As JSON `{kind, id}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "RequesterColumns", try_from = "RequesterColumns")]
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

#[derive(Serialize, Deserialize)]
struct RequesterColumns {
    kind: String,
    id: String,
}

impl From<Requester> for RequesterColumns {
    fn from(requester: Requester) -> Self {
        Self { kind: requester.kind().to_owned(), id: requester.id() }
    }
}

impl TryFrom<RequesterColumns> for Requester {
    type Error = &'static str;

    fn try_from(columns: RequesterColumns) -> Result<Self, Self::Error> {
        Self::from_columns(&columns.kind, &columns.id).ok_or("no requester of this kind has this id")
    }
}

/// Whose credential: on threads, messages and turns whose may be used, on a step whose was opened. As JSON
/// `{kind, user_id?, connection_id?}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CredentialSubject {
    /// Nobody's.
    None,
    /// The tenant's.
    Tenant,
    /// A person's, and which connection once that is known.
    User {
        /// The owner.
        #[serde(rename = "user_id")]
        user: UserId,
        /// The grant that was opened.
        #[serde(rename = "connection_id", skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
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
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a tool does to the world, as the operator recorded it. Unset means `Send`.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Effect {
    /// Reads only.
    Read,
    /// Changes the requester's own things and tells nobody.
    Write,
    /// Its content or arguments reach someone outside the thread.
    #[default]
    Send,
}

impl Effect {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What is in a turn's context. Set by the server, never removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Something read with a credential is in it.
    pub private: bool,
    /// Something the requester did not write is in it.
    pub untrusted: bool,
    /// The person with whose own credential something in it was read: it is shown to them alone.
    pub private_to: Option<UserId>,
}

impl Marks {
    /// Of what a tool answered that was called with this credential.
    pub fn of_answer(subject: CredentialSubject) -> Self {
        Self { private: subject != CredentialSubject::None, untrusted: true, private_to: subject.user() }
    }

    /// Both sets of marks together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            private: self.private || other.private,
            untrusted: self.untrusted || other.untrusted,
            private_to: if self.private_to.is_some() { self.private_to } else { other.private_to },
        }
    }
}
