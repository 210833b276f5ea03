//! JSON routes of Spaces, their members and their MCP servers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thinkwork_primitives::{McpServerId, SpaceId, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Error, NewSpace, Space, SpaceAccess, SpaceChange, SpaceServer, Spaces};
use crate::edge::{ApiError, Caller, Id, Ids, IfVersion, Json, List, Once, OnceKey, Operator, Paging};

/// The routes.
pub fn routes(spaces: &Spaces) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change))
        .routes(routes!(members))
        .routes(routes!(member_show, member_put, member_remove))
        .routes(routes!(servers))
        .routes(routes!(server_put, server_remove))
        .with_state(spaces.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(field, problem) => Self::invalid(field, problem),
            Error::SlugTaken => Self::conflict("slug_taken", "Another Space has this slug; choose another."),
            Error::Changed => IfVersion::changed(),
            Error::NeedsSession => Self::forbidden(
                "needs_session",
                "Widening a Space shows it to everyone; do it signed in, in a browser. A token cannot.",
            ),
            Error::LastMember => Self::conflict(
                "last_member",
                "A private Space needs a member, or nobody finds it again; let someone else in first.",
            ),
            Error::Database(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Access(error) => Self::internal(&error),
        }
    }
}

/// Who may see a Space.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum AccessWire {
    Public,
    Private,
}

impl From<AccessWire> for SpaceAccess {
    fn from(access: AccessWire) -> Self {
        match access {
            AccessWire::Public => Self::Public,
            AccessWire::Private => Self::Private,
        }
    }
}

impl From<SpaceAccess> for AccessWire {
    fn from(access: SpaceAccess) -> Self {
        match access {
            SpaceAccess::Public => Self::Public,
            SpaceAccess::Private => Self::Private,
        }
    }
}

/// A Space.
#[derive(Serialize, ToSchema)]
struct SpaceWire {
    #[schema(value_type = String)]
    id: SpaceId,
    slug: String,
    name: String,
    access: AccessWire,
    prompt: Option<String>,
    reopen: bool,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
}

impl From<Space> for SpaceWire {
    fn from(space: Space) -> Self {
        Self {
            id: space.id,
            slug: space.slug,
            name: space.name,
            access: space.access.into(),
            prompt: space.prompt,
            reopen: space.reopen,
            created_at: space.created_at,
            version: space.version,
        }
    }
}

/// A Space to make.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSpaceWire {
    slug: String,
    name: String,
    access: AccessWire,
    prompt: Option<String>,
    /// Whether an event of a closed thread reopens it; true where it is left out.
    reopen: Option<bool>,
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SpaceChangeBody {
    name: Option<String>,
    access: Option<AccessWire>,
    /// An empty prompt removes it.
    prompt: Option<String>,
    reopen: Option<bool>,
}

/// A member of a Space.
#[derive(Serialize, ToSchema)]
struct MemberWire {
    #[schema(value_type = String)]
    space_id: SpaceId,
    #[schema(value_type = String)]
    user_id: UserId,
    #[schema(value_type = String)]
    joined_at: Timestamp,
}

/// With what a server serves a Space.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PolicyWire {
    /// Upstream tool names; all approved ones where it is left out.
    tool_allowlist: Option<Vec<String>>,
    /// Tool name to `never`, `once` or `always`.
    #[serde(default)]
    #[schema(value_type = Object)]
    approvals: Map<String, Value>,
}

/// A server that serves a Space.
#[derive(Serialize, ToSchema)]
struct ServerWire {
    #[schema(value_type = String)]
    mcp_server_id: McpServerId,
    tool_allowlist: Option<Vec<String>>,
    #[schema(value_type = Object)]
    approvals: Map<String, Value>,
}

impl From<SpaceServer> for ServerWire {
    fn from(server: SpaceServer) -> Self {
        Self { mcp_server_id: server.server, tool_allowlist: server.tool_allowlist, approvals: server.approvals }
    }
}

/// The Spaces the caller may see.
#[utoipa::path(get, path = "/v1/spaces", tag = "spaces", extensions(("x-caller" = json!("caller"))), params(Paging),
    responses((status = 200, body = List<SpaceWire>)))]
async fn list(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    paging: Paging,
) -> Result<Json<List<SpaceWire>>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    let found = spaces.list(&mut tx, &caller, paging.limit.saturating_add(1), paging.after_id()?).await?;
    Ok(Json(List::cut(found, &paging, |space| space.id.to_string()).map(SpaceWire::from)))
}

/// Makes a Space.
#[utoipa::path(post, path = "/v1/spaces", tag = "spaces", extensions(("x-caller" = json!("operator"))),
    params(OnceKey), request_body = NewSpaceWire, responses((status = 201, body = SpaceWire)))]
async fn create(
    State(spaces): State<Spaces>,
    operator: Operator,
    key: OnceKey,
    Json(body): Json<NewSpaceWire>,
) -> Result<Response, ApiError> {
    let once = Once::new(key, &operator.0, "spaces.create", &json!(body).to_string(), spaces.clock.now());
    let mut tx = spaces.db.write(operator.tenant()).await?;
    let made_before = once.made_before(&mut tx).await?.and_then(|id| id.parse().ok());
    let space = match made_before {
        Some(id) => spaces.visible(&mut tx, id, &operator.0).await?,
        None => {
            let new = NewSpace {
                slug: body.slug,
                name: body.name,
                access: body.access.into(),
                prompt: body.prompt,
                reopen: body.reopen.unwrap_or(true),
            };
            let space = spaces.create(&mut tx, new, &operator.0).await?;
            once.keep(&mut tx, &space.id.to_string()).await?;
            space
        }
    };
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/spaces/{}", space.id))];
    Ok((StatusCode::CREATED, location, Json(SpaceWire::from(space))).into_response())
}

/// One Space.
#[utoipa::path(get, path = "/v1/spaces/{id}", tag = "spaces", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path)), responses((status = 200, body = SpaceWire)))]
async fn show(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Id(id): Id<SpaceId>,
) -> Result<Json<SpaceWire>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    Ok(Json(spaces.visible(&mut tx, id, &caller).await?.into()))
}

/// Changes a Space. Widening it to public takes a session.
#[utoipa::path(patch, path = "/v1/spaces/{id}", tag = "spaces", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path), IfVersion), request_body = SpaceChangeBody,
    responses((status = 200, body = SpaceWire)))]
async fn change(
    State(spaces): State<Spaces>,
    operator: Operator,
    Id(id): Id<SpaceId>,
    IfVersion(version): IfVersion,
    Json(body): Json<SpaceChangeBody>,
) -> Result<Json<SpaceWire>, ApiError> {
    let change = SpaceChange {
        name: body.name,
        access: body.access.map(SpaceAccess::from),
        prompt: body.prompt,
        reopen: body.reopen,
    };
    let mut tx = spaces.db.write(operator.tenant()).await?;
    let space = spaces.change(&mut tx, id, change, version, &operator.0).await?;
    tx.commit().await?;
    Ok(Json(space.into()))
}

/// The members of a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/members", tag = "spaces", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), Paging), responses((status = 200, body = List<MemberWire>)))]
async fn members(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Id(id): Id<SpaceId>,
    paging: Paging,
) -> Result<Json<List<MemberWire>>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    spaces.visible(&mut tx, id, &caller).await?;
    let found = spaces.members(&mut tx, id, paging.limit.saturating_add(1), paging.after_id()?).await?;
    let wire = List::cut(found, &paging, |member| member.user.to_string());
    Ok(Json(wire.map(|member| MemberWire { space_id: id, user_id: member.user, joined_at: member.joined_at })))
}

/// One member of a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/members/{user_id}", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, body = MemberWire)))]
async fn member_show(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Ids(id, user): Ids<SpaceId, UserId>,
) -> Result<Json<MemberWire>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    spaces.visible(&mut tx, id, &caller).await?;
    let member = spaces.member(&mut tx, id, user).await?.ok_or_else(ApiError::not_found)?;
    Ok(Json(MemberWire { space_id: id, user_id: member.user, joined_at: member.joined_at }))
}

/// Lets a person into a Space.
#[utoipa::path(put, path = "/v1/spaces/{id}/members/{user_id}", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, body = MemberWire)))]
async fn member_put(
    State(spaces): State<Spaces>,
    operator: Operator,
    Ids(id, user): Ids<SpaceId, UserId>,
) -> Result<Json<MemberWire>, ApiError> {
    let mut tx = spaces.db.write(operator.tenant()).await?;
    spaces.member_put(&mut tx, id, user, &operator.0).await?;
    let member = spaces.member(&mut tx, id, user).await?.ok_or_else(ApiError::not_found)?;
    tx.commit().await?;
    Ok(Json(MemberWire { space_id: id, user_id: member.user, joined_at: member.joined_at }))
}

/// Lets a person go: an operator anyone, everyone themselves.
#[utoipa::path(delete, path = "/v1/spaces/{id}/members/{user_id}", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), ("user_id" = String, Path)),
    responses((status = 204)))]
async fn member_remove(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Ids(id, user): Ids<SpaceId, UserId>,
) -> Result<StatusCode, ApiError> {
    let mut tx = spaces.db.write(caller.tenant).await?;
    spaces.member_remove(&mut tx, id, user, &caller).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The MCP servers that serve a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/mcp-servers", tag = "spaces", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), Paging), responses((status = 200, body = List<ServerWire>)))]
async fn servers(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Id(id): Id<SpaceId>,
    paging: Paging,
) -> Result<Json<List<ServerWire>>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    spaces.visible(&mut tx, id, &caller).await?;
    let found = spaces.servers(&mut tx, id).await?;
    Ok(Json(List::oldest_first(found, &paging, |server| server.server)?.map(ServerWire::from)))
}

/// Lets an MCP server serve a Space, or changes with what.
#[utoipa::path(put, path = "/v1/spaces/{id}/mcp-servers/{server_id}", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), ("server_id" = String, Path)),
    request_body = PolicyWire, responses((status = 200, body = ServerWire)))]
async fn server_put(
    State(spaces): State<Spaces>,
    operator: Operator,
    Ids(id, server): Ids<SpaceId, McpServerId>,
    Json(body): Json<PolicyWire>,
) -> Result<Json<ServerWire>, ApiError> {
    let policy = SpaceServer { server, tool_allowlist: body.tool_allowlist, approvals: body.approvals };
    let mut tx = spaces.db.write(operator.tenant()).await?;
    spaces.visible(&mut tx, id, &operator.0).await?;
    spaces.server_put(&mut tx, id, policy.clone(), &operator.requester()).await?;
    tx.commit().await?;
    Ok(Json(policy.into()))
}

/// Ends an MCP server's service in a Space.
#[utoipa::path(delete, path = "/v1/spaces/{id}/mcp-servers/{server_id}", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), ("server_id" = String, Path)),
    responses((status = 204)))]
async fn server_remove(
    State(spaces): State<Spaces>,
    operator: Operator,
    Ids(id, server): Ids<SpaceId, McpServerId>,
) -> Result<StatusCode, ApiError> {
    let mut tx = spaces.db.write(operator.tenant()).await?;
    spaces.visible(&mut tx, id, &operator.0).await?;
    spaces.server_remove(&mut tx, id, server, &operator.requester()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
