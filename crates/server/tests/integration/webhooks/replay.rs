//! Replaying many deliveries: counted first, done once, recorded.

use serde_json::json;

use super::Fixture;
use crate::harness::Response;

/// A webhook with three deliveries that failed because it was disabled when they were to be applied, and one applied.
async fn failed() -> Fixture {
    let scene = Fixture::new("bearer").await;
    scene.bearer(r#"{"n":0}"#).await.expect(202);
    scene.app.run_pending_jobs().await;
    for n in 1..=3 {
        scene.bearer(&format!(r#"{{"n":{n}}}"#)).await.expect(202);
    }
    let path = format!("/v1/webhooks/{}", scene.webhook);
    scene.operator.patch(&path, json!({ "enabled": false })).await.expect(200);
    scene.app.run_pending_jobs().await;
    let refused = scene.operator.post(&format!("{path}/replay"), json!({})).await.expect(409);
    assert_eq!(refused.code(), "not_replayable");
    scene.operator.patch(&path, json!({ "enabled": true })).await.expect(200);
    scene
}

async fn order(scene: &Fixture, key: &str, body: serde_json::Value) -> Response {
    let request = scene.operator.request("POST", &format!("/v1/webhooks/{}/replay", scene.webhook));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    scene.operator.send(request.body(body.to_string())).await
}

#[tokio::test]
async fn l78_a_replay_of_many_is_counted_first_and_done_once_for_its_key() {
    let scene = failed().await;
    let of_failed = json!({ "filter": { "result": "failed" } });
    let dry = json!({ "filter": { "result": "failed" }, "dry_run": true });
    assert_eq!(order(&scene, "dry", dry).await.expect(200).json, json!({ "count": 3 }));
    scene.app.run_pending_jobs().await;
    assert_eq!(scene.threads().await.len(), 1, "counting changes nothing");
    for _ in 0..2 {
        assert_eq!(order(&scene, "one", of_failed.clone()).await.expect(200).json["count"], 3);
        scene.app.run_pending_jobs().await;
        assert_eq!(scene.threads().await.len(), 4, "each came again once");
    }
    let other = order(&scene, "one", json!({ "filter": {} })).await.expect(409);
    assert_eq!(other.code(), "idempotency_key_reused");
    // All there ever was: four, since replays stand for nothing of their own.
    assert_eq!(order(&scene, "two", json!({ "dry_run": true })).await.expect(200).json["count"], 4);
    let told = scene.operator.get("/v1/audit?action=webhook.replayed").await.expect(200);
    assert_eq!(told.json["items"].as_array().unwrap().len(), 1, "{}", told.text);
    assert_eq!(told.json["items"][0]["detail"]["count"], 3);
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said() {
    let scene = failed().await;
    for filter in [json!({ "result": "refused" }), json!({ "since": "yesterday" }), json!({ "result": "nonsense" })] {
        order(&scene, "x", json!({ "filter": filter })).await.expect(422);
    }
    let none = json!({ "filter": { "until": "2020-01-01T00:00:00Z" } });
    assert_eq!(order(&scene, "y", none).await.expect(200).json["count"], 0);
    let unknown = thinkwork_primitives::WebhookId::new();
    scene.operator.post(&format!("/v1/webhooks/{unknown}/replay"), json!({})).await.expect(404);
}

#[tokio::test]
async fn the_page_replays_what_failed_and_a_second_press_changes_nothing() {
    let scene = failed().await;
    let base = format!("/admin/webhooks/{}", scene.webhook);
    let page = scene.operator.get(&base).await.expect(200).text;
    let (_, rest) = page.split_once(r#"name="key" value=""#).unwrap();
    let key = rest.split_once('"').unwrap().0;
    for _ in 0..2 {
        let answer = scene.operator.form(&format!("{base}/replay"), &[("key", key)]).await.expect(200);
        assert!(answer.text.contains("3 deliveries will be replayed."));
        scene.app.run_pending_jobs().await;
        assert_eq!(scene.threads().await.len(), 4);
    }
}
