//! `/admin/tokens`: the tenant's tokens, making one, revoking.

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_primitives::{Audience, Scope, TokenId, UserId};

use super::super::{Access, Error, NewToken, Token, TokenKind};
use super::{error_notice, failed, sign_in_again};
use crate::edge::{
    ApiError, DisplayTime, EmptyForm, Flash, Idempotency, InvalidField, Layout, List, NewSecret, Notice, OperatorForm,
    OperatorFormWithoutReauth, Page, PageCaller, PageError, PageOperator, Pagination, Path,
};

const PAGE: &str = "/admin/tokens";

pub(super) fn routes() -> Router<Access> {
    Router::new().route(PAGE, get(tokens_page).post(create)).route("/admin/tokens/{id}/revoke", post(revoke))
}

/// A token as a row of a list.
pub(super) struct TokenRow {
    pub id: String,
    pub name: String,
    /// Whose it is: a person's name, or that it is a service's.
    pub whose: String,
    pub audience: &'static str,
    pub scope: &'static str,
    pub last_four: String,
    pub used: Option<DisplayTime>,
    pub ends: Option<DisplayTime>,
    /// `active`, `expired` or `revoked`.
    pub status: &'static str,
}

impl TokenRow {
    pub(super) fn new(token: Token, whose: String, now: thinkwork_primitives::Timestamp) -> Self {
        let status = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            _ => "active",
        };
        Self {
            id: token.id.to_string(),
            name: token.name,
            whose,
            audience: match token.audience {
                Audience::Api => "/v1",
                Audience::Mcp => "/mcp",
            },
            scope: match token.scope {
                Scope::Read => "Read-only",
                Scope::Write => "Read and write",
                Scope::Admin => "Admin",
            },
            last_four: token.last_four,
            used: token.last_used_at.map(|at| DisplayTime::of(at, now)),
            ends: token.expires_at.map(|at| DisplayTime::of(at, now)),
            status,
        }
    }
}

/// What the two forms for tokens send.
#[derive(Default, Deserialize)]
pub(super) struct CreateTokenForm {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub audience: String,
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub days: String,
}

impl CreateTokenForm {
    /// Creates a token of this kind.
    pub(super) async fn create(
        &self,
        access: &Access,
        caller: &PageCaller,
        kind: TokenKind,
    ) -> Result<NewSecret, Error> {
        let new = self.token(kind)?;
        let created = access.token_create(&caller.principal, new, &Idempotency::unkeyed(access.now())).await?;
        let (help, next) = match kind {
            TokenKind::Personal => ("Anyone who has it can act as you, within its permissions.", super::account::PAGE),
            TokenKind::Service => ("Use it in one program only.", PAGE),
        };
        Ok(NewSecret {
            label: format!("Token “{}”", created.token.name),
            value: created.secret.expose_str().unwrap_or_default().to_owned(),
            help: help.to_owned(),
            next: next.to_owned(),
        })
    }

    /// What is asked for; anything unknown is the least.
    fn token(&self, kind: TokenKind) -> Result<NewToken, Error> {
        let problem = "use 1 to 366 days.";
        let days: u64 = self.days.trim().parse().map_err(|_| InvalidField::new("days", problem))?;
        Ok(NewToken {
            name: self.name.clone(),
            kind,
            audience: if self.audience == "mcp" { Audience::Mcp } else { Audience::Api },
            scope: match self.scope.as_str() {
                "admin" => Scope::Admin,
                "write" => Scope::Write,
                _ => Scope::Read,
            },
            expires_in: Some(Duration::from_secs(days.saturating_mul(86_400))),
        })
    }
}

#[derive(Template)]
#[template(path = "access/templates/tokens.html")]
struct TokensPage {
    layout: Layout,
    tokens: Vec<TokenRow>,
    next: String,
    form: CreateTokenForm,
}

async fn tokens_page(
    State(access): State<Access>,
    PageOperator(caller): PageOperator,
    paging: Pagination,
) -> Result<Response, PageError> {
    Ok(page(&access, &caller, &paging, None, CreateTokenForm::default()).await?.into_response())
}

async fn page(
    access: &Access,
    caller: &PageCaller,
    paging: &Pagination,
    notice: Option<Notice>,
    form: CreateTokenForm,
) -> Result<Page<TokensPage>, ApiError> {
    let now = access.now();
    let tokens = access.tokens(&caller.principal, paging.fetch_limit(), paging.after_id()?).await?;
    let list = List::cut(tokens, paging, |token| token.id.to_string());
    let ids: Vec<UserId> = list.items.iter().filter_map(|token| token.user).collect();
    let names = access.names(caller.tenant(), &ids).await?;
    let whose = |token: &Token| match token.user {
        Some(user) => names.iter().find(|(id, _)| *id == user).map_or_else(String::new, |(_, name)| name.clone()),
        None => "Service".to_owned(),
    };
    let next = list.next_href(PAGE);
    let tokens = list.items.into_iter().map(|token| TokenRow::new(token.clone(), whose(&token), now)).collect();
    let layout = Layout::admin(caller, "Tokens", "tokens").with_notice(notice);
    Ok(Page(TokensPage { layout, tokens, next, form }))
}

async fn create(
    State(access): State<Access>,
    OperatorForm { caller, form }: OperatorForm<CreateTokenForm>,
) -> Result<Response, PageError> {
    let paging = Pagination::default();
    match form.create(&access, &caller, TokenKind::Service).await {
        Ok(secret) => Ok(Flash::secret(secret).redirect(PAGE)),
        Err(Error::ReauthRequired) => Ok(sign_in_again(PAGE)),
        Err(error) => {
            let page = page(&access, &caller, &paging, Some(error_notice(error)), form).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn revoke(
    State(access): State<Access>,
    Path(id): Path<TokenId>,
    checked: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Response, PageError> {
    match access.token_revoke(&checked.caller.principal, id).await {
        Ok(()) => Ok(Flash::success("The token was revoked. It no longer works.").redirect(PAGE)),
        Err(error) => Ok(failed(error, PAGE)),
    }
}

impl Access {
    async fn names(
        &self,
        tenant: thinkwork_primitives::TenantId,
        ids: &[UserId],
    ) -> Result<Vec<(UserId, String)>, Error> {
        let mut tx = self.db.read(tenant).await?;
        self.user_names(&mut tx, ids).await
    }
}
