//! `/me/account`: the person's own browsers and personal tokens.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_primitives::{AuthMethod, Secret, SessionId, TokenId};

use super::super::{Access, Error, TokenKind, rules};
use super::tokens::{CreateTokenForm, TokenRow};
use super::{error_notice, failed, sign_in_again};
use crate::edge::{
    ApiError, DisplayTime, EmptyForm, Flash, InvalidField, Layout, Notice, Page, PageCaller, PageError, PageMember,
    Path, ProtectedForm,
};

pub(super) const PAGE: &str = "/me/account";

pub(super) fn routes() -> Router<Access> {
    Router::new()
        .route(PAGE, get(account_page))
        .route("/me/account/password", post(password))
        .route("/me/account/sessions/{id}/end", post(session_end))
        .route("/me/account/tokens", post(token_create))
        .route("/me/account/tokens/{id}/revoke", post(token_revoke))
}

struct SessionRow {
    id: String,
    browser: String,
    current: bool,
    signed_in: DisplayTime,
    seen: DisplayTime,
}

#[derive(Template)]
#[template(path = "access/templates/account.html")]
struct AccountPage {
    layout: Layout,
    email: String,
    role: &'static str,
    is_operator: bool,
    sessions: Vec<SessionRow>,
    tokens: Vec<TokenRow>,
    form: CreateTokenForm,
}

async fn account_page(State(access): State<Access>, PageMember(caller): PageMember) -> Result<Response, PageError> {
    Ok(page(&access, &caller, None, CreateTokenForm::default()).await?.into_response())
}

async fn page(
    access: &Access,
    caller: &PageCaller,
    notice: Option<Notice>,
    form: CreateTokenForm,
) -> Result<Page<AccountPage>, ApiError> {
    let now = access.now();
    let user = {
        let mut tx = access.db.read(caller.tenant()).await?;
        access.user(&mut tx, caller.user).await?.ok_or(Error::NotFound)?
    };
    let current = match caller.principal.auth {
        AuthMethod::Session { id, .. } => Some(id),
        AuthMethod::Token { .. } | AuthMethod::Turn { .. } => None,
    };
    let sessions = access.sessions(caller.tenant(), caller.user).await?.into_iter().map(|session| SessionRow {
        id: session.id.to_string(),
        current: current == Some(session.id),
        signed_in: DisplayTime::of(session.signed_in_at, now),
        seen: DisplayTime::of(session.last_seen_at, now),
        browser: rules::browser_name(&session.user_agent),
    });
    let tokens = access.tokens_of_user(caller.tenant(), caller.user).await?;
    Ok(Page(AccountPage {
        layout: Layout::me(caller, "Account", "account").with_notice(notice),
        email: user.email,
        role: user.role.as_str(),
        is_operator: caller.is_operator(),
        sessions: sessions.collect(),
        tokens: tokens.into_iter().map(|token| TokenRow::new(token, String::new(), now)).collect(),
        form,
    }))
}

async fn session_end(
    State(access): State<Access>,
    Path(id): Path<SessionId>,
    checked: ProtectedForm<EmptyForm>,
) -> Response {
    match access.session_end(&checked.caller.principal, id).await {
        Ok(()) => Flash::success("That browser was signed out.").redirect(PAGE),
        Err(error) => failed(error, PAGE),
    }
}

/// One's own password, the new one twice.
#[derive(Deserialize)]
struct PasswordForm {
    current_password: Secret,
    password: Secret,
    password_again: Secret,
}

async fn password(
    State(access): State<Access>,
    ProtectedForm { caller, form }: ProtectedForm<PasswordForm>,
) -> Result<Response, PageError> {
    let changed = if form.password.equals(form.password_again.expose()) {
        access.password_change(&caller.principal, &form.current_password, &form.password).await
    } else {
        Err(InvalidField::new("password_again", "the passwords do not match; enter the same password twice.").into())
    };
    match changed {
        Ok(()) => Ok(Flash::success("Your password was changed. You are signed out everywhere else.").redirect(PAGE)),
        Err(error) => {
            let page = page(&access, &caller, Some(error_notice(error)), CreateTokenForm::default()).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn token_create(
    State(access): State<Access>,
    ProtectedForm { caller, form }: ProtectedForm<CreateTokenForm>,
) -> Result<Response, PageError> {
    match form.create(&access, &caller, TokenKind::Personal).await {
        Ok(secret) => Ok(Flash::secret(secret).redirect(PAGE)),
        Err(Error::ReauthRequired) => Ok(sign_in_again(PAGE)),
        Err(error) => {
            let page = page(&access, &caller, Some(error_notice(error)), form).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn token_revoke(
    State(access): State<Access>,
    Path(id): Path<TokenId>,
    checked: ProtectedForm<EmptyForm>,
) -> Response {
    match access.token_revoke(&checked.caller.principal, id).await {
        Ok(()) => Flash::success("The token was revoked. It no longer works.").redirect(PAGE),
        Err(error) => failed(error, PAGE),
    }
}
