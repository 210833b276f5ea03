//! What the routes of MCP servers read and write.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thinkwork_primitives::{Effect, McpServerId, Secret, Timestamp, crypto};
use utoipa::ToSchema;

use crate::credentials::Described;
use crate::edge::ApiError;
use crate::mcp::review::EffectChoice;
use crate::mcp::{Auth, Change, NewAuth, NewServer, OauthSettings, Server, ServerTool, TestResult, rules};

/// A server to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewServerIn {
    name: String,
    /// `[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?`; made from the name where absent.
    slug: Option<String>,
    url: String,
    /// `streamable_http`.
    transport: Option<String>,
    auth: AuthIn,
    tool_allowlist: Option<Vec<String>>,
    #[serde(default)]
    outside_spaces: bool,
}

/// How a server is authorised; secrets themselves, never references to stored ones.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthIn {
    /// `none`, `tenant_key` or `user_oauth`.
    mode: String,
    /// `tenant_key`: the key.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
    /// `tenant_key`: the header that carries the bare key; else `Authorization: Bearer`.
    header: Option<String>,
    /// `user_oauth`: a client that was registered by hand.
    client_id: Option<String>,
    #[schema(value_type = Option<String>)]
    client_secret: Option<Secret>,
    /// `user_oauth`: the metadata lacks `S256`, and that is accepted.
    #[serde(default)]
    pkce_though_silent: bool,
    /// `user_oauth`: leave out RFC 8707 `resource`.
    #[serde(default)]
    without_resource: bool,
    /// `user_oauth`: scopes to ask for instead of those of the metadata.
    scopes: Option<Vec<String>>,
}

impl NewServerIn {
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
            "the old sse transport is not supported; most servers also answer streamable_http, often at /mcp.",
        )),
        Some(_) => Err(ApiError::invalid("transport", "use streamable_http.")),
    }
}

impl AuthIn {
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
                Err(ApiError::invalid("auth", "it holds fields of another mode; leave them out."))
            }
            "user_headers" => Err(ApiError::invalid(
                "auth.mode",
                "headers of each person are not supported yet; use tenant_key or user_oauth.",
            )),
            _ => Err(ApiError::invalid("auth.mode", "use none, tenant_key or user_oauth.")),
        }
    }
}

/// What to change; absent fields stay, `tool_allowlist: null` allows all tools.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct McpServerChangeBody {
    name: Option<String>,
    url: Option<String>,
    transport: Option<String>,
    auth: Option<AuthIn>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    tool_allowlist: Option<Option<Vec<String>>>,
    outside_spaces: Option<bool>,
}

/// Tells `null` from a field that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Some)
}

impl McpServerChangeBody {
    pub(super) fn parse(self) -> Result<Change, ApiError> {
        check_transport(self.transport.as_deref())?;
        Ok(Change {
            name: self.name,
            url: self.url,
            auth: self.auth.map(AuthIn::parse).transpose()?,
            tool_allowlist: self.tool_allowlist,
            outside_spaces: self.outside_spaces,
            if_version: None,
        })
    }
}

/// An approval of what was reviewed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveIn {
    /// The hash that the reviewer saw.
    pub(super) definition_hash: String,
    /// By upstream tool name; tools that are not named keep theirs, unset at first, which counts as `send`.
    #[serde(default)]
    pub(super) effects: BTreeMap<String, EffectIn>,
    /// The definitions that the reviewer saw: only these are approved. Absent: all as they are now.
    pub(super) tool_hashes: Option<BTreeMap<String, String>>,
}

/// What one tool does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EffectIn {
    /// `read`, `write` or `send`.
    #[schema(value_type = String)]
    effect: Effect,
    #[serde(default)]
    idempotent: bool,
}

impl From<EffectIn> for EffectChoice {
    fn from(choice: EffectIn) -> Self {
        Self { effect: choice.effect, idempotent: choice.idempotent }
    }
}

/// A refusal.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectIn {
    pub(super) reason: String,
}

/// A new secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretIn {
    #[schema(value_type = String)]
    pub(super) secret: Secret,
}

/// An MCP server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerOut {
    #[schema(value_type = String)]
    id: McpServerId,
    name: String,
    slug: String,
    url: String,
    transport: &'static str,
    auth: AuthOut,
    /// `pending`, `approved` or `rejected`.
    status: &'static str,
    /// What an approval must name.
    definition_hash: String,
    approved_hash: Option<String>,
    issuer: Option<String>,
    tool_allowlist: Option<Vec<String>>,
    /// Names in the allowlist that the server does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_allowlist_missing: Option<Vec<String>>,
    outside_spaces: bool,
    reason: Option<String>,
    decided_by: Option<String>,
    #[schema(value_type = Option<String>)]
    decided_at: Option<Timestamp>,
    last_error: Option<String>,
    #[schema(value_type = Option<String>)]
    checked_at: Option<Timestamp>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
    /// In the detail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<Vec<ToolOut>>,
}

/// How a server is authorised, without its secret.
#[derive(Serialize, ToSchema)]
struct AuthOut {
    mode: &'static str,
    has_secret: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    pkce_though_silent: bool,
    without_resource: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// In the detail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<SecretOut>,
}

/// What may be shown of a secret.
#[derive(Serialize, ToSchema)]
struct SecretOut {
    version: i64,
    last_four: Option<String>,
    #[schema(value_type = String)]
    rotated_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
}

/// A tool of a server.
#[derive(Serialize, ToSchema)]
pub(super) struct ToolOut {
    name: String,
    /// Claimed by the server, not trusted.
    description: String,
    #[schema(value_type = Object)]
    input_schema: Value,
    /// Claimed by the server, not trusted.
    #[schema(value_type = Object)]
    annotations: Value,
    definition_hash: String,
    /// As decided; `null` counts as `send`.
    #[schema(value_type = Option<String>)]
    effect: Option<Effect>,
    /// What the server's own hints suggest.
    #[schema(value_type = String)]
    effect_suggested: Effect,
    idempotent: bool,
    /// Its definition is not the approved one.
    on_hold: bool,
    /// The server no longer has it.
    gone: bool,
}

impl From<&ServerTool> for ToolOut {
    fn from(tool: &ServerTool) -> Self {
        Self {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
            annotations: tool.annotations.clone(),
            definition_hash: tool.definition_hash.clone(),
            effect: tool.effect,
            effect_suggested: rules::effect_suggested(&tool.annotations),
            idempotent: tool.idempotent,
            on_hold: tool.is_held(),
            gone: tool.gone_at.is_some(),
        }
    }
}

impl From<Server> for ServerOut {
    fn from(server: Server) -> Self {
        let mut auth = AuthOut {
            mode: server.auth.mode(),
            has_secret: server.credential.is_some(),
            header: None,
            client_id: None,
            pkce_though_silent: false,
            without_resource: false,
            scopes: None,
            secret: None,
        };
        match server.auth {
            Auth::None => {}
            Auth::TenantKey { header } => auth.header = header,
            Auth::UserOauth(settings) => {
                auth.client_id = settings.client_id;
                auth.pkce_though_silent = settings.pkce_though_silent;
                auth.without_resource = settings.without_resource;
                auth.scopes = settings.scopes;
            }
        }
        Self {
            id: server.id,
            name: server.name,
            slug: server.slug,
            url: server.url,
            transport: "streamable_http",
            auth,
            status: server.status.word(),
            definition_hash: server.definition_hash,
            approved_hash: server.approved_hash,
            issuer: server.issuer,
            tool_allowlist: server.tool_allowlist,
            tool_allowlist_missing: None,
            outside_spaces: server.outside_spaces,
            reason: server.reason,
            decided_by: server.decided_by,
            decided_at: server.decided_at,
            last_error: server.last_error,
            checked_at: server.checked_at,
            created_at: server.created_at,
            version: server.version,
            tools: None,
        }
    }
}

impl ServerOut {
    /// The detail.
    pub(super) fn whole(server: Server, tools: &[ServerTool], secret: Option<Described>) -> Self {
        let missing = rules::names_missing(&server.tool_allowlist, tools);
        let mut out = Self::from(server);
        out.tool_allowlist_missing = Some(missing);
        out.tools = Some(tools.iter().map(ToolOut::from).collect());
        out.auth.secret = secret.map(|secret| SecretOut {
            version: secret.version,
            last_four: secret.last_four,
            rotated_at: secret.rotated_at,
            last_used_at: secret.last_used_at,
        });
        out
    }
}

/// How a test ended.
#[derive(Serialize, ToSchema)]
pub(super) struct TestOut {
    ok: bool,
    protocol_version: Option<String>,
    tools: Vec<TestedOut>,
    /// What is in the way, and the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Where connecting mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_url: Option<String>,
}

/// One tool that a test found.
#[derive(Serialize, ToSchema)]
struct TestedOut {
    name: String,
    description: String,
}

impl From<TestResult> for TestOut {
    fn from(result: TestResult) -> Self {
        let tools = result.tools.into_iter();
        Self {
            ok: result.ok,
            protocol_version: result.protocol_version,
            tools: tools.map(|tool| TestedOut { name: tool.name, description: tool.description }).collect(),
            error: result.error,
            connect_url: result.connect_url,
        }
    }
}
