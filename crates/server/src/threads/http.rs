//! JSON routes of threads, messages and turns; their wire types are in `wire.rs`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use thinkwork_primitives::{MessageId, SpaceId, ThreadId, TurnId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::stream_slots::STREAMS_MAX;
use super::wire::{
    CreateMessageRequest, CreateThreadRequest, Export, MessageResponse, ThreadResponse, TurnResponse,
    UpdateThreadRequest,
};
use super::{Error, NewMessage, ThreadFilter, Threads};
use crate::edge::{
    ApiError, Caller, Idempotency, IdempotencyKey, IfMatch, InvalidField, Json, List, Pagination, Path, Query, Recheck,
    SessionUser, time_cursor,
};
use crate::spaces::NO_SUCH_SPACE;

/// How soon a caller with too many streams may look again.
const STREAM_RETRY_SECONDS: u64 = 5;

pub fn routes(threads: &Threads) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update))
        .routes(routes!(messages_list, message_create))
        .routes(routes!(message_share))
        .routes(routes!(turns_list))
        .routes(routes!(turn_get))
        .routes(routes!(turn_cancel))
        .routes(routes!(stream))
        .routes(routes!(export))
        .with_state(threads.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(error) => error.into(),
            Error::TooManyStreams => Self::too_many(
                STREAM_RETRY_SECONDS,
                format!(
                    "You have {STREAMS_MAX} streams open, which is the limit. Close a page or program that follows a thread and try again."
                ),
            ),
            Error::NotYourMessage => Self::forbidden(
                "not_your_message",
                "Only the person whose account was read can share this message. Ask them to share it.",
            ),
            Error::Over => Self::conflict("turn_over", "This turn has already ended."),
            Error::VersionConflict => IfMatch::precondition_failed(),
            Error::Spaces(error) => error.into(),
            Error::Access(error) => Self::internal(&error),
            Error::Database(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Damaged(_) => Self::internal(&error),
        }
    }
}

/// Which threads a list shows.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterQuery {
    /// Only threads of this Space.
    #[param(example = "spc_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    space: Option<String>,
    /// Only threads with this status, like `in_progress`.
    #[param(example = "in_progress")]
    status: Option<String>,
    /// Only threads that began here: `CHAT`, `HOOK`, `MAIL`, `CAL`, `AUTO` or `EXT`.
    #[param(example = "CHAT")]
    channel: Option<String>,
    /// Only threads that this person, webhook or other requester began: its id.
    #[param(example = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    requester: Option<String>,
    /// Only threads with words in the title that begin like all of these.
    #[param(example = "invoice")]
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
                return Err(ApiError::invalid(field, "remove the null character."));
            }
        }
        let space = given(self.space).map(|text| text.parse().map_err(|_| wrong("space")())).transpose()?;
        let status = given(self.status).map(|text| text.parse().map_err(|_| wrong("status")())).transpose()?;
        let channel = given(self.channel).map(|text| text.parse().map_err(|_| wrong("channel")())).transpose()?;
        Ok(ThreadFilter { space, status, channel, requester: given(self.requester), words: given(self.q) })
    }
}

/// Lists the threads of the Spaces that you may see, latest first; with `q`, those begun last first.
///
/// A page of several filters may hold fewer threads than `limit`, or none, while `next` goes on.
#[utoipa::path(get, path = "/v1/threads", operation_id = "threads.list", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(FilterQuery, Pagination),
    responses((status = 200, body = List<ThreadResponse>)))]
async fn list(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Query(query): Query<FilterQuery>,
    paging: Pagination,
) -> Result<Json<List<ThreadResponse>>, ApiError> {
    let filter = query.filter()?;
    let after = paging.after_cursor()?;
    let mut tx = threads.db.read(caller.tenant).await?;
    let page = threads.list(&mut tx, &caller, &filter, paging.limit, after).await?;
    let clients: Vec<_> = page.threads.iter().map(|thread| thread.client).collect();
    let names = threads.names.of_clients(&mut tx, &clients).await?;
    let items = page.threads.into_iter().map(|thread| ThreadResponse::new(thread, &names)).collect();
    Ok(Json(List { items, next: page.next.map(|(at, id)| time_cursor(at, id)) }))
}

/// Creates a thread with a first message.
#[utoipa::path(post, path = "/v1/threads", operation_id = "threads.create", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(IdempotencyKey), request_body = CreateThreadRequest,
    responses((status = 201, body = ThreadResponse)))]
async fn create(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Json(body): Json<CreateThreadRequest>,
) -> Result<Response, ApiError> {
    let idempotency = Idempotency::new(key, &caller, "threads.create", &json!(body).to_string(), threads.clock.now());
    let mut tx = threads.db.write(caller.tenant).await?;
    let thread = match idempotency.existing(&mut tx).await?.and_then(|id| id.parse().ok()) {
        Some(id) => threads.visible(&mut tx, id, &caller).await?,
        None => {
            let new = NewMessage {
                space: body.space_id,
                thread: None,
                title: body.title,
                text: body.text,
                priority: body.priority,
            };
            let received = threads.write(&mut tx, new, &caller).await.map_err(|error| match error {
                Error::NotFound => InvalidField::new("space_id", NO_SUCH_SPACE).into(),
                other => other,
            })?;
            idempotency.keep(&mut tx, &received.thread.id.to_string()).await?;
            received.thread
        }
    };
    let names = threads.names.of_clients(&mut tx, &[thread.client]).await?;
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/threads/{}", thread.id))];
    Ok((StatusCode::CREATED, location, Json(ThreadResponse::new(thread, &names))).into_response())
}

/// Gets a thread.
#[utoipa::path(get, path = "/v1/threads/{id}", operation_id = "threads.get", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path)),
    responses((status = 200, body = ThreadResponse)))]
async fn get(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
) -> Result<Json<ThreadResponse>, ApiError> {
    let mut tx = threads.db.read(caller.tenant).await?;
    let thread = threads.visible(&mut tx, id, &caller).await?;
    let names = threads.names.of_clients(&mut tx, &[thread.client]).await?;
    Ok(Json(ThreadResponse::new(thread, &names)))
}

/// Changes the title, status or priority of a thread.
#[utoipa::path(patch, path = "/v1/threads/{id}", operation_id = "threads.update", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), IfMatch),
    request_body = UpdateThreadRequest, responses((status = 200, body = ThreadResponse)))]
async fn update(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
    IfMatch(version): IfMatch,
    Json(body): Json<UpdateThreadRequest>,
) -> Result<Json<ThreadResponse>, ApiError> {
    let mut tx = threads.db.write(caller.tenant).await?;
    let thread = threads.update(&mut tx, id, body.into(), version, &caller).await?;
    let names = threads.names.of_clients(&mut tx, &[thread.client]).await?;
    tx.commit().await?;
    Ok(Json(ThreadResponse::new(thread, &names)))
}

/// Lists the messages of a thread, oldest first.
#[utoipa::path(get, path = "/v1/threads/{id}/messages", operation_id = "threads.messages.list", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), Pagination),
    responses((status = 200, body = List<MessageResponse>)))]
async fn messages_list(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
    paging: Pagination,
) -> Result<Response, ApiError> {
    let after = paging.after_id::<i64>()?;
    let mut tx = threads.db.read(caller.tenant).await?;
    threads.visible(&mut tx, id, &caller).await?;
    let found = threads.messages(&mut tx, id, paging.fetch_limit(), after).await?;
    let names =
        threads.names.of_clients(&mut tx, &found.iter().map(|message| message.client).collect::<Vec<_>>()).await?;
    drop(tx);
    let list = List::cut(found, &paging, |message| message.sequence.to_string());
    Ok(Json(list.map(|message| MessageResponse::new(message, caller.user(), &names))).render_off_worker().await)
}

/// Adds a message to a thread, which queues a turn.
#[utoipa::path(post, path = "/v1/threads/{id}/messages", operation_id = "threads.messages.create", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), IdempotencyKey),
    request_body = CreateMessageRequest, responses((status = 201, body = MessageResponse)))]
async fn message_create(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
    key: IdempotencyKey,
    Json(body): Json<CreateMessageRequest>,
) -> Result<Response, ApiError> {
    let described = json!({ "thread": id, "text": body.text }).to_string();
    let idempotency = Idempotency::new(key, &caller, "threads.write", &described, threads.clock.now());
    let mut tx = threads.db.write(caller.tenant).await?;
    let space: SpaceId = threads.visible(&mut tx, id, &caller).await?.space;
    let message = match idempotency.existing(&mut tx).await?.and_then(|id| id.parse().ok()) {
        Some(message) => message,
        None => {
            let new = NewMessage { space, thread: Some(id), title: None, text: body.text, priority: None };
            let received = threads.write(&mut tx, new, &caller).await?;
            idempotency.keep(&mut tx, &received.message.to_string()).await?;
            received.message
        }
    };
    let message = threads.message(&mut tx, message).await?.ok_or_else(ApiError::not_found)?;
    let names = threads.names.of_clients(&mut tx, &[message.client]).await?;
    tx.commit().await?;
    let location = format!("/v1/threads/{id}/messages?after={}&limit=1", message.sequence.saturating_sub(1));
    let response = MessageResponse::new(message, caller.user(), &names);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(response)).into_response())
}

/// Shares with the Space a message that only you can read; only in a signed-in browser.
///
/// It holds what was read with your own account. Steps and their previews stay yours alone. Sharing cannot be undone.
#[utoipa::path(post, path = "/v1/messages/{id}/share", operation_id = "messages.share", tag = "threads",
    extensions(("x-caller" = json!("consent"))), params(("id" = String, Path)),
    responses((status = 200, body = MessageResponse)))]
async fn message_share(
    consent: SessionUser,
    State(threads): State<Threads>,
    Path(id): Path<MessageId>,
) -> Result<Json<MessageResponse>, ApiError> {
    let mut tx = threads.access.write_as(&consent.principal).await?;
    let message = threads.message_share(&mut tx, id, &consent.principal).await?;
    let names = threads.names.of_clients(&mut tx, &[message.client]).await?;
    tx.commit().await?;
    Ok(Json(MessageResponse::new(message, Some(consent.user), &names)))
}

/// Lists the turns of a thread with their steps, in the order they were queued.
#[utoipa::path(get, path = "/v1/threads/{id}/turns", operation_id = "threads.turns.list", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), Pagination),
    responses((status = 200, body = List<TurnResponse>)))]
async fn turns_list(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
    paging: Pagination,
) -> Result<Json<List<TurnResponse>>, ApiError> {
    let after = paging.after_id()?;
    let mut tx = threads.db.read(caller.tenant).await?;
    threads.visible(&mut tx, id, &caller).await?;
    let found = threads.turns(&mut tx, id, paging.fetch_limit(), after).await?;
    let List { items, next } = List::cut(found, &paging, |turn| turn.id.to_string());
    let mut wire = Vec::with_capacity(items.len());
    for turn in items {
        let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
        wire.push(threads.turn_response(&mut tx, turn, steps).await?);
    }
    Ok(Json(List { items: wire, next }))
}

/// Gets a turn: its steps, who asked for it, the tools offered, and the tools left out and why.
#[utoipa::path(get, path = "/v1/turns/{id}", operation_id = "turns.get", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path)),
    responses((status = 200, body = TurnResponse)))]
async fn turn_get(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<TurnId>,
) -> Result<Json<TurnResponse>, ApiError> {
    let mut tx = threads.db.read(caller.tenant).await?;
    let turn = threads.turn_visible(&mut tx, id, &caller).await?;
    let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
    Ok(Json(threads.turn_response(&mut tx, turn, steps).await?))
}

/// Cancels a turn that has not ended.
#[utoipa::path(post, path = "/v1/turns/{id}/cancel", operation_id = "turns.cancel", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path)),
    responses((status = 200, body = TurnResponse)))]
async fn turn_cancel(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<TurnId>,
) -> Result<Json<TurnResponse>, ApiError> {
    let mut tx = threads.db.write(caller.tenant).await?;
    let turn = threads.turn_cancel(&mut tx, id, &caller).await?;
    let steps = threads.steps_visible(&mut tx, &turn, &caller).await?;
    let response = threads.turn_response(&mut tx, turn, steps).await?;
    tx.commit().await?;
    Ok(Json(response))
}

/// Streams what happens in a thread as server-sent events; `Last-Event-ID` resumes.
#[utoipa::path(get, path = "/v1/threads/{id}/stream", operation_id = "threads.stream", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path),
    ("Last-Event-ID" = Option<i64>, Header, description = "The id of the last event that you read.", example = 42)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn stream(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    recheck: Recheck,
    Path(id): Path<ThreadId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wrong = || ApiError::invalid("Last-Event-ID", "send the id of the last event you read.");
    let after = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(wrong)?),
        None => None,
    };
    let stream = threads.follow(caller, recheck, id, after).await?;
    // nginx and others pass on each event at once then.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

/// Exports a whole thread as one JSON document.
#[utoipa::path(get, path = "/v1/threads/{id}/export", operation_id = "threads.export", tag = "threads",
    extensions(("x-caller" = json!("caller"))), params(("id" = String, Path)),
    responses((status = 200, body = Export)))]
async fn export(
    State(threads): State<Threads>,
    Caller(caller): Caller,
    Path(id): Path<ThreadId>,
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
