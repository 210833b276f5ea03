//! Pages of threads: a Space with its threads, one thread, and the operator's list.

mod entries;
mod thread;
mod words;

use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_database::Tx;
use thinkwork_primitives::{Channel, SpaceId};

use super::attribution::Attribution;
use super::http::FilterQuery;
use super::{Error, NewMessage, Thread, ThreadFilter, ThreadPage, Threads};
use crate::edge::Named;
use crate::edge::{
    ApiError, DisplayTime, Layout, Notice, Page, PageCaller, PageError, PageMember, PageOperator, Pagination, Path,
    ProtectedForm, time_cursor,
};
use crate::spaces::{Announcement, SpaceAccess};

/// Every page of the slice.
pub fn routes(threads: &Threads) -> Router {
    Router::new()
        .route("/me/spaces/{id}", get(space).post(begin))
        .route("/me/threads/{id}", get(thread::show).post(thread::write))
        .route("/me/threads/{id}/fragment", get(thread::fragment))
        .route("/me/threads/{id}/status", post(thread::status))
        .route("/me/messages/{id}/share", post(thread::share))
        .route("/me/turns/{id}/cancel", post(thread::cancel))
        .route("/admin/threads", get(all))
        .with_state(threads.clone())
}

/// A thread in a list.
struct Row {
    id: String,
    title: String,
    status: &'static str,
    channel: &'static str,
    space: String,
    line: Attribution,
    updated: DisplayTime,
}

async fn rows(threads: &Threads, tx: &mut Tx, caller: &PageCaller, found: Vec<Thread>) -> Result<Vec<Row>, ApiError> {
    let now = threads.clock.now();
    let lines = threads.attributions(tx, caller.user, caller.is_operator(), &found).await?;
    let mut spaces: Vec<SpaceId> = found.iter().map(|thread| thread.space).collect();
    spaces.sort_unstable();
    spaces.dedup();
    let spaces = threads.spaces.names_of(tx, &spaces).await?;
    let space = |id: SpaceId| spaces.iter().find(|(named, _)| *named == id).map(|(_, name)| name.clone());
    let row = |(thread, line): (Thread, Attribution)| Row {
        line,
        space: space(thread.space).unwrap_or_default(),
        status: thread.status.as_str(),
        channel: channel_name(thread.id.channel()),
        updated: DisplayTime::of(thread.updated_at, now),
        id: thread.id.to_string(),
        title: thread.title,
    };
    Ok(found.into_iter().zip(lines).map(row).collect())
}

const fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::Chat => "Chat",
        Channel::Hook => "Webhook",
        Channel::Mail => "Email",
        Channel::Cal => "Calendar",
        Channel::Auto => "Schedule",
        Channel::Ext => "Extension",
    }
}

#[derive(Default, Deserialize)]
struct BeginForm {
    #[serde(default)]
    title: String,
    #[serde(default)]
    text: String,
}

#[derive(Template)]
#[template(path = "threads/templates/space.html")]
struct SpacePage {
    layout: Layout,
    id: String,
    access: &'static str,
    rows: Vec<Row>,
    next: String,
    form: BeginForm,
    text_error: String,
    is_operator: bool,
    joined: Vec<String>,
}

/// How long a Space says that an operator joined it.
const JOINED_SHOWN: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Who let themselves into this Space lately, and whether they are in it still.
async fn joined(threads: &Threads, tx: &mut Tx, space: SpaceId) -> Result<Vec<String>, ApiError> {
    let now = threads.clock.now();
    let announced = threads.spaces.announcements(tx, space, now.minus(JOINED_SHOWN)).await?;
    let names = threads.names.find(tx, announced.iter().map(|one| Named::User(one.user))).await?;
    let mut lines = Vec::with_capacity(announced.len());
    for Announcement { user, joined_at } in announced {
        let name = names.user(user);
        let at = DisplayTime::of(joined_at, now).relative;
        let since = match threads.spaces.member(tx, space, user).await? {
            Some(_) => "and can read everything in it",
            None => "and has left since; they could read everything in it",
        };
        lines.push(format!("{name}, an operator, joined this Space {at} {since}."));
    }
    Ok(lines)
}

async fn space_page(
    threads: &Threads,
    caller: &PageCaller,
    id: SpaceId,
    paging: &Pagination,
    form: BeginForm,
    text_error: String,
) -> Result<SpacePage, ApiError> {
    let after = paging.after_cursor()?;
    let mut tx = threads.db.read(caller.tenant()).await?;
    let space = threads.spaces.visible(&mut tx, id, &caller.principal).await?;
    let filter = ThreadFilter { space: Some(id), ..ThreadFilter::default() };
    let ThreadPage { threads: found, next } =
        threads.list(&mut tx, &caller.principal, &filter, paging.limit, after).await?;
    let rows = rows(threads, &mut tx, caller, found).await?;
    let joined = joined(threads, &mut tx, id).await?;
    Ok(SpacePage {
        layout: Layout::me(caller, &space.name, "spaces"),
        id: id.to_string(),
        access: match space.access {
            SpaceAccess::Public => "public",
            SpaceAccess::Private => "private",
        },
        rows,
        next: next.map_or_else(String::new, |(at, last)| format!("/me/spaces/{id}?after={}", time_cursor(at, last))),
        form,
        text_error,
        is_operator: caller.is_operator(),
        joined,
    })
}

async fn space(
    State(threads): State<Threads>,
    PageMember(caller): PageMember,
    Path(id): Path<SpaceId>,
    paging: Pagination,
) -> Result<Response, PageError> {
    let page = space_page(&threads, &caller, id, &paging, BeginForm::default(), String::new()).await?;
    Ok(Page(page).into_response())
}

async fn begin(
    State(threads): State<Threads>,
    Path(id): Path<SpaceId>,
    ProtectedForm { caller, form }: ProtectedForm<BeginForm>,
) -> Result<Response, PageError> {
    let title = Some(form.title.clone()).filter(|title| !title.trim().is_empty());
    let new = NewMessage { space: id, thread: None, title, text: form.text.clone(), priority: None };
    let mut tx = threads.db.write(caller.tenant()).await?;
    match threads.write(&mut tx, new, &caller.principal).await {
        Ok(received) => {
            tx.commit().await?;
            Ok(Redirect::to(&format!("/me/threads/{}", received.thread.id)).into_response())
        }
        Err(Error::Invalid(error)) => {
            drop(tx);
            let page =
                space_page(&threads, &caller, id, &Pagination::default(), form, error.problem.into_owned()).await?;
            Ok((axum::http::StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

/// A value of a filter and whether it is chosen.
struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "threads/templates/all.html")]
struct All {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
    spaces: Vec<Choice>,
    statuses: Vec<Choice>,
    channels: Vec<Choice>,
    requester: String,
    words: String,
    is_filtered: bool,
}

const STATUSES: [&str; 7] = ["backlog", "todo", "in_progress", "in_review", "blocked", "done", "cancelled"];
const CHANNELS: [Channel; 6] = [Channel::Chat, Channel::Hook, Channel::Mail, Channel::Cal, Channel::Auto, Channel::Ext];
/// Spaces offered in the filter; more are reached by their own pages.
const SPACES_OFFERED_MAX: u64 = 200;

async fn all(
    State(threads): State<Threads>,
    PageOperator(caller): PageOperator,
    Query(query): Query<FilterQuery>,
    paging: Pagination,
) -> Result<Response, PageError> {
    let again = query.again();
    let after = paging.after_cursor()?;
    let (filter, notice) = match query.filter() {
        Ok(filter) => (filter, None),
        Err(error) => (ThreadFilter::default(), Some(Notice::error(error.message))),
    };
    let mut tx = threads.db.read(caller.tenant()).await?;
    let ThreadPage { threads: found, next } =
        threads.list(&mut tx, &caller.principal, &filter, paging.limit, after).await?;
    let spaces = threads.spaces.list(&mut tx, &caller.principal, SPACES_OFFERED_MAX, None).await?;
    let statuses = STATUSES.into_iter().map(|word| Choice {
        value: word.to_owned(),
        label: word.replace('_', " "),
        chosen: filter.status.map(super::ThreadStatus::as_str) == Some(word),
    });
    let channels = CHANNELS.into_iter().map(|channel| Choice {
        value: channel.as_str().to_owned(),
        label: channel_name(channel).to_owned(),
        chosen: filter.channel == Some(channel),
    });
    let spaces = spaces.into_iter().map(|space| Choice {
        value: space.id.to_string(),
        label: space.name,
        chosen: filter.space == Some(space.id),
    });
    let next = next.map_or_else(String::new, |(at, id)| format!("/admin/threads?after={}{again}", time_cursor(at, id)));
    let page = All {
        layout: Layout::admin(&caller, "Threads", "threads").with_notice(notice),
        next,
        spaces: spaces.collect(),
        statuses: statuses.collect(),
        channels: channels.collect(),
        requester: filter.requester.unwrap_or_default(),
        words: filter.words.unwrap_or_default(),
        is_filtered: !again.is_empty(),
        rows: rows(&threads, &mut tx, &caller, found).await?,
    };
    Ok(Page(page).into_response())
}
