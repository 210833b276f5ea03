//! What is taken: durable before the 202, once per event, and applied exactly once.

use serde_json::json;

use super::{Fixture, signature};

#[tokio::test]
async fn l60_the_secret_is_in_no_path_and_in_no_later_answer() {
    let fixture = Fixture::new("bearer").await;
    let path = format!("/v1/webhooks/{}", fixture.webhook);
    let seen = fixture.operator.get(&path).await.expect(200);
    assert!(!seen.text.contains(&fixture.secret) && !seen.text_of("url").contains(&fixture.secret));
    assert_eq!(seen.json["has_secret"], true);
    let page = fixture.operator.get(&format!("/admin/webhooks/{}", fixture.webhook)).await.expect(200);
    assert!(!page.text.contains(&fixture.secret));
    let delivery = fixture.bearer("{}").await.expect(202).text_of("delivery_id");
    let kept = fixture.operator.get(&format!("/v1/deliveries/{delivery}")).await.expect(200);
    assert!(!kept.text.contains(&fixture.secret));
    // The secret in the path is nobody's address.
    fixture.app.anonymous().post(&format!("/hooks/{}", fixture.secret), json!({})).await.expect(404);
}

#[tokio::test]
async fn l62_a_signature_spelled_otherwise_is_no_new_event() {
    let fixture = Fixture::new("standard_webhooks").await;
    let first = fixture.standard("evt_1", "{}").await.expect(202);
    assert_eq!(first.json["status"], "accepted");
    // Two signatures, the right one second: the bytes differ, the event is the same.
    let time = fixture.app.clock.now().seconds();
    let again = fixture
        .request("{}")
        .header("webhook-id", "evt_1")
        .header("webhook-timestamp", time)
        .header("webhook-signature", format!("v1a,x {}  ", signature(&fixture.secret, "evt_1", time, "{}")));
    let again = fixture.send(again).await.expect(202);
    assert_eq!(
        (again.json["status"].as_str(), &again.json["duplicate_of"]),
        (Some("duplicate"), &first.json["delivery_id"])
    );
    // Two events with equal bodies are two.
    assert_eq!(fixture.standard("evt_2", "{}").await.expect(202).json["status"], "accepted");
    // A captured request under a fresh id is none.
    let stolen = fixture
        .request("{}")
        .header("webhook-id", "evt_3")
        .header("webhook-timestamp", time)
        .header("webhook-signature", signature(&fixture.secret, "evt_1", time, "{}"));
    fixture.send(stolen).await.expect(401);
    fixture.app.run_pending_jobs().await;
    assert_eq!(fixture.threads().await.len(), 2);
}

#[tokio::test]
async fn l62_where_nothing_is_signed_the_named_id_counts_in_any_spelling() {
    let fixture = Fixture::with("bearer", json!({ "event_id": { "pointer": "/id" } })).await;
    assert_eq!(fixture.bearer(r#"{"id":"abc"}"#).await.expect(202).json["status"], "accepted");
    let spelled = fixture.bearer(r#"{"id":"\u0061bc"}"#).await.expect(202);
    assert_eq!(spelled.json["status"], "duplicate");
    // Another body under the same id: told apart in the log, not to the sender.
    assert_eq!(fixture.delivery(&spelled.text_of("delivery_id")).await["result"], "conflict");
    // Without an id each is an event of its own.
    for _ in 0..2 {
        assert_eq!(fixture.bearer("{}").await.expect(202).json["status"], "accepted");
    }
}

#[tokio::test]
async fn l64_the_same_event_many_times_at_once_is_one_thread_and_nobody_gets_an_error() {
    let fixture = std::sync::Arc::new(Fixture::new("standard_webhooks").await);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let fixture = std::sync::Arc::clone(&fixture);
        senders.spawn(async move { fixture.standard("evt_1", r#"{"n":1}"#).await.expect(202).text_of("status") });
    }
    let mut statuses = senders.join_all().await;
    statuses.sort();
    assert_eq!((statuses[0].as_str(), statuses[1].as_str(), statuses.len()), ("accepted", "duplicate", 16));
    fixture.app.run_pending_jobs().await;
    assert_eq!(fixture.threads().await.len(), 1);
    assert_eq!(fixture.deliveries("?result=duplicate").await.len(), 15);
}

#[tokio::test]
async fn l66_every_retry_has_its_row() {
    let fixture = Fixture::new("standard_webhooks").await;
    let first = fixture.standard("evt_1", "{}").await.expect(202).text_of("delivery_id");
    for _ in 0..3 {
        fixture.standard("evt_1", "{}").await.expect(202);
    }
    let other = fixture.standard("evt_1", r#"{"other":true}"#).await.expect(202);
    assert_eq!(other.json["status"], "duplicate");
    assert_eq!(fixture.deliveries("?result=accepted").await.len(), 1);
    fixture.app.run_pending_jobs().await;
    let rows = fixture.deliveries("").await;
    let results: Vec<&str> = rows.iter().map(|row| row["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["conflict", "duplicate", "duplicate", "duplicate", "applied"]);
    assert!(rows[..4].iter().all(|row| row["duplicate_of"] == first.as_str()));
}

#[tokio::test]
async fn l70_what_was_answered_with_202_is_there_at_once_and_survives_the_process() {
    let fixture = Fixture::new("standard_webhooks").await;
    let id = fixture.standard("evt_1", r#"{"n":1}"#).await.expect(202).text_of("delivery_id");
    let waits = fixture.delivery(&id).await;
    assert_eq!((waits["result"].as_str(), waits["event_id"].as_str()), (Some("accepted"), Some("evt_1")));
    assert_eq!(waits["body_preview"], r#"{"n":1}"#);
    assert!(fixture.threads().await.is_empty());
    // Nothing of the first process is asked: another one over the same database applies it.
    let second = fixture.app.second().await;
    thinkwork::worker::run_until_idle(&second).await;
    let applied = fixture.delivery(&id).await;
    assert_eq!(applied["result"], "applied");
    assert_eq!(fixture.threads().await[0]["id"], applied["thread_id"]);
}

#[tokio::test]
async fn l75_an_event_that_was_worked_on_long_ago_is_still_the_same_event() {
    let mut fixture = Fixture::new("standard_webhooks").await;
    fixture.standard("evt_1", "{}").await.expect(202);
    fixture.app.run_pending_jobs().await;
    fixture.app.clock.advance(std::time::Duration::from_secs(20 * 24 * 3_600));
    assert_eq!(fixture.standard("evt_1", "{}").await.expect(202).json["status"], "duplicate");
    fixture.app.run_pending_jobs().await;
    // The operator's session has lapsed meanwhile.
    fixture.operator = fixture.app.owner().await;
    assert_eq!(fixture.threads().await.len(), 1);
}

#[tokio::test]
async fn a_sender_that_waits_hears_the_thread() {
    let fixture = Fixture::new("standard_webhooks").await;
    let waits = fixture.signed(&fixture.secret, "evt_1", "{}").header("prefer", "wait=20");
    let (answer, ()) = tokio::join!(fixture.send(waits), async {
        while fixture.deliveries("").await.is_empty() {
            tokio::task::yield_now().await;
        }
        fixture.app.run_pending_jobs().await;
    });
    let answer = answer.expect(202);
    assert_eq!(answer.json["thread_id"], fixture.threads().await[0]["id"]);
    assert_eq!(answer.header("preference-applied"), "wait");
}
