//! Servers as they are: each spelling of a forgotten session, of a protocol that is not known, streams that end early,
//! and long lists.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{McpFixture, decide, said, text, tool};

/// One request as it came.
#[derive(Clone)]
struct Came {
    verb: Method,
    path: String,
    headers: HeaderMap,
    message: Value,
}

impl Came {
    fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn result(&self, result: Value) -> Response {
        axum::Json(json!({ "jsonrpc": "2.0", "id": self.message["id"], "result": result })).into_response()
    }

    fn refused(&self, status: u16, code: i64, message: &str) -> Response {
        let error = json!({ "code": code, "message": message });
        let body = json!({ "jsonrpc": "2.0", "id": self.message["id"], "error": error });
        (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
    }

    fn said(&self, words: &str) -> Response {
        self.result(json!({ "content": [{ "type": "text", "text": words }] }))
    }

    /// What a server of 2025-11-25 with one tool answers to everything but a call.
    fn older(&self, session: &str) -> Response {
        match self.method() {
            "initialize" => {
                let greeting = self.result(json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "older", "version": "1" },
                }));
                ([("mcp-session-id", session.to_owned())], greeting).into_response()
            }
            "tools/list" => self.result(json!({ "tools": [tool("echo")] })),
            "server/discover" => self.refused(200, -32_601, "Method not found"),
            _ => StatusCode::ACCEPTED.into_response(),
        }
    }

    /// The same of 2026-07-28.
    fn newer(&self) -> Response {
        match self.method() {
            "server/discover" => self.result(json!({
                "resultType": "complete",
                "ttlMs": 0,
                "cacheScope": "private",
                "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "newer", "version": "1" },
            })),
            "tools/list" => {
                let mut annotated = tool("echo");
                annotated["inputSchema"]["properties"]["text"]["x-mcp-header"] = json!("Text");
                let mut broken = tool("broken");
                broken["inputSchema"]["properties"]["text"]["x-mcp-header"] = json!("no token");
                self.result(json!({ "tools": [annotated, broken], "resultType": "complete", "ttlMs": 0, "cacheScope": "private" }))
            }
            _ => self.said("done"),
        }
    }
}

/// A session that is handed out and refused all the same.
const NOBODYS: &str = "nobodys";

type Answers = Box<dyn Fn(&Came) -> Response + Send + Sync>;

struct Server {
    answers: Answers,
    came: Mutex<Vec<Came>>,
}

/// A server that answers as it is told; it ends with the test.
struct Foreign {
    url: String,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Foreign {
    async fn start(answers: impl Fn(&Came) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = Arc::new(Server { answers: Box::new(answers), came: Mutex::default() });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&server));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, server, task }
    }

    fn count(&self, method: &str) -> usize {
        self.server.came.lock().unwrap().iter().filter(|came| came.method() == method).count()
    }

    fn last(&self, method: &str) -> Came {
        let came = self.server.came.lock().unwrap();
        came.iter().rev().find(|came| came.method() == method).unwrap().clone()
    }

    /// Registers it, approves it and lets it serve the Space; as it is shown then.
    async fn usable(&self, fixture: &McpFixture, slug: &str) -> Value {
        let body = json!({ "name": slug, "slug": slug, "url": self.url, "auth": { "mode": "none" } });
        let id = fixture.owner.post("/v1/mcp-servers", body).await.expect(201).text_of("id");
        decide(&fixture.owner, &id).await;
        fixture.serve(&id, json!({})).await;
        fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json
    }
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    let message = serde_json::from_slice(&body).unwrap_or_default();
    let came = Came { verb: parts.method, path: parts.uri.path().to_owned(), headers: parts.headers, message };
    server.came.lock().unwrap().push(came.clone());
    (server.answers)(&came)
}

#[tokio::test]
async fn l89_a_forgotten_session_is_begun_anew_once_however_it_is_said() {
    type Refuse = fn(&Came) -> Response;
    let spellings: [Refuse; 7] = [
        |came| came.refused(400, -32_000, "Bad Request: No valid session ID provided"),
        |came| came.refused(404, -32_001, "Session not found"),
        |came| came.refused(404, -32_600, "Session has been terminated"),
        |came| came.refused(200, -32_602, "Received request before initialization was complete"),
        |_| (StatusCode::BAD_REQUEST, "no session").into_response(),
        |_| StatusCode::NOT_FOUND.into_response(),
        |_| StatusCode::GONE.into_response(),
    ];
    let fixture = McpFixture::new().await;
    let agent = fixture.agent(&fixture.owner).await;
    for (number, refuse) in spellings.into_iter().enumerate() {
        let session = Arc::new(Mutex::new("first".to_owned()));
        let current = Arc::clone(&session);
        let server = Foreign::start(move |came| {
            let current = current.lock().unwrap().clone();
            match came.method() {
                "tools/call" if current != NOBODYS && came.header("mcp-session-id") == Some(&current) => {
                    came.said("done")
                }
                "tools/call" => refuse(came),
                _ => came.older(&current),
            }
        })
        .await;
        let slug = format!("s{number}");
        server.usable(&fixture, &slug).await;
        let name = format!("{slug}__echo");
        assert_eq!(said(&fixture.call(&agent, &name).await), "done");
        let before = server.count("initialize");
        *session.lock().unwrap() = "second".to_owned();
        for _ in 0..2 {
            assert_eq!(said(&fixture.call(&agent, &name).await), "done", "spelling {number}");
        }
        assert_eq!(server.count("initialize"), before + 1, "spelling {number}");
        // One that refuses each session is told so, and not asked for ever.
        *session.lock().unwrap() = NOBODYS.to_owned();
        let calls = server.count("tools/call");
        let answer = fixture.call(&agent, &name).await;
        assert_eq!(answer.json["result"]["isError"], true, "{}", answer.text);
        assert!(server.count("tools/call") <= calls + 2, "spelling {number}");
    }
}

#[tokio::test]
async fn l105_each_way_to_begin_falls_back_on_the_other() {
    type Refuse = fn(&Came) -> Response;
    let spellings: [Refuse; 10] = [
        |came| came.refused(400, -32_022, "Unsupported protocol version"),
        |came| came.refused(400, -32_020, "Header mismatch"),
        |came| came.refused(400, -32_602, "Invalid params: no _meta"),
        |came| came.refused(404, -32_601, "Method not found"),
        |came| came.refused(200, -32_601, "Method not found"),
        |came| came.refused(400, -32_600, "Invalid request"),
        |came| came.refused(400, -32_000, "Bad Request: Server not initialized"),
        |came| came.refused(400, -32_001, "no"),
        |_| (StatusCode::METHOD_NOT_ALLOWED, "no").into_response(),
        |_| ([(header::CONTENT_TYPE, "text/html")], "<!doctype html>").into_response(),
    ];
    let fixture = McpFixture::new().await;
    let agent = fixture.agent(&fixture.owner).await;
    for (number, refuse) in spellings.into_iter().enumerate() {
        let newer = Foreign::start(move |came| match came.header("mcp-method") {
            Some(_) => came.newer(),
            None => refuse(came),
        })
        .await;
        let shown = newer.usable(&fixture, &format!("n{number}")).await;
        assert_eq!(shown["tools"].as_array().unwrap().len(), 1, "newer, spelling {number}: {shown}");
        assert!(text(&shown, "last_error").contains("broken has invalid annotations"), "{shown}");
        let name = format!("n{number}__echo");
        let arguments = json!({ "name": name, "arguments": { "text": "eu west" } });
        let answer = super::rpc(&agent, &fixture.gateway(), "tools/call", arguments).await;
        assert_eq!(said(&answer), "done");
        let called = newer.last("tools/call");
        assert_eq!((called.header("mcp-name"), called.header("mcp-param-text")), (Some("echo"), Some("eu west")));
        let older = Foreign::start(move |came| match came.method() {
            "server/discover" => refuse(came),
            "tools/call" => came.said("done"),
            _ => came.older("one"),
        })
        .await;
        older.usable(&fixture, &format!("o{number}")).await;
        let name = format!("o{number}__echo");
        assert_eq!(said(&fixture.call(&agent, &name).await), "done");
        let asked = older.count("server/discover");
        assert_eq!(said(&fixture.call(&agent, &name).await), "done");
        assert_eq!(older.count("server/discover"), asked, "what it speaks is remembered");
    }
}

#[tokio::test]
async fn l105_a_version_that_is_refused_and_named_as_supported_is_asked_for_once_more() {
    let fixture = McpFixture::new().await;
    let agent = fixture.agent(&fixture.owner).await;
    for (slug, refusals, speaks_newest) in [("once", 1, true), ("always", usize::MAX, false)] {
        let refused = AtomicUsize::new(0);
        let server = Foreign::start(move |came| {
            let is_discover = came.method() == "server/discover";
            if is_discover && refused.fetch_add(1, Ordering::SeqCst) < refusals {
                let error = json!({ "code": -32_022, "message": "no", "data": { "supported": ["2026-07-28"] } });
                let body = json!({ "jsonrpc": "2.0", "id": came.message["id"], "error": error });
                return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
            }
            match came.method() {
                "tools/call" => came.said("done"),
                _ if came.header("mcp-method").is_some() => came.newer(),
                _ => came.older("one"),
            }
        })
        .await;
        server.usable(&fixture, slug).await;
        assert_eq!(said(&fixture.call(&agent, &format!("{slug}__echo")).await), "done");
        assert_eq!(server.last("tools/call").header("mcp-method").is_some(), speaks_newest, "{slug}");
        assert_eq!(server.count("initialize") == 0, speaks_newest, "{slug}");
    }
}

#[tokio::test]
async fn l95_a_stream_that_ends_early_is_resumed_and_what_the_server_asks_is_answered() {
    let stream = |body: String| ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    let call = Arc::new(Mutex::new(Value::Null));
    let server = Foreign::start(move |came| {
        let event = |message: Value| format!("data: {message}\n\n");
        if came.verb == Method::GET {
            assert_eq!(came.header("last-event-id"), Some("e1"));
            let result = json!({ "content": [{ "type": "text", "text": "resumed" }] });
            return stream(event(json!({ "jsonrpc": "2.0", "id": *call.lock().unwrap(), "result": result })));
        }
        match came.method() {
            "tools/call" => {
                *call.lock().unwrap() = came.message["id"].clone();
                let ping = event(json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" }));
                let asks = event(json!({ "jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {} }));
                stream(format!("id: e1\nretry: 100\ndata:\n\n{ping}{asks}"))
            }
            _ => came.older("one"),
        }
    })
    .await;
    let fixture = McpFixture::new().await;
    let agent = fixture.agent(&fixture.owner).await;
    server.usable(&fixture, "slow").await;
    assert_eq!(said(&fixture.call(&agent, "slow__echo").await), "resumed");
    let came = server.server.came.lock().unwrap();
    let reply = |id: Value| {
        let found = came.iter().find(|came| came.message["id"] == id && came.method().is_empty());
        found.unwrap_or_else(|| panic!("no reply to {id}")).message.clone()
    };
    assert_eq!(reply(json!("p"))["result"], json!({}));
    assert_eq!(reply(json!(7))["error"]["code"], -32_601);
}

#[tokio::test]
async fn l99_every_page_of_tools_is_read_and_what_is_cut_is_said() {
    let fixture = McpFixture::new().await;
    for (slug, total, expected, note) in [("many", 100, 100, None), ("most", 520, 500, Some("more than 500 tools"))] {
        let server = Foreign::start(move |came| match came.method() {
            "tools/list" => {
                let from = came.message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
                let page: Vec<Value> = (from..total.min(from + 4)).map(|number| tool(&format!("t{number}"))).collect();
                let next = (from + 4 < total).then(|| (from + 4).to_string());
                came.result(json!({ "tools": page, "nextCursor": next }))
            }
            _ => came.older("one"),
        })
        .await;
        let shown = server.usable(&fixture, slug).await;
        assert_eq!(shown["tools"].as_array().unwrap().len(), expected);
        let said = shown["last_error"].as_str();
        assert!(note.is_none_or(|note| said.unwrap().contains(note)) && note.is_some() == said.is_some(), "{said:?}");
    }
    let bad = Foreign::start(|came| match came.method() {
        "tools/list" => came.result(json!({ "tools": [tool("good"), { "name": "odd", "inputSchema": 7 }] })),
        _ => came.older("one"),
    })
    .await;
    let shown = bad.usable(&fixture, "bad").await;
    assert!(text(&shown, "last_error").starts_with("Tools left out: odd is malformed"), "{shown}");
}

#[tokio::test]
async fn l94_a_missing_scope_is_named_and_the_next_consent_asks_for_it() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    fixture.upstream.set(|ways| ways.scope_missing = Some("notes:write"));
    let answer = fixture.call(&agent, "notes__echo").await;
    let link = format!("/me/mcp-servers/{id}/connect");
    assert!(said(&answer).contains("the scope notes:write") && said(&answer).contains(&link), "{}", answer.text);
    let started = fixture.owner.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await.expect(200);
    assert!(started.text_of("authorize_url").contains("scope=notes%3Aread+notes%3Awrite"), "{}", started.text);
    assert!(fixture.finish(&fixture.owner, &started).await.header("location").contains("status=connected"));
    let answer = fixture.call(&agent, "notes__echo").await;
    assert!(said(&answer).contains("your account may lack the permission") && !said(&answer).contains(&link));
}

#[tokio::test]
async fn l92_a_web_page_at_a_well_known_address_is_not_here() {
    let fixture = McpFixture::new().await;
    let issuer = fixture.issuer.base.clone();
    let base = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&base);
    let server = Foreign::start(move |came| {
        let own = own.lock().unwrap().clone();
        match came.path.as_str() {
            "/.well-known/oauth-protected-resource" => {
                axum::Json(json!({ "resource": own, "authorization_servers": [issuer] })).into_response()
            }
            "/mcp" => StatusCode::UNAUTHORIZED.into_response(),
            _ => ([(header::CONTENT_TYPE, "text/html")], "<!doctype html>").into_response(),
        }
    })
    .await;
    base.lock().unwrap().clone_from(&server.url);
    let body = json!({ "name": "spa", "slug": "spa", "url": server.url, "auth": { "mode": "user_oauth" } });
    let shown = fixture.owner.post("/v1/mcp-servers", body).await.expect(201).json;
    assert_eq!(shown["issuer"], json!(fixture.issuer.base), "{shown}");
    assert_eq!(shown["deviations"], json!([]));
}
