//! JSON routes: sessions, the caller, people, invitations. Those of tokens are in `http/tokens.rs`.

mod client;
mod people;
mod tokens;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Principal, Role, Scope, Secret, SessionId, TenantId, Timestamp, UserId, Via};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use client::{Sender, session_cookies, session_cookies_end};

use super::sign_in::SignIn;
use super::{Access, Error, NewSession, Session, User};
use crate::edge::{ApiError, Caller, Consent, Id, IfVersion, Json, List, Member, Paging, Public};

/// Every JSON route of the slice.
pub fn routes(access: &Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(session_create))
        .routes(routes!(session_end_current))
        .routes(routes!(me))
        .routes(routes!(my_sessions))
        .routes(routes!(my_session_end))
        .routes(routes!(my_password))
        .merge(people::routes())
        .merge(tokens::routes())
        .with_state(access.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let forbidden = Self::forbidden;
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid { field, problem } => Self::invalid(field, problem),
            Error::SlugTaken => Self::conflict("slug_taken", "Another tenant has this name; choose another."),
            Error::EmailTaken => Self::conflict("email_taken", "Your tenant has a person with this e-mail already."),
            Error::WrongPassword => Self::new(
                StatusCode::UNAUTHORIZED,
                "wrong_credentials",
                "E-mail or password is wrong; check both and try again.",
            ),
            Error::WhichTenant => Self::invalid("tenant", "several tenants know this e-mail; name yours."),
            Error::TooManyTries { retry_after_seconds } => Self::too_many(
                retry_after_seconds,
                "Too many tries; wait a few minutes, or use a browser in which you signed in before.",
            ),
            Error::CodeExpired => Self::new(
                StatusCode::GONE,
                "code_expired",
                "This link was used or has expired; ask an operator of your tenant for a new one.",
            ),
            Error::AlreadyAccepted => Self::conflict(
                "already_accepted",
                "This person has a password or is disabled; a link cannot change that.",
            ),
            Error::ReauthRequired => forbidden(
                "reauth_required",
                "This needs a sign-in of the last 10 minutes; sign in again and repeat it.",
            ),
            Error::NeedsSession => forbidden("needs_session", "A token cannot do this; do it signed in, in a browser."),
            Error::NeedsOperator => {
                forbidden("needs_operator", "Only an operator of your tenant may do this; ask one.")
            }
            Error::OnlyOwners => forbidden("needs_owner", "Only an owner may name or change owners; ask one."),
            Error::LastOwner => {
                Self::conflict("last_owner", "The tenant needs an owner who can sign in; name another owner first.")
            }
            Error::Changed => IfVersion::changed(),
            Error::Once(error) => *error,
            Error::Random(_) | Error::Hashing(_) | Error::Database(_) | Error::Audit(_) => Self::internal(&error),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignInBody {
    /// The tenant's slug; only where several tenants know the e-mail.
    tenant: Option<String>,
    email: String,
    #[schema(value_type = String)]
    password: Secret,
}

/// What a new session answers; the session itself is in the cookie.
#[derive(Serialize, ToSchema)]
struct SessionAnswer {
    /// To send as `X-CSRF-Token` with every method but GET.
    csrf_token: String,
    #[schema(value_type = String)]
    user_id: UserId,
}

fn session_answer(status: StatusCode, session: &NewSession) -> Response {
    let body = SessionAnswer { csrf_token: session.csrf.clone(), user_id: session.user };
    (status, session_cookies(session), Json(body)).into_response()
}

/// Signs a person in. It takes no `Idempotency-Key`: each sign-in makes a session of its own.
#[utoipa::path(post, path = "/v1/sessions", tag = "access", request_body = SignInBody,
    responses((status = 201, body = SessionAnswer, description = "Signed in; the session is in the cookie.")),
    extensions(("x-caller" = json!("public"))))]
async fn session_create(
    State(access): State<Access>,
    _: Public,
    Sender(client): Sender,
    Json(body): Json<SignInBody>,
) -> Result<Response, ApiError> {
    let sign_in = SignIn { tenant: body.tenant.as_deref(), email: &body.email, password: &body.password };
    let session = access.sign_in(sign_in, &client).await?;
    let mut response = session_answer(StatusCode::CREATED, &session);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/me"));
    Ok(response)
}

#[utoipa::path(delete, path = "/v1/sessions/current", tag = "access",
    responses((status = 204, description = "Signed out.")), extensions(("x-caller" = json!("consent"))))]
async fn session_end_current(State(access): State<Access>, consent: Consent) -> Result<Response, ApiError> {
    if let Via::Session { id, .. } = consent.principal.via {
        access.session_end(consent.principal.tenant, consent.user, id).await?;
    }
    Ok((StatusCode::NO_CONTENT, session_cookies_end()).into_response())
}

/// A person, as operators and they themselves see them.
#[derive(Serialize, ToSchema)]
struct UserBody {
    #[schema(value_type = String)]
    id: UserId,
    email: String,
    name: String,
    #[schema(value_type = String)]
    role: Role,
    disabled: bool,
    /// Whether they have set a password.
    accepted: bool,
    version: i64,
    #[schema(value_type = String)]
    created_at: Timestamp,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        let User { id, email, name, role, disabled, accepted, created_at, version } = user;
        Self { id, email, name, role, disabled, accepted, version, created_at }
    }
}

#[derive(Serialize, ToSchema)]
struct TenantBody {
    #[schema(value_type = String)]
    id: TenantId,
    slug: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct MeBody {
    tenant: TenantBody,
    /// The person; null for a service token.
    user: Option<UserBody>,
    /// `session` or `token`.
    via: &'static str,
    /// How much the token may do; null for a session, which may do what the person may.
    #[schema(value_type = Option<String>)]
    scope: Option<Scope>,
    /// When the password was given; null for a token.
    #[schema(value_type = Option<String>)]
    signed_in_at: Option<Timestamp>,
}

#[utoipa::path(get, path = "/v1/me", tag = "access",
    responses((status = 200, body = MeBody, description = "Who you are here.")),
    extensions(("x-caller" = json!("caller"))))]
async fn me(State(access): State<Access>, Caller(principal): Caller) -> Result<Json<MeBody>, ApiError> {
    let (slug, name, user) = access.whoami(&principal).await?;
    let (via, scope, signed_in_at) = match principal.via {
        Via::Session { signed_in_at, .. } => ("session", None, Some(signed_in_at)),
        Via::Token { scope, .. } => ("token", Some(scope), None),
        Via::Turn { .. } => ("turn", None, None),
    };
    let tenant = TenantBody { id: principal.tenant, slug, name };
    Ok(Json(MeBody { tenant, user: user.map(UserBody::from), via, scope, signed_in_at }))
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

#[derive(Serialize, ToSchema)]
struct SessionBody {
    #[schema(value_type = String)]
    id: SessionId,
    /// Whether it is the session of this very request.
    current: bool,
    user_agent: String,
    #[schema(value_type = String)]
    signed_in_at: Timestamp,
    #[schema(value_type = String)]
    last_seen_at: Timestamp,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

#[utoipa::path(get, path = "/v1/me/sessions", tag = "access", params(Paging),
    responses((status = 200, body = List<SessionBody>, description = "Your sessions, newest first.")),
    extensions(("x-caller" = json!("member"))))]
async fn my_sessions(
    State(access): State<Access>,
    member: Member,
    paging: Paging,
) -> Result<Json<List<SessionBody>>, ApiError> {
    let current = match member.principal.via {
        Via::Session { id, .. } => Some(id),
        Via::Token { .. } | Via::Turn { .. } => None,
    };
    let sessions = access.sessions(member.tenant(), member.user).await?;
    let body = |Session { id, user_agent, signed_in_at, last_seen_at, expires_at }| SessionBody {
        id,
        current: current == Some(id),
        user_agent,
        signed_in_at,
        last_seen_at,
        expires_at,
    };
    Ok(Json(List::newest_first(sessions, &paging, |session| session.id)?.map(body)))
}

#[utoipa::path(delete, path = "/v1/me/sessions/{id}", tag = "access",
    params(("id" = String, Path, description = "A session of yours.")),
    responses((status = 204, description = "That browser is signed out.")),
    extensions(("x-caller" = json!("member"))))]
async fn my_session_end(
    State(access): State<Access>,
    member: Member,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, ApiError> {
    access.session_end(member.tenant(), member.user, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `Location` of a new resource.
fn location(path: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(path) {
        headers.insert(header::LOCATION, value);
    }
    headers
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    #[schema(value_type = String)]
    current_password: Secret,
    /// At least 12 characters.
    #[schema(value_type = String)]
    new_password: Secret,
}

/// Changes one's own password; every other session ends.
#[utoipa::path(put, path = "/v1/me/password", tag = "access", request_body = PasswordBody,
    responses((status = 204, description = "The password is changed; every other session has ended.")),
    extensions(("x-caller" = json!("consent"))))]
async fn my_password(
    State(access): State<Access>,
    consent: Consent,
    Json(body): Json<PasswordBody>,
) -> Result<StatusCode, ApiError> {
    access.password_change(&consent.principal, &body.current_password, &body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}
