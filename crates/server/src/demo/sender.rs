//! Sample Billing: a sender of signed events that stands for somebody else's system, on a listener of its own.
//!
//! It signs as Standard Webhooks asks: `webhook-id`, `webhook-timestamp` and `webhook-signature` (`v1`, HMAC-SHA-256 over
//! `id.timestamp.body`), repeats what was answered with 5xx or not at all under the same id, and keeps a log. Its page has
//! a button, so that a person can make an event happen. It reaches ThinkWork over HTTP only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thinkwork_primitives::{Clock, Secret, Timestamp, crypto};
use url::Url;

use super::loopback::exchange;

/// Pauses before the second and third attempt.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Events that the log keeps.
const SENT_MAX: usize = 100;
/// Who sends invoices in the sample events, and over how many cents.
const SUPPLIERS: [(&str, u32); 4] =
    [("Paper Mill Ltd", 128_000), ("Harbour Prints", 31_050), ("Northern Tools", 9_620), ("Lighthouse Energy", 47_515)];

/// One event as the log keeps it.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// When it was first sent.
    pub at: Timestamp,
    /// Its `webhook-id`.
    pub id: String,
    /// What it tells, in a few words.
    pub about: String,
    /// How often it was sent.
    pub attempts: usize,
    /// The last answer, if there was one.
    pub status: Option<u16>,
    /// The answer's `delivery_id`.
    pub delivery_id: Option<String>,
}

struct Endpoint {
    url: Url,
    key: Secret,
}

/// The sender. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    clock: Clock,
    endpoint: Arc<Mutex<Option<Endpoint>>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    number: Arc<Mutex<u32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of `webhook-signature` for these parts.
pub(super) fn sign(key: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let mac = crypto::hmac_sha256(key, &[id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

impl Sender {
    /// A sender that knows no endpoint yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, endpoint: Arc::default(), sent: Arc::default(), number: Arc::new(Mutex::new(3_000)) }
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/endpoint", post(set_endpoint))
            .route("/send", post(send))
            .route("/sent", get(sent))
            .with_state(self.clone())
    }

    /// Sends the next event and gives what became of it; nothing where no endpoint is known.
    pub async fn send_next(&self) -> Option<Sent> {
        let (about, body) = self.next_event();
        let random = crypto::random::<16>().ok()?;
        let id = format!("msg_{}", crypto::base64url(&random));
        let mut outcome = Sent { at: self.clock.now(), id, about, attempts: 0, status: None, delivery_id: None };
        for pause in [Duration::ZERO].iter().chain(&RETRY_PAUSES) {
            tokio::time::sleep(*pause).await;
            let (url, headers) = self.signed(&outcome.id, &body)?;
            outcome.attempts = outcome.attempts.saturating_add(1);
            let answer = exchange("POST", &url, &headers, &body).await;
            outcome.status = answer.as_ref().ok().map(|answer| answer.status);
            if let Ok(answer) = answer.as_ref().map(|answer| answer.json()) {
                outcome.delivery_id = answer.get("delivery_id").and_then(|id| id.as_str()).map(str::to_owned);
            }
            if outcome.status.is_some_and(|status| status < 500) {
                break;
            }
        }
        let mut log = locked(&self.sent);
        if log.len() >= SENT_MAX {
            log.remove(0);
        }
        log.push(outcome.clone());
        Some(outcome)
    }

    fn next_event(&self) -> (String, Vec<u8>) {
        let mut number = locked(&self.number);
        *number = number.saturating_add(1);
        let index = usize::try_from(*number).unwrap_or_default().checked_rem(SUPPLIERS.len()).unwrap_or_default();
        let (supplier, cents) = SUPPLIERS.get(index).copied().unwrap_or(("Paper Mill Ltd", 128_000));
        let invoice = format!("INV-{number}");
        let body = json!({
            "type": "invoice.created",
            "timestamp": self.clock.now(),
            "data": { "invoice": invoice, "supplier": supplier, "amount_cents": cents, "currency": "EUR" },
        });
        (format!("{invoice} of {supplier}"), body.to_string().into_bytes())
    }

    fn signed(&self, id: &str, body: &[u8]) -> Option<(Url, [(&'static str, String); 4])> {
        let endpoint = locked(&self.endpoint);
        let Endpoint { url, key } = endpoint.as_ref()?;
        let seconds = self.clock.now().seconds();
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", sign(key.expose(), id, seconds, body)),
        ];
        Some((url.clone(), headers))
    }
}

#[derive(Template)]
#[template(path = "demo/templates/sender.html")]
struct SenderPage {
    title: &'static str,
    endpoint: Option<String>,
    sent: Vec<Sent>,
}

async fn page(State(sender): State<Sender>) -> Response {
    let endpoint = locked(&sender.endpoint).as_ref().map(|endpoint| endpoint.url.to_string());
    let sent = locked(&sender.sent).iter().rev().cloned().collect();
    match (SenderPage { title: "Sample Billing", endpoint, sent }).render() {
        Ok(body) => ([(header::CACHE_CONTROL, "no-store")], Html(body)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Deserialize)]
struct SetEndpoint {
    url: String,
    /// As ThinkWork showed it: `whsec_` and base64.
    secret: String,
}

async fn set_endpoint(State(sender): State<Sender>, Form(set): Form<SetEndpoint>) -> Response {
    let key = set.secret.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    match (key.filter(|key| !key.is_empty()), Url::parse(&set.url)) {
        (Some(key), Ok(url)) => {
            *locked(&sender.endpoint) = Some(Endpoint { url, key: Secret::from_bytes(key) });
            Redirect::to("/").into_response()
        }
        _ => (StatusCode::UNPROCESSABLE_ENTITY, "an endpoint is an address and a secret, whsec_ and base64")
            .into_response(),
    }
}

async fn send(State(sender): State<Sender>) -> Redirect {
    drop(sender.send_next().await);
    Redirect::to("/")
}

/// The log, oldest first.
async fn sent(State(sender): State<Sender>) -> Response {
    let log = locked(&sender.sent).clone();
    Json(json!({ "items": log })).into_response()
}
