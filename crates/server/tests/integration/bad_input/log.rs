//! A log that takes nothing: what is accepted is stored, applied, answered and sealed all the same.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;

use super::{Deployment, READY_LIMIT, Serving};

/// More lines than a pipe takes in that nobody reads: 64 KiB.
const EVENTS: usize = 400;

/// A measurement of the server; none where it is not there.
async fn measured(serving: &Serving, name: &str) -> Option<f64> {
    let text = serving.anonymous().get("/metrics").await.expect(200).text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

/// Waits until this measurement is zero.
async fn drained(serving: &Serving, name: &str) {
    let began = Instant::now();
    while measured(serving, name).await != Some(0.0) {
        assert!(began.elapsed() < READY_LIMIT, "{name} does not get to zero");
    }
}

/// Sends events to a server whose output and log lead there, and fails unless all is done with them.
async fn works(stdout: Stdio, stderr: Stdio) -> Serving {
    let place = Deployment::on_engine().await;
    let serving = Serving::spawn(&place, "", stdout, stderr);
    let address = serving.address.clone();
    let serving = serving.ready_at(&address).await;
    let owner = serving.owner(&place);
    let space = json!({ "slug": "billing", "name": "Billing", "access": "public" });
    let space = owner.post("/v1/spaces", space).await.expect(201).text_of("id");
    let body = json!({
        "name": "events", "space_id": space, "verification": { "scheme": "bearer" }, "rate_limit_per_minute": 100_000,
    });
    let made = owner.post("/v1/webhooks", body).await.expect(201);
    let mut sender = serving.anonymous();
    sender.bearer = Some(made.text_of("secret"));
    let path = format!("/hooks/{}", made.text_of("id"));
    for number in 0..EVENTS {
        sender.post(&path, json!({ "number": number })).await.expect(202);
    }
    for name in [
        "thinkwork_intake_events{state=\"waiting\"}",
        "thinkwork_jobs{state=\"waiting\"}",
        "thinkwork_audit_unsealed_events",
    ] {
        drained(&serving, name).await;
    }
    let threads = owner.get("/v1/threads?limit=1&channel=HOOK").await.expect(200);
    assert!(threads.json["items"][0]["id"].is_string(), "{}", threads.text);
    serving.anonymous().get("/readyz").await.expect(200);
    serving
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn l121_a_log_on_a_full_disk_stops_nothing() {
    let serving = works(full(), full()).await;
    assert!(measured(&serving, "thinkwork_log_lost_lines_total").await.unwrap() > 100.0);
}

#[tokio::test]
async fn l121_a_log_whose_reader_went_away_stops_nothing() {
    let serving = works(closed_pipe(), closed_pipe()).await;
    assert!(measured(&serving, "thinkwork_log_lost_lines_total").await.unwrap() > 100.0);
}

#[tokio::test]
async fn l121_a_log_that_nobody_reads_stops_nothing() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let serving = works(Stdio::null(), writer.into()).await;
    assert_eq!(measured(&serving, "thinkwork_log_lost_lines_total").await, Some(0.0), "it waits for its reader");
}
