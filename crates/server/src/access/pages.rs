//! Pages of sign-in, set-up and invitation. People, tokens and the own account are in the folder beside.
//!
//! Invariants: a form without a session is guarded by the router's Origin check and the cookie's `SameSite`; where
//! somebody goes after signing in is a path of this site.

mod account;
mod people;
mod tokens;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_primitives::{AuthMethod, Secret};

use super::codes::PendingInvitation;
use super::http::{Sender, session_cookies, session_cookies_end};
use super::sign_in::SignIn;
use super::{Access, Error, rules};
use crate::edge::{
    ApiError, EmptyForm, Form, InvalidField, Layout, Notice, Page, PageError, PageMember, ProtectedForm, sign_in_again,
};

/// Every page of the slice.
pub fn routes(access: &Access) -> Router {
    Router::new()
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/setup", get(setup_page).post(setup))
        .route("/invitation", get(invitation_page).post(invitation))
        .merge(people::routes())
        .merge(tokens::routes())
        .merge(account::routes())
        .with_state(access.clone())
}

/// The sentence of a refused form.
fn error_notice(error: Error) -> Notice {
    let error = ApiError::from(error);
    Notice::error(match error.fields.first() {
        Some((_, problem)) => capital(problem),
        None => error.sentence(),
    })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The answer to a failed act on a page, where the page cannot be shown again with a sentence.
fn failed(error: Error, page: &str) -> Response {
    match error {
        Error::ReauthRequired => sign_in_again(page),
        other => PageError(other.into()).into_response(),
    }
}

#[derive(Template)]
#[template(path = "access/templates/sign_in.html")]
struct SignInPage {
    layout: Layout,
    next: String,
    email: String,
    tenant: String,
    /// Whether to ask for the tenant: only after an answer showed that it is needed.
    ask_tenant: bool,
}

#[derive(Deserialize)]
struct NextQuery {
    next: Option<String>,
    /// Present where a signed-in person has to sign in again.
    again: Option<String>,
}

async fn sign_in_page(Query(query): Query<NextQuery>, member: Option<PageMember>) -> Response {
    let next = rules::next_path(query.next.as_deref()).to_owned();
    if member.is_some() && query.again.is_none() {
        return Redirect::to(&next).into_response();
    }
    let notice = query.again.map(|_| Notice::info("For security, sign in again to continue."));
    let layout = Layout::public("Sign in").with_notice(notice);
    Page(SignInPage { layout, next, email: String::new(), tenant: String::new(), ask_tenant: false }).into_response()
}

#[derive(Deserialize)]
struct SignInForm {
    email: String,
    password: Secret,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    next: String,
}

async fn sign_in(State(access): State<Access>, Sender(client): Sender, Form(form): Form<SignInForm>) -> Response {
    let next = rules::next_path(Some(&form.next)).to_owned();
    let tenant = Some(form.tenant.trim()).filter(|slug| !slug.is_empty());
    match access.sign_in(SignIn { tenant, email: &form.email, password: &form.password }, &client).await {
        Ok(session) => (session_cookies(&session), Redirect::to(&next)).into_response(),
        Err(error) => {
            let ask_tenant = matches!(error, Error::AmbiguousTenant) || tenant.is_some();
            let (status, retry_after) = refusal(&error);
            let layout = Layout::public("Sign in").with_notice(Some(error_notice(error)));
            let page = SignInPage { layout, next, email: form.email, tenant: form.tenant, ask_tenant };
            (status, retry_after, Page(page)).into_response()
        }
    }
}

/// Status and `Retry-After` of a form that is shown again.
fn refusal(error: &Error) -> (StatusCode, axum::http::HeaderMap) {
    let mut headers = axum::http::HeaderMap::new();
    let status = match error {
        Error::TooManyAttempts { retry_after_seconds } => {
            headers.insert(axum::http::header::RETRY_AFTER, (*retry_after_seconds).into());
            StatusCode::TOO_MANY_REQUESTS
        }
        Error::Busy { retry_after_seconds } => {
            headers.insert(axum::http::header::RETRY_AFTER, (*retry_after_seconds).into());
            StatusCode::SERVICE_UNAVAILABLE
        }
        // 401 would ask the browser for a scheme that no page of ours uses.
        Error::WrongPassword => StatusCode::FORBIDDEN,
        Error::CodeExpired => StatusCode::GONE,
        Error::Random(_) | Error::Hashing(_) | Error::Database(_) | Error::Audit(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, headers)
}

async fn sign_out(State(access): State<Access>, checked: ProtectedForm<EmptyForm>) -> Response {
    let caller = checked.caller;
    if let AuthMethod::Session { id, .. } = caller.principal.auth {
        match access.session_end(&caller.principal, id).await {
            // Two tabs that sign out at once end at the same place.
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return failed(error, "/"),
        }
    }
    (session_cookies_end(), Redirect::to("/sign-in")).into_response()
}

#[derive(Template)]
#[template(path = "access/templates/welcome.html")]
struct WelcomePage {
    layout: Layout,
    action: &'static str,
    code: String,
    name: String,
    email: String,
    tenant_name: String,
}

#[derive(Template)]
#[template(path = "access/templates/expired.html")]
struct ExpiredPage {
    layout: Layout,
    /// Whether it was the owner's own set-up link.
    setup: bool,
}

#[derive(Deserialize)]
struct CodeQuery {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct WelcomeForm {
    code: String,
    #[serde(default)]
    name: String,
    password: Secret,
    password_again: Secret,
}

async fn setup_page(State(access): State<Access>, Query(query): Query<CodeQuery>) -> Response {
    welcome_page(&access, "/setup", query.code).await
}

async fn invitation_page(State(access): State<Access>, Query(query): Query<CodeQuery>) -> Response {
    welcome_page(&access, "/invitation", query.code).await
}

async fn welcome_page(access: &Access, action: &'static str, code: String) -> Response {
    match access.code_find(&code).await {
        Ok(Some(expected)) => Page(welcome(action, code, expected.name.clone(), expected, None)).into_response(),
        Ok(None) => expired(action),
        Err(error) => PageError(error.into()).into_response(),
    }
}

fn welcome(
    action: &'static str,
    code: String,
    name: String,
    expected: PendingInvitation,
    notice: Option<Notice>,
) -> WelcomePage {
    let title = if action == "/setup" { "Set up ThinkWork" } else { "Welcome" };
    let layout = Layout::public(title).with_notice(notice);
    WelcomePage { layout, action, code, name, email: expected.email, tenant_name: expected.tenant_name }
}

fn expired(action: &'static str) -> Response {
    let layout = Layout::public("This link is no longer valid");
    (StatusCode::GONE, Page(ExpiredPage { layout, setup: action == "/setup" })).into_response()
}

async fn setup(State(access): State<Access>, Sender(client): Sender, Form(form): Form<WelcomeForm>) -> Response {
    accept(&access, "/setup", &client, form).await
}

async fn invitation(State(access): State<Access>, Sender(client): Sender, Form(form): Form<WelcomeForm>) -> Response {
    accept(&access, "/invitation", &client, form).await
}

async fn accept(access: &Access, action: &'static str, client: &super::ClientInfo, form: WelcomeForm) -> Response {
    let done = if form.password.equals(form.password_again.expose()) {
        access.code_accept(&form.code, Some(&form.name), &form.password, client).await
    } else {
        Err(InvalidField::new("password_again", "the passwords do not match; enter the same password twice.").into())
    };
    let error = match done {
        Ok(session) => {
            let next = if action == "/setup" { "/admin" } else { "/me" };
            return (session_cookies(&session), Redirect::to(next)).into_response();
        }
        Err(error) => error,
    };
    match access.code_find(&form.code).await {
        Ok(Some(expected)) => {
            let (status, headers) = refusal(&error);
            (status, headers, Page(welcome(action, form.code, form.name, expected, Some(error_notice(error)))))
                .into_response()
        }
        Ok(None) => expired(action),
        Err(error) => PageError(error.into()).into_response(),
    }
}
