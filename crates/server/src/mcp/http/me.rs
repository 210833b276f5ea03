//! JSON routes of a member's own connections to MCP servers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{FlowId, McpServerId, Timestamp};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::{ApiError, Consent, Id, Json, List, Member, Paging};
use crate::mcp::{Mcp, MyServer};
use crate::oauth::ConnectionStatus;

pub(super) fn routes(mcp: &Mcp) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(mine))
        .routes(routes!(connect))
        .routes(routes!(disconnect))
        .with_state(mcp.clone())
}

/// A server as its user sees it.
#[derive(Serialize, ToSchema)]
struct MyServerOut {
    #[schema(value_type = String)]
    id: McpServerId,
    name: String,
    auth_mode: &'static str,
    /// `active`, `expired`, `needs_connection` or `not_required`.
    status: &'static str,
    tool_count: usize,
}

/// The word of a person's state at a server.
pub(in crate::mcp) const fn status_word(connection: Option<ConnectionStatus>) -> &'static str {
    match connection {
        None => "not_required",
        Some(ConnectionStatus::Connected) => "active",
        Some(ConnectionStatus::NeedsReauth | ConnectionStatus::Expired) => "expired",
        Some(ConnectionStatus::NotConnected) => "needs_connection",
    }
}

impl From<MyServer> for MyServerOut {
    fn from(mine: MyServer) -> Self {
        Self {
            id: mine.server.id,
            name: mine.server.name,
            auth_mode: mine.server.auth.mode(),
            status: status_word(mine.connection),
            tool_count: mine.tool_count,
        }
    }
}

/// Where to return to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConnectIn {
    /// `/me/mcp-servers` where absent.
    return_to: Option<String>,
}

/// A flow that was started for this person in this browser.
#[derive(Serialize, ToSchema)]
struct ConnectOut {
    #[schema(value_type = String)]
    flow_id: FlowId,
    authorize_url: String,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

/// The servers and this person's connection to each.
#[utoipa::path(get, path = "/v1/me/mcp-servers", tag = "mcp", params(Paging),
    responses((status = 200, body = List<MyServerOut>)), extensions(("x-caller" = json!("member"))))]
async fn mine(member: Member, State(mcp): State<Mcp>, paging: Paging) -> Result<Json<List<MyServerOut>>, ApiError> {
    let mut tx = mcp.db.read(member.tenant()).await?;
    let mine = mcp.mine(&mut tx, member.user).await?;
    Ok(Json(List::oldest_first(mine, &paging, |mine| mine.server.id)?.map(MyServerOut::from)))
}

/// Starts connecting: only a person in a session. It takes no `Idempotency-Key`: each start replaces the one before.
#[utoipa::path(post, path = "/v1/me/mcp-servers/{id}/connect", tag = "mcp", params(("id" = String, Path)),
    request_body = ConnectIn, responses((status = 200, body = ConnectOut)),
    extensions(("x-caller" = json!("consent"))))]
async fn connect(
    consent: Consent,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
    Json(body): Json<ConnectIn>,
) -> Result<Response, ApiError> {
    let started = mcp.connect(&consent, id, body.return_to.as_deref()).await?;
    let out =
        ConnectOut { flow_id: started.flow, authorize_url: started.authorize_url, expires_at: started.expires_at };
    Ok(([(header::SET_COOKIE, started.set_cookie)], Json(out)).into_response())
}

/// Ends this person's own connection. What became of each token at its issuer is told by
/// `DELETE /v1/me/connections/{id}`.
#[utoipa::path(delete, path = "/v1/me/mcp-servers/{id}/connection", tag = "mcp", params(("id" = String, Path)),
    responses((status = 204)), extensions(("x-caller" = json!("member"))))]
async fn disconnect(member: Member, State(mcp): State<Mcp>, Id(id): Id<McpServerId>) -> Result<StatusCode, ApiError> {
    mcp.disconnect(&member.principal, member.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
