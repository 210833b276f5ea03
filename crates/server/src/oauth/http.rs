//! JSON routes of connections, and their wire types.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use thinkwork_primitives::{AuditId, ConnectionId, McpServerId, ThreadId, Timestamp, TurnId, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Connection, Error, Oauth, Revocation};
use crate::audit::{self, Use};
use crate::edge::{ApiError, Id, Json, List, Member, Operator, Paging};

/// The routes.
pub fn routes(slice: &Oauth) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(mine))
        .routes(routes!(disconnect))
        .routes(routes!(uses))
        .routes(routes!(all))
        .routes(routes!(revoke))
        .with_state(slice.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::NotConnected => {
                Self::conflict("not_connected", "This account is not connected; connect it on your connections page.")
            }
            Error::NeedsReauth(reason) => Self::conflict(
                "needs_reauth",
                format!("The account must be connected again ({reason}); do it on your connections page."),
            ),
            Error::ClientRefused(code) => Self::conflict(
                "registration_refused",
                format!(
                    "The authorization server does not accept our registration ({code}); ask your operator to check \
                     this server's settings."
                ),
            ),
            Error::Unreachable(why) => {
                let mut error = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "provider_unreachable",
                    "The authorization server does not answer; nothing was changed. Try again in a minute.",
                );
                error.retry_after_seconds = Some(60);
                error.log = Some(why.into());
                error
            }
            Error::Refused(sentence) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "provider_refused", sentence),
            Error::ReturnAddress => {
                Self::invalid("return_to", "name the path of one of your own pages, like /me/connections.")
            }
            Error::Database(error) => Self::internal(&error),
            Error::Credentials(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
        }
    }
}

/// One of the caller's connections.
#[derive(Serialize, ToSchema)]
struct ConnectionView {
    #[schema(value_type = String)]
    id: ConnectionId,
    /// `mcp_server`.
    r#for: &'static str,
    #[schema(value_type = String)]
    mcp_server_id: McpServerId,
    account: String,
    /// `connected`, `needs_reauth`, `expired` or `not_connected`.
    status: &'static str,
    /// Why it needs its owner.
    status_reason: Option<String>,
    scopes: Vec<String>,
    #[schema(value_type = String)]
    connected_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
}

impl From<Connection> for ConnectionView {
    fn from(connection: Connection) -> Self {
        Self {
            id: connection.id,
            r#for: "mcp_server",
            mcp_server_id: connection.server,
            account: connection.account,
            status: connection.status.word(),
            status_reason: connection.status_reason,
            scopes: connection.scopes,
            connected_at: connection.connected_at,
            last_used_at: connection.last_used_at,
        }
    }
}

/// Somebody's connection, as operators see it: metadata only.
#[derive(Serialize, ToSchema)]
struct TenantConnectionView {
    #[schema(value_type = String)]
    user_id: UserId,
    #[serde(flatten)]
    connection: ConnectionView,
}

/// What became of each token.
#[derive(Serialize, ToSchema)]
struct RevocationsView {
    revocations: Vec<RevocationView>,
}

#[derive(Serialize, ToSchema)]
struct RevocationView {
    /// `refresh` or `access`.
    token: &'static str,
    /// `revoked`, `not_supported` or `pending_retry`.
    result: &'static str,
}

impl From<Vec<Revocation>> for RevocationsView {
    fn from(revocations: Vec<Revocation>) -> Self {
        let view = |one: Revocation| RevocationView { token: one.token, result: one.result.word() };
        Self { revocations: revocations.into_iter().map(view).collect() }
    }
}

/// One use of a grant.
#[derive(Serialize, ToSchema)]
struct UseView {
    #[schema(value_type = String)]
    id: AuditId,
    #[schema(value_type = String)]
    at: Timestamp,
    /// `tool_call` for a call, `oauth` for a refresh or revocation.
    surface: String,
    tool: Option<String>,
    #[schema(value_type = Option<String>)]
    thread_id: Option<ThreadId>,
    #[schema(value_type = Option<String>)]
    turn_id: Option<TurnId>,
    requester: Option<RequesterView>,
}

#[derive(Serialize, ToSchema)]
struct RequesterView {
    kind: &'static str,
    id: String,
}

impl From<Use> for UseView {
    fn from(one: Use) -> Self {
        let requester = one.requester.map(|requester| RequesterView { kind: requester.kind(), id: requester.id() });
        Self {
            id: one.id,
            at: one.at,
            surface: one.surface,
            tool: one.tool,
            thread_id: one.thread,
            turn_id: one.turn,
            requester,
        }
    }
}

/// The caller's connections.
#[utoipa::path(get, path = "/v1/me/connections", tag = "oauth", params(Paging),
    responses((status = 200, body = List<ConnectionView>)), extensions(("x-caller" = json!("member"))))]
async fn mine(
    State(oauth): State<Oauth>,
    caller: Member,
    paging: Paging,
) -> Result<Json<List<ConnectionView>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let all = oauth.connections_of(&mut tx, caller.user).await?;
    Ok(Json(List::oldest_first(all, &paging, |one| one.id)?.map(ConnectionView::from)))
}

/// Ends one of the caller's connections and revokes its tokens.
#[utoipa::path(delete, path = "/v1/me/connections/{id}", tag = "oauth", params(("id" = String, Path)),
    responses((status = 200, body = RevocationsView)), extensions(("x-caller" = json!("member"))))]
async fn disconnect(
    State(oauth): State<Oauth>,
    caller: Member,
    Id(id): Id<ConnectionId>,
) -> Result<Json<RevocationsView>, ApiError> {
    Ok(Json(oauth.disconnect(&caller.principal, id).await?.into()))
}

/// What used one of the caller's connections, newest first.
#[utoipa::path(get, path = "/v1/me/connections/{id}/uses", tag = "oauth", params(("id" = String, Path), Paging),
    responses((status = 200, body = List<UseView>)), extensions(("x-caller" = json!("member"))))]
async fn uses(
    State(oauth): State<Oauth>,
    caller: Member,
    Id(id): Id<ConnectionId>,
    paging: Paging,
) -> Result<Json<List<UseView>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let own = oauth.own_ever(&mut tx, caller.user, id).await?;
    own.then_some(()).ok_or_else(ApiError::not_found)?;
    let count = paging.limit.saturating_add(1);
    let found =
        audit::uses_of(&mut tx, caller.user, Some(id), count, paging.after_id()?).await.map_err(Error::Audit)?;
    Ok(Json(List::cut(found, &paging, |one| one.id.to_string()).map(UseView::from)))
}

/// Every connection of the tenant, metadata only.
#[utoipa::path(get, path = "/v1/connections", tag = "oauth", params(Paging),
    responses((status = 200, body = List<TenantConnectionView>)), extensions(("x-caller" = json!("operator"))))]
async fn all(
    State(oauth): State<Oauth>,
    caller: Operator,
    paging: Paging,
) -> Result<Json<List<TenantConnectionView>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let count = paging.limit.saturating_add(1);
    let found = oauth.connections(&mut tx, paging.after_id()?, count).await?;
    let list = List::cut(found, &paging, |one| one.id.to_string());
    Ok(Json(list.map(|one| TenantConnectionView { user_id: one.user, connection: one.into() })))
}

/// Revokes anybody's connection. An operator may revoke, never use.
#[utoipa::path(post, path = "/v1/connections/{id}/revoke", tag = "oauth", params(("id" = String, Path)),
    responses((status = 200, body = RevocationsView)), extensions(("x-caller" = json!("operator"))))]
async fn revoke(
    State(oauth): State<Oauth>,
    caller: Operator,
    Id(id): Id<ConnectionId>,
) -> Result<Json<RevocationsView>, ApiError> {
    Ok(Json(oauth.revoke(caller.tenant(), id, caller.requester()).await?.into()))
}
