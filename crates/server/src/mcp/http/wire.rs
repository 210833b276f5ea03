//! What the routes of MCP servers read; what they answer is in `response.rs`.

use std::collections::BTreeMap;

use serde::Deserialize;
use thinkwork_primitives::{Effect, Secret};
use utoipa::ToSchema;

use super::auth::ServerAuthRequest;
use crate::edge::{ApiError, double_option};
use crate::mcp::ApprovalDecision;
use crate::mcp::review::EffectDecision;
use crate::mcp::{NewServer, ServerUpdate};

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

impl CreateServerRequest {
    /// The body in words, for the idempotency key; of secrets their hash.
    pub(super) fn described(&self) -> String {
        serde_json::json!([
            self.name,
            self.slug,
            self.url,
            self.transport,
            self.tool_allowlist,
            self.outside_spaces,
            self.auth.described(),
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
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["search"]))]
    tool_allowlist: Option<Option<Vec<String>>>,
    /// Whether its tools may also be used outside of Spaces.
    #[schema(example = false)]
    outside_spaces: Option<bool>,
}

impl UpdateServerRequest {
    pub(super) fn parse(self) -> Result<ServerUpdate, ApiError> {
        check_transport(self.transport.as_deref())?;
        Ok(ServerUpdate {
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
    /// The tools to approve, by upstream name. A tool that is not named stays on hold, if it is. Left out, the tools of
    /// a server of which none was approved yet are approved as they are.
    #[serde(default)]
    #[schema(example = json!({ "search": { "definition_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "effect": "read", "idempotent": true } }))]
    pub(super) tools: BTreeMap<String, ApproveToolRequest>,
    /// Effects of tools, by upstream name, without approving a tool that is on hold.
    #[serde(default)]
    #[schema(example = json!({ "search": { "effect": "read", "idempotent": true } }))]
    pub(super) effects: BTreeMap<String, ToolEffectRequest>,
}

impl From<ApproveServerRequest> for ApprovalDecision {
    fn from(body: ApproveServerRequest) -> Self {
        let mut effects: BTreeMap<_, _> =
            body.effects.into_iter().map(|(name, choice)| (name, choice.into())).collect();
        let mut tools = BTreeMap::new();
        for (name, tool) in body.tools {
            let choice = tool.effect.map(|effect| EffectDecision { effect, idempotent: tool.idempotent });
            effects.extend(choice.map(|choice| (name.clone(), choice)));
            tools.insert(name, tool.definition_hash);
        }
        Self { definition_hash: body.definition_hash, tools, effects }
    }
}

/// A tool to approve.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveToolRequest {
    /// The definition that the reviewer saw: the tool's `definition_hash`.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    definition_hash: String,
    /// What it does to the world: `read`, `write` or `send`. Absent, it keeps its effect; without one it counts as `send`.
    #[schema(value_type = Option<String>, example = "read")]
    effect: Option<Effect>,
    /// Whether repeating a call changes nothing more; counts with an effect.
    #[serde(default)]
    #[schema(example = true)]
    idempotent: bool,
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

impl From<ToolEffectRequest> for EffectDecision {
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
