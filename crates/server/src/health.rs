//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use thinkwork_database::{intake_log, jobs};

use crate::app::App;

/// How many seconds sealing may lie behind before the server says it is not ready.
const SEALING_SECONDS_MAX: u64 = 60;

/// The three routes, open to all: they tell counts, nothing of any tenant.
pub fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(app))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let mut problems = Vec::new();
    if let Err(error) = jobs::counts(&app.db).await {
        tracing::error!(%error, "the database does not answer");
        problems.push("database");
    }
    if intake_log::counts(&app.db).await.is_err() {
        problems.push("intake");
    }
    if app.credentials.check_keys().await.is_err() {
        problems.push("key");
    }
    if !app.audit.sealing_behind().await.is_ok_and(|behind| behind.as_secs() < SEALING_SECONDS_MAX) {
        problems.push("audit_sealing");
    }
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": problems.is_empty(), "problems": problems }))).into_response()
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

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let now = app.clock.now();
    let jobs_all = jobs::counts(&app.db).await;
    let events = intake_log::counts(&app.db).await;
    let oldest = intake_log::oldest(&app.db).await;
    let oldest = oldest.map_or(f64::NAN, |at| at.map_or(0.0, |at| now.since(at).as_secs_f64()));
    let behind = app.audit.sealing_behind().await.map_or(f64::NAN, |behind| behind.as_secs_f64());
    let gauge = |name, help, samples| Metric { name, help, kind: "gauge", samples };
    let text = exposition(&[
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
    ]);
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}
