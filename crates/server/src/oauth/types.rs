//! What the slice speaks of: what discovery found, how a target authorises us, a started flow, connections, tokens, revocations.

use strum::{EnumString, IntoStaticStr};
use thinkwork_primitives::{ConnectionId, CredentialId, FlowId, GrantTarget, Secret, Timestamp, UserId};

/// What discovery found: RFC 9728 then RFC 8414, then OIDC.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ProviderMetadata {
    /// The resource as its metadata names it (RFC 9728); goes into `resource` (RFC 8707).
    pub resource: String,
    /// The authorization server, byte for byte.
    pub issuer: String,
    /// Where a browser is sent.
    pub authorization_endpoint: String,
    /// Where codes and refresh tokens go.
    pub token_endpoint: String,
    /// Where clients register themselves (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// The scopes to ask for, by the challenge or the resource's metadata.
    pub scopes: Vec<String>,
    /// Whether the server lists the scope `offline_access`.
    #[serde(default)]
    pub offers_offline_access: bool,
    /// Whether the server says that it supports PKCE with S256.
    pub pkce_s256: bool,
    /// Whether it declares `iss` in its answers (RFC 9207).
    pub iss_required: bool,
    /// How clients may prove themselves; empty where it says nothing.
    pub token_auth_methods: Vec<String>,
    /// Whether it takes a client's metadata document instead of a registration.
    #[serde(default)]
    pub takes_client_documents: bool,
    /// In what it differs from the specifications; an operator approves it with the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<Deviation>,
}

/// A way in which a server differs from the specifications and can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, IntoStaticStr, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Deviation {
    /// It has no resource metadata (RFC 9728), so its own origin counts as its authorization server (MCP 2025-03-26).
    NoResourceMetadata,
    /// Its resource metadata names another resource, which an operator accepted.
    OtherResource,
    /// The authorization server's metadata names another issuer, which an operator accepted.
    OtherIssuer,
}

impl Deviation {
    /// What it means for whoever reviews the server.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoResourceMetadata => {
                "The server does not say which authorization server it uses (RFC 9728). Its own address is used."
            }
            Self::OtherResource => "The server's metadata names another resource, which an operator accepted.",
            Self::OtherIssuer => "The authorization server names another issuer, which an operator accepted.",
        }
    }
}

/// Deviations that an operator accepted for a server, each with the very value that its metadata names.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptedDeviations<'a> {
    /// The issuer that the authorization server's metadata names.
    pub issuer: Option<&'a str>,
    /// The resource that the server's metadata names.
    pub resource: Option<&'a str>,
}

/// How we are authorised for a target, as its operator approved it.
pub struct ClientSettings {
    pub target: GrantTarget,
    /// Where the access tokens will be presented.
    pub audience: String,
    /// What discovery found and the operator approved.
    pub discovered: ProviderMetadata,
    /// A client that the operator registered by hand; else dynamic registration (RFC 7591).
    pub pre_registered: Option<PreRegistered>,
    /// The operator recorded "supports PKCE though silent".
    pub pkce_though_silent: bool,
    /// The operator recorded "leave out RFC 8707 resource".
    pub without_resource: bool,
    /// Scopes that the operator chose; else those that discovery found.
    pub scopes: Option<Vec<String>>,
    /// The operator recorded that `offline_access` is not asked for.
    pub without_offline_access: bool,
    /// `prompt` of authorization requests (OpenID Connect Core section 3.1.2.1), if the operator wants one.
    pub prompt: Option<String>,
    /// How the operator wants us to prove ourselves; else as the server's metadata suggests.
    pub token_auth_method: Option<String>,
}

/// A client that an operator registered by hand.
pub struct PreRegistered {
    /// Its id at the issuer.
    pub client_id: String,
    /// Its secret, if it is a confidential client.
    pub client_secret: Option<Secret>,
}

/// What `start` answers: `{flow_id, authorize_url, expires_at}` and the flow's cookie.
pub struct StartedFlow {
    pub flow: FlowId,
    /// Where the browser goes.
    pub authorize_url: String,
    /// When the flow ends by itself.
    pub expires_at: Timestamp,
    /// `__Host-tw_flow_<id>=…`: the complete Set-Cookie value.
    pub set_cookie: String,
}

/// Connected, expired, … computed from the credential the runtime would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ConnectionStatus {
    /// A call would get a token.
    Connected,
    /// Only the owner can mend it; `status_reason` says why.
    NeedsReauth,
    /// The token ended and there is none to refresh it with.
    Expired,
    /// There is no grant.
    NotConnected,
}

impl ConnectionStatus {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One user's consented grant.
#[derive(Clone, Debug)]
pub struct Connection {
    pub id: ConnectionId,
    /// Its owner.
    pub user: UserId,
    pub target: GrantTarget,
    /// The account, as the authorization server names it, else its host.
    pub account: String,
    /// What a call would find.
    pub status: ConnectionStatus,
    /// Why it is dead: a plain word.
    pub status_reason: Option<String>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// The sealed grant.
    pub credential: CredentialId,
    /// When its owner consented last.
    pub connected_at: Timestamp,
    /// When it was last used for a call.
    pub last_used_at: Option<Timestamp>,
}

/// An access token, opened and recorded (committed).
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Whose grant.
    pub connection: ConnectionId,
    pub credential: CredentialId,
    pub version: i64,
}

/// What became of one token at its issuer (RFC 7009).
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RevocationResult {
    /// The issuer says it is void.
    Revoked,
    /// The issuer has no way to revoke it.
    NotSupported,
    /// The issuer did not answer; it is tried again until it does.
    PendingRetry,
}

impl RevocationResult {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One token of an ended connection.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// `refresh` or `access`.
    pub token: &'static str,
    /// What became of it.
    pub result: RevocationResult,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner disconnected it.
    ByOwner,
    /// An operator revoked it.
    ByOperator,
    /// Its owner was disabled.
    WithOwner,
    /// Its target went, for this reason.
    WithTarget(&'static str),
}
