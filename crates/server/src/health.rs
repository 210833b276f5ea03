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

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (waiting, parked) = jobs::counts(&app.db).await.unwrap_or((-1, -1));
    let (events_waiting, events_parked) = intake_log::counts(&app.db).await.unwrap_or((-1, -1));
    let behind = app.audit.sealing_behind().await.map_or(-1.0, |behind| behind.as_secs_f64());
    let text = format!(
        "# TYPE thinkwork_jobs gauge\n\
         thinkwork_jobs{{state=\"waiting\"}} {waiting}\nthinkwork_jobs{{state=\"parked\"}} {parked}\n\
         # TYPE thinkwork_intake_events gauge\n\
         thinkwork_intake_events{{state=\"waiting\"}} {events_waiting}\n\
         thinkwork_intake_events{{state=\"parked\"}} {events_parked}\n\
         # TYPE thinkwork_audit_sealing_behind_seconds gauge\n\
         thinkwork_audit_sealing_behind_seconds {behind}\n"
    );
    ([("content-type", "text/plain; version=0.0.4")], text).into_response()
}
