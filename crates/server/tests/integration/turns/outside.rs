//! What turns reach outside: a small MCP server and a model that answers as the test says. Both write down what came.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::oauth::Issuer;

/// A task that ends with this value.
struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(routes: Router) -> (String, Arc<Stop>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (base, Arc::new(Stop(task)))
}

/// A call of a tool as it came.
#[derive(Clone, Debug)]
pub struct Called {
    pub tool: String,
    pub bearer: String,
    pub text: String,
    pub arguments: Value,
}

/// The result of a call, as MCP says it.
type Says = dyn Fn(&Called) -> Value + Send + Sync;

struct Server {
    base: Mutex<String>,
    /// With one, only its tokens are taken.
    issuer: Option<Issuer>,
    /// What it says of its tools.
    tools: Vec<Value>,
    says: Box<Says>,
    calls: Mutex<Vec<Called>>,
    /// How many calls are answered at once; the others wait.
    gate: Semaphore,
    arrived: Semaphore,
}

/// The MCP server. It ends with its last clone.
#[derive(Clone)]
pub struct Upstream {
    server: Arc<Server>,
    _stop: Arc<Stop>,
}

impl Upstream {
    pub async fn start(
        issuer: Option<Issuer>,
        tools: &[&str],
        says: impl Fn(&Called) -> String + Send + Sync + 'static,
    ) -> Self {
        let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
        let tools = tools.iter().map(|name| defined(name, &schema)).collect();
        let text = move |called: &Called| json!({ "content": [{ "type": "text", "text": says(called) }] });
        Self::with(issuer, tools, text).await
    }

    /// The same with whole definitions of its tools and whole results.
    pub async fn with(
        issuer: Option<Issuer>,
        tools: Vec<Value>,
        says: impl Fn(&Called) -> Value + Send + Sync + 'static,
    ) -> Self {
        let server = Arc::new(Server {
            base: Mutex::default(),
            issuer,
            tools,
            says: Box::new(says),
            calls: Mutex::default(),
            gate: Semaphore::new(1_000_000),
            arrived: Semaphore::new(0),
        });
        let routes = Router::new()
            .route("/mcp", post(message))
            .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
            .with_state(Arc::clone(&server));
        let (base, stop) = serve(routes).await;
        *server.base.lock().unwrap() = base;
        Self { server, _stop: stop }
    }

    pub fn url(&self) -> String {
        format!("{}/mcp", self.server.base.lock().unwrap())
    }

    pub fn issuer(&self) -> &Issuer {
        self.server.issuer.as_ref().unwrap()
    }

    pub fn calls(&self) -> Vec<Called> {
        self.server.calls.lock().unwrap().clone()
    }

    /// From now on calls wait for [`Upstream::answer`].
    pub fn hold(&self) {
        self.server.gate.forget_permits(1_000_000);
    }

    /// Lets this many waiting or later calls be answered.
    pub fn answer(&self, count: usize) {
        self.server.gate.add_permits(count);
    }

    /// Waits for one more call to arrive.
    pub async fn arrived(&self) {
        self.server.arrived.acquire().await.unwrap().forget();
    }
}

async fn metadata(State(server): State<Arc<Server>>) -> Response {
    let Some(issuer) = &server.issuer else { return StatusCode::NOT_FOUND.into_response() };
    let base = server.base.lock().unwrap().clone();
    let found = json!({
        "resource": format!("{base}/mcp"),
        "authorization_servers": [issuer.base],
        "scopes_supported": ["notes:read"],
    });
    axum::Json(found).into_response()
}

async fn message(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let bearer = authorization.trim_start_matches("Bearer ").to_owned();
    if server.issuer.as_ref().is_some_and(|issuer| !issuer.accepts(&bearer)) {
        let place = format!("{}/.well-known/oauth-protected-resource/mcp", server.base.lock().unwrap());
        let challenge = format!("Bearer resource_metadata=\"{place}\"");
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    }
    let id = &message["id"];
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "upstream", "version": "1" },
        }),
        "tools/list" => json!({ "tools": server.tools }),
        "tools/call" => {
            let called = Called {
                tool: message["params"]["name"].as_str().unwrap().to_owned(),
                bearer,
                text: message["params"]["arguments"]["text"].as_str().unwrap_or("").to_owned(),
                arguments: message["params"]["arguments"].clone(),
            };
            server.calls.lock().unwrap().push(called.clone());
            let said = (server.says)(&called);
            server.arrived.add_permits(1);
            server.gate.acquire().await.unwrap().forget();
            said
        }
        _ if id.is_null() => return StatusCode::ACCEPTED.into_response(),
        _ => json!({}),
    };
    axum::Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
}

/// Status and body of an answer.
type Thinks = dyn Fn(&Value) -> (u16, Value) + Send + Sync;

struct ModelServer {
    thinks: Box<Thinks>,
    requests: Mutex<Vec<Value>>,
    bearers: Mutex<Vec<String>>,
}

/// An OpenAI-compatible model.
#[derive(Clone)]
pub struct Model {
    pub url: String,
    mind: Arc<ModelServer>,
    _stop: Arc<Stop>,
}

impl Model {
    /// `thinks` makes the assistant's message of each request.
    pub async fn start(thinks: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::with(move |request| (200, completion(&thinks(request), "stop"))).await
    }

    /// `thinks` makes status and body of each answer.
    pub async fn with(thinks: impl Fn(&Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let mind =
            Arc::new(ModelServer { thinks: Box::new(thinks), requests: Mutex::default(), bearers: Mutex::default() });
        let routes = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&mind));
        let (base, stop) = serve(routes).await;
        Self { url: format!("{base}/v1"), mind, _stop: stop }
    }

    /// Every request body, oldest first.
    pub fn requests(&self) -> Vec<Value> {
        self.mind.requests.lock().unwrap().clone()
    }

    /// The key that came with every request, oldest first.
    pub fn bearers(&self) -> Vec<String> {
        self.mind.bearers.lock().unwrap().clone()
    }
}

async fn complete(
    State(mind): State<Arc<ModelServer>>,
    headers: HeaderMap,
    axum::Json(request): axum::Json<Value>,
) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    mind.bearers.lock().unwrap().push(bearer.trim_start_matches("Bearer ").to_owned());
    mind.requests.lock().unwrap().push(request.clone());
    let (status, body) = (mind.thinks)(&request);
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// The body of an answer with this message.
pub fn completion(message: &Value, finish_reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "message": message, "finish_reason": finish_reason }] })
}

/// What a server says of a tool.
pub fn defined(name: &str, schema: &Value) -> Value {
    json!({ "name": name, "description": "Does it.", "inputSchema": schema })
}

/// An assistant's message that asks for these calls of (tool, text).
pub fn asks_for(calls: &[(&str, String)]) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(place, (tool, text))| {
            let arguments = json!({ "text": text }).to_string();
            json!({ "id": format!("c{place}"), "type": "function",
                    "function": { "name": tool, "arguments": arguments } })
        })
        .collect();
    json!({ "role": "assistant", "content": null, "tool_calls": calls })
}

pub fn answers(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}
