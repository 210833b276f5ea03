//! The operator's page of one Space: what it is, who is in it, what serves it.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use thinkwork_primitives::{SpaceId, UserId, limits};

use super::SpaceForm;
use crate::edge::Named;
use crate::edge::{
    ApiError, DisplayTime, EmptyForm, Layout, Notice, OperatorForm, OperatorFormWithoutReauth, Page, PageCaller,
    PageError, PageOperator, Path,
};
use crate::spaces::{Space, SpaceAccess, SpaceUpdate, Spaces};

/// People shown on one page; a Space of more is managed over the API.
const MEMBERS_SHOWN_MAX: u64 = limits::PAGE_ITEMS_MAX;

struct MemberRow {
    id: String,
    name: String,
    joined: DisplayTime,
}

struct Choice {
    id: String,
    name: String,
}

#[derive(Template)]
#[template(path = "spaces/templates/detail.html")]
struct Detail {
    layout: Layout,
    id: String,
    slug: String,
    access: &'static str,
    name: String,
    prompt: String,
    version: i64,
    reopen: bool,
    members: Vec<MemberRow>,
    choices: Vec<Choice>,
    servers: Vec<Choice>,
}

async fn page(spaces: &Spaces, caller: &PageCaller, id: SpaceId, notice: Option<Notice>) -> Result<Detail, ApiError> {
    let mut tx = spaces.db.read(caller.tenant()).await?;
    let space: Space = spaces.visible(&mut tx, id, &caller.principal).await?;
    let members = spaces.members(&mut tx, id, MEMBERS_SHOWN_MAX, None).await?;
    let ids: Vec<UserId> = members.iter().map(|member| member.user).collect();
    let sources: Vec<_> = spaces.sources(&mut tx, id).await?.into_iter().map(|serves| serves.source).collect();
    let named = ids.iter().copied().map(Named::User).chain(sources.iter().copied().map(Named::ToolSource));
    let names = spaces.names.find(&mut tx, named).await?;
    drop(tx);
    let now = spaces.clock.now();
    let rows = members
        .iter()
        .map(|member| MemberRow {
            id: member.user.to_string(),
            name: names.user(member.user).to_owned(),
            joined: DisplayTime::of(member.joined_at, now),
        })
        .collect();
    let mut servers: Vec<Choice> = sources
        .into_iter()
        .filter_map(|id| Some(Choice { id: id.to_string(), name: names.get(Named::ToolSource(id))?.to_owned() }))
        .collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    let choices = spaces.people(caller.tenant()).await?;
    let choices = choices.into_iter().filter(|(user, _)| !ids.contains(user));
    Ok(Detail {
        layout: Layout::admin(caller, &space.name, "spaces").with_notice(notice),
        name: space.name,
        id: id.to_string(),
        slug: space.slug,
        access: space.access.as_str(),
        prompt: space.prompt.unwrap_or_default(),
        version: space.version,
        reopen: space.reopen,
        members: rows,
        choices: choices.map(|(user, name)| Choice { id: user.to_string(), name }).collect(),
        servers,
    })
}

pub(super) async fn show(
    State(spaces): State<Spaces>,
    PageOperator(caller): PageOperator,
    Path(id): Path<SpaceId>,
) -> Result<Response, PageError> {
    Ok(Page(page(&spaces, &caller, id, None).await?).into_response())
}

/// The page again, with what was refused.
async fn refused(spaces: &Spaces, caller: &PageCaller, id: SpaceId, error: ApiError) -> Result<Response, PageError> {
    if error.log.is_some() || error.status == axum::http::StatusCode::NOT_FOUND {
        return Err(PageError(error));
    }
    let notice = Notice::error(format!("Nothing was changed. {}", error.message));
    Ok((error.status, Page(page(spaces, caller, id, Some(notice)).await?)).into_response())
}

#[derive(Deserialize)]
pub(super) struct ChangeForm {
    #[serde(flatten)]
    space: SpaceForm,
    /// Sent by a ticked box only.
    reopen: Option<String>,
    version: Option<String>,
}

pub(super) async fn update(
    State(spaces): State<Spaces>,
    Path(id): Path<SpaceId>,
    OperatorForm { caller, form }: OperatorForm<ChangeForm>,
) -> Result<Response, PageError> {
    let access = match form.space.access.as_str() {
        "public" => Some(SpaceAccess::Public),
        "private" => Some(SpaceAccess::Private),
        _ => None,
    };
    let change = SpaceUpdate {
        name: Some(form.space.name),
        access,
        prompt: Some(form.space.prompt),
        reopen: Some(form.reopen.is_some()),
    };
    let version = form.version.and_then(|text| text.parse().ok());
    let mut tx = spaces.access.write_as(&caller.principal).await?;
    match spaces.update(&mut tx, id, change, version, &caller.principal).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(Redirect::to(&format!("/admin/spaces/{id}")).into_response())
        }
        Err(error) => {
            drop(tx);
            refused(&spaces, &caller, id, error.into()).await
        }
    }
}

#[derive(Deserialize)]
pub(super) struct MemberForm {
    user_id: String,
}

pub(super) async fn member_add(
    State(spaces): State<Spaces>,
    Path(id): Path<SpaceId>,
    OperatorForm { caller, form }: OperatorForm<MemberForm>,
) -> Result<Response, PageError> {
    let user = form.user_id.parse().map_err(|_| ApiError::invalid("user_id", "choose a person from the list."))?;
    let mut tx = spaces.access.write_as(&caller.principal).await?;
    spaces.member_set(&mut tx, id, user, &caller.principal).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/admin/spaces/{id}")).into_response())
}

pub(super) async fn member_delete(
    State(spaces): State<Spaces>,
    Path((id, user)): Path<(SpaceId, UserId)>,
    OperatorFormWithoutReauth { caller, .. }: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Response, PageError> {
    let mut tx = spaces.access.write_as(&caller.principal).await?;
    match spaces.member_delete(&mut tx, id, user, &caller.principal).await {
        Ok(()) => {
            tx.commit().await?;
            // Whoever let go of themselves does not see a private Space any more.
            let own = user == caller.user;
            let back = if own { "/admin/spaces".to_owned() } else { format!("/admin/spaces/{id}") };
            Ok(Redirect::to(&back).into_response())
        }
        Err(error) => {
            drop(tx);
            refused(&spaces, &caller, id, error.into()).await
        }
    }
}

impl Spaces {
    /// Enabled people of the tenant by name, for the choice of members.
    async fn people(&self, tenant: thinkwork_primitives::TenantId) -> Result<Vec<(UserId, String)>, ApiError> {
        let found = self.access.users(tenant, MEMBERS_SHOWN_MAX, None).await;
        let found = found.map_err(|error| ApiError::internal(&error))?;
        let mut people: Vec<_> =
            found.into_iter().filter(|user| !user.disabled).map(|user| (user.id, user.name)).collect();
        people.sort_by(|(_, a), (_, b)| a.cmp(b));
        Ok(people)
    }
}
