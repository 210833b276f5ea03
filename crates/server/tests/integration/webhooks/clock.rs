//! A clock that somebody sets back while the server runs.

use std::time::Duration;

use serde_json::json;

use super::Fixture;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn l125_a_clock_set_back_changes_no_limit() {
    let fixture = Fixture::with("bearer", json!({ "rate_limit_per_minute": 5 })).await;
    fixture.begin_minute();
    for _ in 0..3 {
        fixture.bearer("{}").await.expect(202);
    }
    fixture.app.clock.set_back(HOUR);
    for _ in 0..2 {
        fixture.bearer("{}").await.expect(202);
    }
    let refused = fixture.bearer("{}").await.expect(429);
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    fixture.app.clock.advance(Duration::from_secs(60));
    for _ in 0..5 {
        fixture.bearer("{}").await.expect(202);
    }
    fixture.bearer("{}").await.expect(429);
    let refused = fixture.deliveries("?result=refused").await;
    assert_eq!(refused.len(), 2, "each has its own row");
}

/// What was accepted, what waits for its turn, and what pauses before its next try.
#[tokio::test]
async fn l125_a_clock_set_back_holds_up_no_work() {
    let fixture = Fixture::with("bearer", json!({ "correlation": "/key" })).await;
    let app = fixture.app.slices();
    let status = async || {
        let mut found = Vec::new();
        for thread in fixture.threads().await {
            let path = format!("/v1/threads/{}/turns", thread["id"].as_str().unwrap());
            let turns = fixture.operator.get(&path).await.expect(200).json;
            found.extend(turns["items"].as_array().unwrap().iter().map(|turn| turn["status"].clone()));
        }
        found
    };
    fixture.bearer(r#"{"key":"a"}"#).await.expect(202);
    let claimed = app.intake.claim(10).await.unwrap();
    let mut tx = app.db.write(fixture.app.tenant).await.unwrap();
    assert_eq!(app.intake.applied(&mut tx, &[&claimed[0].event]).await.unwrap().len(), 1);
    app.webhooks.apply(&mut tx, &[&claimed[0].event], app.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status().await, ["queued"]);
    fixture.bearer(r#"{"key":"b"}"#).await.expect(202);
    let claimed = app.intake.claim(10).await.unwrap();
    app.intake.failed(&claimed[0], "not now").await.unwrap();
    fixture.app.clock.set_back(HOUR);
    fixture.bearer(r#"{"key":"b"}"#).await.expect(202);
    fixture.app.clock.advance(Duration::from_secs(2));
    fixture.app.run_pending_jobs().await;
    assert_eq!(status().await.len(), 3);
    assert!(status().await.iter().all(|status| *status != "queued"), "{:?}", status().await);
    let counts = app.intake.counts(&mut app.db.read_shared().await.unwrap()).await.unwrap();
    assert_eq!(counts.waiting, 0);
}
