//! Why a model gave no answer, told apart to the person who asked and to the operator (l96).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::outside::{Model, answers, completion};
use super::{TurnFixture, text};

const KEY: &str = "sk-test-key-of-a-model-0123456789";

/// The failure of a turn, and what its thread says.
async fn told(fixture: &TurnFixture, status: u16, body: Value) -> (String, String) {
    let model = Model::with(move |_| (status, body.clone())).await;
    let agent = json!({ "model_base_url": model.url, "model": "any", "instructions": "", "api_key": KEY });
    // Time passes below, and the sign-in before is too old to configure by.
    fixture.app.owner().await.put("/v1/agent", agent).await.expect(200);
    let thread = fixture.thread(&fixture.owner, "hello").await;
    for _ in 0..6 {
        fixture.app.run_pending_jobs().await;
        fixture.app.clock.advance(Duration::from_secs(60));
    }
    let turn = fixture.turns(&fixture.owner, &thread).await.remove(0);
    assert_eq!(turn["status"], "failed", "{turn}");
    assert_eq!(turn["steps"][0]["failure"], turn["failure"], "{turn}");
    let said = fixture.messages(&fixture.owner, &thread).await;
    let page = fixture.owner.get(&format!("/me/threads/{thread}")).await.expect(200).text;
    let shown = format!("{turn}{said:?}{page}");
    assert!(!shown.contains(KEY) && !page.contains("model_"), "no key, and no code on a page: {shown}");
    (text(&turn, "failure"), text(said.last().unwrap(), "text"))
}

#[tokio::test]
async fn l96_failures_of_a_model_are_told_apart() {
    let fixture = TurnFixture::new().await;
    let message = |message: Value, finish: &str| completion(&message, finish);
    let cases = [
        (503, json!({ "error": { "message": "overloaded" } }), "model_failed", "The model's server failed (HTTP 503)."),
        (200, json!({ "error": { "code": 502, "message": "bad gateway" } }), "model_failed", "(HTTP 502)"),
        (200, json!({ "choices": [] }), "model_failed", "The model's answer could not be read."),
        (
            400,
            json!({ "error": { "message": "context length exceeded" } }),
            "model_rejected",
            "`context length exceeded`",
        ),
        (200, json!({ "error": { "code": 400, "message": "no such model" } }), "model_rejected", "`no such model`"),
        (401, json!({ "error": { "message": format!("Incorrect key {KEY}") } }), "model_rejected", "refused the key"),
        (
            400,
            json!({ "error": { "message": format!("{KEY} is wrong `here`\n") } }),
            "model_rejected",
            "`[removed secret] is wrong 'here'`",
        ),
        (400, json!({ "error": { "code": "content_filter", "message": "policy" } }), "model_declined", "`policy`"),
        (200, message(json!({ "content": null, "refusal": "I will not." }), "stop"), "model_declined", "`I will not.`"),
        (200, message(json!({ "content": "" }), "content_filter"), "model_declined", "declined"),
        (
            200,
            message(json!({ "content": null, "reasoning_content": "Hm." }), "stop"),
            "model_no_answer",
            "without an answer",
        ),
        (200, message(json!({ "content": "" }), "length"), "model_no_answer", "limit of its output"),
    ];
    for (status, body, failure, words) in cases {
        let (code, said) = told(&fixture, status, body.clone()).await;
        assert_eq!(code, failure, "{body}: {said}");
        assert!(said.contains(words), "{body}: {said}");
    }
}

#[tokio::test]
async fn l96_an_outage_of_a_model_that_passes_fails_no_turn() {
    let fixture = TurnFixture::new().await;
    for body in [json!({ "error": { "message": "busy" } }), json!({ "error": { "code": 429, "message": "busy" } })] {
        let asked = AtomicUsize::new(0);
        let status = if body["error"]["code"].is_null() { 503 } else { 200 };
        let model = Model::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => (status, body.clone()),
            _ => (200, completion(&answers("Here I am."), "stop")),
        })
        .await;
        fixture.agent(&model).await;
        let thread = fixture.thread(&fixture.owner, "hello").await;
        fixture.app.run_pending_jobs().await;
        fixture.app.clock.advance(Duration::from_secs(60));
        fixture.app.run_pending_jobs().await;
        let turn = fixture.turns(&fixture.owner, &thread).await.remove(0);
        assert_eq!(turn["status"], "succeeded", "{turn}");
        assert_eq!(model.requests().len(), 2);
    }
}
