//! What a credential is for: who may use it and where it may be sent. It is sealed with the secret, so that a secret opens
//! only while the rows beside it say what they said when it was entered.
//!
//! Invariants: a meaning is built from the rows that are about to be used, never from the credential's own; it names every
//! column that decides whose the secret is or where it goes. What somebody may change without entering the secret again
//! is no part of it, or is changed together with the seal ([`super::Credentials::reseal`]).

use thinkwork_primitives::{
    ConnectionId, CredentialSubject, FlowId, GrantTarget, OauthClientId, SpaceId, ToolSourceId, UserId, WebhookId,
};
use thinkwork_vault::Meaning;

use super::Owner;

/// A client registration, as far as it decides where codes, tokens and the client's secret go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRegistration {
    pub id: OauthClientId,
    pub target: GrantTarget,
    pub issuer: String,
    pub client_id: String,
    pub token_auth_method: String,
    pub token_endpoint: String,
    pub revocation_endpoint: Option<String>,
    /// The resource that is asked for (RFC 8707).
    pub resource: Option<String>,
    /// Where the access tokens are presented.
    pub audience: String,
}

/// A flow, as far as it decides whose grant comes of it and where its code goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowBinding {
    pub flow: FlowId,
    pub user: UserId,
    pub target: GrantTarget,
    pub issuer: String,
    pub redirect_uri: String,
    pub resource: Option<String>,
    pub scopes: String,
    pub return_to: String,
    pub state_hash: Vec<u8>,
    pub cookie_hash: Vec<u8>,
}

/// What a credential is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialMeaning {
    /// A person's access and refresh token.
    OauthGrant { connection: ConnectionId, user: UserId, target: GrantTarget, client: ClientRegistration },
    /// The secret of a client registration.
    ClientSecret(ClientRegistration),
    /// The PKCE verifier of a flow.
    PkceVerifier { flow: FlowBinding, client: ClientRegistration },
    /// The tenant's key for a source of tools: goes to this URL, in this header, or in `Authorization`.
    ToolSourceKey { source: ToolSourceId, url: String, header: Option<String> },
    /// The secret of a client that an operator registered by hand for a source of tools. Issuer and token endpoint are
    /// absent until they were discovered.
    ToolSourceClientSecret {
        source: ToolSourceId,
        url: String,
        client_id: String,
        issuer: Option<String>,
        token_endpoint: Option<String>,
    },
    /// What verifies the requests of a webhook; `scheme` as it is stored.
    WebhookSecret { webhook: WebhookId, space: SpaceId, scheme: String },
    /// The key of the tenant platform agent's model: goes to this origin.
    ModelKey { origin: String },
}

impl CredentialMeaning {
    /// Whose it is.
    pub const fn owner(&self) -> Owner {
        match self {
            Self::OauthGrant { connection, .. } => Owner::Connection(*connection),
            Self::ClientSecret(client) => Owner::OauthClient(client.id),
            Self::PkceVerifier { flow, .. } => Owner::OauthFlow(flow.flow),
            Self::ToolSourceKey { source, .. } | Self::ToolSourceClientSecret { source, .. } => {
                Owner::ToolSource(*source)
            }
            Self::WebhookSecret { webhook, .. } => Owner::Webhook(*webhook),
            Self::ModelKey { .. } => Owner::Agent,
        }
    }

    /// The word that is stored.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::OauthGrant { .. } => "oauth_grant",
            Self::ClientSecret(_) | Self::ToolSourceClientSecret { .. } => "client_secret",
            Self::PkceVerifier { .. } => "pkce_verifier",
            Self::ToolSourceKey { .. } => "tenant_key",
            Self::WebhookSecret { .. } => "webhook_secret",
            Self::ModelKey { .. } => "model_key",
        }
    }

    /// Whether it may be opened as this subject's: a person's as that person's alone, and no other as a person's.
    pub(super) fn is_subject(&self, subject: CredentialSubject) -> bool {
        match (self, subject) {
            (Self::OauthGrant { connection, user, .. }, CredentialSubject::User { user: of, connection: through }) => {
                *user == of && through == Some(*connection)
            }
            (Self::PkceVerifier { flow, .. }, CredentialSubject::User { user, connection: None }) => flow.user == user,
            (Self::OauthGrant { .. } | Self::PkceVerifier { .. }, _) | (_, CredentialSubject::User { .. }) => false,
            _ => true,
        }
    }

    /// As it is sealed.
    pub(super) fn encode(&self) -> Meaning {
        let meaning = Meaning::new(self.kind());
        match self {
            Self::OauthGrant { connection, user, target, client } => {
                let meaning = meaning.field("connection", connection.to_string()).field("user", user.to_string());
                client.add_to(meaning.field("target", target.to_string()))
            }
            Self::ClientSecret(client) => client.add_to(meaning),
            Self::PkceVerifier { flow, client } => client.add_to(flow.add_to(meaning)),
            Self::ToolSourceKey { source, url, header } => {
                meaning.field("source", source.to_string()).field("url", url).optional("header", header.as_ref())
            }
            Self::ToolSourceClientSecret { source, url, client_id, issuer, token_endpoint } => meaning
                .field("source", source.to_string())
                .field("url", url)
                .field("client_id", client_id)
                .optional("issuer", issuer.as_ref())
                .optional("token_endpoint", token_endpoint.as_ref()),
            Self::WebhookSecret { webhook, space, scheme } => {
                meaning.field("webhook", webhook.to_string()).field("space", space.to_string()).field("scheme", scheme)
            }
            Self::ModelKey { origin } => meaning.field("origin", origin),
        }
    }
}

impl ClientRegistration {
    fn add_to(&self, meaning: Meaning) -> Meaning {
        meaning
            .field("client", self.id.to_string())
            .field("client_target", self.target.to_string())
            .field("client_issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("token_auth_method", &self.token_auth_method)
            .field("token_endpoint", &self.token_endpoint)
            .optional("revocation_endpoint", self.revocation_endpoint.as_ref())
            .optional("client_resource", self.resource.as_ref())
            .field("audience", &self.audience)
    }
}

impl FlowBinding {
    fn add_to(&self, meaning: Meaning) -> Meaning {
        meaning
            .field("flow", self.flow.to_string())
            .field("user", self.user.to_string())
            .field("target", self.target.to_string())
            .field("issuer", &self.issuer)
            .field("redirect_uri", &self.redirect_uri)
            .optional("resource", self.resource.as_ref())
            .field("scopes", &self.scopes)
            .field("return_to", &self.return_to)
            .field("state_hash", &self.state_hash)
            .field("cookie_hash", &self.cookie_hash)
    }
}
