//! npm `standardwebhooks`, the reference sender of Standard Webhooks.

use serde_json::{Value, json};

use super::{Deployment, run};

const BODY: &str = r#"{"type":"invoice.paid","invoice":"INV-1001"}"#;

/// Status and body that the sender got.
async fn send(url: &str, secret: &str, environment: &[(&str, &str)]) -> (u64, Value) {
    let ran = run("sender.mjs", &[url, secret, BODY], environment).await;
    let told: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    (told["status"].as_u64().unwrap(), serde_json::from_str(told["body"].as_str().unwrap()).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_sender_of_standard_webhooks_is_verified_and_starts_one_thread() {
    let place = Deployment::new().await;
    let body = json!({ "name": "billing", "space_id": place.space, "verification": { "scheme": "standard_webhooks" } });
    let made = place.operator.post("/v1/webhooks", body).await.expect(201);
    let id = made.text_of("id");
    let url = made.text_of("url");
    let secret = made.text_of("secret");

    let (status, tampered) = send(&url, &secret, &[("TAMPER", "yes")]).await;
    assert_eq!(status, 401, "{tampered}");
    let (status, old) = send(&url, &secret, &[("TIMESTAMP", "1700000000")]).await;
    assert_eq!(status, 401, "{old}");

    let same = [("MESSAGE_ID", "msg_invoice_1001")];
    let (status, accepted) = send(&url, &secret, &same).await;
    assert_eq!((status, &accepted["status"]), (202, &json!("accepted")), "{accepted}");
    // A sender that lost our answer signs the same message afresh.
    let (status, again) = send(&url, &secret, &same).await;
    assert_eq!((status, &again["status"]), (202, &json!("duplicate")), "{again}");

    place.app.run_pending_jobs().await;
    let threads = place.operator.get(&format!("/v1/threads?space={}", place.space)).await.expect(200).json;
    let threads = threads["items"].as_array().unwrap();
    assert_eq!(threads.len(), 1, "{threads:?}");
    assert_eq!(threads[0]["requester"], json!({ "kind": "webhook", "id": id }));
    let messages = place.messages(&place.operator, threads[0]["id"].as_str().unwrap()).await;
    assert!(messages.iter().any(|one| one["role"] == "data" && one["text"].as_str().unwrap().contains("INV-1001")));
    let log = place.operator.get(&format!("/v1/webhooks/{id}/deliveries")).await.expect(200).json;
    let results: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["duplicate", "applied", "refused", "refused"]);
    place.end().await;
}
