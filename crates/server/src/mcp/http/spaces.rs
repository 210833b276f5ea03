//! JSON routes of which MCP servers serve which Space. The policy is the `spaces` slice's; that a server exists is known
//! here.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{McpServerId, SpaceId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::{ApiError, Caller, Json, List, Operator, Pagination, Path};
use crate::mcp::{Mcp, registry};
use crate::spaces::{Approval, SourcePolicy};

pub(super) fn routes(mcp: &Mcp) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set, delete)).with_state(mcp.clone())
}

/// With what a server serves a Space.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SpaceServerRequest {
    /// The upstream names of the tools that may be used here; all approved ones if absent.
    #[schema(example = json!(["search"]))]
    tool_allowlist: Option<Vec<String>>,
    /// When a person is asked, by upstream tool name; a tool without an entry has the default of its effect.
    #[serde(default)]
    #[schema(example = json!({ "search": "never" }))]
    approvals: BTreeMap<String, Approval>,
}

/// A server that serves a Space.
#[derive(Serialize, ToSchema)]
struct SpaceServerResponse {
    #[schema(value_type = String)]
    mcp_server_id: McpServerId,
    /// The upstream names of the tools that may be used here; null for all approved ones.
    #[schema(example = json!(["search"]))]
    tool_allowlist: Option<Vec<String>>,
    /// When a person is asked, by upstream tool name.
    #[schema(example = json!({ "search": "never" }))]
    approvals: BTreeMap<String, Approval>,
}

impl SpaceServerResponse {
    fn of(server: McpServerId, policy: SourcePolicy) -> Self {
        Self { mcp_server_id: server, tool_allowlist: policy.tool_allowlist, approvals: policy.approvals }
    }
}

/// Lists the MCP servers of a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/mcp-servers", operation_id = "spaces.mcp_servers.list", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), Pagination),
    responses((status = 200, body = List<SpaceServerResponse>)))]
async fn list(
    State(mcp): State<Mcp>,
    Caller(caller): Caller,
    Path(id): Path<SpaceId>,
    paging: Pagination,
) -> Result<Json<List<SpaceServerResponse>>, ApiError> {
    let mut tx = mcp.db.read(caller.tenant).await?;
    mcp.spaces.visible(&mut tx, id, &caller).await?;
    let sources = mcp.spaces.sources(&mut tx, id).await?;
    let servers =
        sources.into_iter().filter_map(|one| Some(SpaceServerResponse::of(one.source.try_into().ok()?, one.policy)));
    Ok(Json(List::oldest_first(servers.collect(), &paging, |server| server.mcp_server_id)?))
}

/// Adds an MCP server to a Space, or changes which of its tools may be used there.
#[utoipa::path(put, path = "/v1/spaces/{id}/mcp-servers/{server_id}", operation_id = "spaces.mcp_servers.set",
    tag = "spaces", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path), ("server_id" = String, Path)), request_body = SpaceServerRequest,
    responses((status = 200, body = SpaceServerResponse)))]
async fn set(
    State(mcp): State<Mcp>,
    operator: Operator,
    Path((id, server)): Path<(SpaceId, McpServerId)>,
    Json(body): Json<SpaceServerRequest>,
) -> Result<Json<SpaceServerResponse>, ApiError> {
    let policy = SourcePolicy { tool_allowlist: body.tool_allowlist, approvals: body.approvals };
    let mut tx = mcp.access.write_as(&operator.0).await?;
    mcp.spaces.visible(&mut tx, id, &operator.0).await?;
    registry::find(&mut tx, server).await?;
    mcp.spaces.source_set(&mut tx, id, server.into(), &policy, &operator.actor()).await?;
    tx.commit().await?;
    Ok(Json(SpaceServerResponse::of(server, policy)))
}

/// Removes an MCP server from a Space.
#[utoipa::path(delete, path = "/v1/spaces/{id}/mcp-servers/{server_id}", operation_id = "spaces.mcp_servers.delete",
    tag = "spaces", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path), ("server_id" = String, Path)), responses((status = 204)))]
async fn delete(
    State(mcp): State<Mcp>,
    operator: Operator,
    Path((id, server)): Path<(SpaceId, McpServerId)>,
) -> Result<StatusCode, ApiError> {
    let mut tx = mcp.access.write_as(&operator.0).await?;
    mcp.spaces.visible(&mut tx, id, &operator.0).await?;
    mcp.spaces.source_delete(&mut tx, id, server.into(), &operator.actor()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
