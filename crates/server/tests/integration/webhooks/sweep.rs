//! What is forgotten when its time is over, and what is not; the counted openings of secrets.

use serde_json::{Value, json};
use std::time::Duration;
use thinkwork::worker::sweep;

use super::Fixture;
use crate::guards::tables;
use crate::harness::TestApp;

const DAY: Duration = Duration::from_secs(86_400);

async fn count(app: &TestApp, what: &str) -> String {
    let connection = tables::connect(app).await;
    let found = tables::texts(&connection, &format!("SELECT CAST(count(*) AS TEXT) FROM {what}")).await;
    connection.close().await.unwrap();
    found[0].clone()
}

fn days(app: &TestApp, count: u32) {
    app.clock.advance(DAY * count);
}

#[tokio::test]
async fn s18_a_signed_events_key_is_kept_for_thirty_days_and_then_forgotten() {
    let fixture = Fixture::new("standard_webhooks").await;
    let send = async || fixture.standard("msg_1", "{}").await.expect(202).text_of("status");
    assert_eq!(send().await, "accepted");
    fixture.app.run_pending_jobs().await;
    days(&fixture.app, 29);
    sweep(&fixture.app.app).await;
    assert_eq!(send().await, "duplicate");
    days(&fixture.app, 2);
    sweep(&fixture.app.app).await;
    assert_eq!(send().await, "accepted");
}

#[tokio::test]
async fn s18_an_unsigned_events_key_lives_as_long_as_its_secret() {
    let mut fixture = Fixture::with("bearer", json!({ "event_id": { "pointer": "/id" } })).await;
    let body = r#"{"id":"evt_1"}"#;
    assert_eq!(fixture.bearer(body).await.expect(202).text_of("status"), "accepted");
    fixture.app.run_pending_jobs().await;
    days(&fixture.app, 400);
    sweep(&fixture.app.app).await;
    assert_eq!(fixture.bearer(body).await.expect(202).text_of("status"), "duplicate");
    let owner = fixture.app.owner().await;
    let rotate = format!("/v1/webhooks/{}/rotate", fixture.webhook);
    let rotated = owner.post(&rotate, json!({ "overlap_seconds": 3_600 })).await.expect(200);
    sweep(&fixture.app.app).await;
    assert_eq!(fixture.bearer(body).await.expect(202).text_of("status"), "duplicate", "the old secret still works");
    fixture.app.clock.advance(Duration::from_secs(3_601));
    fixture.app.run_pending_jobs().await;
    sweep(&fixture.app.app).await;
    fixture.secret = rotated.text_of("secret");
    assert_eq!(fixture.bearer(body).await.expect(202).text_of("status"), "accepted");
}

#[tokio::test]
async fn l35_a_replaced_secret_is_erased_at_the_end_of_its_overlap_by_nobodys_help() {
    let fixture = Fixture::new("bearer").await;
    let rotate = format!("/v1/webhooks/{}/rotate", fixture.webhook);
    fixture.operator.post(&rotate, json!({ "overlap_seconds": 3_600 })).await.expect(200);
    let erased = "credential_version WHERE ciphertext IS NULL AND wrapped_key IS NULL";
    fixture.app.run_pending_jobs().await;
    assert_eq!(count(&fixture.app, erased).await, "0");
    fixture.bearer("{}").await.expect(202);
    fixture.app.clock.advance(Duration::from_secs(3_601));
    fixture.app.run_pending_jobs().await;
    assert_eq!(count(&fixture.app, erased).await, "1");
    fixture.bearer("{}").await.expect(401);
    let told = fixture.operator.get("/v1/audit?action=credential.version_erased").await.expect(200);
    assert_eq!(told.json["items"][0]["detail"]["version"], 1, "{}", told.text);
}

#[tokio::test]
async fn what_ended_by_itself_is_forgotten_and_what_lives_is_not() {
    let fixture = Fixture::new("bearer").await;
    let app = &fixture.app;
    fixture.bearer("{}").await.expect(202);
    let wrong = json!({ "email": "owner@acme.test", "password": "not-the-password" });
    app.anonymous().post("/v1/sessions", wrong).await.expect(401);
    let invite = json!({ "email": "ana@acme.test", "name": "Ana", "role": "member" });
    let request = fixture.operator.request("POST", "/v1/users").header("idempotency-key", "once");
    let request = request.header("content-type", "application/json").body(invite.to_string());
    fixture.operator.send(request).await.expect(201);
    let kinds = [
        "quota",
        "session",
        "invitation",
        "idempotency_key",
        "route WHERE kind = 'session'",
        "route WHERE kind = 'invitation'",
    ];
    sweep(&app.app).await;
    for kind in kinds {
        assert_ne!(count(app, kind).await, "0", "{kind} lives");
    }
    days(app, 31);
    sweep(&app.app).await;
    for kind in kinds {
        assert_eq!(count(app, kind).await, "0", "{kind} is over");
    }
}

#[tokio::test]
async fn old_deliveries_are_forgotten_in_steps_and_what_waits_is_not() {
    let fixture = Fixture::new("bearer").await;
    let app = &fixture.app;
    let first = fixture.bearer("{}").await.expect(202).text_of("delivery_id");
    app.anonymous().post(&fixture.path(), json!({})).await.expect(401);
    app.run_pending_jobs().await;
    let waiting = fixture.bearer(r#"{"n":2}"#).await.expect(202).text_of("delivery_id");
    let kinds = ["delivery_envelope", "delivery", "thread_event"];
    let counts = async || {
        let mut all = Vec::new();
        for kind in kinds {
            all.push(count(app, kind).await.parse::<u32>().unwrap());
        }
        all
    };
    days(app, 29);
    sweep(&app.app).await;
    let events = counts().await[2];
    assert_eq!(counts().await, [1, 2, events]);
    days(app, 2);
    sweep(&app.app).await;
    assert_eq!(counts().await, [0, 2, 0]);
    let owner = app.owner().await;
    let refused = owner.post(&format!("/v1/deliveries/{first}/replay"), json!({})).await;
    assert!(refused.status == 409 && refused.text.contains("no longer stored"), "{}", refused.text);
    let thread = owner.get(&format!("/v1/deliveries/{first}")).await.expect(200).text_of("thread_id");
    days(app, 60);
    sweep(&app.app).await;
    assert_eq!(counts().await, [0, 0, 0]);
    let owner = app.owner().await;
    owner.get(&format!("/v1/deliveries/{first}")).await.expect(404);
    // The thread is there, and so is what was accepted and is not applied yet.
    owner.get(&format!("/v1/threads/{thread}")).await.expect(200);
    owner.get(&format!("/v1/deliveries/{waiting}")).await.expect(200);
    app.run_pending_jobs().await;
    assert_eq!(owner.get(&format!("/v1/deliveries/{waiting}")).await.text_of("result"), "applied");
}

#[tokio::test]
async fn l36_openings_for_verification_are_one_counted_event_per_version() {
    let mut fixture = Fixture::new("bearer").await;
    for _ in 0..3 {
        fixture.bearer("{}").await.expect(202);
    }
    let rotate = format!("/v1/webhooks/{}/rotate", fixture.webhook);
    let rotated = fixture.operator.post(&rotate, json!({ "overlap_seconds": 3_600 })).await.expect(200);
    fixture.secret = rotated.text_of("secret");
    for _ in 0..2 {
        fixture.bearer("{}").await.expect(202);
    }
    let told = async || {
        fixture.app.app.credentials.record_openings().await.unwrap();
        let listed = fixture.operator.get("/v1/audit?action=credential.opened").await.expect(200);
        let items = listed.json["items"].as_array().unwrap().clone();
        let mut counts: Vec<(Value, Value)> =
            items.iter().map(|one| (one["detail"]["version"].clone(), one["detail"]["count"].clone())).collect();
        counts.sort_by_key(|(version, _)| version.as_i64());
        (counts, items)
    };
    let (counts, items) = told().await;
    assert_eq!(counts, [(json!(1), json!(5)), (json!(2), json!(2))], "{items:?}");
    assert_eq!(items[0]["surface"], "webhook_verification");
    assert_eq!(items[0]["detail"]["owner_id"], fixture.webhook.as_str());
    assert_eq!(told().await.0.len(), 2, "nothing is told twice");
}
