//! Housekeeping: forgets what has ended by itself, a bounded part at a time.
//!
//! Invariant: nothing depends on it for being right; whoever reads such a row asks its time as well.

use thinkwork_primitives::{Chain, TenantId};

use crate::app::App;
use crate::config::RetentionConfig;

/// Rows of one kind and tenant in one run: more than arrive between two, and a moment's work for the database.
const ROWS_MAX: u64 = 10_000;

/// The name under which `/readyz` names the loop.
pub(super) const LOOP: &str = "sweep";

/// One run over every tenant. What fails is logged and left to the next run.
pub async fn sweep(app: &App) {
    let heartbeat = app.loops.heartbeat(LOOP);
    heartbeat.step();
    log_failure("sign-in counts", app.access.throttles_sweep(ROWS_MAX).await);
    log_failure("request counts", app.rate_limits.sweep(ROWS_MAX).await);
    log_failure("webhook counts", app.webhooks.limits_sweep(ROWS_MAX).await);
    let tenants = app.access.tenants().await.unwrap_or_else(|error| {
        tracing::error!(error = %Chain(&error), "the tenants cannot be read; sweeping again later");
        Vec::new()
    });
    for (tenant, _) in tenants {
        heartbeat.step();
        log_failure("sessions", app.access.sweep(tenant, ROWS_MAX).await);
        log_failure("flows", app.oauth.sweep(tenant, ROWS_MAX).await);
        heartbeat.step();
        log_failure("event keys", app.webhooks.sweep(tenant, ROWS_MAX).await);
        heartbeat.step();
        delete_expired(app, tenant).await;
    }
    heartbeat.idle();
}

/// Deletes what is older than its retention period.
async fn delete_expired(app: &App, tenant: TenantId) {
    let now = app.clock.now();
    let retention = app.config.retention;
    if let Some(before) = RetentionConfig::before(retention.delivery_contents_days, now) {
        log_failure("contents of deliveries", app.webhooks.delete_contents_before(tenant, before, ROWS_MAX).await);
    }
    if let Some(before) = RetentionConfig::before(retention.deliveries_days, now) {
        log_failure("deliveries", app.webhooks.delete_deliveries_before(tenant, before, ROWS_MAX).await);
    }
    if let Some(before) = RetentionConfig::before(retention.thread_events_days, now) {
        log_failure("events of threads", app.threads.delete_events_before(tenant, before, ROWS_MAX).await);
    }
    // Steps before the connections that they name.
    if let Some(before) = RetentionConfig::before(retention.steps_days, now) {
        log_failure("steps of turns", app.threads.delete_steps_before(tenant, before, ROWS_MAX).await);
    }
    if let Some(before) = RetentionConfig::before(retention.ended_connections_days, now) {
        log_failure("ended connections", app.oauth.delete_ended_before(tenant, before, ROWS_MAX).await);
    }
    if let Some(before) = RetentionConfig::before(retention.revoked_tokens_days, now) {
        log_failure("revoked tokens", app.access.delete_tokens_before(tenant, before, ROWS_MAX).await);
    }
    if let Some(before) = RetentionConfig::before(retention.erased_credentials_days, now) {
        log_failure("erased credentials", app.credentials.delete_erased_before(tenant, before, ROWS_MAX).await);
    }
}

fn log_failure<E: std::error::Error>(what: &'static str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::error!(error = %Chain(&error), what, "what has ended could not be forgotten; trying again later");
    }
}
