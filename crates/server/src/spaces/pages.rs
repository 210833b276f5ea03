//! Pages of Spaces: the member's list; the operator's list, making one, and its members.

mod detail;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::{Error, NewSpace, Space, SpaceAccess, Spaces, rules};
use crate::edge::{
    ApiError, Layout, List, Notice, OperatorForm, Page, PageCaller, PageError, PageMember, PageOperator, Pagination,
};

/// Every page of the slice. The page of one Space with its threads is the `threads` slice's.
pub fn routes(spaces: &Spaces) -> Router {
    Router::new()
        .route("/me/spaces", get(mine))
        .route("/admin/spaces", get(all).post(create))
        .route("/admin/spaces/{id}", get(detail::show).post(detail::update))
        .route("/admin/spaces/{id}/members", post(detail::member_add))
        .route("/admin/spaces/{id}/members/{user_id}/remove", post(detail::member_delete))
        .with_state(spaces.clone())
}

/// A Space in a list.
struct Row {
    id: String,
    name: String,
    slug: String,
    access: &'static str,
}

impl From<Space> for Row {
    fn from(space: Space) -> Self {
        Self { id: space.id.to_string(), name: space.name, slug: space.slug, access: space.access.as_str() }
    }
}

/// What a form of a Space holds; as sent, so that a refused one is shown again.
#[derive(Default, Deserialize)]
struct SpaceForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    slug: String,
    #[serde(default)]
    access: String,
    #[serde(default)]
    prompt: String,
}

#[derive(Template)]
#[template(path = "spaces/templates/mine.html")]
struct Mine {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
}

#[derive(Template)]
#[template(path = "spaces/templates/all.html")]
struct All {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
    form: SpaceForm,
    name_error: String,
    slug_error: String,
}

async fn rows(
    spaces: &Spaces,
    caller: &PageCaller,
    paging: &Pagination,
    path: &str,
) -> Result<(Vec<Row>, String), ApiError> {
    let mut tx = spaces.db.read(caller.tenant()).await?;
    let found = spaces.list(&mut tx, &caller.principal, paging.fetch_limit(), paging.after_id()?).await?;
    let list = List::cut(found, paging, |space| space.id.to_string());
    let next = list.next_href(path);
    Ok((list.items.into_iter().map(Row::from).collect(), next))
}

async fn mine(
    State(spaces): State<Spaces>,
    PageMember(caller): PageMember,
    paging: Pagination,
) -> Result<Response, PageError> {
    let (rows, next) = rows(&spaces, &caller, &paging, "/me/spaces").await?;
    Ok(Page(Mine { layout: Layout::me(&caller, "Spaces", "spaces"), rows, next }).into_response())
}

async fn all(
    State(spaces): State<Spaces>,
    PageOperator(caller): PageOperator,
    paging: Pagination,
) -> Result<Response, PageError> {
    list_page(&spaces, &caller, &paging, SpaceForm::default(), None).await
}

async fn list_page(
    spaces: &Spaces,
    caller: &PageCaller,
    paging: &Pagination,
    form: SpaceForm,
    refused: Option<ApiError>,
) -> Result<Response, PageError> {
    let (rows, next) = rows(spaces, caller, paging, "/admin/spaces").await?;
    let mut page = All {
        layout: Layout::admin(caller, "Spaces", "spaces"),
        rows,
        next,
        form,
        name_error: String::new(),
        slug_error: String::new(),
    };
    let Some(refused) = refused else { return Ok(Page(page).into_response()) };
    match refused.fields.first() {
        Some((field, problem)) if field == "name" => page.name_error.clone_from(problem),
        Some((field, problem)) if field == "slug" => page.slug_error.clone_from(problem),
        _ => page.layout.notice = Some(Notice::error(format!("The Space was not created. {}", refused.message))),
    }
    Ok((refused.status, Page(page)).into_response())
}

async fn create(
    State(spaces): State<Spaces>,
    OperatorForm { caller, form }: OperatorForm<SpaceForm>,
) -> Result<Response, PageError> {
    let slug = if form.slug.trim().is_empty() { rules::slug_of(&form.name) } else { form.slug.trim().to_owned() };
    let access = if form.access == "public" { SpaceAccess::Public } else { SpaceAccess::Private };
    let new = NewSpace { prompt: Some(form.prompt.clone()), ..NewSpace::new(slug, form.name.clone(), access) };
    let mut tx = spaces.access.write_as(&caller.principal).await?;
    match spaces.create(&mut tx, new, &caller.principal).await {
        Ok(space) => {
            tx.commit().await?;
            Ok(Redirect::to(&format!("/admin/spaces/{}", space.id)).into_response())
        }
        Err(error @ (Error::Invalid(..) | Error::SlugTaken)) => {
            drop(tx);
            list_page(&spaces, &caller, &Pagination::default(), form, Some(error.into())).await
        }
        Err(other) => Err(other.into()),
    }
}
