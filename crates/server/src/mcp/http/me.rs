//! JSON routes of a member's own connections to MCP servers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{FlowId, McpServerId, Timestamp};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::{ApiError, Json, List, Member, Pagination, Path, SessionUser};
use crate::mcp::{Mcp, MyServer};
use crate::oauth::ConnectionStatus;

pub(super) fn routes(mcp: &Mcp) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(connect))
        .routes(routes!(disconnect))
        .with_state(mcp.clone())
}

/// A server as its user sees it.
#[derive(Serialize, ToSchema)]
struct MyServerResponse {
    #[schema(value_type = String, example = "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: McpServerId,
    /// What people call it.
    #[schema(example = "Notes")]
    name: String,
    /// How calls to it are authorised: the mode of its registration's `auth`.
    #[schema(example = "user_oauth")]
    auth_mode: &'static str,
    /// Your connection: `active`, `expired`, `needs_connection` or `not_required`.
    #[schema(example = "active")]
    status: &'static str,
    /// How many of its tools can be used.
    #[schema(example = 4)]
    tool_count: usize,
}

/// The word of a person's state at a server.
pub(crate) const fn status_word(connection: Option<ConnectionStatus>) -> &'static str {
    match connection {
        None => "not_required",
        Some(ConnectionStatus::Connected) => "active",
        Some(ConnectionStatus::NeedsReauth | ConnectionStatus::Expired) => "expired",
        Some(ConnectionStatus::NotConnected) => "needs_connection",
    }
}

impl From<MyServer> for MyServerResponse {
    fn from(mine: MyServer) -> Self {
        Self {
            id: mine.server.id,
            name: mine.server.name,
            auth_mode: mine.server.auth.as_str(),
            status: status_word(mine.connection),
            tool_count: mine.tool_count,
        }
    }
}

/// Where to return to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectServerRequest {
    /// The page to return to; `/me/mcp-servers` if absent.
    #[schema(example = "/me/mcp-servers")]
    return_to: Option<String>,
}

/// A flow that was started for this person in this browser.
#[derive(Serialize, ToSchema)]
struct ConnectServerResponse {
    /// The flow.
    #[schema(value_type = String, example = "flw_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    flow_id: FlowId,
    /// Where to send the browser next.
    #[schema(example = "https://id.example.com/authorize?client_id=thinkwork")]
    authorize_url: String,
    /// When the flow can no longer be finished, RFC 3339.
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

/// Lists the MCP servers that you can use, and whether you are connected to each.
#[utoipa::path(get, path = "/v1/me/mcp-servers", operation_id = "me.mcp_servers.list", tag = "mcp", params(Pagination),
    responses((status = 200, body = List<MyServerResponse>)), extensions(("x-caller" = json!("member"))))]
async fn list(
    member: Member,
    State(mcp): State<Mcp>,
    paging: Pagination,
) -> Result<Json<List<MyServerResponse>>, ApiError> {
    let mut tx = mcp.db.read(member.tenant()).await?;
    let mine = mcp.mine(&mut tx, member.user).await?;
    Ok(Json(List::oldest_first(mine, &paging, |mine| mine.server.id)?.map(MyServerResponse::from)))
}

/// Starts connecting your account to an MCP server; only in a signed-in browser.
///
/// It takes no `Idempotency-Key`: each start replaces the one before.
#[utoipa::path(post, path = "/v1/me/mcp-servers/{id}/connect", operation_id = "me.mcp_servers.connect", tag = "mcp",
    params(("id" = String, Path)), request_body = ConnectServerRequest,
    responses((status = 200, body = ConnectServerResponse)), extensions(("x-caller" = json!("consent"))))]
async fn connect(
    consent: SessionUser,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    Json(body): Json<ConnectServerRequest>,
) -> Result<Response, ApiError> {
    let started = mcp.connect(&consent, id, body.return_to.as_deref()).await?;
    let out = ConnectServerResponse {
        flow_id: started.flow,
        authorize_url: started.authorize_url,
        expires_at: started.expires_at,
    };
    Ok(([(header::SET_COOKIE, started.set_cookie)], Json(out)).into_response())
}

/// Ends your own connection to an MCP server.
///
/// `DELETE /v1/me/connections/{id}` also says what became of each token at its issuer.
#[utoipa::path(delete, path = "/v1/me/mcp-servers/{id}/connection", operation_id = "me.mcp_servers.disconnect",
    tag = "mcp", params(("id" = String, Path)), responses((status = 204)), extensions(("x-caller" = json!("member"))))]
async fn disconnect(
    member: Member,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<StatusCode, ApiError> {
    mcp.disconnect(&member.principal, member.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
