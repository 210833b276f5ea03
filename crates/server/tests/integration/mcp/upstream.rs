//! A small MCP server that misbehaves on request and writes down everything that reached it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::oauth::Issuer;

/// What it answers only to a token of its issuer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    Nothing,
    CallsOnly,
    Everything,
    /// Calls are refused whatever token comes with them.
    CallsForGood,
}

/// How the server behaves.
pub struct Behavior {
    pub guarded: Guarded,
    /// Whether a 401 says where to be authorised.
    pub challenges: bool,
    pub tools: Vec<Value>,
    /// Methods that it does not know, notifications among them.
    pub unknown_methods: Vec<&'static str>,
    /// A method that it never answers.
    pub silent_at: Option<&'static str>,
    pub protocol: &'static str,
    /// An HTTP status for everything.
    pub broken: Option<u16>,
    /// Whether calls are answered by a stream.
    pub streams: bool,
    /// Whether calls are refused in the words of what they were sent, with a status beside the JSON-RPC error.
    pub refuses: bool,
    /// A scope that calls lack, whatever token comes with them.
    pub scope_missing: Option<&'static str>,
    /// The authorization server that it names now instead of its first one.
    pub moved_to: Option<Issuer>,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub tool: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Request {
    pub fn bearer(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
    }
}

struct Inside {
    base: String,
    issuer: Issuer,
    ways: Mutex<Behavior>,
    seen: Mutex<Vec<Request>>,
    sessions: AtomicU64,
    held: AtomicBool,
    reached: Notify,
    open: Notify,
    /// Something came, or a held call was given up.
    changed: Notify,
    /// Held calls whose connection was closed before the answer.
    abandoned: AtomicU64,
}

/// The server. Cheap to clone; it ends with its last clone.
#[derive(Clone)]
pub struct Upstream {
    inside: Arc<Inside>,
    _stop: Arc<Stop>,
}

struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A definition of a tool that takes one text.
pub fn tool(name: &str) -> Value {
    json!({
        "name": name,
        "description": format!("Does {name}."),
        "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
    })
}

impl Upstream {
    pub async fn start(issuer: &Issuer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inside = Arc::new(Inside {
            base: format!("http://{}", listener.local_addr().unwrap()),
            issuer: issuer.clone(),
            ways: Mutex::new(Behavior {
                guarded: Guarded::Nothing,
                challenges: true,
                tools: ["echo", "whoami", "wait"].map(tool).to_vec(),
                unknown_methods: Vec::new(),
                silent_at: None,
                protocol: "2025-11-25",
                broken: None,
                streams: false,
                refuses: false,
                scope_missing: None,
                moved_to: None,
            }),
            seen: Mutex::default(),
            sessions: AtomicU64::new(0),
            held: AtomicBool::new(true),
            reached: Notify::new(),
            open: Notify::new(),
            changed: Notify::new(),
            abandoned: AtomicU64::new(0),
        });
        let routes = Router::new()
            .route("/mcp", post(message))
            .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
            .with_state(Arc::clone(&inside));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { inside, _stop: Arc::new(Stop(task)) }
    }

    pub fn url(&self) -> String {
        format!("{}/mcp", self.inside.base)
    }

    pub fn set(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.inside.ways.lock().unwrap());
    }

    /// Everything that came, oldest first.
    pub fn seen(&self) -> Vec<Request> {
        self.inside.seen.lock().unwrap().clone()
    }

    /// The requests with this method.
    pub fn of(&self, method: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|request| request.method == method).collect()
    }

    pub fn calls(&self) -> Vec<Request> {
        self.of("tools/call")
    }

    /// Waits until a call of `wait` is here.
    pub async fn reached(&self) {
        self.inside.reached.notified().await;
    }

    /// Waits until a held call was given up, and returns how many were.
    pub async fn abandoned(&self) -> u64 {
        self.until(|inside| Some(inside.abandoned.load(Ordering::SeqCst)).filter(|count| *count > 0)).await
    }

    /// Waits for the notification that a request is cancelled.
    pub async fn told_of_cancellation(&self) -> Value {
        let cancelled = |inside: &Inside| {
            let seen = inside.seen.lock().unwrap();
            let found = seen.iter().find(|request| request.method == "notifications/cancelled");
            found.map(|request| serde_json::from_str(&request.body).unwrap())
        };
        self.until(cancelled).await
    }

    async fn until<T>(&self, look: impl Fn(&Inside) -> Option<T>) -> T {
        let changes = async {
            loop {
                let changed = self.inside.changed.notified();
                if let Some(found) = look(&self.inside) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), changes).await.expect("it never came")
    }

    /// Lets the call of `wait` go on.
    pub fn let_go(&self) {
        self.inside.held.store(false, Ordering::SeqCst);
        self.inside.open.notify_one();
    }
}

async fn metadata(State(inside): State<Arc<Inside>>) -> Response {
    let moved_to = inside.ways.lock().unwrap().moved_to.clone();
    axum::Json(json!({
        "resource": format!("{}/mcp", inside.base),
        "authorization_servers": [moved_to.as_ref().unwrap_or(&inside.issuer).base],
        "scopes_supported": ["notes:read"],
    }))
    .into_response()
}

async fn message(State(inside): State<Arc<Inside>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    let tool = message["params"]["name"].as_str().unwrap_or_default().to_owned();
    let request = Request { method, tool, headers, body: String::from_utf8(body.to_vec()).unwrap() };
    inside.seen.lock().unwrap().push(request.clone());
    inside.changed.notify_waiters();
    let answer = answer(&inside, &request, &message);
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
    .hold(&inside, &request)
    .await
}

/// Counts a call that is dropped before it is answered.
struct Abandoned<'a>(&'a Inside);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandoned.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

trait Hold {
    async fn hold(self, inside: &Inside, request: &Request) -> Self;
}

impl Hold for Response {
    /// `wait` is answered when the test says so.
    async fn hold(self, inside: &Inside, request: &Request) -> Self {
        if request.method == "tools/call" && request.tool == "wait" && inside.held.load(Ordering::SeqCst) {
            let abandoned = Abandoned(inside);
            inside.reached.notify_one();
            inside.open.notified().await;
            std::mem::forget(abandoned);
        }
        self
    }
}

fn answer(inside: &Inside, request: &Request, message: &Value) -> Option<Response> {
    let ways = inside.ways.lock().unwrap();
    let method = request.method.as_str();
    if ways.silent_at == Some(method) {
        return None;
    }
    if let Some(status) = ways.broken {
        return Some(StatusCode::from_u16(status).unwrap().into_response());
    }
    let guarded = match ways.guarded {
        Guarded::Nothing => false,
        Guarded::CallsOnly | Guarded::CallsForGood => method == "tools/call",
        Guarded::Everything => true,
    };
    let accepts = |token: &str| ways.guarded != Guarded::CallsForGood && inside.issuer.accepts(token);
    if guarded && !request.bearer().is_some_and(accepts) {
        if !ways.challenges {
            return Some(StatusCode::UNAUTHORIZED.into_response());
        }
        let place = format!("{}/.well-known/oauth-protected-resource/mcp", inside.base);
        let challenge = format!("Bearer resource_metadata=\"{place}\"");
        return Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response());
    }
    if let Some(scope) = ways.scope_missing.filter(|_| method == "tools/call") {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        return Some((StatusCode::FORBIDDEN, [(header::WWW_AUTHENTICATE, challenge)]).into_response());
    }
    let id = &message["id"];
    if ways.unknown_methods.contains(&method) {
        let error = json!({ "code": -32_601, "message": "there is no such method" });
        let body = axum::Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        return Some(if id.is_null() { (StatusCode::NOT_FOUND, body).into_response() } else { body.into_response() });
    }
    let result = match method {
        "initialize" => {
            let number = inside.sessions.fetch_add(1, Ordering::SeqCst);
            let result = json!({
                "protocolVersion": ways.protocol,
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "upstream", "version": "1" },
            });
            let body = axum::Json(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            return Some(([("mcp-session-id", format!("session-{number}"))], body).into_response());
        }
        "tools/list" => json!({ "tools": ways.tools }),
        "tools/call" => called(request, message),
        _ if id.is_null() => return Some(StatusCode::ACCEPTED.into_response()),
        _ => json!({}),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    if method == "tools/call" && ways.refuses {
        let words = result["content"][0]["text"].as_str().unwrap_or_default();
        let error = json!({ "code": -32_602, "message": words });
        let body = axum::Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        return Some((StatusCode::BAD_REQUEST, body).into_response());
    }
    if method == "tools/call" && ways.streams {
        let body = format!("event: message\ndata: {answer}\n\n");
        return Some(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response());
    }
    Some(axum::Json(answer).into_response())
}

/// `whoami` says whatever it was sent as a credential, in every spelling; the others repeat their text.
fn called(request: &Request, message: &Value) -> Value {
    if request.tool != "whoami" {
        let text = message["params"]["arguments"]["text"].as_str().unwrap_or("done").to_owned();
        return json!({ "content": [{ "type": "text", "text": text }] });
    }
    let secret = request.headers.get("x-key").and_then(|value| value.to_str().ok());
    let secret = request.bearer().or(secret).unwrap_or("nobody").to_owned();
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let spellings = [
        secret.clone(),
        percent,
        STANDARD.encode(&secret),
        URL_SAFE_NO_PAD.encode(&secret),
        STANDARD.encode(format!("x{secret}")),
    ];
    json!({
        "content": [{ "type": "text", "text": format!("you sent {}", spellings.join(" and ")) }],
        "structuredContent": { "authorization": secret },
        "_meta": { "seen": secret },
    })
}
