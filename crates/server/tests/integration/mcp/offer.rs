//! Which servers are left out, why, and who is told.

use std::sync::{Arc, Mutex};

use axum::routing::post;
use serde_json::{Value, json};

use super::{Guarded, McpFixture, Upstream, decide, names, offered, register, rpc, said, text};

/// A model that writes down what it was asked and has nothing to say.
async fn model() -> (String, Arc<Mutex<Vec<Value>>>) {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = Arc::clone(&asked);
    let answer = move |axum::Json(body): axum::Json<Value>| async move {
        kept.lock().unwrap().push(body);
        axum::Json(json!({ "choices": [{ "message": { "role": "assistant", "content": "Noted." } }] }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = axum::Router::new().route("/v1/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (base, asked)
}

/// One server for each reason that needs no waiting: its slug, the reason, and its link if connecting mends it.
async fn left_out_servers(fixture: &mut McpFixture) -> Vec<(&'static str, &'static str, Option<String>)> {
    let link = |id: &str| Some(fixture.app.url(&format!("/me/mcp-servers/{id}/connect")));
    let ended = fixture.personal("ended").await;
    fixture.app.clock.advance(std::time::Duration::from_secs(3_590));
    fixture.owner = fixture.app.owner().await;
    let refused = (400, r#"{"error":"invalid_grant"}"#.to_owned());
    fixture.issuer.set(|ways| ways.token_script.push_back(refused));
    let pending = text(&fixture.register("waiting", json!({ "mode": "none" })).await, "id");
    fixture.serve(&pending, json!({})).await;
    let lonely = fixture.usable("lonely", json!({ "mode": "user_oauth" })).await;
    let down = Upstream::start(&fixture.issuer).await;
    let old = Upstream::start(&fixture.issuer).await;
    down.set(|ways| ways.broken = Some(503));
    old.set(|ways| ways.protocol = "1999-01-01");
    for (slug, upstream) in [("down", &down), ("old", &old)] {
        let id = text(&register(&fixture.owner, upstream, slug, json!({ "mode": "none" })).await, "id");
        decide(&fixture.owner, &id).await;
        fixture.serve(&id, json!({})).await;
    }
    // They answer for as long as this test's runtime lives.
    std::mem::forget((down, old));
    vec![
        ("down", "unreachable", None),
        ("ended", "expired", link(&ended)),
        ("lonely", "needs_connection", link(&lonely)),
        ("old", "not_supported", None),
        ("waiting", "pending", None),
    ]
}

#[tokio::test]
async fn l46_each_server_that_is_left_out_is_named_with_its_reason_to_turn_gateway_and_model() {
    let mut fixture = McpFixture::new().await;
    fixture.usable("good", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    let expected = left_out_servers(&mut fixture).await;
    let (base, asked) = model().await;
    let settings = json!({ "model_base_url": base, "model": "test", "instructions": "", "api_key": null });
    fixture.owner.put("/v1/agent", settings).await.expect(200);
    // The first turn finds out that one grant has ended; from the second on it is known beforehand.
    fixture.turn(&fixture.owner, "/tool ended__echo {}").await;
    let turn = fixture.turn(&fixture.owner, "What is in my notes?").await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    assert_eq!(offered(&turn), ["good__echo", "good__wait", "good__whoami"]);
    assert_eq!(turn["tools_left_out"].as_array().unwrap().len(), expected.len(), "{turn}");
    let told = {
        let asked = asked.lock().unwrap();
        text(&asked[0]["messages"][0], "content")
    };
    let (_, section) = told.split_once("# Servers left out of this turn").unwrap();
    for (slug, reason, link) in &expected {
        assert_eq!(&McpFixture::reason_of(&turn, slug), reason);
        let entry = turn["tools_left_out"].as_array().unwrap().iter().find(|entry| entry["server"] == *slug);
        assert_eq!(entry.unwrap()["connect_url"].as_str(), link.as_deref(), "{slug}");
        let line = section.lines().find(|line| line.starts_with(&format!("- {slug}: ")));
        let line = line.unwrap_or_else(|| panic!("the model is not told of {slug}: {section}"));
        assert!(link.as_deref().is_none_or(|link| line.contains(link)), "{line}");
    }
    // The page of the thread says it too, with the link that mends it.
    let page = fixture.owner.get(&format!("/me/threads/{}", text(&turn, "thread_id"))).await.expect(200).text;
    for (slug, _, link) in &expected {
        assert!(page.contains(slug), "{slug} in {page}");
        let path = link.as_deref().map(|link| link.strip_prefix(&fixture.app.url("")).unwrap().to_owned());
        assert!(path.is_none_or(|path| page.contains(&path)));
    }
    // At the gateway a hint stands for those that connecting mends.
    let listed = fixture.listed(&agent).await;
    assert_eq!(listed, ["good__echo", "good__wait", "good__whoami", "ended__connect", "lonely__connect"]);
    for (slug, _, link) in &expected {
        let answer = fixture.call(&agent, &format!("{slug}__connect")).await;
        match link {
            Some(link) => assert!(said(&answer).contains(link), "{}", answer.text),
            None => assert!(said(&answer).starts_with(&format!("{slug} is not available: ")), "{}", answer.text),
        }
    }
}

#[tokio::test]
async fn l102_a_call_of_a_listed_tool_says_why_its_server_is_left_out_now() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    assert!(fixture.listed(&agent).await.contains(&"notes__echo".to_owned()));
    let answers = async || said(&fixture.call(&agent, "notes__echo").await);
    fixture.owner.delete(&format!("/v1/me/mcp-servers/{id}/connection")).await.expect(204);
    let link = fixture.app.url(&format!("/me/mcp-servers/{id}/connect"));
    assert_eq!(answers().await, format!("notes is not available: you have not connected it. Connect it at {link}"));
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/reject"), json!({ "reason": "closed" })).await.expect(200);
    assert_eq!(answers().await, "notes is not available: an operator has not approved it yet.");
    // A tool of no server stays unknown.
    assert_eq!(fixture.call(&agent, "absent__echo").await.json["error"]["code"], -32_602);
}

#[tokio::test]
async fn l46_work_without_a_person_leaves_personal_servers_out_and_says_so() {
    let fixture = McpFixture::new().await;
    let mine = fixture.personal("mine").await;
    fixture.usable("open", json!({ "mode": "none" })).await;
    let body = json!({ "name": "s", "kind": "service", "audience": "api", "scopes": ["write"] });
    let service = fixture.app.bearer(&fixture.owner.post("/v1/tokens", body).await.expect(201).text_of("token"));
    let turn = fixture.turn(&service, "/tool mine__echo {}").await;
    assert_eq!(offered(&turn), ["open__echo", "open__wait", "open__whoami"]);
    assert_eq!(turn["tools_left_out"], json!([{ "source": mine, "server": "mine", "reason": "no_user" }]));
    let agent = fixture.app.bearer(&super::gateway_token(&fixture.owner, "service").await);
    assert_eq!(fixture.listed(&agent).await, ["open__echo", "open__wait", "open__whoami"]);
    let answer = fixture.call(&agent, "mine__echo").await;
    let reason = "it needs a person's account, and no person requested this work";
    assert_eq!(said(&answer), format!("mine is not available: {reason}."));
    assert!(fixture.upstream.calls().is_empty());
}

#[tokio::test]
async fn l48_a_server_that_asks_only_when_a_tool_is_called_leads_to_the_page_where_it_is_connected() {
    let fixture = McpFixture::new().await;
    fixture.upstream.set(|ways| ways.guarded = Guarded::CallsOnly);
    let id = fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(fixture.listed(&agent).await.len(), 3, "it asked for nothing yet");
    let link = format!("/me/mcp-servers/{id}/connect");
    let answer = fixture.call(&agent, "notes__echo").await;
    assert_eq!(answer.json["result"]["isError"], true);
    assert!(said(&answer).contains(&fixture.app.url(&link)), "{}", answer.text);
    let turn = fixture.turn(&fixture.owner, "/tool notes__echo {}").await;
    assert_eq!(turn["status"], "failed");
    assert!(fixture.last_message(&fixture.owner, &turn).await.contains(&fixture.app.url(&link)));
    // The page says who has to do what, the operator sees it, and nothing was approved by itself.
    let page = fixture.owner.get(&link).await.expect(200).text;
    assert!(page.contains("operator"), "{page}");
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert!(text(&shown, "last_error").contains("Per-user OAuth"), "{shown}");
    let change = json!({ "auth": { "mode": "user_oauth" } });
    let changed = fixture.owner.patch(&format!("/v1/mcp-servers/{id}"), change).await.expect(200).json;
    assert_eq!((&changed["status"], &changed["issuer"]), (&json!("pending"), &json!(fixture.issuer.base)));
    decide(&fixture.owner, &id).await;
    let hints = rpc(&agent, &fixture.gateway(), "tools/list", json!({})).await;
    assert_eq!(names(&hints), ["notes__connect"]);
    assert!(hints.text.contains("not connected"));
    let token = fixture.connect(&fixture.owner, &id).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    assert_eq!(fixture.upstream.calls().last().unwrap().bearer(), Some(token.as_str()));
    // A token that is refused at the call is refreshed once; a grant that has ended leads to the page again.
    fixture.issuer.refuse_access(&token);
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let fresh = fixture.upstream.calls().last().unwrap().bearer().unwrap().to_owned();
    assert_ne!(fresh, token);
    fixture.issuer.refuse_access(&fresh);
    assert!(said(&fixture.call(&agent, "notes__echo").await).contains(&fixture.app.url(&link)));
}

#[tokio::test]
async fn l48_a_401_that_says_nothing_else_and_one_for_a_fresh_token_lead_there_too() {
    let fixture = McpFixture::new().await;
    let mine = fixture.personal("mine").await;
    let open = fixture.usable("open", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    let link = |id: &str| fixture.app.url(&format!("/me/mcp-servers/{id}/connect"));
    fixture.upstream.set(|ways| (ways.guarded, ways.challenges) = (Guarded::CallsForGood, false));
    let before = fixture.upstream.calls().len();
    let refreshed = fixture.issuer.look(|seen| seen.refreshes());
    for (name, id) in [("open__echo", &open), ("mine__echo", &mine)] {
        let answer = fixture.call(&agent, name).await;
        assert_eq!(answer.json["result"]["isError"], true);
        assert!(said(&answer).contains(&link(id)), "{}", answer.text);
    }
    let bearers: Vec<_> =
        fixture.upstream.calls()[before..].iter().map(|call| call.bearer().map(str::to_owned)).collect();
    assert_eq!((bearers.len(), &bearers[0]), (3, &None), "once without a token, once with each of two: {bearers:?}");
    assert_ne!(bearers[1], bearers[2]);
    assert_eq!(fixture.issuer.look(|seen| seen.refreshes()), refreshed + 1);
}

#[tokio::test]
async fn a_first_snapshot_is_offered_at_once_and_asks_until_its_effects_are_decided() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "user_oauth" })).await;
    let ana = fixture.app.member("ana").await;
    fixture.connect(&ana, &id).await;
    let agent = fixture.agent(&ana).await;
    // No second approval: what the first person's connection shows is taken, as far as it can do no harm.
    assert_eq!(fixture.listed(&agent).await.len(), 3);
    let asks = fixture.call(&agent, "notes__echo").await;
    assert_eq!(asks.json["result"]["structuredContent"]["error"]["code"], "approval_required", "{}", asks.text);
    assert!(fixture.upstream.calls().is_empty());
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert_eq!((&shown["status"], &shown["tools"][0]["effect"]), (&json!("approved"), &Value::Null));
    assert!(fixture.actions().await.iter().any(|action| action == "mcp_server.tools_first_seen"));
    // The page says what to do, and doing it is enough.
    let page = fixture.owner.get(&format!("/admin/mcp-servers/{id}")).await.expect(200).text;
    assert!(page.contains("3 tools have no effect set"), "{page}");
    decide(&fixture.owner, &id).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let page = fixture.owner.get(&format!("/admin/mcp-servers/{id}")).await.expect(200).text;
    assert!(!page.contains("no effect set"));
    // A later change is held.
    fixture.upstream.set(|ways| ways.tools[0]["description"] = json!("Does something else."));
    fixture.connect(&fixture.owner, &id).await;
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/tools/refresh"), json!({})).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, ["notes__wait", "notes__whoami"]);
}
