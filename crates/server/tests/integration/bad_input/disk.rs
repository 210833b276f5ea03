//! A disk that is full: nothing more is accepted, what was accepted is there, and the server goes on when there is
//! room again.
//!
//! The limit on file sizes stands for the disk, since every machine has it and it can be lifted while the server runs:
//! a write past it fails as one on a full disk does.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Deployment, Serving};

/// Files may grow to this many blocks of 512 bytes.
const BLOCKS: u32 = 6000;

/// When at the latest `/readyz` names a stalled loop.
const STANDSTILL_SHOWN: Duration = Duration::from_secs(5);

/// Requests after which the disk must have been full.
const REQUESTS_MAX: usize = 4000;

#[tokio::test]
async fn l121_a_full_disk_refuses_new_events_loses_none_and_is_forgiven() {
    let place = Deployment::new();
    // The log lies on the same disk: what cannot be logged is served all the same.
    let serving = Serving::start(&place, &format!("trap '' XFSZ; ulimit -S -f {BLOCKS}; exec 2>/dev/full;")).await;
    let owner = serving.owner(&place);
    let space = json!({ "slug": "billing", "name": "Billing", "access": "public" });
    let space = owner.post("/v1/spaces", space).await.expect(201).text_of("id");
    let body = json!({ "name": "events", "space_id": space, "verification": { "scheme": "bearer" }, "rate_limit_per_minute": 100_000 });
    let made = owner.post("/v1/webhooks", body).await.expect(201);
    let mut sender = serving.anonymous();
    sender.bearer = Some(made.text_of("secret"));
    let path = format!("/hooks/{}", made.text_of("id"));
    let body = json!({ "text": "x".repeat(100_000) });
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < REQUESTS_MAX, "the disk never filled");
        let answer = sender.post(&path, body.clone()).await;
        if answer.status != 202 {
            break answer;
        }
        accepted.push(answer.text_of("delivery_id"));
    };
    let refused = refused.expect(503);
    assert!(!accepted.is_empty() && refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(refused.json["error"]["message"].as_str().unwrap().contains("again"), "{}", refused.text);
    // The API says the same of what it cannot store, and `/readyz` names the stalled loop.
    let mut number = 0;
    let refused = loop {
        number += 1;
        let space =
            json!({ "slug": format!("s{number}"), "name": "S", "access": "public", "prompt": "x".repeat(4_000) });
        let answer = owner.post("/v1/spaces", space).await;
        if answer.status != 201 {
            break answer.expect(503);
        }
        assert!(number < REQUESTS_MAX, "the disk never filled");
    };
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(refused.code(), "unavailable");
    let began = Instant::now();
    loop {
        sender.post(&path, body.clone()).await.expect(503);
        let answer = serving.anonymous().get("/readyz").await;
        if answer.json["problems"].to_string().contains("loop_intake") {
            break assert_eq!(answer.status, 503);
        }
        // The answer from before is kept for a second.
        assert!(began.elapsed() < STANDSTILL_SHOWN, "{}", answer.text);
    }
    // A full disk is no reason to say who is alive, or to stop showing what is there.
    serving.anonymous().get("/livez").await.expect(200);
    owner.get("/v1/spaces").await.expect(200);
    let room = Command::new("prlimit").args(["--pid", &serving.id(), "--fsize=unlimited"]).status().unwrap();
    assert!(room.success());
    let after = sender.post(&path, json!({ "text": "room again" })).await.expect(202);
    accepted.push(after.text_of("delivery_id"));
    for delivery in &accepted {
        owner.get(&format!("/v1/deliveries/{delivery}")).await.expect(200);
    }
}
