//! Replaying many deliveries: counted first, done once, recorded.

use serde_json::json;

use super::Fixture;
use crate::harness::Response;

/// A webhook with three deliveries that failed because it was disabled when they were to be applied, and one applied.
async fn failed() -> Fixture {
    let fixture = Fixture::new("bearer").await;
    fixture.bearer(r#"{"n":0}"#).await.expect(202);
    fixture.app.run_pending_jobs().await;
    for n in 1..=3 {
        fixture.bearer(&format!(r#"{{"n":{n}}}"#)).await.expect(202);
    }
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    fixture.operator.patch(&path, json!({ "enabled": false })).await.expect(200);
    fixture.app.run_pending_jobs().await;
    let refused = fixture.operator.post(&format!("{path}/replay"), json!({})).await.expect(409);
    assert_eq!(refused.code(), "not_replayable");
    fixture.operator.patch(&path, json!({ "enabled": true })).await.expect(200);
    fixture
}

async fn order(fixture: &Fixture, key: &str, body: serde_json::Value) -> Response {
    let request = fixture.operator.request("POST", &format!("/v1/webhooks/{}/replay", fixture.webhook));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    fixture.operator.send(request.body(body.to_string())).await
}

#[tokio::test]
async fn l78_a_replay_of_many_is_counted_first_and_done_once_for_its_key() {
    let fixture = failed().await;
    let of_failed = json!({ "filter": { "result": "failed" } });
    let dry = json!({ "filter": { "result": "failed" }, "dry_run": true });
    assert_eq!(order(&fixture, "dry", dry).await.expect(200).json, json!({ "count": 3 }));
    fixture.app.run_pending_jobs().await;
    assert_eq!(fixture.threads().await.len(), 1, "counting changes nothing");
    for _ in 0..2 {
        assert_eq!(order(&fixture, "one", of_failed.clone()).await.expect(200).json["count"], 3);
        fixture.app.run_pending_jobs().await;
        assert_eq!(fixture.threads().await.len(), 4, "each came again once");
    }
    let other = order(&fixture, "one", json!({ "filter": {} })).await.expect(409);
    assert_eq!(other.code(), "idempotency_key_reused");
    // All there ever was: four, since replays stand for nothing of their own.
    assert_eq!(order(&fixture, "two", json!({ "dry_run": true })).await.expect(200).json["count"], 4);
    let told = fixture.operator.get("/v1/audit?action=webhook.replayed").await.expect(200);
    assert_eq!(told.json["items"].as_array().unwrap().len(), 1, "{}", told.text);
    assert_eq!(told.json["items"][0]["detail"]["count"], 3);
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said() {
    let fixture = failed().await;
    for filter in [json!({ "result": "refused" }), json!({ "since": "yesterday" }), json!({ "result": "nonsense" })] {
        order(&fixture, "x", json!({ "filter": filter })).await.expect(422);
    }
    let none = json!({ "filter": { "until": "2020-01-01T00:00:00Z" } });
    assert_eq!(order(&fixture, "y", none).await.expect(200).json["count"], 0);
    let unknown = thinkwork_primitives::WebhookId::new();
    fixture.operator.post(&format!("/v1/webhooks/{unknown}/replay"), json!({})).await.expect(404);
}

#[tokio::test]
async fn the_page_replays_what_failed_and_a_second_press_changes_nothing() {
    let fixture = failed().await;
    let base = format!("/admin/webhooks/{}", fixture.webhook);
    let page = fixture.operator.get(&base).await.expect(200).text;
    let (_, rest) = page.split_once(r#"name="key" value=""#).unwrap();
    let key = rest.split_once('"').unwrap().0;
    for _ in 0..2 {
        let answer = fixture.operator.submit(&format!("{base}/replay"), &[("key", key)]).await.expect(200);
        assert!(answer.text.contains("3 deliveries will be replayed."));
        fixture.app.run_pending_jobs().await;
        assert_eq!(fixture.threads().await.len(), 4);
    }
}
