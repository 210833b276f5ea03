//! What the routes of MCP servers answer.

use serde::Serialize;
use serde_json::{Map, Value};
use thinkwork_primitives::{Effect, McpServerId, Timestamp};
use utoipa::ToSchema;

use super::auth::{ServerAuthResponse, ServerSecretResponse};
use crate::credentials::CredentialInfo;
use crate::mcp::{McpServer, ServerTool, TestResult, rules};
use crate::oauth::Deviation;

/// An MCP server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerResponse {
    #[schema(value_type = String, example = "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: McpServerId,
    /// What people call it.
    #[schema(example = "Notes")]
    name: String,
    /// The short name in its tools' names.
    #[schema(example = "notes")]
    slug: String,
    /// The address of its MCP endpoint.
    #[schema(example = "https://mcp.example.com/mcp")]
    url: String,
    /// `streamable_http`, the only one.
    #[schema(example = "streamable_http")]
    transport: &'static str,
    /// How calls to it are authorised.
    auth: ServerAuthResponse,
    /// `pending`, `approved` or `rejected`.
    #[schema(example = "approved")]
    status: &'static str,
    /// The hash of its present definition, which an approval must name.
    definition_hash: String,
    /// The hash of the definition that was approved; null if none was.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    approved_hash: Option<String>,
    /// The issuer of its authorization server, if it has one.
    #[schema(example = "https://id.example.com")]
    issuer: Option<String>,
    /// In what the server or its authorization server differs from the specifications; approved with the rest.
    #[schema(example = json!([]))]
    deviations: Vec<Deviation>,
    /// The upstream names of the tools that may be used; null for all.
    #[schema(example = json!(["search"]))]
    tool_allowlist: Option<Vec<String>>,
    /// The names in the allowlist that the server does not have; only when one server is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!([]))]
    tool_allowlist_missing: Option<Vec<String>>,
    /// Whether its tools may also be used outside of Spaces.
    #[schema(example = false)]
    outside_spaces: bool,
    /// Why it was rejected; null otherwise.
    #[schema(example = "Not reviewed by security.")]
    reason: Option<String>,
    /// Who approved or rejected it.
    #[schema(example = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    decided_by: Option<String>,
    /// When it was approved or rejected, RFC 3339.
    #[schema(value_type = Option<String>)]
    decided_at: Option<Timestamp>,
    /// What went wrong when it was last asked; null if nothing did.
    #[schema(example = "The server did not answer in time.")]
    last_error: Option<String>,
    /// When it was last asked for its tools, RFC 3339.
    #[schema(value_type = Option<String>)]
    checked_at: Option<Timestamp>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
    /// Its tools; only when one server is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<Vec<ServerToolResponse>>,
}

/// A tool of a server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerToolResponse {
    /// Its upstream name.
    #[schema(example = "search")]
    name: String,
    /// What it does, as the server claims; not trusted.
    #[schema(example = "Searches your notes")]
    description: String,
    /// The JSON Schema of its arguments.
    #[schema(value_type = Object)]
    input_schema: Map<String, Value>,
    /// Its name for people, as the server claims; not trusted.
    #[schema(example = "Search notes")]
    title: Option<String>,
    /// The JSON Schema of its structured result, if it has one.
    #[schema(value_type = Option<Object>)]
    output_schema: Option<Map<String, Value>>,
    /// Its hints, as the server claims; not trusted.
    #[schema(value_type = Object)]
    annotations: Value,
    /// Its icons, as the server claims: MCP's list of `src`, `mimeType` and `sizes`.
    #[schema(value_type = Option<Vec<Object>>)]
    icons: Option<Value>,
    /// MCP's `_meta`, as the server claims.
    #[schema(value_type = Option<Object>)]
    meta: Option<Map<String, Value>>,
    /// The hash of its present definition.
    definition_hash: String,
    /// What it does, as an operator decided: `read`, `write` or `send`; null counts as `send`.
    #[schema(value_type = Option<String>, example = "read")]
    effect: Option<Effect>,
    /// What the server's own hints suggest: `read`, `write` or `send`.
    #[schema(value_type = String, example = "read")]
    effect_suggested: Effect,
    /// Whether repeating a call changes nothing more.
    #[schema(example = true)]
    idempotent: bool,
    /// Whether it is held back because its definition is not the approved one.
    #[schema(example = false)]
    on_hold: bool,
    /// Whether the server no longer has it.
    #[schema(example = false)]
    gone: bool,
}

impl From<&ServerTool> for ServerToolResponse {
    fn from(tool: &ServerTool) -> Self {
        Self {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: (*tool.input_schema).clone(),
            title: tool.details.title.clone(),
            output_schema: tool.details.output_schema.as_deref().cloned(),
            annotations: tool.details.annotations.clone(),
            icons: tool.details.icons.clone(),
            meta: tool.details.meta.clone(),
            definition_hash: tool.definition_hash.clone(),
            effect: tool.effect,
            effect_suggested: rules::effect_suggested(&tool.details.annotations),
            idempotent: tool.idempotent,
            on_hold: tool.is_held(),
            gone: tool.gone_at.is_some(),
        }
    }
}

impl From<McpServer> for ServerResponse {
    fn from(server: McpServer) -> Self {
        let auth = ServerAuthResponse::of(&server);
        let deviations = server.deviations().to_vec();
        let status = server.effective_status().as_str();
        let reason = server.effective_reason().map(str::to_owned);
        Self {
            id: server.id,
            name: server.name,
            slug: server.slug,
            url: server.url,
            transport: "streamable_http",
            auth,
            status,
            definition_hash: server.definition_hash,
            approved_hash: server.approved_hash,
            deviations,
            issuer: server.issuer,
            tool_allowlist: server.tool_allowlist,
            tool_allowlist_missing: None,
            outside_spaces: server.outside_spaces,
            reason,
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

impl ServerResponse {
    /// The detail.
    pub(super) fn whole(server: McpServer, tools: &[ServerTool], secret: Option<CredentialInfo>) -> Self {
        let missing = rules::names_missing(&server.tool_allowlist, tools);
        let mut out = Self::from(server);
        out.tool_allowlist_missing = Some(missing);
        out.tools = Some(tools.iter().map(ServerToolResponse::from).collect());
        out.auth.secret = secret.map(ServerSecretResponse::from);
        out
    }
}

/// How a test ended.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerTestResponse {
    /// Whether the server could be used.
    #[schema(example = true)]
    ok: bool,
    /// The MCP protocol version that it answered with.
    #[schema(example = "2025-11-25")]
    protocol_version: Option<String>,
    /// The tools that it has.
    tools: Vec<TestedToolResponse>,
    /// What went wrong, and the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "The server did not answer in time; check its address.")]
    error: Option<String>,
    /// Where to connect, if that solves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://thinkwork.example.com/me/mcp-servers/mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30/connect")]
    connect_url: Option<String>,
}

/// One tool that a test found.
#[derive(Serialize, ToSchema)]
struct TestedToolResponse {
    /// Its upstream name.
    #[schema(example = "search")]
    name: String,
    /// What it does, as the server claims; not trusted.
    #[schema(example = "Searches your notes")]
    description: String,
}

impl From<TestResult> for ServerTestResponse {
    fn from(result: TestResult) -> Self {
        let tools = result.tools.into_iter();
        Self {
            ok: result.ok,
            protocol_version: result.protocol_version,
            tools: tools.map(|tool| TestedToolResponse { name: tool.name, description: tool.description }).collect(),
            error: result.error,
            connect_url: result.connect_url,
        }
    }
}
