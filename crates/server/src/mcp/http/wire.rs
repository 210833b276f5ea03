//! What the routes of MCP servers read; what they answer is in `response.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use thinkwork_primitives::{Effect, Secret, crypto};
use utoipa::ToSchema;

use crate::edge::ApiError;
use crate::mcp::review::EffectChoice;
use crate::mcp::{Change, NewAuth, NewServer, OauthSettings};

/// A server to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateServerRequest {
    /// What people call it.
    #[schema(example = "Notes")]
    name: String,
    /// The short name in its tools' names, `[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?`; made from the name if absent.
    #[schema(example = "notes")]
    slug: Option<String>,
    /// The address of its MCP endpoint.
    #[schema(example = "https://mcp.example.com/mcp")]
    url: String,
    /// `streamable_http`, the only one.
    #[schema(example = "streamable_http")]
    transport: Option<String>,
    /// How calls to it are authorised.
    auth: ServerAuthRequest,
    /// The upstream names of the tools that may be used; all if absent.
    #[schema(example = json!(["search"]))]
    tool_allowlist: Option<Vec<String>>,
    /// Whether its tools may also be used outside of Spaces.
    #[serde(default)]
    #[schema(example = false)]
    outside_spaces: bool,
}

/// How a server is authorised; secrets themselves, never references to stored ones.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "mode": "tenant_key", "secret": "key-example-4f8a", "header": "x-api-key" }))]
pub(super) struct ServerAuthRequest {
    /// `none`, `tenant_key` or `user_oauth`.
    #[schema(example = "user_oauth")]
    mode: String,
    /// `tenant_key`: the key.
    #[schema(value_type = Option<String>, example = "key-example-4f8a")]
    secret: Option<Secret>,
    /// `tenant_key`: the header that carries the bare key; `Authorization: Bearer` if absent.
    #[schema(example = "x-api-key")]
    header: Option<String>,
    /// `user_oauth`: a client that was registered by hand.
    #[schema(example = "thinkwork")]
    client_id: Option<String>,
    /// `user_oauth`: the secret of that client.
    #[schema(value_type = Option<String>, example = "secret-example-4f8a")]
    client_secret: Option<Secret>,
    /// `user_oauth`: use PKCE although the metadata does not name `S256`.
    #[serde(default)]
    #[schema(example = false)]
    pkce_though_silent: bool,
    /// `user_oauth`: do not send the `resource` of RFC 8707.
    #[serde(default)]
    #[schema(example = false)]
    without_resource: bool,
    /// `user_oauth`: the scopes to ask for instead of those of the metadata.
    #[schema(example = json!(["notes.read"]))]
    scopes: Option<Vec<String>>,
}

impl CreateServerRequest {
    /// The body in words, for the idempotency key; of secrets their hash.
    pub(super) fn described(&self) -> String {
        let hash =
            |secret: &Option<Secret>| secret.as_ref().map(|secret| crypto::hex(&crypto::sha256(secret.expose())));
        let auth = &self.auth;
        serde_json::json!([
            self.name,
            self.slug,
            self.url,
            self.transport,
            self.tool_allowlist,
            self.outside_spaces,
            auth.mode,
            hash(&auth.secret),
            auth.header,
            auth.client_id,
            hash(&auth.client_secret),
            auth.pkce_though_silent,
            auth.without_resource,
            auth.scopes,
        ])
        .to_string()
    }

    pub(super) fn parse(self) -> Result<NewServer, ApiError> {
        check_transport(self.transport.as_deref())?;
        Ok(NewServer {
            name: self.name,
            slug: self.slug,
            url: self.url,
            auth: self.auth.parse()?,
            tool_allowlist: self.tool_allowlist,
            outside_spaces: self.outside_spaces,
        })
    }
}

fn check_transport(transport: Option<&str>) -> Result<(), ApiError> {
    match transport {
        None | Some("streamable_http") => Ok(()),
        Some("sse") => Err(ApiError::invalid(
            "transport",
            "the sse transport is not supported; most servers also support streamable_http, often at /mcp.",
        )),
        Some(_) => Err(ApiError::invalid("transport", "use streamable_http.")),
    }
}

impl ServerAuthRequest {
    fn parse(self) -> Result<NewAuth, ApiError> {
        let key = self.secret.is_some() || self.header.is_some();
        let oauth = self.client_id.is_some()
            || self.client_secret.is_some()
            || self.pkce_though_silent
            || self.without_resource
            || self.scopes.is_some();
        match self.mode.as_str() {
            "none" if !key && !oauth => Ok(NewAuth::None),
            "tenant_key" if !oauth => Ok(NewAuth::TenantKey { secret: self.secret, header: self.header }),
            "user_oauth" if !key => Ok(NewAuth::UserOauth {
                settings: OauthSettings {
                    client_id: self.client_id.filter(|id| !id.is_empty()),
                    pkce_though_silent: self.pkce_though_silent,
                    without_resource: self.without_resource,
                    scopes: self.scopes,
                },
                client_secret: self.client_secret,
            }),
            "none" | "tenant_key" | "user_oauth" => {
                Err(ApiError::invalid("auth", "it contains fields of another mode; remove them."))
            }
            "user_headers" => {
                Err(ApiError::invalid("auth.mode", "per-user headers are not supported; use tenant_key or user_oauth."))
            }
            _ => Err(ApiError::invalid("auth.mode", "use none, tenant_key or user_oauth.")),
        }
    }
}

/// What to change; absent fields stay, `tool_allowlist: null` allows all tools.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateServerRequest {
    /// What people call it.
    #[schema(example = "Notes")]
    name: Option<String>,
    /// The address of its MCP endpoint.
    #[schema(example = "https://mcp.example.com/mcp")]
    url: Option<String>,
    /// `streamable_http`, the only one.
    #[schema(example = "streamable_http")]
    transport: Option<String>,
    /// How calls to it are authorised.
    auth: Option<ServerAuthRequest>,
    /// The upstream names of the tools that may be used; null for all.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["search"]))]
    tool_allowlist: Option<Option<Vec<String>>>,
    /// Whether its tools may also be used outside of Spaces.
    #[schema(example = false)]
    outside_spaces: Option<bool>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Some)
}

impl UpdateServerRequest {
    pub(super) fn parse(self) -> Result<Change, ApiError> {
        check_transport(self.transport.as_deref())?;
        Ok(Change {
            name: self.name,
            url: self.url,
            auth: self.auth.map(ServerAuthRequest::parse).transpose()?,
            tool_allowlist: self.tool_allowlist,
            outside_spaces: self.outside_spaces,
            if_version: None,
        })
    }
}

/// An approval of what was reviewed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveServerRequest {
    /// The definition that the reviewer saw: its `definition_hash`.
    pub(super) definition_hash: String,
    /// By upstream tool name; tools that are not named keep theirs, unset at first, which counts as `send`.
    #[serde(default)]
    #[schema(example = json!({ "search": { "effect": "read", "idempotent": true } }))]
    pub(super) effects: BTreeMap<String, ToolEffectRequest>,
    /// The definitions that the reviewer saw: only these are approved. Absent: all as they are now.
    #[schema(example = json!({ "search": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }))]
    pub(super) tool_hashes: Option<BTreeMap<String, String>>,
}

/// What one tool does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolEffectRequest {
    /// What it does to the world: `read`, `write` or `send`.
    #[schema(value_type = String, example = "read")]
    effect: Effect,
    /// Whether repeating a call changes nothing more.
    #[serde(default)]
    #[schema(example = true)]
    idempotent: bool,
}

impl From<ToolEffectRequest> for EffectChoice {
    fn from(choice: ToolEffectRequest) -> Self {
        Self { effect: choice.effect, idempotent: choice.idempotent }
    }
}

/// A refusal.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectServerRequest {
    /// Why it is rejected, for the people who see it.
    #[schema(example = "Not reviewed by security.")]
    pub(super) reason: String,
}

/// A new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerSecretRequest {
    /// The new secret. It is never shown again.
    #[schema(value_type = String, example = "key-example-4f8a")]
    pub(super) secret: Secret,
}
