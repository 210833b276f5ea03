//! JSON routes of people and invitations.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Role, Secret, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::{Access, Invited, NewUser, UserChange};
use super::{Sender, SessionAnswer, UserBody, location, session_answer};
use crate::edge::{ApiError, Id, IfVersion, Json, List, Once, OnceKey, Operator, Paging, Public};

pub(super) fn routes() -> OpenApiRouter<Access> {
    OpenApiRouter::new()
        .routes(routes!(users, user_invite))
        .routes(routes!(user_show, user_change))
        .routes(routes!(invitation_renew))
        .routes(routes!(invitation_accept))
}

#[utoipa::path(get, path = "/v1/users", tag = "access", params(Paging),
    responses((status = 200, body = List<UserBody>, description = "The people of the tenant.")),
    extensions(("x-caller" = json!("operator"))))]
async fn users(
    State(access): State<Access>,
    operator: Operator,
    paging: Paging,
) -> Result<Json<List<UserBody>>, ApiError> {
    let users = access.users(operator.tenant(), &paging).await?;
    Ok(Json(List::cut(users, &paging, |user| user.id.to_string()).map(UserBody::from)))
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct InviteBody {
    email: String,
    name: String,
    #[schema(value_type = String)]
    role: Role,
}

/// A person with the link that is shown this once.
#[derive(Serialize, ToSchema)]
struct InvitedBody {
    #[serde(flatten)]
    user: UserBody,
    /// Where they set their password; works once.
    invite_url: String,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

impl From<Invited> for InvitedBody {
    fn from(invited: Invited) -> Self {
        Self {
            user: invited.user.into(),
            invite_url: invited.invite_url.expose_str().unwrap_or_default().to_owned(),
            expires_at: invited.expires_at,
        }
    }
}

#[utoipa::path(post, path = "/v1/users", tag = "access", params(OnceKey), request_body = InviteBody,
    responses((status = 201, body = InvitedBody, description = "Invited; the link is shown this once.")),
    extensions(("x-caller" = json!("operator"))))]
async fn user_invite(
    State(access): State<Access>,
    operator: Operator,
    key: OnceKey,
    Json(body): Json<InviteBody>,
) -> Result<Response, ApiError> {
    let text = serde_json::to_string(&body).map_err(|error| ApiError::internal(&error))?;
    let once = Once::new(key, &operator.0, "users.create", &text, access.now());
    let new = NewUser { email: body.email, name: body.name, role: body.role };
    let invited = access.user_invite(&operator.0, new, &once).await?;
    let headers = location(format!("/v1/users/{}", invited.user.id));
    Ok((StatusCode::CREATED, headers, Json(InvitedBody::from(invited))).into_response())
}

#[utoipa::path(get, path = "/v1/users/{id}", tag = "access",
    params(("id" = String, Path, description = "A person of the tenant.")),
    responses((status = 200, body = UserBody, description = "The person.")),
    extensions(("x-caller" = json!("operator"))))]
async fn user_show(
    State(access): State<Access>,
    operator: Operator,
    Id(id): Id<UserId>,
) -> Result<Json<UserBody>, ApiError> {
    let mut tx = access.db.read(operator.tenant()).await?;
    Ok(Json(access.user(&mut tx, id).await?.ok_or_else(ApiError::not_found)?.into()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChangeBody {
    name: Option<String>,
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// True ends sessions, tokens and grants at once.
    disabled: Option<bool>,
}

#[utoipa::path(patch, path = "/v1/users/{id}", tag = "access", request_body = UserChangeBody,
    params(("id" = String, Path, description = "A person of the tenant."), IfVersion),
    responses((status = 200, body = UserBody, description = "The person as changed.")),
    extensions(("x-caller" = json!("operator"))))]
async fn user_change(
    State(access): State<Access>,
    operator: Operator,
    Id(id): Id<UserId>,
    IfVersion(if_version): IfVersion,
    Json(body): Json<UserChangeBody>,
) -> Result<Json<UserBody>, ApiError> {
    let change = UserChange { name: body.name, role: body.role, disabled: body.disabled, if_version };
    Ok(Json(access.user_change(&operator.0, id, change).await?.into()))
}

#[utoipa::path(post, path = "/v1/users/{id}/invitation", tag = "access",
    params(("id" = String, Path, description = "A person who has not accepted yet."), OnceKey),
    responses((status = 200, body = InvitedBody, description = "A new link; the one before stops working.")),
    extensions(("x-caller" = json!("operator"))))]
async fn invitation_renew(
    State(access): State<Access>,
    operator: Operator,
    Id(id): Id<UserId>,
    key: OnceKey,
) -> Result<Json<InvitedBody>, ApiError> {
    let once = Once::new(key, &operator.0, "users.invitation", &id.to_string(), access.now());
    Ok(Json(access.invitation_renew(&operator.0, id, &once).await?.into()))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    /// The code of the link.
    #[schema(value_type = String)]
    code: Secret,
    /// At least 12 characters.
    #[schema(value_type = String)]
    password: Secret,
}

#[utoipa::path(post, path = "/v1/invitations/accept", tag = "access", request_body = AcceptBody,
    responses((status = 200, body = SessionAnswer, description = "The password is set and you are signed in.")),
    extensions(("x-caller" = json!("public"))))]
async fn invitation_accept(
    State(access): State<Access>,
    _: Public,
    Sender(client): Sender,
    Json(body): Json<AcceptBody>,
) -> Result<Response, ApiError> {
    let code = body.code.expose_str().unwrap_or_default();
    let session = access.code_accept(code, None, &body.password, &client).await?;
    Ok(session_answer(StatusCode::OK, &session))
}
