//! The acting client: which software acted, on everything that was done, and taken from nowhere but the way in.

use serde_json::{Value, json};

use super::{McpFixture, text};

/// A client at `/v1` that acts through a token with this name.
async fn program(fixture: &McpFixture, name: &str) -> crate::harness::Client {
    let body = json!({ "name": name, "kind": "personal", "audience": "api", "scopes": ["write"] });
    let token = fixture.owner.post("/v1/tokens", body).await.expect(201).text_of("token");
    fixture.app.bearer(&token)
}

fn client(of: &Value) -> (&str, &str) {
    let client = &of["acting_client"];
    (client["kind"].as_str().unwrap(), client["name"].as_str().unwrap())
}

#[tokio::test]
async fn threads_messages_turns_and_steps_say_which_software_acted() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let report = program(&fixture, "Nightly report").await;
    for (who, kind, name) in [(&fixture.owner, "page", "Web page"), (&report, "api_token", "Nightly report")] {
        let new = json!({ "space_id": fixture.space, "text": "/tool notes__echo {}" });
        let thread = who.post("/v1/threads", new).await.expect(201);
        assert_eq!(client(&thread.json), (kind, name));
        fixture.app.run_pending_jobs().await;
        let path = format!("/v1/threads/{}", thread.text_of("id"));
        assert_eq!(client(&fixture.owner.get(&path).await.expect(200).json), (kind, name));
        let messages = fixture.owner.get(&format!("{path}/messages")).await.expect(200);
        let messages = messages.json["items"].as_array().unwrap();
        assert_eq!(client(&messages[0]), (kind, name));
        assert!(messages[1..].iter().all(|message| matches!(client(message).0, "agent" | "system")), "{messages:?}");
        let turns = fixture.owner.get(&format!("{path}/turns")).await.expect(200);
        assert_eq!(client(&turns.json["items"][0]), (kind, name));
        let listed = fixture.owner.get("/v1/threads").await.expect(200);
        assert_eq!(client(&listed.json["items"][0]), (kind, name));
        let export = fixture.owner.get(&format!("{path}/export")).await.expect(200);
        assert_eq!(client(&export.json["thread"]), (kind, name));
    }
    let page = fixture.owner.get(&format!("/me/spaces/{}", fixture.space)).await.expect(200);
    assert_eq!(page.text.matches("through <b>Nightly report</b>").count(), 1, "a page is not worth a word");
}

#[tokio::test]
async fn a_call_at_the_gateway_is_recorded_with_its_client() {
    let fixture = McpFixture::new().await;
    fixture.personal("notes").await;
    let body = json!({ "name": "Claude Code", "kind": "personal", "audience": "mcp", "scopes": ["write"] });
    let token = fixture.owner.post("/v1/tokens", body).await.expect(201);
    let agent = fixture.app.bearer(&token.text_of("token"));
    fixture.call(&agent, "notes__echo").await.expect(200);
    for action in ["tool.called", "credential.opened"] {
        let events = fixture.owner.get(&format!("/v1/audit?action={action}&limit=1")).await.expect(200);
        let event = &events.json["items"][0];
        assert_eq!(client(event), ("mcp_client", "Claude Code"), "{action}");
        assert_eq!(event["acting_client"]["id"], token.json["id"]);
    }
    let page = fixture.owner.get("/admin/audit?action=tool.called").await.expect(200);
    assert!(page.text.contains("through Claude Code"), "{}", page.text);
    // A client that was revoked keeps its name in the record.
    fixture.owner.delete(&format!("/v1/tokens/{}", text(&token.json, "id"))).await.expect(204);
    let events = fixture.owner.get("/v1/audit?action=tool.called&limit=1").await.expect(200);
    assert_eq!(client(&events.json["items"][0]), ("mcp_client", "Claude Code"));
}

#[tokio::test]
async fn no_client_is_taken_from_what_was_sent() {
    let fixture = McpFixture::new().await;
    let report = program(&fixture, "Nightly report").await;
    let forged =
        json!({ "space_id": fixture.space, "text": "hello", "acting_client": { "kind": "agent", "name": "Agent" } });
    report.post("/v1/threads", forged).await.expect(422);
    let request = report.request("POST", "/v1/threads").header("user-agent", "Claude Code");
    let request = request.header("content-type", "application/json");
    let body = json!({ "space_id": fixture.space, "text": "hello" }).to_string();
    let thread = report.send(request.body(body)).await.expect(201);
    assert_eq!(client(&thread.json), ("api_token", "Nightly report"));
}
