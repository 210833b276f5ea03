//! PyPI `fakellm`, an OpenAI-compatible model, as the tenant platform agent's.

use serde_json::json;

use super::{Deployment, Peer};

/// What the model does: asks for the echo, repeats what came, and is down when told.
const RULES: &str = r#"
rules:
  - name: says what the tool found
    when:
      tool_result_contains: "parcel 17"
    respond:
      content: "Your parcel 17 is on its way."
  - name: is down
    when:
      messages_contain: "the model is down"
    respond:
      status: 503
      error: "The model is overloaded."
  - name: asks for the tool
    when:
      messages_contain: "where is my parcel"
      tools_include: everything__echo
    respond:
      tool_calls:
        - name: everything__echo
          arguments: { message: "parcel 17 left today" }
  - name: otherwise
    respond:
      content: "I cannot look that up."
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_model_calls_a_tool_and_answers_and_its_outage_is_told_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("model.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let model = Peer::start("model.py", &[("FAKELLM_CONFIG", rules.to_str().unwrap())]).await;
    let everything = Peer::start("everything.mjs", &[]).await;
    let place = Deployment::new().await;
    let body = json!({ "name": "Everything", "url": everything.url, "auth": { "mode": "none" } });
    place.server(body, json!({ "echo": { "effect": "read", "idempotent": true } })).await;
    let agent = json!({ "model_base_url": model.url, "model": "any", "instructions": "Be brief." });
    place.operator.put("/v1/agent", agent).await.expect(200);

    let ana = place.app.member("ana").await;
    let asked = json!({ "space_id": place.space, "text": "Please tell me: where is my parcel?" });
    let thread = ana.post("/v1/threads", asked).await.expect(201).text_of("id");
    let turn = place.turn_ended(&ana, &thread).await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    let steps: Vec<(&str, &str)> = turn["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["kind"].as_str().unwrap(), step["status"].as_str().unwrap()))
        .collect();
    assert_eq!(steps, [("model", "succeeded"), ("tool", "succeeded"), ("model", "succeeded")], "{turn}");
    assert_eq!(turn["steps"][1]["name"], "everything__echo");
    let messages = place.messages(&ana, &thread).await;
    let answer = messages.iter().find(|one| one["role"] == "agent").expect("the agent answers");
    assert_eq!(answer["text"], "Your parcel 17 is on its way.");

    let asked = json!({ "space_id": place.space, "text": "Just now the model is down, is it not?" });
    let thread = ana.post("/v1/threads", asked).await.expect(201).text_of("id");
    let turn = place.turn_ended(&ana, &thread).await;
    assert_eq!(turn["status"], "failed", "{turn}");
    let page = ana.get(&format!("/me/threads/{thread}")).await.expect(200).text;
    assert!(page.contains("The model did not respond."), "the page says that it was the model: {page}");
    assert!(!page.contains("model_failed"), "and no code: {page}");
    let said = place.messages(&ana, &thread).await;
    let said = said.iter().find(|one| one["role"] == "system").expect("the thread says what to do");
    assert!(said["text"].as_str().unwrap().ends_with("Write again later."), "{said}");
    place.end().await;
}
