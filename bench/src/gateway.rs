//! What a tool call through the gateway costs more than the same call at the server itself.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time;

use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::process::Process;
use crate::{Failure, figure, median};

const ROUNDS: usize = 20;
const CALLS: usize = 50;
/// Connections that call side by side, each once in so long.
const MANY: u32 = 32;
const PACE: Duration = Duration::from_millis(100);
const MANY_CALLS: usize = 60;
const WARM_UP: usize = 100;
/// Servers of the Space with many, thirty tools each.
const FULL_SERVERS: usize = 10;
/// Servers of the large Space, forty tools each.
const LARGE_SERVERS: usize = 50;
/// What a small transaction appends to SQLite's log: two pages.
const SYNCED_BYTES: usize = 8_192;

/// Calls through the gateway against calls of the echo server, in turns over one connection each, and a sync of the
/// same disk between them: the audit event is committed before the call. Beside it the same call in a Space of many
/// servers, which is only reported.
pub(crate) async fn overhead(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    let server = Deployment::make(binary, folder, engine, "gateway").await?.serve("web,worker").await?;
    let (_echo, echo_base) = Process::peer("echo")?;
    let direct = Caller::new(format!("{echo_base}/mcp"), None, "echo")?;
    let token = token(&server).await?;
    let one = server.space("one").await?;
    serve_space(&server, &one, "echo", &direct.url).await?;
    let through = Caller::new(format!("{}/mcp/spaces/{one}", server.base), Some(token.clone()), "echo__echo")?;
    let full = server.space("full").await?;
    for number in 0..FULL_SERVERS {
        serve_space(&server, &full, &format!("many-{number}"), &format!("{echo_base}/many")).await?;
    }
    let full = Caller::new(format!("{}/mcp/spaces/{full}", server.base), Some(token), "many-0__echo")?;
    figure("effective_tools_ms", effective_tools(&server, &echo_base).await?);
    let mut synced = File::create(folder.join("synced"))?;
    for caller in [&direct, &through, &full] {
        caller.calls(WARM_UP).await?;
    }
    let mut directs = Vec::new();
    let mut throughs = Vec::new();
    let mut fulls = Vec::new();
    let mut syncs = Vec::new();
    for _ in 0..ROUNDS {
        directs.extend(direct.calls(CALLS).await?);
        throughs.extend(through.calls(CALLS).await?);
        fulls.extend(full.calls(CALLS).await?);
        for _ in 0..CALLS {
            let began = Instant::now();
            synced.write_all(&[b'x'; SYNCED_BYTES])?;
            synced.sync_data()?;
            syncs.push(milliseconds(began));
        }
    }
    let direct_many = side_by_side(&direct).await?;
    let through_many = side_by_side(&through).await?;
    figure("gateway_many_added_p99_ms", p99(through_many.clone())? - p99(direct_many)?);
    figure("gateway_many_call_p99_ms", p99(through_many)?);
    let direct = median(directs)?;
    let through = median(throughs)?;
    let sync = median(syncs)?;
    figure("gateway_added_beside_a_sync_ms", through - direct - sync);
    figure("gateway_call_ms", through);
    figure("gateway_full_space_call_ms", median(fulls)?);
    figure("direct_call_ms", direct);
    figure("sync_ms", sync);
    server.process.stop()
}

/// What a member's look at all tools of a large Space takes: the assembly of a turn, and its answer as JSON.
async fn effective_tools(server: &Server, echo_base: &str) -> Result<f64, Failure> {
    let space = server.space("large").await?;
    for number in 0..LARGE_SERVERS {
        serve_space(server, &space, &format!("large-{number}"), &format!("{echo_base}/large")).await?;
    }
    let me = server.ask(Method::GET, "/v1/me", Value::Null).await?;
    let user = text(me.get("user").unwrap_or(&Value::Null), "id")?;
    let path = format!("/v1/spaces/{space}/effective-tools?user={user}");
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        server.read(&path).await?;
        took.push(milliseconds(began));
    }
    median(took)
}

/// How long each call takes when many connections call at a steady pace: an agent's tool calls come one after another,
/// with the model's time between them.
async fn side_by_side(caller: &Caller) -> Result<Vec<f64>, Failure> {
    let mut connections = JoinSet::new();
    for number in 0..MANY {
        let caller = caller.another()?;
        connections.spawn(async move {
            let mut ticks = time::interval_at(time::Instant::now() + PACE * number / MANY, PACE);
            let mut took = Vec::with_capacity(MANY_CALLS);
            caller.calls(1).await?;
            for _ in 0..MANY_CALLS {
                ticks.tick().await;
                took.extend(caller.calls(1).await?);
            }
            Ok::<_, Failure>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = connections.join_next().await {
        all.extend(took??);
    }
    Ok(all)
}

/// Registers and approves the server for the Space, with `echo` as a tool that reads.
async fn serve_space(server: &Server, space: &str, slug: &str, upstream: &str) -> Result<(), Failure> {
    let body = json!({ "name": slug, "slug": slug, "url": upstream, "auth": { "mode": "none" } });
    let id = text(&server.ask(Method::POST, "/v1/mcp-servers", body).await?, "id")?;
    let path = format!("/v1/mcp-servers/{id}");
    let shown = server.ask(Method::GET, &path, Value::Null).await?;
    let mut tools = Map::new();
    for tool in shown.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let decision =
            json!({ "definition_hash": text(tool, "definition_hash")?, "effect": "read", "idempotent": true });
        tools.insert(text(tool, "name")?, decision);
    }
    let body = json!({ "definition_hash": text(&shown, "definition_hash")?, "tools": tools });
    server.ask(Method::POST, &format!("{path}/approve"), body).await?;
    server.ask(Method::PUT, &format!("/v1/spaces/{space}/mcp-servers/{id}"), json!({})).await?;
    Ok(())
}

/// A token of the owner for the gateway.
async fn token(server: &Server) -> Result<String, Failure> {
    let body = json!({ "name": "bench", "kind": "personal", "audience": "mcp", "scopes": ["write"] });
    text(&server.ask(Method::POST, "/v1/tokens", body).await?, "token")
}

/// A client with one connection.
struct Caller {
    client: Client,
    url: String,
    token: Option<String>,
    body: String,
}

impl Caller {
    fn new(url: String, token: Option<String>, tool: &str) -> Result<Self, Failure> {
        let body = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": { "name": tool, "arguments": { "text": "hello" } },
        });
        let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { client, url, token, body: body.to_string() })
    }

    /// The same calls over a connection of their own.
    fn another(&self) -> Result<Self, Failure> {
        let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { client, url: self.url.clone(), token: self.token.clone(), body: self.body.clone() })
    }

    /// How many milliseconds each of so many calls took.
    async fn calls(&self, count: usize) -> Result<Vec<f64>, Failure> {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            self.call().await?;
            took.push(milliseconds(began));
        }
        Ok(took)
    }

    async fn call(&self) -> Result<(), Failure> {
        let request = self.client.post(&self.url).header("content-type", "application/json");
        let mut request = request
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .body(self.body.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        let echoed = serde_json::from_slice::<Value>(&bytes).ok();
        let echoed = echoed.as_ref().and_then(|answer| answer.pointer("/result/content/0/text")?.as_str());
        if status == StatusCode::OK && echoed == Some("hello") {
            return Ok(());
        }
        Err(format!("a call was answered {status}: {}", String::from_utf8_lossy(&bytes)).into())
    }
}

fn p99(mut values: Vec<f64>) -> Result<f64, Failure> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 99 / 100).copied().ok_or_else(|| "nothing was measured".into())
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}
