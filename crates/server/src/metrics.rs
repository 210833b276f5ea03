//! What this process measures, in one registry: `/metrics` shows it.
//!
//! Invariants: each server has a registry of its own, none is global, so several in one process do not mix; a label's
//! values are words of ours or patterns of routes, never an id, a tenant, a host or what a caller wrote. `app` makes it and
//! gives each slice the counters that it counts with.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use thinkwork_database::jobs::Job;

use crate::{connections, webhooks};

/// Upper bounds in seconds of requests: from a page out of memory to the deadline of a request.
const REQUEST_BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0];
/// Upper bounds in seconds of jobs: from an erasure to a turn that takes as long as it may.
const JOB_BUCKETS: &[f64] = &[0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 900.0];

/// The measurements that the server makes itself; what database and client measure joins them by [`Metrics::add`].
pub struct Metrics {
    registry: Registry,
    /// Requests by method, pattern of the route and class of status.
    pub requests: HistogramVec,
    /// What is counted of connections.
    pub connections: connections::Metrics,
    /// Runs of jobs by kind and outcome.
    pub job_runs: HistogramVec,
    /// Events that were to be applied, by outcome.
    pub events_applied: IntCounterVec,
    /// Refreshes of grants by outcome.
    pub refreshes: IntCounterVec,
    /// What webhooks count.
    pub webhooks: webhooks::Metrics,
    /// Jobs by state, read when asked for.
    pub jobs: GaugeVec,
    /// Events by state, read when asked for.
    pub events: GaugeVec,
    /// Age of the oldest event that is not applied.
    pub events_oldest: Gauge,
    /// Events of the record that are not sealed.
    pub unsealed: Gauge,
    /// Events that the sealer refuses.
    pub refused: Gauge,
    /// Age of the oldest of them.
    pub sealing_behind: Gauge,
}

impl Metrics {
    /// Notes how a run of a job that began then has ended.
    pub fn job_ended(&self, job: &Job, outcome: &str, started: Instant) {
        self.job_runs.with_label_values(&[job.kind.as_str(), outcome]).observe(started.elapsed().as_secs_f64());
    }

    /// All of them, at zero.
    ///
    /// # Errors
    /// Where two have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = HistogramOpts::new(
            "thinkwork_http_request_duration_seconds",
            "Requests until the last byte of their answer, by pattern of the route and class of status.",
        );
        let job_runs = HistogramOpts::new("thinkwork_job_duration_seconds", "Runs of jobs by kind and outcome.");
        let counters = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["outcome"]);
        let states = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["state"]);
        let metrics = Self {
            connections: connections::Metrics {
                open: IntGauge::new("thinkwork_connections_open", "Connections of clients that are open.")?,
                refused: IntCounter::new(
                    "thinkwork_connections_refused_total",
                    "Connections closed at once, since their address had as many as it may have.",
                )?,
            },
            requests: HistogramVec::new(requests.buckets(REQUEST_BUCKETS.to_vec()), &["method", "route", "status"])?,
            job_runs: HistogramVec::new(job_runs.buckets(JOB_BUCKETS.to_vec()), &["kind", "outcome"])?,
            events_applied: counters("thinkwork_intake_applied_total", "Accepted events by how applying them ended.")?,
            refreshes: counters("thinkwork_oauth_refreshes_total", "Refreshes of grants by how they ended.")?,
            webhooks: webhooks::Metrics {
                received: counters("thinkwork_intake_received_total", "Verified events by what became of them.")?,
                unknown: IntCounter::new(
                    "thinkwork_webhook_unknown_requests_total",
                    "Requests to unknown or disabled webhooks.",
                )?,
            },
            jobs: states("thinkwork_jobs", "Jobs by state; due ones are among those that wait.")?,
            events: states("thinkwork_intake_events", "Accepted events that are not applied yet.")?,
            events_oldest: Gauge::new(
                "thinkwork_intake_oldest_seconds",
                "Age of the oldest event that is not applied yet.",
            )?,
            unsealed: Gauge::new("thinkwork_audit_unsealed_events", "Events of the record that are not sealed yet.")?,
            refused: Gauge::new(
                "thinkwork_audit_refused_events",
                "Events of the record that the sealer refuses: forged, changed or gone.",
            )?,
            sealing_behind: Gauge::new(
                "thinkwork_audit_sealing_behind_seconds",
                "For how long an event of the record has waited to be sealed, as this process saw it.",
            )?,
            registry,
        };
        let own: [Box<dyn Collector>; 14] = [
            Box::new(metrics.connections.open.clone()),
            Box::new(metrics.connections.refused.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.job_runs.clone()),
            Box::new(metrics.events_applied.clone()),
            Box::new(metrics.refreshes.clone()),
            Box::new(metrics.webhooks.received.clone()),
            Box::new(metrics.webhooks.unknown.clone()),
            Box::new(metrics.jobs.clone()),
            Box::new(metrics.events.clone()),
            Box::new(metrics.events_oldest.clone()),
            Box::new(metrics.unsealed.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.sealing_behind.clone()),
        ];
        metrics.add(own)?;
        Ok(metrics)
    }

    /// Shows these as well.
    ///
    /// # Errors
    /// Where one of that name is there already.
    pub fn add(&self, collectors: impl IntoIterator<Item = Box<dyn Collector>>) -> Result<(), prometheus::Error> {
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// All of them in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// Where one cannot be written in it.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
