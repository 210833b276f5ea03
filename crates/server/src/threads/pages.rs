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
use thinkwork_primitives::{Channel, SpaceId, UserId, limits};

use super::attribution::{Attribution, Labels};
use super::http::{FilterQuery, cursor, place};
use super::{Error, NewMessage, Thread, ThreadFilter, Threads, rules};
use crate::edge::{
    ApiError, CheckedForm, Frame, Id, List, Moment, Notice, Page, PageCaller, PageError, PageMember, PageOperator,
    Paging,
};
use crate::spaces::{Space, SpaceAccess};

/// Every page of the slice.
pub fn routes(threads: &Threads) -> Router {
    Router::new()
        .route("/me/spaces/{id}", get(space).post(begin))
        .route("/me/threads/{id}", get(thread::show).post(thread::write))
        .route("/me/threads/{id}/fragment", get(thread::fragment))
        .route("/me/threads/{id}/status", post(thread::status))
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
    updated: Moment,
}

async fn rows(threads: &Threads, tx: &mut Tx, caller: &PageCaller, found: Vec<Thread>) -> Result<Vec<Row>, ApiError> {
    let mut labels = Labels::new(caller.user, caller.is_operator());
    let now = threads.clock.now();
    let lines = threads.attributions(tx, &mut labels, &found).await?;
    let mut rows = Vec::with_capacity(found.len());
    for (thread, line) in found.into_iter().zip(lines) {
        let space = threads.spaces.find_for_work(tx, thread.space).await?;
        rows.push(Row {
            line,
            space: space.map_or_else(String::new, |space| space.name),
            status: rules::status_word(thread.status),
            channel: channel_words(thread.id.channel()),
            updated: Moment::of(thread.updated_at, now),
            id: thread.id.to_string(),
            title: thread.title,
        });
    }
    Ok(rows)
}

const fn channel_words(channel: Channel) -> &'static str {
    match channel {
        Channel::Chat => "Chat",
        Channel::Hook => "Webhook",
        Channel::Mail => "Mail",
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
    frame: Frame,
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

/// Who let themselves into a private Space lately: joining one is announced in it (product.md, rule 14).
async fn joined(threads: &Threads, tx: &mut Tx, space: &Space) -> Result<Vec<String>, ApiError> {
    if space.access != SpaceAccess::Private {
        return Ok(Vec::new());
    }
    let now = threads.clock.now();
    let mut members = threads.spaces.members(tx, space.id, limits::PAGE_ITEMS_MAX, None).await?;
    // Its maker is in it from the start.
    members.retain(|member| {
        member.by_themselves && member.joined_at != space.created_at && now.since(member.joined_at) < JOINED_SHOWN
    });
    let ids: Vec<UserId> = members.iter().map(|member| member.user).collect();
    let names = threads.access.user_names(tx, &ids).await.map_err(|error| ApiError::internal(&error))?;
    let since = |user| members.iter().find(|member| member.user == user).map(|member| member.joined_at);
    Ok(names
        .into_iter()
        .filter_map(|(user, name)| {
            let at = Moment::of(since(user)?, now);
            Some(format!("{name}, an operator, joined this Space {} and reads everything in it.", at.relative))
        })
        .collect())
}

async fn space_page(
    threads: &Threads,
    caller: &PageCaller,
    id: SpaceId,
    paging: &Paging,
    form: BeginForm,
    text_error: String,
) -> Result<SpacePage, ApiError> {
    let after = place(paging)?;
    let mut tx = threads.db.read(caller.tenant()).await?;
    let space = threads.spaces.visible(&mut tx, id, &caller.principal).await?;
    let filter = ThreadFilter { space: Some(id), ..ThreadFilter::default() };
    let found = threads.list(&mut tx, &caller.principal, &filter, paging.limit.saturating_add(1), after).await?;
    let List { items, next } = List::cut(found, paging, cursor);
    let rows = rows(threads, &mut tx, caller, items).await?;
    let joined = joined(threads, &mut tx, &space).await?;
    Ok(SpacePage {
        frame: Frame::me(caller, &space.name, "spaces"),
        id: id.to_string(),
        access: match space.access {
            SpaceAccess::Public => "public",
            SpaceAccess::Private => "private",
        },
        rows,
        next: next.map_or_else(String::new, |after| format!("/me/spaces/{id}?after={after}")),
        form,
        text_error,
        is_operator: caller.is_operator(),
        joined,
    })
}

async fn space(
    State(threads): State<Threads>,
    PageMember(caller): PageMember,
    Id(id): Id<SpaceId>,
    paging: Paging,
) -> Result<Response, PageError> {
    let page = space_page(&threads, &caller, id, &paging, BeginForm::default(), String::new()).await?;
    Ok(Page(page).into_response())
}

async fn begin(
    State(threads): State<Threads>,
    Id(id): Id<SpaceId>,
    CheckedForm { caller, form }: CheckedForm<BeginForm>,
) -> Result<Response, PageError> {
    let title = Some(form.title.clone()).filter(|title| !title.trim().is_empty());
    let new = NewMessage { space: id, thread: None, title, text: form.text.clone(), priority: None };
    let mut tx = threads.db.write(caller.tenant()).await?;
    match threads.write(&mut tx, new, &caller.principal).await {
        Ok(received) => {
            tx.commit().await?;
            Ok(Redirect::to(&format!("/me/threads/{}", received.thread.id)).into_response())
        }
        Err(Error::Invalid(_, sentence)) => {
            drop(tx);
            let page = space_page(&threads, &caller, id, &Paging::default(), form, sentence.to_owned()).await?;
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
    frame: Frame,
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
    paging: Paging,
) -> Result<Response, PageError> {
    let (again, after) = (query.again(), place(&paging)?);
    let (filter, notice) = match query.filter() {
        Ok(filter) => (filter, None),
        Err(error) => (ThreadFilter::default(), Some(Notice { kind: "bad", text: error.message })),
    };
    let mut tx = threads.db.read(caller.tenant()).await?;
    let found = threads.list(&mut tx, &caller.principal, &filter, paging.limit.saturating_add(1), after).await?;
    let List { items, next } = List::cut(found, &paging, cursor);
    let spaces = threads.spaces.list(&mut tx, &caller.principal, SPACES_OFFERED_MAX, None).await?;
    let statuses = STATUSES.into_iter().map(|word| Choice {
        value: word.to_owned(),
        label: word.replace('_', " "),
        chosen: filter.status.map(rules::status_word) == Some(word),
    });
    let channels = CHANNELS.into_iter().map(|channel| Choice {
        value: channel.word().to_owned(),
        label: channel_words(channel).to_owned(),
        chosen: filter.channel == Some(channel),
    });
    let spaces = spaces.into_iter().map(|space| Choice {
        value: space.id.to_string(),
        label: space.name,
        chosen: filter.space == Some(space.id),
    });
    let next = next.map_or_else(String::new, |after| format!("/admin/threads?after={after}{again}"));
    let page = All {
        frame: Frame::admin(&caller, "Threads", "threads").with_notice(notice),
        next,
        spaces: spaces.collect(),
        statuses: statuses.collect(),
        channels: channels.collect(),
        requester: filter.requester.unwrap_or_default(),
        words: filter.words.unwrap_or_default(),
        is_filtered: !again.is_empty(),
        rows: rows(&threads, &mut tx, &caller, items).await?,
    };
    Ok(Page(page).into_response())
}
