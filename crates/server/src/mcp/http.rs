//! JSON routes of MCP servers for operators. A member's own are in `http/me.rs`, those of a Space in `http/spaces.rs`.

mod auth;
mod me;
mod response;
mod spaces;
mod wire;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use thinkwork_primitives::McpServerId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::rules::sentence;
use super::{Error, Mcp, ServerUpdate, UpstreamError};
use crate::edge::{
    ApiError, Idempotency, IdempotencyKey, IfMatch, Json, List, Operator, OperatorWithoutReauth, Pagination, Path,
};

use response::{ServerResponse, ServerTestResponse, ServerToolResponse};
use wire::{ApproveServerRequest, CreateServerRequest, RejectServerRequest, ServerSecretRequest, UpdateServerRequest};

pub fn routes(mcp: &Mcp) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(secret_set))
        .routes(routes!(test))
        .routes(routes!(refresh_tools))
        .with_state(mcp.clone())
        .merge(me::routes(mcp))
        .merge(spaces::routes(mcp))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::SlugTaken(slug) => {
                Self::conflict("slug_taken", format!("The slug {slug} is already taken. Choose another."))
            }
            Error::DefinitionChanged { current } => Self::conflict(
                "definition_changed",
                format!("The definition changed and was not approved. Review it again, then approve {current}."),
            ),
            Error::ToolChanged(tool) => Self::conflict(
                "definition_changed",
                format!("The tool {tool} has changed, and nothing was approved. Review it again, then approve it."),
            ),
            Error::VersionConflict { .. } => IfMatch::precondition_failed(),
            Error::NotNow(sentence) => Self::conflict("not_now", sentence),
            Error::Upstream(failure) => Self::from(failure),
            Error::Oauth(error) => oauth_error(error),
            Error::Credentials(crate::credentials::Error::Refused(problem)) => Self::invalid("auth.secret", problem),
            Error::Credentials(error) => Self::internal(&error),
            Error::Spaces(crate::spaces::Error::NotFound) => Self::not_found(),
            Error::Spaces(error) => Self::internal(&error),
            Error::Database(error) => Self::internal(&error),
            Error::Access(error) => error.into(),
            Error::Audit(error) => Self::internal(&error),
            Error::Idempotency(error) => error.into(),
        }
    }
}

impl From<UpstreamError> for ApiError {
    fn from(failure: UpstreamError) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "upstream_failed", sentence(&failure.to_string()))
    }
}

/// What the OAuth core says where an MCP server is concerned.
fn oauth_error(error: crate::oauth::Error) -> ApiError {
    use crate::oauth::Error as OauthError;
    match error {
        OauthError::NotFound => ApiError::not_found(),
        OauthError::NotConnected => ApiError::conflict("needs_connection", "Connect this server first."),
        OauthError::NeedsReauth(_) => {
            ApiError::conflict("needs_reauth", "The connection has ended. Reconnect the account.")
        }
        error @ OauthError::ClientRefused(_) => error.into(),
        OauthError::Unreachable(text) => {
            ApiError::unavailable(30, sentence(&format!("the authorization server did not respond: {text}")))
        }
        OauthError::Refused(text) => ApiError::conflict("authorization_server_refused", sentence(&text)),
        OauthError::ReturnAddress => {
            ApiError::invalid("return_to", "use the path of a page on this site, for example /me/mcp-servers.")
        }
        OauthError::Access(error) => error.into(),
        OauthError::Database(error) => ApiError::internal(&error),
        OauthError::Credentials(error) => ApiError::internal(&error),
        OauthError::Audit(error) => ApiError::internal(&error),
    }
}

/// Lists the tenant's MCP servers, oldest first.
#[utoipa::path(get, path = "/v1/mcp-servers", operation_id = "mcp_servers.list", tag = "mcp", params(Pagination),
    responses((status = 200, body = List<ServerResponse>)), extensions(("x-caller" = json!("operator"))))]
async fn list(operator: Operator, State(mcp): State<Mcp>, paging: Pagination) -> Result<Response, ApiError> {
    let after = paging.after_id()?;
    let servers = mcp.list(operator.tenant(), paging.fetch_limit(), after).await?;
    let page = List::cut(servers, &paging, |server| server.id.to_string());
    Ok(Json(page.map(ServerResponse::from)).into_response())
}

/// Registers an MCP server. It is pending until an operator approves its definition.
#[utoipa::path(post, path = "/v1/mcp-servers", operation_id = "mcp_servers.create", tag = "mcp", params(IdempotencyKey),
    request_body = CreateServerRequest, responses((status = 201, body = ServerResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn create(
    operator: Operator,
    State(mcp): State<Mcp>,
    key: IdempotencyKey,
    Json(body): Json<CreateServerRequest>,
) -> Result<Response, ApiError> {
    let idempotency = Idempotency::new(key, &operator.0, "mcp_servers.create", &body.described(), mcp.clock.now());
    let server = mcp.register(body.parse()?, &operator.0, &idempotency).await?;
    let location = format!("/v1/mcp-servers/{}", server.id);
    let shown = described(&mcp, &operator, server.id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(shown)).into_response())
}

/// Gets an MCP server with its definition's hash and its tools.
#[utoipa::path(get, path = "/v1/mcp-servers/{id}", operation_id = "mcp_servers.get", tag = "mcp",
    params(("id" = String, Path)), responses((status = 200, body = ServerResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn get(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<Json<ServerResponse>, ApiError> {
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Changes a registration. A change of its definition makes it pending again.
#[utoipa::path(patch, path = "/v1/mcp-servers/{id}", operation_id = "mcp_servers.update", tag = "mcp",
    params(("id" = String, Path), IfMatch), request_body = UpdateServerRequest,
    responses((status = 200, body = ServerResponse)), extensions(("x-caller" = json!("operator"))))]
async fn update(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    IfMatch(if_version): IfMatch,
    Json(body): Json<UpdateServerRequest>,
) -> Result<Json<ServerResponse>, ApiError> {
    let change = ServerUpdate { if_version, ..body.parse()? };
    mcp.update(id, change, &operator.0).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Deletes an MCP server. Its secret and all connections to it end; its history stays.
#[utoipa::path(delete, path = "/v1/mcp-servers/{id}", operation_id = "mcp_servers.delete", tag = "mcp",
    params(("id" = String, Path)), responses((status = 204)), extensions(("x-caller" = json!("operator"))))]
async fn delete(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<StatusCode, ApiError> {
    mcp.delete(id, &operator.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Approves the definition with this hash, and the tools that are named; 409 if a hash is not the current one.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/approve", operation_id = "mcp_servers.approve", tag = "mcp",
    params(("id" = String, Path)), request_body = ApproveServerRequest,
    responses((status = 200, body = ServerResponse)), extensions(("x-caller" = json!("operator"))))]
async fn approve(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    Json(body): Json<ApproveServerRequest>,
) -> Result<Json<ServerResponse>, ApiError> {
    mcp.approve(id, body.into(), &operator.0).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Rejects an MCP server; all connections to it end.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/reject", operation_id = "mcp_servers.reject", tag = "mcp",
    params(("id" = String, Path)), request_body = RejectServerRequest, responses((status = 200, body = ServerResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn reject(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    Json(body): Json<RejectServerRequest>,
) -> Result<Json<ServerResponse>, ApiError> {
    mcp.reject(id, &body.reason, &operator.0).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Replaces the server's secret with a new one.
#[utoipa::path(put, path = "/v1/mcp-servers/{id}/secret", operation_id = "mcp_servers.secret.set", tag = "mcp",
    params(("id" = String, Path)), request_body = ServerSecretRequest, responses((status = 200, body = ServerResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn secret_set(
    operator: Operator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    Json(body): Json<ServerSecretRequest>,
) -> Result<Json<ServerResponse>, ApiError> {
    mcp.secret_set(id, &body.secret, &operator.0).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Lists the server's tools now, with the operator's own connection where one is needed.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/test", operation_id = "mcp_servers.test", tag = "mcp",
    params(("id" = String, Path)), responses((status = 200, body = ServerTestResponse)),
    extensions(("x-caller" = json!("operator"))))]
async fn test(
    OperatorWithoutReauth(operator): OperatorWithoutReauth,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<Json<ServerTestResponse>, ApiError> {
    let result = mcp.test(operator.tenant(), id, &operator.actor()).await?;
    Ok(Json(result.into()))
}

/// Asks the server for its tools. A tool whose definition changed is on hold until it is approved.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/tools/refresh", operation_id = "mcp_servers.refresh_tools",
    tag = "mcp", params(("id" = String, Path)), responses((status = 200, body = List<ServerToolResponse>)),
    extensions(("x-caller" = json!("operator"))))]
async fn refresh_tools(
    OperatorWithoutReauth(operator): OperatorWithoutReauth,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<Json<List<ServerToolResponse>>, ApiError> {
    mcp.tools_refresh(operator.tenant(), id, &operator.actor()).await?;
    let items = described(&mcp, &operator, id).await?.tools.unwrap_or_default();
    Ok(Json(List { items, next: None }))
}

/// A server with its tools and what may be shown of its secret.
async fn described(mcp: &Mcp, operator: &Operator, id: McpServerId) -> Result<ServerResponse, ApiError> {
    let (server, tools) = mcp.find_with_tools(operator.tenant(), id).await?;
    let secret = mcp.secret_described(operator.tenant(), &server).await?;
    Ok(ServerResponse::whole(server, &tools, secret))
}
