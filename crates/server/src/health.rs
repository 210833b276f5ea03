//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use thinkwork_database::jobs;
use thinkwork_database::schema::check_row_security;
use thinkwork_primitives::Chain;
use tokio::sync::Mutex;

use crate::app::App;
use crate::edge::ApiError;

/// How many seconds sealing may lie behind before the server says it is not ready.
const SEALING_SECONDS_MAX: u64 = 60;

/// What to do when it does.
const SEALING_ADVICE: &str = "The audit record is not being sealed. Check that a worker runs and what its log says under \
                              \"the audit record is not sealed any further\"; thinkwork audit verify names what is wrong.";

/// How long an answer stands: anybody may ask, and some of what is asked for is counted row by row.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// An answer and at which uptime it was made; whoever asks while it is made waits for it.
type Kept<T> = Arc<Mutex<Option<(Duration, T)>>>;

#[derive(Clone)]
struct Health {
    app: Arc<App>,
    ready: Kept<(StatusCode, Value)>,
    metrics: Kept<Result<String, String>>,
}

impl Health {
    async fn kept<T: Clone>(&self, kept: &Kept<T>, make: impl Future<Output = T>) -> T {
        let now = self.app.clock.uptime();
        let mut kept = kept.lock().await;
        if let Some((at, answer)) = &*kept
            && now.saturating_sub(*at) < ANSWER_AGE_MAX
        {
            return answer.clone();
        }
        let answer = make.await;
        *kept = Some((now, answer.clone()));
        answer
    }
}

/// The three routes, for whoever reaches them: they tell counts, nothing of any tenant.
pub fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Health { app: Arc::clone(app), ready: Kept::default(), metrics: Kept::default() })
}

async fn ready(State(health): State<Health>) -> Response {
    if health.app.shutdown.has_begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "problems": ["shutting_down"] })))
            .into_response();
    }
    let (status, answer) = health.kept(&health.ready, checked(&health.app)).await;
    (status, Json(answer)).into_response()
}

async fn checked(app: &App) -> (StatusCode, Value) {
    let sealing = app.audit.sealing_behind().await;
    let is_behind = sealing.as_ref().is_ok_and(|behind| behind.as_secs() >= SEALING_SECONDS_MAX);
    let checks = [
        ("database", failed("the database does not answer", jobs::due(&app.db, app.clock.steady()).await)),
        ("intake", failed("accepted events cannot be read", app.intake.oldest().await)),
        ("row_security", failed("the tenants' rows are not kept apart", check_row_security(&app.db).await)),
        ("key", failed("the keys do not fit", app.credentials.check_keys().await)),
        ("audit_sealing", failed("the record cannot be read", sealing) || is_behind),
    ];
    let failed = checks.into_iter().filter(|(_, failed)| *failed).map(|(name, _)| name.to_owned());
    let stalled = app.loops.stalled().into_iter().map(|name| format!("loop_{name}"));
    let problems: Vec<String> = failed.chain(stalled).collect();
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ready = problems.is_empty();
    let answer = if is_behind {
        json!({ "ready": ready, "problems": problems, "advice": SEALING_ADVICE })
    } else {
        json!({ "ready": ready, "problems": problems })
    };
    (status, answer)
}

/// Whether a check failed; why is for the log.
fn failed<T, E: std::error::Error>(what: &'static str, checked: Result<T, E>) -> bool {
    checked.inspect_err(|error| tracing::error!(error = %Chain(error), "{what}")).is_err()
}

/// A count as a sample; what cannot be read is not a number, so that no alarm takes it for zero.
fn count<N: TryInto<u32>, E>(read: Result<N, E>) -> f64 {
    read.ok().and_then(|count| count.try_into().ok()).map_or(f64::NAN, f64::from)
}

async fn metrics(State(health): State<Health>) -> Response {
    let measured = async {
        read_gauges(&health.app).await;
        health.app.metrics.text().map_err(|error| ApiError::internal(&error).sentence())
    };
    match health.kept(&health.metrics, measured).await {
        Ok(text) => ([("content-type", prometheus::TEXT_FORMAT)], text).into_response(),
        Err(sentence) => (StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response(),
    }
}

/// Reads what is not counted as it happens.
async fn read_gauges(app: &App) {
    let metrics = &app.metrics;
    let now = app.clock.now();
    let jobs_all = async { jobs::counts(&mut app.db.read_shared().await?).await }.await;
    let events = async {
        let mut tx = app.db.read_shared().await?;
        app.intake.counts(&mut tx).await
    }
    .await;
    let job = |state| metrics.jobs.with_label_values(&[state]);
    job("waiting").set(count(jobs_all.as_ref().map(|counts| counts.waiting)));
    job("due").set(count(jobs::due(&app.db, app.clock.steady()).await));
    job("parked").set(count(jobs_all.as_ref().map(|counts| counts.parked)));
    let event = |state| metrics.events.with_label_values(&[state]);
    event("waiting").set(count(events.as_ref().map(|counts| counts.waiting)));
    event("parked").set(count(events.as_ref().map(|counts| counts.parked)));
    let oldest = app.intake.oldest().await;
    metrics.events_oldest.set(oldest.map_or(f64::NAN, |at| at.map_or(0.0, |at| now.since(at).as_secs_f64())));
    metrics.unsealed.set(count(app.audit.unsealed().await));
    metrics.refused.set(count(app.audit.refused().await));
    let behind = app.audit.sealing_behind().await;
    metrics.sealing_behind.set(behind.map_or(f64::NAN, |behind| behind.as_secs_f64()));
}
