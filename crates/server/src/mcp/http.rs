//! JSON routes of MCP servers for operators. A member's own are in `http/me.rs`.

mod me;
mod wire;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use thinkwork_primitives::McpServerId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::rules::sentence;
use super::{Change, Decision, Error, Failure, Mcp};
use crate::edge::{ApiError, Id, IfVersion, Json, List, Once, OnceKey, Operator, Paging};

use wire::{ApproveIn, McpServerChangeBody, NewServerIn, RejectIn, SecretIn, ServerOut, TestOut, ToolOut};

/// The routes.
pub fn routes(mcp: &Mcp) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(secret_put))
        .routes(routes!(test))
        .routes(routes!(refresh))
        .with_state(mcp.clone())
        .merge(me::routes(mcp))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Field { field, problem } => Self::invalid(field, problem),
            Error::SlugTaken(slug) => {
                Self::conflict("slug_taken", format!("Another MCP server has the slug {slug}; choose another."))
            }
            Error::DefinitionChanged { current } => Self::conflict(
                "definition_changed",
                format!("The definition changed; review it again and approve {current}."),
            ),
            Error::VersionChanged { .. } => IfVersion::changed(),
            Error::NotNow(sentence) => Self::conflict("not_now", sentence),
            Error::Upstream(failure) => Self::from(failure),
            Error::Oauth(error) => oauth_error(error),
            Error::Credentials(crate::credentials::Error::Refused(problem)) => Self::invalid("auth.secret", problem),
            Error::Credentials(error) => Self::internal(&error),
            Error::Spaces(crate::spaces::Error::NotFound) => Self::not_found(),
            Error::Spaces(error) => Self::internal(&error),
            Error::Database(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Once(error) => *error,
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "upstream_failed", sentence(&failure.to_string()))
    }
}

/// What the OAuth core says where an MCP server is concerned.
fn oauth_error(error: crate::oauth::Error) -> ApiError {
    use crate::oauth::Error as OauthError;
    match error {
        OauthError::NotFound => ApiError::not_found(),
        OauthError::NotConnected => ApiError::conflict("needs_connection", "Connect this server first."),
        OauthError::NeedsReauth(_) => ApiError::conflict("needs_reauth", "The grant has ended; connect again."),
        error @ OauthError::ClientRefused(_) => error.into(),
        OauthError::Unreachable(text) => {
            ApiError::unavailable(30, sentence(&format!("the authorization server does not answer: {text}")))
        }
        OauthError::Refused(text) => ApiError::conflict("authorization_server_refused", sentence(&text)),
        OauthError::ReturnAddress => {
            ApiError::invalid("return_to", "use the path of a page of this deployment, like /me/mcp-servers.")
        }
        OauthError::Database(error) => ApiError::internal(&error),
        OauthError::Credentials(error) => ApiError::internal(&error),
        OauthError::Audit(error) => ApiError::internal(&error),
    }
}

/// The tenant's MCP servers, oldest first.
#[utoipa::path(get, path = "/v1/mcp-servers", tag = "mcp", params(Paging),
    responses((status = 200, body = List<ServerOut>)), extensions(("x-caller" = json!("operator"))))]
async fn list(operator: Operator, State(mcp): State<Mcp>, paging: Paging) -> Result<Response, ApiError> {
    let after = paging.after_id()?;
    let servers = mcp.list(operator.tenant(), paging.limit.saturating_add(1), after).await?;
    let page = List::cut(servers, &paging, |server| server.id.to_string());
    Ok(Json(page.map(ServerOut::from)).into_response())
}

/// Registers an MCP server. It is pending until an operator approves its definition.
#[utoipa::path(post, path = "/v1/mcp-servers", tag = "mcp", params(OnceKey), request_body = NewServerIn,
    responses((status = 201, body = ServerOut)), extensions(("x-caller" = json!("operator"))))]
async fn create(
    operator: Operator,
    State(mcp): State<Mcp>,
    key: OnceKey,
    Json(body): Json<NewServerIn>,
) -> Result<Response, ApiError> {
    let once = Once::new(key, &operator.0, "mcp_servers.create", &body.described(), mcp.clock.now());
    let server = mcp.register(operator.tenant(), body.parse()?, &operator.requester(), &once).await?;
    let location = format!("/v1/mcp-servers/{}", server.id);
    let shown = described(&mcp, &operator, server.id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(shown)).into_response())
}

/// One server with its definition's hash and its tools.
#[utoipa::path(get, path = "/v1/mcp-servers/{id}", tag = "mcp", params(("id" = String, Path)),
    responses((status = 200, body = ServerOut)), extensions(("x-caller" = json!("operator"))))]
async fn show(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
) -> Result<Json<ServerOut>, ApiError> {
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Changes a registration. What changes its definition makes it pending again.
#[utoipa::path(patch, path = "/v1/mcp-servers/{id}", tag = "mcp", params(("id" = String, Path), IfVersion),
    request_body = McpServerChangeBody, responses((status = 200, body = ServerOut)),
    extensions(("x-caller" = json!("operator"))))]
async fn change(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
    IfVersion(if_version): IfVersion,
    Json(body): Json<McpServerChangeBody>,
) -> Result<Json<ServerOut>, ApiError> {
    let change = Change { if_version, ..body.parse()? };
    mcp.change(operator.tenant(), id, change, &operator.requester()).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Deletes a server: its secret and all grants end, its history stays.
#[utoipa::path(delete, path = "/v1/mcp-servers/{id}", tag = "mcp", params(("id" = String, Path)),
    responses((status = 204)), extensions(("x-caller" = json!("operator"))))]
async fn remove(operator: Operator, State(mcp): State<Mcp>, Id(id): Id<McpServerId>) -> Result<StatusCode, ApiError> {
    mcp.delete(operator.tenant(), id, &operator.requester()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Approves the definition with this hash, and the tools; 409 where it is not the current one.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/approve", tag = "mcp", params(("id" = String, Path)),
    request_body = ApproveIn, responses((status = 200, body = ServerOut)),
    extensions(("x-caller" = json!("operator"))))]
async fn approve(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
    Json(body): Json<ApproveIn>,
) -> Result<Json<ServerOut>, ApiError> {
    let effects: BTreeMap<_, _> = body.effects.into_iter().map(|(name, choice)| (name, choice.into())).collect();
    let decision = Decision { definition_hash: body.definition_hash, effects, tool_hashes: body.tool_hashes };
    mcp.approve(operator.tenant(), id, decision, &operator.requester()).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Refuses a server; its grants end.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/reject", tag = "mcp", params(("id" = String, Path)),
    request_body = RejectIn, responses((status = 200, body = ServerOut)),
    extensions(("x-caller" = json!("operator"))))]
async fn reject(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
    Json(body): Json<RejectIn>,
) -> Result<Json<ServerOut>, ApiError> {
    mcp.reject(operator.tenant(), id, &body.reason, &operator.requester()).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Puts a new secret in place.
#[utoipa::path(put, path = "/v1/mcp-servers/{id}/secret", tag = "mcp", params(("id" = String, Path)),
    request_body = SecretIn, responses((status = 200, body = ServerOut)),
    extensions(("x-caller" = json!("operator"))))]
async fn secret_put(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
    Json(body): Json<SecretIn>,
) -> Result<Json<ServerOut>, ApiError> {
    mcp.secret_put(operator.tenant(), id, &body.secret, &operator.requester()).await?;
    Ok(Json(described(&mcp, &operator, id).await?))
}

/// Lists the server's tools now, with the operator's own grant where one is needed.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/test", tag = "mcp", params(("id" = String, Path)),
    responses((status = 200, body = TestOut)), extensions(("x-caller" = json!("operator"))))]
async fn test(operator: Operator, State(mcp): State<Mcp>, Id(id): Id<McpServerId>) -> Result<Json<TestOut>, ApiError> {
    let result = mcp.test(operator.tenant(), id, &operator.requester()).await?;
    Ok(Json(result.into()))
}

/// Asks the server for its tools; a tool whose definition changed is on hold until it is approved.
#[utoipa::path(post, path = "/v1/mcp-servers/{id}/tools/refresh", tag = "mcp", params(("id" = String, Path)),
    responses((status = 200, body = List<ToolOut>)), extensions(("x-caller" = json!("operator"))))]
async fn refresh(
    operator: Operator,
    State(mcp): State<Mcp>,
    Id(id): Id<McpServerId>,
) -> Result<Json<List<ToolOut>>, ApiError> {
    mcp.tools_refresh(operator.tenant(), id, &operator.requester()).await?;
    let items = described(&mcp, &operator, id).await?.tools.unwrap_or_default();
    Ok(Json(List { items, next: None }))
}

/// A server with its tools and what may be shown of its secret.
async fn described(mcp: &Mcp, operator: &Operator, id: McpServerId) -> Result<ServerOut, ApiError> {
    let (server, tools) = mcp.find_with_tools(operator.tenant(), id).await?;
    let secret = mcp.secret_described(operator.tenant(), &server).await?;
    Ok(ServerOut::whole(server, &tools, secret))
}
