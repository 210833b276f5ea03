//! JSON routes of connections, and their wire types.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use thinkwork_primitives::{AuditId, ConnectionId, GrantTarget, ThreadId, Timestamp, TurnId, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Connection, Error, Oauth, Revocation};
use crate::audit::{self, Use};
use crate::edge::identity::RequesterResponse;
use crate::edge::{ApiError, Json, List, Member, Operator, OperatorWithoutReauth, Pagination, Path, time_cursor};

pub fn routes(slice: &Oauth) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(me_list))
        .routes(routes!(me_disconnect))
        .routes(routes!(me_uses_list))
        .routes(routes!(list))
        .routes(routes!(revoke))
        .with_state(slice.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::NotConnected => {
                Self::conflict("not_connected", "This account is not connected. Connect it under Connected accounts.")
            }
            Error::NeedsReauth(reason) => Self::conflict(
                "needs_reauth",
                format!("This account must be reconnected ({reason}). Reconnect it under Connected accounts."),
            ),
            Error::ClientRefused(code) => Self::conflict(
                "registration_refused",
                format!(
                    "The provider rejected the OAuth client ({code}). Ask an operator to check the settings of this \
                     server."
                ),
            ),
            Error::Unreachable(why) => {
                let mut error = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "provider_unreachable",
                    "The provider did not respond and nothing was changed. Try again in a minute.",
                );
                error.retry_after_seconds = Some(60);
                error.log = Some(why.into());
                error
            }
            Error::Refused(sentence) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "provider_refused", sentence),
            Error::ReturnAddress => {
                Self::invalid("return_to", "use the path of a page on this site, for example /me/connections.")
            }
            Error::Database(error) => Self::internal(&error),
            Error::Access(error) => error.into(),
            Error::Credentials(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
        }
    }
}

/// One of the caller's connections.
#[derive(Serialize, ToSchema)]
struct ConnectionResponse {
    #[schema(value_type = String, example = "con_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: ConnectionId,
    /// What the grant is for: `mcp_server` or `provider`.
    #[schema(example = "mcp_server")]
    r#for: &'static str,
    /// The MCP server, if the grant is for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_server_id: Option<String>,
    /// The account's name at the provider.
    #[schema(example = "ana@acme.test")]
    account: String,
    /// `connected`, `needs_reauth`, `expired` or `not_connected`.
    #[schema(example = "connected")]
    status: &'static str,
    /// Why its owner must connect it again; null if they need not.
    #[schema(example = "the provider refused the refresh token")]
    status_reason: Option<String>,
    /// The OAuth scopes that were granted.
    #[schema(example = json!(["notes.read"]))]
    scopes: Vec<String>,
    /// When it was connected, RFC 3339.
    #[schema(value_type = String)]
    connected_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
}

impl From<Connection> for ConnectionResponse {
    fn from(connection: Connection) -> Self {
        Self {
            id: connection.id,
            r#for: connection.target.kind(),
            mcp_server_id: match connection.target {
                GrantTarget::McpServer(id) => Some(id.to_string()),
                GrantTarget::Provider(_) => None,
            },
            account: connection.account,
            status: connection.status.as_str(),
            status_reason: connection.status_reason,
            scopes: connection.scopes,
            connected_at: connection.connected_at,
            last_used_at: connection.last_used_at,
        }
    }
}

/// Somebody's connection, as operators see it: metadata only.
#[derive(Serialize, ToSchema)]
struct TenantConnectionResponse {
    /// The person whose connection it is.
    #[schema(value_type = String)]
    user_id: UserId,
    #[serde(flatten)]
    connection: ConnectionResponse,
}

/// What became of each token.
#[derive(Serialize, ToSchema)]
struct RevocationsResponse {
    /// What became of each token.
    revocations: Vec<RevocationResponse>,
}

/// What became of one token.
#[derive(Serialize, ToSchema)]
struct RevocationResponse {
    /// Which token: `refresh` or `access`.
    #[schema(example = "refresh")]
    token: &'static str,
    /// What became of it: `revoked`, `not_supported` or `pending_retry`.
    #[schema(example = "revoked")]
    result: &'static str,
}

impl From<Vec<Revocation>> for RevocationsResponse {
    fn from(revocations: Vec<Revocation>) -> Self {
        let view = |one: Revocation| RevocationResponse { token: one.token, result: one.result.as_str() };
        Self { revocations: revocations.into_iter().map(view).collect() }
    }
}

/// One use of a grant.
#[derive(Serialize, ToSchema)]
struct CredentialUseResponse {
    #[schema(value_type = String, example = "aud_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: AuditId,
    #[schema(value_type = String)]
    at: Timestamp,
    /// `tool_call` for a call, `oauth` for a refresh or revocation.
    #[schema(example = "tool_call")]
    surface: String,
    /// The full name of the tool that was called.
    #[schema(example = "notes__search")]
    tool: Option<String>,
    /// The thread in which it was used, if in one.
    #[schema(value_type = Option<String>)]
    thread_id: Option<ThreadId>,
    /// The turn in which it was used, if in one.
    #[schema(value_type = Option<String>)]
    turn_id: Option<TurnId>,
    requester: Option<RequesterResponse>,
}

impl From<Use> for CredentialUseResponse {
    fn from(one: Use) -> Self {
        let requester = one.requester.as_ref().map(RequesterResponse::from);
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

/// Lists your connections, oldest first.
#[utoipa::path(get, path = "/v1/me/connections", operation_id = "me.connections.list", tag = "oauth", params(Pagination),
    responses((status = 200, body = List<ConnectionResponse>)), extensions(("x-caller" = json!("member"))))]
async fn me_list(
    State(oauth): State<Oauth>,
    caller: Member,
    paging: Pagination,
) -> Result<Json<List<ConnectionResponse>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let all = oauth.connections_of(&mut tx, caller.user).await?;
    Ok(Json(List::oldest_first(all, &paging, |one| one.id)?.map(ConnectionResponse::from)))
}

/// Ends one of your connections and revokes its tokens.
#[utoipa::path(delete, path = "/v1/me/connections/{id}", operation_id = "me.connections.disconnect", tag = "oauth",
    params(("id" = String, Path)), responses((status = 200, body = RevocationsResponse)),
    extensions(("x-caller" = json!("member"))))]
async fn me_disconnect(
    State(oauth): State<Oauth>,
    caller: Member,
    Path(id): Path<ConnectionId>,
) -> Result<Json<RevocationsResponse>, ApiError> {
    Ok(Json(oauth.disconnect(&caller.principal, id).await?.into()))
}

/// Lists what used one of your connections, newest first.
#[utoipa::path(get, path = "/v1/me/connections/{id}/uses", operation_id = "me.connections.uses.list", tag = "oauth",
    params(("id" = String, Path), Pagination), responses((status = 200, body = List<CredentialUseResponse>)),
    extensions(("x-caller" = json!("member"))))]
async fn me_uses_list(
    State(oauth): State<Oauth>,
    caller: Member,
    Path(id): Path<ConnectionId>,
    paging: Pagination,
) -> Result<Json<List<CredentialUseResponse>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let own = oauth.own_ever(&mut tx, caller.user, id).await?;
    own.then_some(()).ok_or_else(ApiError::not_found)?;
    let found = audit::uses_of(&mut tx, caller.user, Some(id), paging.fetch_limit(), paging.after_cursor()?)
        .await
        .map_err(Error::Audit)?;
    Ok(Json(List::cut(found, &paging, |one| time_cursor(one.at, one.id)).map(CredentialUseResponse::from)))
}

/// Lists every connection of the tenant: metadata only, no tokens.
#[utoipa::path(get, path = "/v1/connections", operation_id = "connections.list", tag = "oauth", params(Pagination),
    responses((status = 200, body = List<TenantConnectionResponse>)), extensions(("x-caller" = json!("operator"))))]
async fn list(
    State(oauth): State<Oauth>,
    caller: Operator,
    paging: Pagination,
) -> Result<Json<List<TenantConnectionResponse>>, ApiError> {
    let mut tx = oauth.db.read(caller.tenant()).await?;
    let found = oauth.connections(&mut tx, paging.after_id()?, paging.fetch_limit()).await?;
    let list = List::cut(found, &paging, |one| one.id.to_string());
    Ok(Json(list.map(|one| TenantConnectionResponse { user_id: one.user, connection: one.into() })))
}

/// Revokes anyone's connection. An operator may revoke a connection but never use it.
#[utoipa::path(post, path = "/v1/connections/{id}/revoke", operation_id = "connections.revoke", tag = "oauth",
    params(("id" = String, Path)), responses((status = 200, body = RevocationsResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn revoke(
    State(oauth): State<Oauth>,
    OperatorWithoutReauth(caller): OperatorWithoutReauth,
    Path(id): Path<ConnectionId>,
) -> Result<Json<RevocationsResponse>, ApiError> {
    Ok(Json(oauth.revoke(caller.tenant(), id, caller.actor()).await?.into()))
}
