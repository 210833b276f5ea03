//! JSON routes of Spaces and their members. What serves them is read where it is registered.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thinkwork_primitives::{SpaceId, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Error, NewSpace, Space, SpaceAccess, SpaceUpdate, Spaces};
use crate::edge::{ApiError, Caller, Idempotency, IdempotencyKey, IfMatch, Json, List, Operator, Pagination, Path};

pub fn routes(spaces: &Spaces) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update))
        .routes(routes!(members_list))
        .routes(routes!(member_get, member_set, member_delete))
        .with_state(spaces.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::SlugTaken => Self::conflict("slug_taken", "This slug is already taken. Choose another."),
            Error::VersionConflict => IfMatch::precondition_failed(),
            Error::NeedsSession => Self::forbidden(
                "needs_session",
                "A token cannot make a Space public. Sign in with a browser to continue.",
            ),
            Error::LastMember => Self::conflict(
                "last_member",
                "A private Space must have at least one member. Add another member first.",
            ),
            Error::Database(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Access(error) => error.into(),
        }
    }
}

/// A Space.
#[derive(Serialize, ToSchema)]
struct SpaceResponse {
    #[schema(value_type = String, example = "spc_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: SpaceId,
    /// The short name in addresses; unique in the tenant.
    #[schema(example = "billing")]
    slug: String,
    /// What people call it.
    #[schema(example = "Billing")]
    name: String,
    /// Who may see it.
    access: SpaceAccess,
    /// What the agent is told in every turn here.
    #[schema(example = "Say what is due.")]
    prompt: Option<String>,
    /// Whether an event for a closed thread reopens it.
    #[schema(example = true)]
    reopen: bool,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
}

impl From<Space> for SpaceResponse {
    fn from(space: Space) -> Self {
        Self {
            id: space.id,
            slug: space.slug,
            name: space.name,
            access: space.access,
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
struct CreateSpaceRequest {
    /// The short name in addresses; unique in the tenant.
    #[schema(example = "billing")]
    slug: String,
    /// What people call it.
    #[schema(example = "Billing")]
    name: String,
    /// Who may see it.
    access: SpaceAccess,
    /// What the agent is told in every turn here.
    #[schema(example = "Say what is due.")]
    prompt: Option<String>,
    /// Whether an event for a closed thread reopens it; true if absent.
    #[schema(example = true)]
    reopen: Option<bool>,
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSpaceRequest {
    /// What people call it.
    #[schema(example = "Billing")]
    name: Option<String>,
    /// Who may see it.
    access: Option<SpaceAccess>,
    /// What the agent is told in every turn here; an empty text removes it.
    #[schema(example = "Say what is due.")]
    prompt: Option<String>,
    /// Whether an event for a closed thread reopens it.
    #[schema(example = true)]
    reopen: Option<bool>,
}

/// A member of a Space.
#[derive(Serialize, ToSchema)]
struct SpaceMemberResponse {
    #[schema(value_type = String)]
    space_id: SpaceId,
    /// The member.
    #[schema(value_type = String)]
    user_id: UserId,
    /// When they were added, RFC 3339.
    #[schema(value_type = String)]
    joined_at: Timestamp,
}

/// Lists the Spaces that you may see.
#[utoipa::path(get, path = "/v1/spaces", operation_id = "spaces.list", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(Pagination), responses((status = 200, body = List<SpaceResponse>)))]
async fn list(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    paging: Pagination,
) -> Result<Json<List<SpaceResponse>>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    let found = spaces.list(&mut tx, &caller, paging.fetch_limit(), paging.after_id()?).await?;
    Ok(Json(List::cut(found, &paging, |space| space.id.to_string()).map(SpaceResponse::from)))
}

/// Creates a Space.
#[utoipa::path(post, path = "/v1/spaces", operation_id = "spaces.create", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(IdempotencyKey), request_body = CreateSpaceRequest,
    responses((status = 201, body = SpaceResponse)))]
async fn create(
    State(spaces): State<Spaces>,
    operator: Operator,
    key: IdempotencyKey,
    Json(body): Json<CreateSpaceRequest>,
) -> Result<Response, ApiError> {
    let idempotency = Idempotency::new(key, &operator.0, "spaces.create", &json!(body).to_string(), spaces.clock.now());
    let mut tx = spaces.access.write_as(&operator.0).await?;
    let existing = idempotency.existing(&mut tx).await?.and_then(|id| id.parse().ok());
    let space = match existing {
        Some(id) => spaces.visible(&mut tx, id, &operator.0).await?,
        None => {
            let new = NewSpace::new(body.slug, body.name, body.access);
            let new = NewSpace { prompt: body.prompt, reopen: body.reopen.unwrap_or(new.reopen), ..new };
            let space = spaces.create(&mut tx, new, &operator.0).await?;
            idempotency.keep(&mut tx, &space.id.to_string()).await?;
            space
        }
    };
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/spaces/{}", space.id))];
    Ok((StatusCode::CREATED, location, Json(SpaceResponse::from(space))).into_response())
}

/// Gets a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}", operation_id = "spaces.get", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path)),
    responses((status = 200, body = SpaceResponse)))]
async fn get(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Path(id): Path<SpaceId>,
) -> Result<Json<SpaceResponse>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    Ok(Json(spaces.visible(&mut tx, id, &caller).await?.into()))
}

/// Changes a Space. Making it public takes a signed-in browser; a token cannot.
#[utoipa::path(patch, path = "/v1/spaces/{id}", operation_id = "spaces.update", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), IfMatch),
    request_body = UpdateSpaceRequest, responses((status = 200, body = SpaceResponse)))]
async fn update(
    State(spaces): State<Spaces>,
    operator: Operator,
    Path(id): Path<SpaceId>,
    IfMatch(version): IfMatch,
    Json(body): Json<UpdateSpaceRequest>,
) -> Result<Json<SpaceResponse>, ApiError> {
    let change = SpaceUpdate { name: body.name, access: body.access, prompt: body.prompt, reopen: body.reopen };
    let mut tx = spaces.access.write_as(&operator.0).await?;
    let space = spaces.update(&mut tx, id, change, version, &operator.0).await?;
    tx.commit().await?;
    Ok(Json(space.into()))
}

/// Lists the members of a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/members", operation_id = "spaces.members.list", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), Pagination),
    responses((status = 200, body = List<SpaceMemberResponse>)))]
async fn members_list(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Path(id): Path<SpaceId>,
    paging: Pagination,
) -> Result<Json<List<SpaceMemberResponse>>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    spaces.visible(&mut tx, id, &caller).await?;
    let found = spaces.members(&mut tx, id, paging.fetch_limit(), paging.after_id()?).await?;
    let wire = List::cut(found, &paging, |member| member.user.to_string());
    Ok(Json(wire.map(|member| SpaceMemberResponse { space_id: id, user_id: member.user, joined_at: member.joined_at })))
}

/// Gets a member of a Space.
#[utoipa::path(get, path = "/v1/spaces/{id}/members/{user_id}", operation_id = "spaces.members.get", tag = "spaces",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, body = SpaceMemberResponse)))]
async fn member_get(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Path((id, user)): Path<(SpaceId, UserId)>,
) -> Result<Json<SpaceMemberResponse>, ApiError> {
    let mut tx = spaces.db.read(caller.tenant).await?;
    spaces.visible(&mut tx, id, &caller).await?;
    let member = spaces.member(&mut tx, id, user).await?.ok_or_else(ApiError::not_found)?;
    Ok(Json(SpaceMemberResponse { space_id: id, user_id: member.user, joined_at: member.joined_at }))
}

/// Adds a person to a Space.
#[utoipa::path(put, path = "/v1/spaces/{id}/members/{user_id}", operation_id = "spaces.members.set", tag = "spaces",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), ("user_id" = String, Path)),
    responses((status = 200, body = SpaceMemberResponse)))]
async fn member_set(
    State(spaces): State<Spaces>,
    operator: Operator,
    Path((id, user)): Path<(SpaceId, UserId)>,
) -> Result<Json<SpaceMemberResponse>, ApiError> {
    let mut tx = spaces.access.write_as(&operator.0).await?;
    spaces.member_set(&mut tx, id, user, &operator.0).await?;
    let member = spaces.member(&mut tx, id, user).await?.ok_or_else(ApiError::not_found)?;
    tx.commit().await?;
    Ok(Json(SpaceMemberResponse { space_id: id, user_id: member.user, joined_at: member.joined_at }))
}

/// Removes a person from a Space. Operators may remove anyone, everyone may remove themselves.
#[utoipa::path(delete, path = "/v1/spaces/{id}/members/{user_id}", operation_id = "spaces.members.delete",
    tag = "spaces", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), ("user_id" = String, Path)), responses((status = 204)))]
async fn member_delete(
    State(spaces): State<Spaces>,
    Caller(caller): Caller,
    Path((id, user)): Path<(SpaceId, UserId)>,
) -> Result<StatusCode, ApiError> {
    let mut tx = spaces.access.write_as(&caller).await?;
    spaces.member_delete(&mut tx, id, user, &caller).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
