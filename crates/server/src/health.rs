//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use thinkwork_database::schema::check_row_security;
use thinkwork_database::{intake_log, jobs};
use thinkwork_primitives::Timestamp;
use tokio::sync::Mutex;

use crate::app::App;

/// How many seconds sealing may lie behind before the server says it is not ready.
const SEALING_SECONDS_MAX: u64 = 60;

/// How long an answer stands: anybody may ask, and some of what is asked for is counted row by row.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// An answer and when it was made; whoever asks while it is made waits for it.
type Kept<T> = Arc<Mutex<Option<(Timestamp, T)>>>;

#[derive(Clone)]
struct Health {
    app: Arc<App>,
    ready: Kept<(StatusCode, Value)>,
    metrics: Kept<String>,
}

impl Health {
    async fn kept<T: Clone>(&self, kept: &Kept<T>, make: impl Future<Output = T>) -> T {
        let now = self.app.clock.now();
        let mut kept = kept.lock().await;
        if let Some((at, answer)) = &*kept
            && now.since(*at) < ANSWER_AGE_MAX
        {
            return answer.clone();
        }
        let answer = make.await;
        *kept = Some((now, answer.clone()));
        answer
    }
}

/// The three routes, open to all: they tell counts, nothing of any tenant.
pub fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Health { app: Arc::clone(app), ready: Kept::default(), metrics: Kept::default() })
}

async fn ready(State(health): State<Health>) -> Response {
    let (status, answer) = health.kept(&health.ready, checked(&health.app)).await;
    (status, Json(answer)).into_response()
}

async fn checked(app: &App) -> (StatusCode, Value) {
    let mut problems = Vec::new();
    if let Err(error) = jobs::due(&app.db, app.clock.now()).await {
        tracing::error!(%error, "the database does not answer");
        problems.push("database");
    }
    if intake_log::oldest(&app.db).await.is_err() {
        problems.push("intake");
    }
    if let Err(error) = check_row_security(&app.db).await {
        tracing::error!(%error, "the tenants' rows are not kept apart");
        problems.push("row_security");
    }
    if !app.loops.are_well(app.clock.now()) {
        problems.push("worker");
    }
    if app.credentials.check_keys().await.is_err() {
        problems.push("key");
    }
    if !app.audit.sealing_behind().await.is_ok_and(|behind| behind.as_secs() < SEALING_SECONDS_MAX) {
        problems.push("audit_sealing");
    }
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json!({ "ready": problems.is_empty(), "problems": problems }))
}

/// One measurement: its name, what it tells, its kind, and its samples as labels and value.
struct Metric<'a> {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: &'a [(&'static str, f64)],
}

/// The text format of Prometheus, version 0.0.4.
fn exposition(metrics: &[Metric<'_>]) -> String {
    let mut text = String::new();
    for Metric { name, help, kind, samples } in metrics {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in *samples {
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    }
    text
}

/// A count as a sample; what cannot be read is not a number, so that no alarm takes it for zero.
fn count<N: TryInto<u32>, E>(read: Result<N, E>) -> f64 {
    read.ok().and_then(|count| count.try_into().ok()).map_or(f64::NAN, f64::from)
}

async fn metrics(State(health): State<Health>) -> Response {
    let text = health.kept(&health.metrics, measured(&health.app)).await;
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}

async fn measured(app: &App) -> String {
    let now = app.clock.now();
    let jobs_all = async { jobs::counts(&mut app.db.read_shared().await?).await }.await;
    let events = async { intake_log::counts(&mut app.db.read_shared().await?).await }.await;
    let oldest = intake_log::oldest(&app.db).await;
    let oldest = oldest.map_or(f64::NAN, |at| at.map_or(0.0, |at| now.since(at).as_secs_f64()));
    let behind = app.audit.sealing_behind().await.map_or(f64::NAN, |behind| behind.as_secs_f64());
    let gauge = |name, help, samples| Metric { name, help, kind: "gauge", samples };
    exposition(&[
        gauge(
            "thinkwork_jobs",
            "Jobs by state; due ones are among those that wait.",
            &[
                ("{state=\"waiting\"}", count(jobs_all.as_ref().map(|(waiting, _)| *waiting))),
                ("{state=\"due\"}", count(jobs::due(&app.db, now).await)),
                ("{state=\"parked\"}", count(jobs_all.as_ref().map(|(_, parked)| *parked))),
            ],
        ),
        gauge(
            "thinkwork_intake_events",
            "Accepted events that are not applied yet.",
            &[
                ("{state=\"waiting\"}", count(events.as_ref().map(|(waiting, _)| *waiting))),
                ("{state=\"parked\"}", count(events.as_ref().map(|(_, parked)| *parked))),
            ],
        ),
        gauge("thinkwork_intake_oldest_seconds", "Age of the oldest event that is not applied yet.", &[("", oldest)]),
        gauge(
            "thinkwork_audit_unsealed_events",
            "Events that are not sealed yet.",
            &[("", count(app.audit.unsealed().await))],
        ),
        gauge(
            "thinkwork_audit_sealing_behind_seconds",
            "Age of the oldest event that is not sealed yet.",
            &[("", behind)],
        ),
        Metric {
            name: "thinkwork_webhook_unknown_requests_total",
            help: "Requests to unknown or disabled webhooks since the start of this process.",
            kind: "counter",
            samples: &[("", count(Ok::<_, ()>(app.webhooks.unknown_count())))],
        },
    ])
}
