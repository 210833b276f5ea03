//! The page of one thread: the conversation, its turns, and the box to write in.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use thinkwork_database::Tx;
use thinkwork_primitives::{MessageId, ThreadId, TurnId};

use super::entries::{Entry, entries};
use crate::edge::{ApiError, EmptyForm, Layout, Page, PageCaller, PageError, PageMember, Path, ProtectedForm};
use crate::threads::attribution::Attribution;
use crate::threads::{Error, NewMessage, Thread, ThreadUpdate, Threads, rules, store};

/// Messages shown at once; earlier ones are a link away.
const MESSAGES_SHOWN: i64 = 100;
/// Messages that one page may grow to while it is read.
const MESSAGES_SHOWN_MAX: u64 = 1_000;

/// From which message on.
#[derive(Deserialize)]
pub(super) struct From {
    from: Option<i64>,
}

#[derive(Template)]
#[template(path = "threads/templates/thread.html")]
struct ThreadPage {
    layout: Layout,
    id: String,
    from: i64,
    earlier: String,
    status: &'static str,
    is_closed: bool,
    space_name: String,
    space_href: String,
    line: Attribution,
    entries: Vec<Entry>,
    text_error: String,
}

#[derive(Template)]
#[template(path = "threads/templates/fragment.html")]
struct Fragment {
    csrf: String,
    id: String,
    from: i64,
    entries: Vec<Entry>,
}

async fn shown(
    threads: &Threads,
    tx: &mut Tx,
    caller: &PageCaller,
    thread: ThreadId,
    from: Option<i64>,
) -> Result<(i64, Vec<Entry>), ApiError> {
    let from = match from {
        Some(from) => from.max(1),
        None => {
            let last = store::message::message_last(tx, thread).await?;
            last.saturating_sub(MESSAGES_SHOWN).saturating_add(1).max(1)
        }
    };
    let messages = threads.messages(tx, thread, MESSAGES_SHOWN_MAX, Some(from.saturating_sub(1))).await?;
    Ok((from, entries(threads, tx, caller, messages).await?))
}

async fn page(
    threads: &Threads,
    caller: &PageCaller,
    id: ThreadId,
    from: Option<i64>,
    text_error: String,
) -> Result<ThreadPage, ApiError> {
    let mut tx = threads.db.read(caller.tenant()).await?;
    let thread: Thread = threads.visible(&mut tx, id, &caller.principal).await?;
    let space = threads.spaces.visible(&mut tx, thread.space, &caller.principal).await?;
    let lines = threads.attributions(&mut tx, caller.user, caller.is_operator(), std::slice::from_ref(&thread)).await?;
    let line = lines.into_iter().next().unwrap_or_default();
    let (from, entries) = shown(threads, &mut tx, caller, id, from).await?;
    let earlier = from.saturating_sub(MESSAGES_SHOWN).max(1);
    Ok(ThreadPage {
        layout: Layout::me(caller, &thread.title, "spaces"),
        id: id.to_string(),
        from,
        earlier: if from > 1 { format!("/me/threads/{id}?from={earlier}") } else { String::new() },
        status: thread.status.as_str(),
        is_closed: rules::is_closed(thread.status),
        space_name: space.name,
        space_href: format!("/me/spaces/{}", thread.space),
        line,
        entries,
        text_error,
    })
}

pub(super) async fn show(
    State(threads): State<Threads>,
    PageMember(caller): PageMember,
    Path(id): Path<ThreadId>,
    Query(From { from }): Query<From>,
) -> Result<Response, PageError> {
    Ok(Page(page(&threads, &caller, id, from, String::new()).await?).render_off_worker().await)
}

/// The conversation alone, for a page that is being read.
pub(super) async fn fragment(
    State(threads): State<Threads>,
    PageMember(caller): PageMember,
    Path(id): Path<ThreadId>,
    Query(From { from }): Query<From>,
) -> Result<Response, PageError> {
    let mut tx = threads.db.read(caller.tenant()).await?;
    threads.visible(&mut tx, id, &caller.principal).await?;
    let (from, entries) = shown(&threads, &mut tx, &caller, id, from).await?;
    drop(tx);
    Ok(Page(Fragment { csrf: caller.csrf, id: id.to_string(), from, entries }).render_off_worker().await)
}

#[derive(Deserialize)]
pub(super) struct WriteForm {
    #[serde(default)]
    text: String,
}

pub(super) async fn write(
    State(threads): State<Threads>,
    Path(id): Path<ThreadId>,
    ProtectedForm { caller, form }: ProtectedForm<WriteForm>,
) -> Result<Response, PageError> {
    let mut tx = threads.db.write(caller.tenant()).await?;
    let space = threads.visible(&mut tx, id, &caller.principal).await?.space;
    let new = NewMessage { space, thread: Some(id), title: None, text: form.text, priority: None };
    match threads.write(&mut tx, new, &caller.principal).await {
        Ok(received) => {
            tx.commit().await?;
            Ok(Redirect::to(&format!("/me/threads/{id}#{}", received.message)).into_response())
        }
        Err(Error::Invalid(error)) => {
            drop(tx);
            let page = page(&threads, &caller, id, None, error.problem.into_owned()).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Page(page).render_off_worker().await).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

#[derive(Deserialize)]
pub(super) struct StatusForm {
    status: String,
}

pub(super) async fn status(
    State(threads): State<Threads>,
    Path(id): Path<ThreadId>,
    ProtectedForm { caller, form }: ProtectedForm<StatusForm>,
) -> Result<Response, PageError> {
    let status = form.status.parse::<crate::threads::ThreadStatus>().ok();
    let status = status.ok_or_else(|| ApiError::invalid("status", "choose a status from the page."))?;
    let change = ThreadUpdate { status: Some(status), ..ThreadUpdate::default() };
    let mut tx = threads.db.write(caller.tenant()).await?;
    threads.update(&mut tx, id, change, None, &caller.principal).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/me/threads/{id}")).into_response())
}

pub(super) async fn cancel(
    State(threads): State<Threads>,
    Path(id): Path<TurnId>,
    ProtectedForm { caller, .. }: ProtectedForm<EmptyForm>,
) -> Result<Response, PageError> {
    let mut tx = threads.db.write(caller.tenant()).await?;
    let thread = threads.turn_visible(&mut tx, id, &caller.principal).await?.thread;
    match threads.turn_cancel(&mut tx, id, &caller.principal).await {
        Ok(_) => tx.commit().await?,
        // It ended by itself meanwhile, and the page shows that.
        Err(Error::Over) => drop(tx),
        Err(other) => return Err(other.into()),
    }
    Ok(Redirect::to(&format!("/me/threads/{thread}#{id}")).into_response())
}

pub(super) async fn share(
    State(threads): State<Threads>,
    Path(id): Path<MessageId>,
    ProtectedForm { caller, .. }: ProtectedForm<EmptyForm>,
) -> Result<Response, PageError> {
    let mut tx = threads.access.write_as(&caller.principal).await?;
    let message = threads.message_share(&mut tx, id, &caller.principal).await?;
    tx.commit().await?;
    Ok(Redirect::to(&format!("/me/threads/{}#{id}", message.thread)).into_response())
}
