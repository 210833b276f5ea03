//! `/admin/people`: who is here, inviting, roles, disabling.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_primitives::{Role, UserId};

use super::super::{Access, Error, Invited, NewUser, UserUpdate};
use super::{error_notice, failed, sign_in_again};
use crate::edge::{
    ApiError, ConfirmForm, DisplayTime, EmptyForm, Flash, Idempotency, Layout, List, NewSecret, Notice, OperatorForm,
    Page, PageCaller, PageError, PageOperator, Pagination, Path,
};

const PAGE: &str = "/admin/people";

pub(super) fn routes() -> Router<Access> {
    Router::new()
        .route(PAGE, get(people_page).post(invite))
        .route("/admin/people/{id}/role", post(role))
        .route("/admin/people/{id}/disable", post(disable))
        .route("/admin/people/{id}/enable", post(enable))
        .route("/admin/people/{id}/invitation", post(renew))
}

struct PersonRow {
    id: String,
    name: String,
    email: String,
    role: &'static str,
    disabled: bool,
    accepted: bool,
    is_self: bool,
    /// Whether this caller may change them: owners are changed by owners only.
    changeable: bool,
    added: DisplayTime,
}

#[derive(Template)]
#[template(path = "access/templates/people.html")]
struct PeoplePage {
    layout: Layout,
    people: Vec<PersonRow>,
    next: String,
    is_owner: bool,
    form: InviteForm,
}

#[derive(Default, Deserialize)]
struct InviteForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    role: String,
}

async fn people_page(
    State(access): State<Access>,
    PageOperator(caller): PageOperator,
    paging: Pagination,
) -> Result<Response, PageError> {
    Ok(page(&access, &caller, &paging, None, InviteForm::default()).await?.into_response())
}

async fn page(
    access: &Access,
    caller: &PageCaller,
    paging: &Pagination,
    notice: Option<Notice>,
    form: InviteForm,
) -> Result<Page<PeoplePage>, ApiError> {
    let now = access.now();
    let users = access.users(caller.tenant(), paging.fetch_limit(), paging.after_id()?).await?;
    let list = List::cut(users, paging, |user| user.id.to_string());
    let is_owner = matches!(caller.principal.identity, thinkwork_primitives::Identity::User { role: Role::Owner, .. });
    let row = |user: super::super::User| PersonRow {
        id: user.id.to_string(),
        role: user.role.as_str(),
        disabled: user.disabled,
        accepted: user.accepted,
        is_self: user.id == caller.user,
        changeable: is_owner || user.role != Role::Owner,
        added: DisplayTime::of(user.created_at, now),
        name: user.name,
        email: user.email,
    };
    let next = list.next_href(PAGE);
    let people = list.items.into_iter().map(row).collect();
    let layout = Layout::admin(caller, "People", "people").with_notice(notice);
    Ok(Page(PeoplePage { layout, people, next, is_owner, form }))
}

async fn invite(
    State(access): State<Access>,
    OperatorForm { caller, form }: OperatorForm<InviteForm>,
) -> Result<Response, PageError> {
    let role = form.role.parse().unwrap_or(Role::Member);
    let new = NewUser { email: form.email.clone(), name: form.name.clone(), role };
    let paging = Pagination::default();
    match access.user_invite(&caller.principal, new, &Idempotency::unkeyed(access.now())).await {
        Ok(invited) => Ok(show_link(invited)),
        Err(Error::ReauthRequired) => Ok(sign_in_again(PAGE)),
        Err(error) => {
            let page = page(&access, &caller, &paging, Some(error_notice(error)), form).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

/// Back to the people, with the link to send.
fn show_link(invited: Invited) -> Response {
    let help =
        "Send this link to the person. Whoever opens it first sets the password. It works once and expires in 7 days.";
    let link = NewSecret {
        label: format!("Invitation for {}", invited.user.name),
        value: invited.invite_url.expose_str().unwrap_or_default().to_owned(),
        help: help.to_owned(),
        next: PAGE.to_owned(),
    };
    Flash::secret(link).redirect(PAGE)
}

async fn renew(
    State(access): State<Access>,
    Path(id): Path<UserId>,
    checked: OperatorForm<EmptyForm>,
) -> Result<Response, PageError> {
    match access.invitation_renew(&checked.caller.principal, id, &Idempotency::unkeyed(access.now())).await {
        Ok(invited) => Ok(show_link(invited)),
        Err(error) => Ok(failed(error, PAGE)),
    }
}

#[derive(Deserialize)]
struct RoleForm {
    role: String,
}

async fn role(
    State(access): State<Access>,
    Path(id): Path<UserId>,
    checked: OperatorForm<RoleForm>,
) -> Result<Response, PageError> {
    let role =
        checked.form.role.parse::<Role>().map_err(|_| ApiError::invalid("role", "choose a role from the list."))?;
    update(&access, &checked.caller, id, UserUpdate { role: Some(role), ..UserUpdate::default() }).await
}

async fn disable(
    State(access): State<Access>,
    Path(id): Path<UserId>,
    checked: OperatorForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let name = access.user_names_of(checked.caller.tenant(), id).await?;
    if !checked.form.matches(&name) {
        let notice = Some(Notice::error("Nothing was changed. The name does not match; enter it exactly as shown."));
        let page = page(&access, &checked.caller, &Pagination::default(), notice, InviteForm::default()).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    update(&access, &checked.caller, id, UserUpdate { disabled: Some(true), ..UserUpdate::default() }).await
}

async fn enable(
    State(access): State<Access>,
    Path(id): Path<UserId>,
    checked: OperatorForm<EmptyForm>,
) -> Result<Response, PageError> {
    update(&access, &checked.caller, id, UserUpdate { disabled: Some(false), ..UserUpdate::default() }).await
}

async fn update(access: &Access, caller: &PageCaller, id: UserId, change: UserUpdate) -> Result<Response, PageError> {
    match access.user_update(&caller.principal, id, change).await {
        Ok(_) => Ok(Redirect::to(PAGE).into_response()),
        Err(error @ (Error::OnlyOwners | Error::LastOwner | Error::VersionConflict)) => {
            let page =
                page(access, caller, &Pagination::default(), Some(error_notice(error)), InviteForm::default()).await?;
            Ok((StatusCode::CONFLICT, page).into_response())
        }
        Err(error) => Ok(failed(error, PAGE)),
    }
}

impl Access {
    async fn user_names_of(&self, tenant: thinkwork_primitives::TenantId, id: UserId) -> Result<String, Error> {
        let mut tx = self.db.read(tenant).await?;
        Ok(self.user(&mut tx, id).await?.ok_or(Error::NotFound)?.name)
    }
}
