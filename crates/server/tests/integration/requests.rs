//! What ties a request to its log lines and to what others log: ids, spans, the access line, the caller's trace.

use serde_json::{Value, json};

use crate::harness::{TestApp, execute_sql};
use crate::log::Log;
use crate::mcp::McpFixture;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The fields of the span of this name that a line belongs to.
fn span<'a>(line: &'a Value, name: &str) -> &'a Value {
    let spans = line["spans"].as_array().unwrap();
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name} around {line}"))
}

/// Waits until this many requests have a line: it is written when the last byte has left.
async fn access_lines(log: &Log, count: usize) -> Vec<Value> {
    loop {
        let lines = log.lines("access");
        if lines.len() >= count {
            return lines;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_answer_names_its_request_and_errors_do_too() {
    let app = TestApp::new().await;
    let first = app.anonymous().get("/livez").await.expect(200).header("x-request-id").to_owned();
    let second = app.anonymous().get("/livez").await.expect(200).header("x-request-id").to_owned();
    assert!(first.starts_with("req_") && first != second, "{first} {second}");
    for path in ["/v1/me", "/v1/nowhere", "/hooks/none", "/mcp"] {
        let refused = app.anonymous().get(path).await;
        assert_eq!(refused.json["error"]["request_id"], refused.header("x-request-id"), "{}", refused.text);
    }
    let page = app.owner().await.get("/me/nowhere").await.expect(404);
    assert!(page.text.contains(page.header("x-request-id")), "{}", page.text);
}

#[tokio::test]
async fn only_a_proxy_of_ours_names_a_request() {
    for (trusted, kept) in [("", false), ("127.0.0.1/32", true)] {
        let app = TestApp::behind(trusted).await;
        let request = app.anonymous().request("GET", "/v1/me").header("x-request-id", "given-by-the-proxy");
        let refused = app.anonymous().send(request).await.expect(401);
        assert_eq!(refused.header("x-request-id") == "given-by-the-proxy", kept, "{trusted}");
        assert_eq!(refused.json["error"]["request_id"], refused.header("x-request-id"));
    }
}

#[tokio::test]
async fn a_failure_is_logged_once_under_the_id_that_was_shown() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    owner.post("/v1/threads", json!({ "space_id": space, "text": "Hello" })).await.expect(201);
    let tx = app.app.db.write(app.tenant).await.unwrap();
    execute_sql(&tx, "UPDATE thread SET status = 'nonsense'").await.unwrap();
    tx.commit().await.unwrap();
    let (log, _guard) = Log::begin();
    let failed = owner.get("/v1/threads").await.expect(500);
    let shown = failed.json["error"]["request_id"].as_str().unwrap();
    let lines = log.lines("thinkwork");
    let errors: Vec<&Value> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(span(errors[0], "request")["request_id"], shown, "{errors:?}");
    let page = owner.get("/admin/threads").await.expect(500);
    assert!(page.text.contains(page.header("x-request-id")), "{}", page.text);
}

#[tokio::test]
async fn a_request_leaves_one_line_without_anything_secret() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let (log, _guard) = Log::begin();
    owner.get("/v1/spaces?limit=2").await.expect(200);
    app.anonymous().get("/setup?code=a-code-that-nobody-may-read").await.expect(410);
    app.anonymous().get("/v1/no-such-path").await.expect(404);
    let lines = access_lines(&log, 3).await;
    let [read, setup, nowhere] = lines.as_slice() else { panic!("one line each: {lines:?}") };
    assert_eq!((&read["method"], &read["route"], &read["status"]), (&json!("GET"), &json!("/v1/spaces"), &json!(200)));
    assert_eq!((&read["peer"], &read["bytes"]), (&json!("127.0.0.1"), &json!(24)), "{read}");
    assert!(read["duration_us"].as_u64().is_some_and(|duration| duration > 0), "{read}");
    let request = span(read, "request");
    assert_eq!(request["tenant"], app.tenant.to_string());
    assert_eq!(request["requester"], app.owner.to_string());
    assert!(request["client"].as_str().is_some_and(|client| client.starts_with("ses_")), "{request}");
    assert_eq!(setup["route"], "/setup");
    assert_eq!(nowhere["route"], "unmatched");
    let all = String::from_utf8(log.bytes()).unwrap();
    assert!(!all.contains("a-code-that-nobody-may-read") && !all.contains("no-such-path"));
}

#[tokio::test]
async fn the_callers_trace_is_logged_and_passed_on_by_the_gateway() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "notes__echo", "arguments": {} } });
    let (log, _guard) = Log::begin();
    for (sent, passed_on) in [(format!("00-{TRACE}-00f067aa0ba902b7-01"), true), ("nonsense".to_owned(), false)] {
        let request = crate::mcp::rpc_request(&agent, &fixture.gateway()).header("traceparent", &sent);
        agent.send(request.body(call.to_string())).await.expect(200);
        let call = fixture.upstream.calls().pop().unwrap();
        let received = call.headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        let same_trace = received.as_ref().is_some_and(|received| received.starts_with(&format!("00-{TRACE}-")));
        assert_eq!((received.is_some(), same_trace), (passed_on, passed_on), "{received:?}");
        assert_ne!(received.as_deref(), Some(sent.as_str()), "the parent is a span of ours");
    }
    let calls = log.lines("thinkwork_outbound");
    let request = span(calls.last().unwrap(), "request");
    assert_eq!(request["requester"], fixture.app.owner.to_string(), "the call belongs to the request: {calls:?}");
    assert!(calls.iter().any(|line| span(line, "request")["trace_id"] == TRACE), "{calls:?}");
}

#[tokio::test]
async fn work_of_a_turn_is_logged_under_job_turn_and_step() {
    let fixture = McpFixture::new().await;
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let (log, _guard) = Log::begin();
    let turn = fixture.turn(&fixture.owner, "/tool notes__echo {}").await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    let calls = log.lines("thinkwork_outbound");
    let call = calls.last().expect("the call of the tool");
    let names: Vec<&str> =
        call["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["job", "turn", "step", "upstream"]);
    assert_eq!(span(call, "job")["tenant"], fixture.app.tenant.to_string());
    assert_eq!(span(call, "turn")["turn"], turn["id"]);
    assert_eq!(span(call, "turn")["requester"], fixture.app.owner.to_string());
    let received = fixture.upstream.calls().pop().unwrap().headers["traceparent"].to_str().unwrap().to_owned();
    assert!(received.contains(span(call, "turn")["trace_id"].as_str().unwrap()), "{received}");
}
