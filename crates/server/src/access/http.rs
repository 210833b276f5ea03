//! JSON routes: sessions, the caller, people, invitations. Those of tokens are in `http/tokens.rs`.

mod client;
mod people;
mod tokens;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{AuthMethod, Principal, Role, Scope, Secret, SessionId, TenantId, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use client::{Sender, session_cookies, session_cookies_end};

use super::sign_in::SignIn;
use super::{Access, Error, NewSession, Session, User};
use crate::edge::{ApiError, Caller, IfMatch, Json, List, Member, Pagination, Path, Public, SessionUser};

/// Every JSON route of the slice.
pub fn routes(access: &Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(session_create))
        .routes(routes!(session_delete))
        .routes(routes!(me_get))
        .routes(routes!(me_sessions_list))
        .routes(routes!(me_session_delete))
        .routes(routes!(me_password_set))
        .merge(people::routes())
        .merge(tokens::routes())
        .with_state(access.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let forbidden = Self::forbidden;
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::SlugTaken => Self::conflict("slug_taken", "This name is already taken. Choose another."),
            Error::EmailTaken => Self::conflict("email_taken", "A person with this email already exists."),
            Error::WrongPassword => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong_credentials", "Incorrect email or password. Try again.")
            }
            Error::AmbiguousTenant => {
                Self::invalid("tenant", "this email is used at several companies; enter the short name of yours.")
            }
            Error::TooManyAttempts { retry_after_seconds } => Self::too_many(
                retry_after_seconds,
                "Too many attempts. Wait a few minutes and try again, or use a browser where you signed in before.",
            ),
            Error::Busy { retry_after_seconds } => Self::unavailable(
                retry_after_seconds,
                "Too many people are signing in right now. Try again in a few seconds, or use a browser where you signed in \
                 before.",
            ),
            Error::CodeExpired => Self::new(
                StatusCode::GONE,
                "code_expired",
                "This link has expired or was already used. Ask an operator for a new one.",
            ),
            Error::AlreadyAccepted => Self::conflict(
                "already_accepted",
                "This person has already accepted the invitation or is disabled, so no new invitation was created.",
            ),
            Error::ReauthRequired => ApiError::reauth_required(),
            Error::NeedsSession => {
                forbidden("needs_session", "A token cannot do this. Sign in with a browser to continue.")
            }
            Error::NeedsOperator => forbidden("needs_operator", "Only operators can do this. Ask an operator."),
            Error::OnlyOwners => forbidden("needs_owner", "Only owners can add or change owners. Ask an owner."),
            Error::LastOwner => {
                Self::conflict("last_owner", "There must be at least one active owner. Add another owner first.")
            }
            Error::AccessChanged => Self::new(
                StatusCode::UNAUTHORIZED,
                "access_changed",
                "Your access changed while this request ran, and nothing was done; sign in again.",
            ),
            Error::VersionConflict => IfMatch::precondition_failed(),
            Error::Idempotency(error) => error.into(),
            Error::Random(_) | Error::Hashing(_) | Error::Database(_) | Error::Audit(_) => Self::internal(&error),
        }
    }
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    /// The tenant's slug; needed only if several tenants know the e-mail.
    #[schema(example = "acme")]
    tenant: Option<String>,
    /// Your e-mail address.
    #[schema(example = "ana@acme.test")]
    email: String,
    /// Your password.
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Secret,
}

/// What a new session answers; the session itself is in the cookie.
#[derive(Serialize, ToSchema)]
struct SignInResponse {
    /// The token to send as `X-CSRF-Token` with every method but GET and HEAD.
    #[schema(example = "4d7c1f0a9b")]
    csrf_token: String,
    /// The person who signed in.
    #[schema(value_type = String)]
    user_id: UserId,
}

fn session_response(status: StatusCode, session: &NewSession) -> Response {
    let body = SignInResponse { csrf_token: session.csrf.clone(), user_id: session.user };
    (status, session_cookies(session), Json(body)).into_response()
}

/// Signs a person in.
///
/// It takes no `Idempotency-Key`: each sign-in makes a session of its own.
#[utoipa::path(post, path = "/v1/sessions", operation_id = "sessions.create", tag = "access",
    request_body = SignInRequest,
    responses((status = 201, body = SignInResponse, description = "Signed in; the session is in the cookie.")),
    extensions(("x-caller" = json!("public"))))]
async fn session_create(
    State(access): State<Access>,
    _: Public,
    Sender(client): Sender,
    Json(body): Json<SignInRequest>,
) -> Result<Response, ApiError> {
    let sign_in = SignIn { tenant: body.tenant.as_deref(), email: &body.email, password: &body.password };
    let session = access.sign_in(sign_in, &client).await?;
    let mut response = session_response(StatusCode::CREATED, &session);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/me"));
    Ok(response)
}

/// Signs the calling browser out.
#[utoipa::path(delete, path = "/v1/sessions/current", operation_id = "sessions.delete", tag = "access",
    responses((status = 204, description = "Signed out.")), extensions(("x-caller" = json!("consent"))))]
async fn session_delete(State(access): State<Access>, consent: SessionUser) -> Result<Response, ApiError> {
    if let AuthMethod::Session { id, .. } = consent.principal.auth {
        access.session_end(&consent.principal, id).await?;
    }
    Ok((StatusCode::NO_CONTENT, session_cookies_end()).into_response())
}

/// A person, as operators and they themselves see them.
#[derive(Serialize, ToSchema)]
struct UserResponse {
    #[schema(value_type = String, example = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: UserId,
    /// Their e-mail address, with which they sign in.
    #[schema(example = "ana@acme.test")]
    email: String,
    /// What people call them.
    #[schema(example = "Ana")]
    name: String,
    /// What they may do: `member`, `operator` or `owner`.
    #[schema(value_type = String, example = "member")]
    role: Role,
    /// Whether they are kept out.
    #[schema(example = false)]
    disabled: bool,
    /// Whether they have set a password.
    #[schema(example = true)]
    accepted: bool,
    version: i64,
    #[schema(value_type = String)]
    created_at: Timestamp,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        let User { id, email, name, role, disabled, accepted, created_at, version } = user;
        Self { id, email, name, role, disabled, accepted, version, created_at }
    }
}

/// A tenant.
#[derive(Serialize, ToSchema)]
struct TenantResponse {
    #[schema(value_type = String, example = "ten_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: TenantId,
    /// The short name with which people sign in.
    #[schema(example = "acme")]
    slug: String,
    /// What people call it.
    #[schema(example = "Acme")]
    name: String,
}

/// Who you are.
#[derive(Serialize, ToSchema)]
struct MeResponse {
    /// The tenant that you belong to.
    tenant: TenantResponse,
    /// The person; null for a service token.
    user: Option<UserResponse>,
    /// How you signed in: `session`, `token` or `turn`.
    #[schema(example = "session")]
    via: &'static str,
    /// How much the token may do; null for a session, which may do what the person may.
    #[schema(value_type = Option<String>, example = "write")]
    scope: Option<Scope>,
    /// When the password was given, RFC 3339; null for a token.
    #[schema(value_type = Option<String>)]
    signed_in_at: Option<Timestamp>,
}

/// Gets who you are: your tenant, your account and how you signed in.
#[utoipa::path(get, path = "/v1/me", operation_id = "me.get", tag = "access",
    responses((status = 200, body = MeResponse, description = "Who you are here.")),
    extensions(("x-caller" = json!("caller"))))]
async fn me_get(State(access): State<Access>, Caller(principal): Caller) -> Result<Json<MeResponse>, ApiError> {
    let (slug, name, user) = access.whoami(&principal).await?;
    let (via, scope, signed_in_at) = match principal.auth {
        AuthMethod::Session { signed_in_at, .. } => ("session", None, Some(signed_in_at)),
        AuthMethod::Token { scope, .. } => ("token", Some(scope), None),
        AuthMethod::Turn { .. } => ("turn", None, None),
    };
    let tenant = TenantResponse { id: principal.tenant, slug, name };
    Ok(Json(MeResponse { tenant, user: user.map(UserResponse::from), via, scope, signed_in_at }))
}

impl Access {
    async fn whoami(&self, principal: &Principal) -> Result<(String, String, Option<User>), Error> {
        let mut tx = self.db.read(principal.tenant).await?;
        let (slug, name) = self.tenant(&mut tx).await?;
        let user = match principal.user() {
            Some(id) => self.user(&mut tx, id).await?,
            None => None,
        };
        Ok((slug, name, user))
    }
}

/// A browser in which you are signed in.
#[derive(Serialize, ToSchema)]
struct SessionResponse {
    #[schema(value_type = String, example = "ses_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: SessionId,
    /// Whether it is the session of this request.
    #[schema(example = true)]
    current: bool,
    /// The browser, as it names itself.
    #[schema(example = "Mozilla/5.0")]
    user_agent: String,
    /// When you signed in, RFC 3339.
    #[schema(value_type = String)]
    signed_in_at: Timestamp,
    /// When it was last used, RFC 3339.
    #[schema(value_type = String)]
    last_seen_at: Timestamp,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

/// Lists the browsers in which you are signed in, newest first.
#[utoipa::path(get, path = "/v1/me/sessions", operation_id = "me.sessions.list", tag = "access", params(Pagination),
    responses((status = 200, body = List<SessionResponse>, description = "Your sessions, newest first.")),
    extensions(("x-caller" = json!("member"))))]
async fn me_sessions_list(
    State(access): State<Access>,
    member: Member,
    paging: Pagination,
) -> Result<Json<List<SessionResponse>>, ApiError> {
    let current = match member.principal.auth {
        AuthMethod::Session { id, .. } => Some(id),
        AuthMethod::Token { .. } | AuthMethod::Turn { .. } => None,
    };
    let sessions = access.sessions(member.tenant(), member.user).await?;
    let body = |Session { id, user_agent, signed_in_at, last_seen_at, expires_at }| SessionResponse {
        id,
        current: current == Some(id),
        user_agent,
        signed_in_at,
        last_seen_at,
        expires_at,
    };
    Ok(Json(List::newest_first(sessions, &paging, |session| session.id)?.map(body)))
}

/// Signs one of your browsers out.
#[utoipa::path(delete, path = "/v1/me/sessions/{id}", operation_id = "me.sessions.delete", tag = "access",
    params(("id" = String, Path, description = "A session of yours.")),
    responses((status = 204, description = "That browser is signed out.")), extensions(("x-caller" = json!("member"))))]
async fn me_session_delete(
    State(access): State<Access>,
    member: Member,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, ApiError> {
    access.session_end(&member.principal, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The password before and after.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePasswordRequest {
    /// The password that you have now.
    #[schema(value_type = String, example = "correct horse battery staple")]
    current_password: Secret,
    /// The new password, at least 12 characters.
    #[schema(value_type = String, example = "nine green bicycles at dawn")]
    new_password: Secret,
}

/// Changes your own password; every other session ends.
#[utoipa::path(put, path = "/v1/me/password", operation_id = "me.password.set", tag = "access",
    request_body = ChangePasswordRequest,
    responses((status = 204, description = "The password is changed; every other session has ended.")),
    extensions(("x-caller" = json!("consent"))))]
async fn me_password_set(
    State(access): State<Access>,
    consent: SessionUser,
    Json(body): Json<ChangePasswordRequest>,
) -> Result<StatusCode, ApiError> {
    access.password_change(&consent.principal, &body.current_password, &body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}
