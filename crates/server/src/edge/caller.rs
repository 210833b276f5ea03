//! Who calls. Authorisation is an argument: a handler names [`Caller`], [`Member`], [`Operator`],
//! [`OperatorWithoutReauth`], [`SessionUser`], [`McpCaller`] or [`Public`] and gets it or never runs.
//!
//! Invariants: the tenant comes from the session or token, never from a header or path; a cookie proves nothing on
//! `/mcp`; a token never consents; an unsafe method with a cookie needs the session's CSRF token; an operator configures
//! only in a session that was signed in to recently, unless the handler names [`OperatorWithoutReauth`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use thinkwork_primitives::{Actor, Audience, AuthMethod, Identity, Principal, Role, Scope, TenantId, UserId, crypto};

use super::cookies::{SESSION_COOKIE, cookie};
use super::{ApiError, Flash, PageError};

/// A boxed future, so that [`Authenticate`] can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a request presents to prove its caller.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// `Authorization: Bearer …`.
    Bearer(&'a str),
    /// The session cookie's value.
    Session(&'a str),
}

/// A caller as the `access` slice knows them.
#[derive(Clone)]
pub struct Authenticated {
    /// Who, and how they proved it.
    pub principal: Principal,
    /// The person's or token's name.
    pub user_name: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// The session's CSRF token; empty for bearers.
    pub csrf: String,
    /// Whether a session was signed in to recently enough to configure something. A token was given its scope and needs no
    /// more.
    pub is_fresh: bool,
}

/// Implemented by the `access` slice; put into each request by the router.
pub trait Authenticate: Send + Sync {
    /// Who this is, or nobody. Reads the database with each call: a revoked session or token is nobody at once.
    fn authenticate<'a>(&'a self, presented: Presented<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, ApiError>>;
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a request presents and who that is, looked up once: for its limit, and then for its handler.
#[derive(Clone)]
pub(super) struct Authentication {
    is_bearer: bool,
    known: Option<Authenticated>,
}

impl Authentication {
    /// Of this request, by what its path accepts: pages a session, the gateway a bearer token, the API either. `None` where
    /// it presents nothing.
    ///
    /// # Errors
    /// Those of [`Authenticate`].
    pub(super) async fn of(path: &str, headers: &HeaderMap, extensions: &Extensions) -> Result<Option<Self>, ApiError> {
        let session = || cookie(headers, SESSION_COOKIE).map(Presented::Session);
        let token = || bearer(headers).map(Presented::Bearer);
        let presented = match path {
            path if path.starts_with("/v1") => token().or_else(session),
            path if path.starts_with("/mcp") => token(),
            _ => session(),
        };
        let Some(presented) = presented else { return Ok(None) };
        let known = authenticate(extensions, presented).await?;
        Ok(Some(Self { is_bearer: presented.is_bearer(), known }))
    }

    /// Who it is, if it is anybody.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.known.as_ref().map(|known| &known.principal)
    }
}

impl Presented<'_> {
    const fn is_bearer(&self) -> bool {
        matches!(self, Self::Bearer(_))
    }
}

async fn authenticate(extensions: &Extensions, presented: Presented<'_>) -> Result<Option<Authenticated>, ApiError> {
    let Some(access) = extensions.get::<Arc<dyn Authenticate>>() else {
        return Err(ApiError::internal(&std::io::Error::other("the router lacks its Authenticate layer")));
    };
    access.authenticate(presented).await
}

async fn known(parts: &Parts, presented: Option<Presented<'_>>) -> Result<Option<Authenticated>, ApiError> {
    let Some(presented) = presented else { return Ok(None) };
    let earlier = parts.extensions.get::<Authentication>().filter(|earlier| earlier.is_bearer == presented.is_bearer());
    let known = match earlier {
        Some(earlier) => earlier.known.clone(),
        None => authenticate(&parts.extensions, presented).await?,
    };
    if let Some(known) = &known {
        record_in_span(&known.principal);
    }
    Ok(known)
}

/// Fills in who asks, by ids, in the span of the request.
fn record_in_span(principal: &Principal) {
    tracing::record_all!(
        tracing::Span::current(),
        tenant = %principal.tenant,
        requester = principal.requester().id(),
        client = match principal.auth {
            AuthMethod::Session { id, .. } => id.to_string(),
            AuthMethod::Token { id, .. } => id.to_string(),
            AuthMethod::Turn { id } => id.to_string(),
        }
    );
}

/// The caller of a `/v1` request: bearer first, else the session cookie with its CSRF token where needed.
async fn api_caller(parts: &Parts) -> Result<Authenticated, ApiError> {
    if let Some(token) = bearer(&parts.headers) {
        let known = known(parts, Some(Presented::Bearer(token))).await?.ok_or_else(ApiError::not_signed_in)?;
        return match known.principal.auth {
            AuthMethod::Token { audience: Audience::Api, scope, .. } => {
                if !parts.method.is_safe() && scope < Scope::Write {
                    Err(ApiError::forbidden("scope", "This token is read-only. Create a token with write permission."))
                } else {
                    Ok(known)
                }
            }
            _ => Err(ApiError::not_signed_in()),
        };
    }
    let session = cookie(&parts.headers, SESSION_COOKIE).map(Presented::Session);
    let known = known(parts, session).await?.ok_or_else(ApiError::not_signed_in)?;
    if !parts.method.is_safe() {
        let sent = parts.headers.get("x-csrf-token").map(|value| value.as_bytes()).unwrap_or_default();
        if !crypto::constant_time_eq(sent, known.csrf.as_bytes()) {
            return Err(ApiError::forbidden("csrf", "Send the csrf_token of your sign-in in the header X-CSRF-Token."));
        }
    }
    Ok(known)
}

/// Anyone who proved who they are on `/v1`: a person or a service token.
pub struct Caller(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self(api_caller(parts).await?.principal))
    }
}

/// A person of the tenant on `/v1`.
pub struct Member {
    /// Who, and how they proved it.
    pub principal: Principal,
    pub user: UserId,
}

impl Member {
    pub const fn tenant(&self) -> TenantId {
        self.principal.tenant
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let principal = api_caller(parts).await?.principal;
        match principal.identity {
            Identity::User { id, .. } => Ok(Self { principal, user: id }),
            Identity::Service => Err(ApiError::forbidden("needs_person", "Only a person can do this. Sign in.")),
        }
    }
}

/// An operator or owner, or a token with scope `admin` of one of them or of a service. To change something, their session
/// must have been signed in to recently: what an operator changes decides where credentials go and what the agent may do.
/// [`OperatorWithoutReauth`] is for what decides nothing of that kind.
pub struct Operator(pub Principal);

/// An operator however long ago they signed in: for trying out and repeating what is configured, and for taking access
/// away, which must not wait. A test lists these operations.
pub struct OperatorWithoutReauth(pub Operator);

impl Operator {
    pub const fn tenant(&self) -> TenantId {
        self.0.tenant
    }

    /// As whom the change is recorded, and with which software.
    pub fn actor(&self) -> Actor {
        self.0.actor()
    }
}

/// Whether this caller may configure the tenant.
pub fn may_configure(principal: &Principal) -> bool {
    let role_allows = match principal.identity {
        Identity::User { role, .. } => role >= Role::Operator,
        Identity::Service => true,
    };
    let proof_allows = match principal.auth {
        AuthMethod::Session { .. } => true,
        AuthMethod::Token { audience, scope, .. } => audience == Audience::Api && scope >= Scope::Admin,
        AuthMethod::Turn { .. } => false,
    };
    role_allows && proof_allows
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let known = api_caller(parts).await?;
        let is_too_old = !known.is_fresh && !parts.method.is_safe();
        let principal = operator(known)?;
        if is_too_old { Err(ApiError::reauth_required()) } else { Ok(Self(principal)) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OperatorWithoutReauth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        operator(api_caller(parts).await?).map(|principal| Self(Operator(principal)))
    }
}

fn operator(known: Authenticated) -> Result<Principal, ApiError> {
    if may_configure(&known.principal) {
        Ok(known.principal)
    } else {
        Err(ApiError::forbidden("needs_operator", "Only operators can do this. Ask an operator."))
    }
}

/// A person in a browser session: the only one who can consent. A token gets 403.
pub struct SessionUser {
    /// Who, and how they proved it.
    pub principal: Principal,
    pub user: UserId,
}

impl SessionUser {
    /// The consenting person behind this caller, if it is a session.
    pub const fn of(principal: Principal) -> Option<Self> {
        match (principal.identity, principal.auth) {
            (Identity::User { id, .. }, AuthMethod::Session { .. }) => Some(Self { principal, user: id }),
            _ => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SessionUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let principal = api_caller(parts).await?.principal;
        Self::of(principal).ok_or_else(|| {
            ApiError::forbidden("needs_session", "A token cannot do this. Sign in with a browser to continue.")
        })
    }
}

/// The bearer of a `/mcp` request. A cookie proves nothing here.
pub struct McpCaller(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for McpCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let presented = bearer(&parts.headers).map(Presented::Bearer);
        let known = known(parts, presented).await?.ok_or_else(ApiError::not_signed_in)?;
        match known.principal.auth {
            AuthMethod::Token { audience: Audience::Mcp, .. } | AuthMethod::Turn { .. } => Ok(Self(known.principal)),
            _ => Err(ApiError::not_signed_in()),
        }
    }
}

/// Nobody in particular: the route is open to all, and says so.
pub struct Public;

impl<S: Send + Sync> FromRequestParts<S> for Public {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self)
    }
}

/// A person who looks at a page.
#[derive(Clone)]
pub struct PageCaller {
    /// Who, and how they proved it.
    pub principal: Principal,
    pub user: UserId,
    pub user_name: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// The session's CSRF token.
    pub csrf: String,
    /// What the form before this page left to show once.
    pub flash: Flash,
    /// Whether they signed in recently enough to configure something.
    pub is_fresh: bool,
}

impl PageCaller {
    pub const fn tenant(&self) -> TenantId {
        self.principal.tenant
    }

    /// Whether the operator's area is theirs.
    pub fn is_operator(&self) -> bool {
        may_configure(&self.principal)
    }

    /// Refuses members in the operator's area.
    ///
    /// # Errors
    /// 403.
    pub(super) fn require_operator(&self) -> Result<(), PageError> {
        if self.is_operator() {
            Ok(())
        } else {
            Err(PageError(ApiError::forbidden(
                "needs_operator",
                "Only operators can open this page. Ask an operator for access.",
            )))
        }
    }

    /// As the consenting person that they are: a page's caller is always a session.
    pub const fn consent(&self) -> SessionUser {
        SessionUser { principal: self.principal, user: self.user }
    }
}

/// The person of the browser's session. Only nobody is `None`: whoever cannot be looked up now is told so, and tries
/// again.
async fn page_caller(parts: &Parts) -> Result<Option<PageCaller>, Response> {
    let session = cookie(&parts.headers, SESSION_COOKIE).map(Presented::Session);
    let known = known(parts, session).await.map_err(|error| PageError(error).into_response())?;
    let Some(Authenticated { principal, user_name, tenant_name, csrf, is_fresh }) = known else { return Ok(None) };
    match principal.identity {
        Identity::User { id, .. } => {
            let flash = parts.extensions.get().cloned().unwrap_or_default();
            Ok(Some(PageCaller { principal, user: id, user_name, tenant_name, csrf, is_fresh, flash }))
        }
        Identity::Service => Err(PageError(ApiError::not_found()).into_response()),
    }
}

/// Any signed-in person on a page; others are sent to sign in and back.
pub struct PageMember(pub PageCaller);

impl<S: Send + Sync> FromRequestParts<S> for PageMember {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        match page_caller(parts).await? {
            Some(caller) => Ok(Self(caller)),
            None if !parts.method.is_safe() => Err(PageError(ApiError::not_signed_in()).into_response()),
            None => {
                let next = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
                Err(Redirect::to(&format!("/sign-in?next={next}")).into_response())
            }
        }
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for PageMember {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Response> {
        Ok(page_caller(parts).await?.map(Self))
    }
}

/// An operator on a page; members get 403.
pub struct PageOperator(pub PageCaller);

impl<S: Send + Sync> FromRequestParts<S> for PageOperator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let PageMember(caller) = <PageMember as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        caller.require_operator().map_err(IntoResponse::into_response)?;
        Ok(Self(caller))
    }
}
