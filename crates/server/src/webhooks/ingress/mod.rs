//! `POST /hooks/{webhook_id}`: the way in for external systems.
//!
//! Invariants: the order is fixed: known and enabled (404), small enough (413), of a known type (415), from an allowed
//! address (403), proved (401), within the webhook's limit (429), readable (400), stored (503), and only then 202; nothing
//! of the body is decoded or parsed before it is proved; a request that is not taken leaves a row too. On this path the
//! database is written once, in a commit that is shared with whoever else waits, and read not at all. What is not proved is
//! counted against its address by `edge::rate_limit`, and never against the webhook.

mod accept;
mod cache;
mod refusals;
mod wait;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Serialize;
use thinkwork_primitives::{Chain, DeliveryId, ThreadId, WebhookId};

use super::Webhooks;
use super::rules::{Unreadable, Unsupported};
use crate::edge::{ApiError, Path};

use accept::Rejection;
pub(super) use accept::{IncomingRequest, Peer, Received, Taken, accept};
pub(super) use cache::{Cache, LOOKUP};

/// The one route. It needs `ConnectInfo` for webhooks that are limited to addresses; without it those refuse.
pub fn routes(webhooks: &Webhooks) -> Router {
    // Some senders end every URL with a slash.
    Router::new()
        .route("/hooks/{webhook_id}", post(hook))
        .route("/hooks/{webhook_id}/", post(hook))
        .with_state(webhooks.clone())
}

#[derive(Serialize)]
struct Receipt {
    delivery_id: DeliveryId,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<DeliveryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<ThreadId>,
}

async fn hook(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, ApiError> {
    let now = webhooks.inner.clock.now();
    let Some(endpoint) = webhooks.inner.cache.find(id, now).await.map_err(not_stored)? else {
        webhooks.inner.metrics.unknown.inc();
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is no active webhook at this URL. Check the URL, or ask its operator.",
        ));
    };
    let (parts, body) = request.into_parts();
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let peer = Peer::Address(address);
    let counted_at = webhooks.inner.clock.steady();
    let incoming = IncomingRequest { headers: &parts.headers, peer, received_at: now, counted_at };
    let mut waiter = wait::Waiter::new(&webhooks, endpoint.tenant, id, &parts.headers);
    let Received { taken, rate_limit } = accept(&webhooks, &endpoint, incoming, body).await;
    let mut response = match taken {
        Ok(taken) => accepted(taken, &mut waiter).await,
        Err(rejection) => ApiError::from(rejection).into_response(),
    };
    if let Some(rate_limit) = rate_limit {
        response.extensions_mut().insert(rate_limit);
    }
    Ok(response)
}

/// 202 with what became of the event.
async fn accepted(taken: Taken, waiter: &mut wait::Waiter<'_>) -> Response {
    let (delivery, first, status) = match taken {
        Taken::Stored { delivery } => (delivery, None, "accepted"),
        Taken::Duplicate { delivery, first } => (delivery, Some(first), "duplicate"),
    };
    let thread_id = waiter.thread(first.unwrap_or(delivery)).await;
    let receipt = Receipt { delivery_id: delivery, status, duplicate_of: first, thread_id };
    let mut response = (StatusCode::ACCEPTED, axum::Json(receipt)).into_response();
    if waiter.waits() {
        response.headers_mut().insert("preference-applied", HeaderValue::from_static("wait"));
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("prefer"));
    response
}

fn not_stored(error: super::Error) -> ApiError {
    let mut answer = ApiError::unavailable(5, "The event could not be stored. Send it again later.");
    answer.log = Some(Chain(&error).to_string().into());
    answer
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The request body is larger than 1,048,576 bytes.",
            ),
            Rejection::BrokenOff => Self::new(
                StatusCode::BAD_REQUEST,
                "body_broken_off",
                "The request body was incomplete. Send the request again.",
            ),
            Rejection::Unsupported(what) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                match what {
                    Unsupported::MediaType(_) => {
                        "Send the body as application/json, application/xml, application/x-www-form-urlencoded or text/plain."
                    }
                    Unsupported::Compression(_) => {
                        "Send the body with Content-Encoding gzip or deflate, or uncompressed."
                    }
                    Unsupported::Charset(_) => "Send the body in UTF-8, UTF-16 or ISO-8859-1.",
                },
            ),
            Rejection::Unreadable(Unreadable::TooLarge) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The request body is larger than 1,048,576 bytes when decompressed.",
            ),
            Rejection::Unreadable(why) => Self::new(
                StatusCode::BAD_REQUEST,
                "body_unreadable",
                format!("The request body cannot be read: {why}."),
            ),
            Rejection::TooMany { retry_after_seconds } => Self::too_many(
                retry_after_seconds,
                "The rate limit of this webhook was reached. Send the event again later.",
            ),
            Rejection::Address => Self::forbidden(
                "address_not_allowed",
                "This webhook does not accept requests from your IP address. Ask its operator.",
            ),
            Rejection::Unverified(_) => Self::new(
                StatusCode::UNAUTHORIZED,
                "not_verified",
                "The request could not be verified. Check the secret, the signed headers and the clock.",
            ),
            Rejection::NotStored(error) => not_stored(error),
        }
    }
}
