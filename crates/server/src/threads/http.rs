//! JSON routes of threads, messages and turns; their wire types are in `wire.rs`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use thinkwork_primitives::{Channel, SpaceId, ThreadId, Timestamp, TurnId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::followers::STREAMS_MAX;
use super::wire::{Export, MessageWire, NewMessageWire, NewThreadWire, ThreadChangeBody, ThreadWire, TurnWire};
use super::{Error, NewMessage, Thread, ThreadFilter, Threads, rules};
use crate::edge::{ApiError, Caller, Id, IfVersion, Json, List, Once, OnceKey, Paging, Query, Recheck};

/// How soon a caller with too many streams may look again.
const STREAM_RETRY_SECONDS: u64 = 5;

/// The routes.
pub fn routes(threads: &Threads) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change))
        .routes(routes!(messages, write))
        .routes(routes!(turns))
        .routes(routes!(turn_show))
        .routes(routes!(turn_cancel))
        .routes(routes!(stream))
        .routes(routes!(export))
        .with_state(threads.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(field, sentence) => Self::invalid(field, sentence),
            Error::TooManyStreams => Self::too_many(
                STREAM_RETRY_SECONDS,
                format!("You have {STREAMS_MAX} streams open here; close one, then open this."),
            ),
            Error::Over => Self::conflict("turn_over", "This turn has ended; there is nothing to stop."),
            Error::Changed => IfVersion::changed(),
            Error::Spaces(error) => error.into(),
            Error::Access(error) => Self::internal(&error),
            Error::Database(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Damaged(_) => Self::internal(&error),
        }
    }
}

/// Which threads a list shows.
#[derive(Deserialize)]
pub(super) struct FilterQuery {
    space: Option<String>,
    status: Option<String>,
    channel: Option<String>,
    requester: Option<String>,
    q: Option<String>,
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

impl FilterQuery {
    /// The same filter as the rest of a link to the next page; empty where nothing is filtered.
    pub(super) fn again(&self) -> String {
        let fields = [
            ("space", &self.space),
            ("status", &self.status),
            ("channel", &self.channel),
            ("requester", &self.requester),
            ("q", &self.q),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(given.filter(|(_, value)| !value.trim().is_empty())).finish();
        if query.is_empty() { query } else { format!("&{query}") }
    }

    /// The filter, or what does not fit. Empty fields, as forms send them, are none.
    pub(super) fn filter(self) -> Result<ThreadFilter, ApiError> {
        let wrong = |field| move || ApiError::invalid(field, "use a value from the documentation, or leave it out.");
        // PostgreSQL takes no zero character, and nothing that is stored holds one.
        for (field, text) in [("requester", &self.requester), ("q", &self.q)] {
            if text.as_deref().is_some_and(|text| text.contains('\0')) {
                return Err(ApiError::invalid(field, "leave out the zero character."));
            }
        }
        let space = given(self.space).map(|text| text.parse().map_err(|_| wrong("space")())).transpose()?;
        let status =
            given(self.status).map(|text| rules::status_parse(&text).ok_or_else(wrong("status"))).transpose()?;
        let channel = given(self.channel).map(|text| Channel::parse(&text).ok_or_else(wrong("channel"))).transpose()?;
        Ok(ThreadFilter { space, status, channel, requester: given(self.requester), words: given(self.q) })
    }
}

/// A thread's place in a list, printed as cursor.
pub(super) fn cursor(thread: &Thread) -> String {
    format!("{}_{}", thread.updated_at.micros(), thread.id)
}

pub(super) fn place(paging: &Paging) -> Result<Option<(Timestamp, ThreadId)>, ApiError> {
    let wrong = || ApiError::invalid("after", "use the `next` of the page before.");
    let read = |text: &str| {
        let (micros, id) = text.split_once('_')?;
        Some((Timestamp::from_micros(micros.parse().ok()?), id.parse().ok()?))
    };
    paging.after.as_deref().map(|text| read(text).ok_or_else(wrong)).transpose()
}

/// The threads of the Spaces that the caller may see, the latest first.
#[utoipa::path(get, path = "/v1/threads", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("space" = Option<String>, Query), ("status" = Option<String>, Query), ("channel" = Option<String>, Query), ("requester" = Option<String>, Query), ("q" = Option<String>, Query), Paging),
    responses((status = 200, body = List<ThreadWire>)))]
async fn list(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Query(query): Query<FilterQuery>,
    paging: Paging,
) -> Result<Json<List<ThreadWire>>, ApiError> {
    let (filter, after) = (query.filter()?, place(&paging)?);
    let mut tx = threads.db.read(caller.tenant).await?;
    let found = threads.list(&mut tx, &caller, &filter, paging.limit.saturating_add(1), after).await?;
    Ok(Json(List::cut(found, &paging, cursor).map(ThreadWire::from)))
}

/// Begins a thread with a first message.
#[utoipa::path(post, path = "/v1/threads", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(OnceKey), request_body = NewThreadWire, responses((status = 201, body = ThreadWire)))]
async fn create(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    key: OnceKey,
    Json(body): Json<NewThreadWire>,
) -> Result<Response, ApiError> {
    let once = Once::new(key, &caller, "threads.create", &json!(body).to_string(), threads.clock.now());
    let mut tx = threads.db.write(caller.tenant).await?;
    let thread = match once.made_before(&mut tx).await?.and_then(|id| id.parse().ok()) {
        Some(id) => threads.visible(&mut tx, id, &caller).await?,
        None => {
            let new = NewMessage {
                space: body.space_id,
                thread: None,
                title: body.title,
                text: body.text,
                priority: body.priority.map(Into::into),
            };
            let received = threads.write(&mut tx, new, &caller).await?;
            once.keep(&mut tx, &received.thread.id.to_string()).await?;
            received.thread
        }
    };
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/threads/{}", thread.id))];
    Ok((StatusCode::CREATED, location, Json(ThreadWire::from(thread))).into_response())
}

/// One thread.
#[utoipa::path(get, path = "/v1/threads/{id}", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path)), responses((status = 200, body = ThreadWire)))]
async fn show(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
) -> Result<Json<ThreadWire>, ApiError> {
    let mut tx = threads.db.read(caller.tenant).await?;
    Ok(Json(threads.visible(&mut tx, id, &caller).await?.into()))
}

/// Changes title, status or priority of a thread.
#[utoipa::path(patch, path = "/v1/threads/{id}", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), IfVersion), request_body = ThreadChangeBody,
    responses((status = 200, body = ThreadWire)))]
async fn change(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
    IfVersion(version): IfVersion,
    Json(body): Json<ThreadChangeBody>,
) -> Result<Json<ThreadWire>, ApiError> {
    let mut tx = threads.db.write(caller.tenant).await?;
    let thread = threads.change(&mut tx, id, body.into(), version, &caller).await?;
    tx.commit().await?;
    Ok(Json(thread.into()))
}

/// The messages of a thread in their order.
#[utoipa::path(get, path = "/v1/threads/{id}/messages", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), Paging), responses((status = 200, body = List<MessageWire>)))]
async fn messages(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
    paging: Paging,
) -> Result<Json<List<MessageWire>>, ApiError> {
    let after = paging.after_id::<i64>()?;
    let mut tx = threads.db.read(caller.tenant).await?;
    threads.visible(&mut tx, id, &caller).await?;
    let found = threads.messages(&mut tx, id, paging.limit.saturating_add(1), after).await?;
    Ok(Json(List::cut(found, &paging, |message| message.sequence.to_string()).map(MessageWire::from)))
}

/// Writes a message into a thread, which queues a turn.
#[utoipa::path(post, path = "/v1/threads/{id}/messages", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), OnceKey), request_body = NewMessageWire,
    responses((status = 201, body = MessageWire)))]
async fn write(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
    key: OnceKey,
    Json(body): Json<NewMessageWire>,
) -> Result<Response, ApiError> {
    let described = json!({ "thread": id, "text": body.text }).to_string();
    let once = Once::new(key, &caller, "threads.write", &described, threads.clock.now());
    let mut tx = threads.db.write(caller.tenant).await?;
    let space: SpaceId = threads.visible(&mut tx, id, &caller).await?.space;
    let message = match once.made_before(&mut tx).await?.and_then(|id| id.parse().ok()) {
        Some(message) => message,
        None => {
            let new = NewMessage { space, thread: Some(id), title: None, text: body.text, priority: None };
            let received = threads.write(&mut tx, new, &caller).await?;
            once.keep(&mut tx, &received.message.to_string()).await?;
            received.message
        }
    };
    let message = threads.message(&mut tx, message).await?.ok_or_else(ApiError::not_found)?;
    tx.commit().await?;
    let location = format!("/v1/threads/{id}/messages?after={}&limit=1", message.sequence.saturating_sub(1));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(MessageWire::from(message))).into_response())
}

/// The turns of a thread with their steps, in the order they were queued.
#[utoipa::path(get, path = "/v1/threads/{id}/turns", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), Paging), responses((status = 200, body = List<TurnWire>)))]
async fn turns(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
    paging: Paging,
) -> Result<Json<List<TurnWire>>, ApiError> {
    let after = paging.after_id()?;
    let mut tx = threads.db.read(caller.tenant).await?;
    threads.visible(&mut tx, id, &caller).await?;
    let found = threads.turns(&mut tx, id, paging.limit.saturating_add(1), after).await?;
    let List { items, next } = List::cut(found, &paging, |turn| turn.id.to_string());
    let mut wire = Vec::with_capacity(items.len());
    for turn in items {
        let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
        wire.push(TurnWire::of(turn, steps));
    }
    Ok(Json(List { items: wire, next }))
}

/// One turn: steps, attribution, tools offered, tools left out and why.
#[utoipa::path(get, path = "/v1/turns/{id}", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path)), responses((status = 200, body = TurnWire)))]
async fn turn_show(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<TurnId>,
) -> Result<Json<TurnWire>, ApiError> {
    let mut tx = threads.db.read(caller.tenant).await?;
    let turn = threads.turn_visible(&mut tx, id, &caller).await?;
    let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
    Ok(Json(TurnWire::of(turn, steps)))
}

/// Stops a turn that has not ended.
#[utoipa::path(post, path = "/v1/turns/{id}/cancel", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path)), responses((status = 200, body = TurnWire)))]
async fn turn_cancel(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<TurnId>,
) -> Result<Json<TurnWire>, ApiError> {
    let mut tx = threads.db.write(caller.tenant).await?;
    let turn = threads.turn_cancel(&mut tx, id, &caller).await?;
    let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
    tx.commit().await?;
    Ok(Json(TurnWire::of(turn, steps)))
}

/// What happens in a thread, as server-sent events; `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/v1/threads/{id}/stream", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path), ("Last-Event-ID" = Option<i64>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn stream(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    recheck: Recheck,
    Id(id): Id<ThreadId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wrong = || ApiError::invalid("Last-Event-ID", "send the id of the last event you read.");
    let after = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(wrong)?),
        None => None,
    };
    Ok(threads.follow(caller, recheck, id, after).await?.into_response())
}

/// A whole thread as one document.
#[utoipa::path(get, path = "/v1/threads/{id}/export", tag = "threads", extensions(("x-caller" = json!("caller"))),
    params(("id" = String, Path)), responses((status = 200, body = Export)))]
async fn export(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Id(id): Id<ThreadId>,
) -> Result<Response, ApiError> {
    let mut tx = threads.db.read(caller.tenant).await?;
    let thread = threads.visible(&mut tx, id, &caller).await?;
    drop(tx);
    let name = format!("attachment; filename=\"{id}.json\"");
    // Opened in a browser it runs and loads nothing.
    let policy = "default-src 'none'; sandbox".to_owned();
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, Body::from_stream(threads.export(thread, caller))).into_response())
}
