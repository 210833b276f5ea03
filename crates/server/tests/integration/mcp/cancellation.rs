//! A call that is no longer wanted ends at its upstream, too (L101).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::app::App;
use thinkwork::worker;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::{McpFixture, rpc, rpc_request, text};
use crate::harness::Client;

/// Far longer than anything here takes, and shorter than the upstream's call would be awaited.
const PATIENCE: Duration = Duration::from_secs(20);

async fn turns(who: &Client, thread: &str) -> Vec<Value> {
    let turns = who.get(&format!("/v1/threads/{thread}/turns")).await.expect(200);
    turns.json["items"].as_array().unwrap().clone()
}

async fn thread(fixture: &McpFixture, words: &str) -> String {
    let new = json!({ "space_id": fixture.space, "text": words });
    fixture.owner.post("/v1/threads", new).await.expect(201).text_of("id")
}

async fn cancel_first(fixture: &McpFixture, thread: &str) {
    let turn = text(&turns(&fixture.owner, thread).await[0], "id");
    fixture.owner.post(&format!("/v1/turns/{turn}/cancel"), json!({})).await.expect(200);
}

/// The id of the call that reached the upstream.
fn id_of_call(fixture: &McpFixture) -> Value {
    let calls = fixture.upstream.calls();
    serde_json::from_str::<Value>(&calls[0].body).unwrap()["id"].clone()
}

async fn cancelled_in(fixture: &McpFixture, worker: Arc<App>) {
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let thread = thread(fixture, "/tool notes__wait {}").await;
    let work = tokio::spawn(async move { worker::run_until_idle(&worker).await });
    fixture.upstream.reached().await;
    let next = json!({ "text": "/tool notes__echo {}" });
    fixture.owner.post(&format!("/v1/threads/{thread}/messages"), next).await.expect(201);
    cancel_first(fixture, &thread).await;
    assert_eq!(fixture.upstream.abandoned().await, 1, "the request is closed");
    let told = fixture.upstream.told_of_cancellation().await;
    assert_eq!(told["params"]["requestId"], id_of_call(fixture));
    tokio::time::timeout(PATIENCE, work).await.expect("the next turn waits for the cancelled call").unwrap();
    let turns = turns(&fixture.owner, &thread).await;
    let states: Vec<&str> = turns.iter().map(|turn| turn["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["cancelled", "succeeded"]);
    let step = &turns[0]["steps"][0];
    assert_eq!((&step["status"], &step["failure"]), (&json!("failed"), &json!("cancelled")), "{step}");
}

#[tokio::test]
async fn l101_a_cancelled_turn_ends_its_call_and_the_next_begins() {
    let fixture = McpFixture::new().await;
    cancelled_in(&fixture, Arc::clone(&fixture.app.app)).await;
}

#[tokio::test]
async fn l101_a_turn_is_cancelled_in_whichever_process_runs_it() {
    let fixture = McpFixture::new().await;
    let other = fixture.app.second().await;
    cancelled_in(&fixture, other).await;
}

#[tokio::test]
async fn l101_a_cancelled_turn_stops_waiting_for_its_model() {
    let fixture = McpFixture::new().await;
    let model = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", model.local_addr().unwrap());
    fixture.owner.put("/v1/agent", json!({ "model_base_url": url, "model": "m" })).await.expect(200);
    let thread = thread(&fixture, "Think about it").await;
    let app = Arc::clone(&fixture.app.app);
    let work = tokio::spawn(async move { worker::run_until_idle(&app).await });
    let mut asked = model.accept().await.unwrap().0;
    let mut buffer = [0_u8; 4_096];
    assert!(asked.read(&mut buffer).await.unwrap() > 0, "the model is asked");
    cancel_first(&fixture, &thread).await;
    let closed = async { while asked.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the request stays open");
    tokio::time::timeout(PATIENCE, work).await.expect("the turn goes on").unwrap();
    assert_eq!(turns(&fixture.owner, &thread).await[0]["status"], "cancelled");
}

#[tokio::test]
async fn l101_a_client_that_closes_its_request_ends_the_call() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    let call = fixture.call(&agent, "notes__wait");
    tokio::select! {
        _ = call => panic!("it is held"),
        () = fixture.upstream.reached() => {}
    }
    assert_eq!(fixture.upstream.abandoned().await, 1);
    assert_eq!(fixture.upstream.told_of_cancellation().await["params"]["requestId"], id_of_call(&fixture));
}

/// The session id that a client is given at its beginning.
async fn session(fixture: &McpFixture, agent: &Client) -> String {
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "client", "version": "1" },
    });
    let session =
        rpc(agent, &fixture.gateway(), "initialize", hello).await.expect(200).header("mcp-session-id").to_owned();
    assert_eq!(session.len(), 32, "{session}");
    session
}

/// Says in this session that the request with id 7 is given up.
async fn cancel_in(fixture: &McpFixture, agent: &Client, session: &str) {
    let body = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
    let request = rpc_request(agent, &fixture.gateway()).header("mcp-session-id", session).body(body.to_string());
    agent.send(request).await.expect(202);
}

#[tokio::test]
async fn l101_a_client_cancels_its_own_call_and_no_other() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    let mine = session(&fixture, &agent).await;
    let other = session(&fixture, &agent).await;
    assert_ne!(mine, other);
    let body = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "notes__wait", "arguments": {} },
    });
    let request = rpc_request(&agent, &fixture.gateway()).header("mcp-session-id", &mine).body(body.to_string());
    let call = tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    fixture.upstream.reached().await;
    // The same request id in another session of the same token, and the same session with another token.
    cancel_in(&fixture, &agent, &other).await;
    cancel_in(&fixture, &fixture.agent(&fixture.owner).await, &mine).await;
    assert!(fixture.upstream.of("notifications/cancelled").is_empty());
    cancel_in(&fixture, &agent, &mine).await;
    assert_eq!(fixture.upstream.abandoned().await, 1);
    let answer = tokio::time::timeout(PATIENCE, call).await.expect("the request stays open").unwrap();
    assert!(answer.contains("cancelled before the server answered"), "{answer}");
}
