//! JSON routes of people and invitations.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Role, Secret, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::{Access, Invited, NewUser, UserUpdate};
use super::{Sender, SignInResponse, UserResponse, session_response};
use crate::edge::{ApiError, Idempotency, IdempotencyKey, IfMatch, Json, List, Operator, Pagination, Path, Public};

pub(super) fn routes() -> OpenApiRouter<Access> {
    OpenApiRouter::new()
        .routes(routes!(list, invite))
        .routes(routes!(get, update))
        .routes(routes!(renew_invitation))
        .routes(routes!(invitation_accept))
}

/// Lists the people of the tenant.
#[utoipa::path(get, path = "/v1/users", operation_id = "users.list", tag = "access", params(Pagination),
    responses((status = 200, body = List<UserResponse>, description = "The people of the tenant.")),
    extensions(("x-caller" = json!("operator"))))]
async fn list(
    State(access): State<Access>,
    operator: Operator,
    paging: Pagination,
) -> Result<Json<List<UserResponse>>, ApiError> {
    let users = access.users(operator.tenant(), paging.fetch_limit(), paging.after_id()?).await?;
    Ok(Json(List::cut(users, &paging, |user| user.id.to_string()).map(UserResponse::from)))
}

/// A person to invite.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct InviteUserRequest {
    /// Their e-mail address, with which they sign in.
    #[schema(example = "ana@acme.test")]
    email: String,
    /// What people call them.
    #[schema(example = "Ana")]
    name: String,
    /// What they may do: `member`, `operator` or `owner`.
    #[schema(value_type = String, example = "member")]
    role: Role,
}

/// A person with the link that is shown this once.
#[derive(Serialize, ToSchema)]
struct InvitationResponse {
    #[serde(flatten)]
    user: UserResponse,
    /// Where they set their password; it works once and is shown in this answer only.
    #[schema(example = "https://thinkwork.example.com/invitation?code=inv_7Hq2Zc9LmXw4")]
    invite_url: String,
    /// When the link stops working, RFC 3339.
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

impl From<Invited> for InvitationResponse {
    fn from(invited: Invited) -> Self {
        Self {
            user: invited.user.into(),
            invite_url: invited.invite_url.expose_str().unwrap_or_default().to_owned(),
            expires_at: invited.expires_at,
        }
    }
}

/// Invites a person. The link to set their password is shown in this answer only.
#[utoipa::path(post, path = "/v1/users", operation_id = "users.invite", tag = "access", params(IdempotencyKey),
    request_body = InviteUserRequest,
    responses((status = 201, body = InvitationResponse, description = "Invited; the link is shown this once.")),
    extensions(("x-caller" = json!("operator"))))]
async fn invite(
    State(access): State<Access>,
    operator: Operator,
    key: IdempotencyKey,
    Json(body): Json<InviteUserRequest>,
) -> Result<Response, ApiError> {
    let text = serde_json::to_string(&body).map_err(|error| ApiError::internal(&error))?;
    let idempotency = Idempotency::new(key, &operator.0, "users.create", &text, access.now());
    let new = NewUser { email: body.email, name: body.name, role: body.role };
    let invited = access.user_invite(&operator.0, new, &idempotency).await?;
    let location = [(header::LOCATION, format!("/v1/users/{}", invited.user.id))];
    Ok((StatusCode::CREATED, location, Json(InvitationResponse::from(invited))).into_response())
}

/// Gets a person.
#[utoipa::path(get, path = "/v1/users/{id}", operation_id = "users.get", tag = "access",
    params(("id" = String, Path, description = "A person of the tenant.")),
    responses((status = 200, body = UserResponse, description = "The person.")),
    extensions(("x-caller" = json!("operator"))))]
async fn get(
    State(access): State<Access>,
    operator: Operator,
    Path(id): Path<UserId>,
) -> Result<Json<UserResponse>, ApiError> {
    let mut tx = access.db.read(operator.tenant()).await?;
    Ok(Json(access.user(&mut tx, id).await?.ok_or_else(ApiError::not_found)?.into()))
}

/// What to change of a person; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateUserRequest {
    /// What people call them.
    #[schema(example = "Ana")]
    name: Option<String>,
    /// What they may do: `member`, `operator` or `owner`.
    #[schema(value_type = Option<String>, example = "operator")]
    role: Option<Role>,
    /// Whether they are kept out; true ends their sessions, tokens and connections at once.
    #[schema(example = false)]
    disabled: Option<bool>,
}

/// Changes a person's name or role, or disables or enables them.
#[utoipa::path(patch, path = "/v1/users/{id}", operation_id = "users.update", tag = "access",
    request_body = UpdateUserRequest, params(("id" = String, Path, description = "A person of the tenant."), IfMatch),
    responses((status = 200, body = UserResponse, description = "The person as changed.")),
    extensions(("x-caller" = json!("operator"))))]
async fn update(
    State(access): State<Access>,
    operator: Operator,
    Path(id): Path<UserId>,
    IfMatch(if_version): IfMatch,
    Json(body): Json<UpdateUserRequest>,
) -> Result<Json<UserResponse>, ApiError> {
    let change = UserUpdate { name: body.name, role: body.role, disabled: body.disabled, if_version };
    Ok(Json(access.user_update(&operator.0, id, change).await?.into()))
}

/// Creates a new invitation link for a person who has not accepted; the one before stops working.
#[utoipa::path(post, path = "/v1/users/{id}/invitation", operation_id = "users.renew_invitation", tag = "access",
    params(("id" = String, Path, description = "A person who has not accepted yet."), IdempotencyKey),
    responses((status = 200, body = InvitationResponse, description = "A new link; the one before stops working.")),
    extensions(("x-caller" = json!("operator"))))]
async fn renew_invitation(
    State(access): State<Access>,
    operator: Operator,
    Path(id): Path<UserId>,
    key: IdempotencyKey,
) -> Result<Json<InvitationResponse>, ApiError> {
    let idempotency = Idempotency::new(key, &operator.0, "users.invitation", &id.to_string(), access.now());
    Ok(Json(access.invitation_renew(&operator.0, id, &idempotency).await?.into()))
}

/// The invitation and the new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptInvitationRequest {
    /// The code of the invitation link.
    #[schema(value_type = String, example = "inv_7Hq2Zc9LmXw4")]
    code: Secret,
    /// The new password, at least 12 characters.
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Secret,
}

/// Accepts an invitation: sets the password and signs the person in.
#[utoipa::path(post, path = "/v1/invitations/accept", operation_id = "invitations.accept", tag = "access",
    request_body = AcceptInvitationRequest,
    responses((status = 200, body = SignInResponse, description = "The password is set and you are signed in.")),
    extensions(("x-caller" = json!("public"))))]
async fn invitation_accept(
    State(access): State<Access>,
    _: Public,
    Sender(client): Sender,
    Json(body): Json<AcceptInvitationRequest>,
) -> Result<Response, ApiError> {
    let code = body.code.expose_str().unwrap_or_default();
    let session = access.code_accept(code, None, &body.password, &client).await?;
    Ok(session_response(StatusCode::OK, &session))
}
