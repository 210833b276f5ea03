//! MCP servers through HTTP: a real upstream and a real issuer on loopback, people, tokens, the gateway and turns.

mod auth;
mod calls;
mod cancellation;
mod clients;
mod foreign;
mod gateway;
mod issuers;
mod offer;
mod owners;
mod provenance;
mod references;
mod registry;
mod upstream;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Client, Response, TestApp, approval};
use crate::oauth::Issuer;

pub use upstream::{Guarded, Upstream, tool};

/// A deployment with one public Space, an upstream and its issuer.
pub struct McpFixture {
    pub app: TestApp,
    pub issuer: Issuer,
    pub upstream: Upstream,
    pub owner: Client,
    pub space: String,
}

impl McpFixture {
    pub async fn new() -> Self {
        Self::over(TestApp::new().await).await
    }

    pub async fn over(app: TestApp) -> Self {
        let issuer = Issuer::start().await;
        // The upstream is the resource here, not the issuer's own.
        issuer.set(|ways| ways.resource_needed = false);
        let upstream = Upstream::start(&issuer).await;
        let owner = app.owner().await;
        let space = crate::spaces::space(&owner, "work", "public").await;
        Self { app, issuer, upstream, owner, space }
    }

    /// Registers the upstream; as the API shows it.
    pub async fn register(&self, slug: &str, auth: Value) -> Value {
        register(&self.owner, &self.upstream, slug, auth).await
    }

    /// Registers, approves with every tool as `read`, and lets it serve the Space; its id.
    pub async fn usable(&self, slug: &str, auth: Value) -> String {
        let id = text(&self.register(slug, auth).await, "id");
        decide(&self.owner, &id).await;
        self.serve(&id, json!({})).await;
        id
    }

    /// A server with each person's own grant, in use: the owner is connected and has decided all effects.
    pub async fn personal(&self, slug: &str) -> String {
        let id = self.usable(slug, json!({ "mode": "user_oauth" })).await;
        self.connect(&self.owner, &id).await;
        refresh_and_decide(&self.owner, &id).await;
        id
    }

    pub async fn serve(&self, server: &str, policy: Value) {
        self.owner.put(&format!("/v1/spaces/{}/mcp-servers/{server}", self.space), policy).await.expect(200);
    }

    /// Goes through consent at the issuer as this person; the access token that was made for it.
    pub async fn connect(&self, who: &Client, server: &str) -> String {
        let before: BTreeSet<String> = self.issuer.look(|seen| seen.live_access.iter().cloned().collect());
        let started = who.post(&format!("/v1/me/mcp-servers/{server}/connect"), json!({})).await.expect(200);
        let returned = self.finish(who, &started).await;
        assert!(returned.header("location").contains("status=connected"), "{}", returned.header("location"));
        let after: BTreeSet<String> = self.issuer.look(|seen| seen.live_access.iter().cloned().collect());
        let fresh: Vec<&String> = after.difference(&before).collect();
        assert_eq!(fresh.len(), 1, "one consent makes one token");
        fresh[0].clone()
    }

    /// Consent at the issuer and the way back, in the browser that started.
    pub async fn finish(&self, who: &Client, started: &Response) -> Response {
        let to = started.text_of("authorize_url");
        let outside = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let back = outside.build().unwrap().get(to).send().await.unwrap();
        let location = back.headers()["location"].to_str().unwrap().to_owned();
        let flow = started.header("set-cookie").split(';').next().unwrap().to_owned();
        let mut browser = who.clone();
        browser.cookie = Some(format!("{}; {flow}", who.cookie.as_deref().unwrap()));
        browser.get(location.strip_prefix(&self.app.url("")).unwrap()).await
    }

    /// A bearer for the gateway that acts as this person.
    pub async fn agent(&self, who: &Client) -> Client {
        self.app.bearer(&gateway_token(who, "personal").await)
    }

    pub fn gateway(&self) -> String {
        format!("/mcp/spaces/{}", self.space)
    }

    /// The names that the gateway lists.
    pub async fn listed(&self, agent: &Client) -> Vec<String> {
        names(&rpc(agent, &self.gateway(), "tools/list", json!({})).await)
    }

    /// A call through the gateway.
    pub async fn call(&self, agent: &Client, name: &str) -> Response {
        call(agent, &self.gateway(), name, json!({})).await
    }

    /// A thread with this text and its first turn, as it ended.
    pub async fn turn(&self, who: &Client, text: &str) -> Value {
        let thread = who.post("/v1/threads", json!({ "space_id": self.space, "text": text })).await.expect(201);
        self.app.run_pending_jobs().await;
        let turns = who.get(&format!("/v1/threads/{}/turns", thread.text_of("id"))).await.expect(200);
        turns.json["items"][0].clone()
    }

    /// The text of the last message of a turn's thread.
    pub async fn last_message(&self, who: &Client, turn: &Value) -> String {
        let path = format!("/v1/threads/{}/messages", text(turn, "thread_id"));
        let messages = who.get(&path).await.expect(200);
        text(messages.json["items"].as_array().unwrap().last().unwrap(), "text")
    }

    /// What the turn says of a server that it left out.
    pub fn reason_of(turn: &Value, slug: &str) -> String {
        let left_out = turn["tools_left_out"].as_array().unwrap();
        let found = left_out.iter().find(|left_out| left_out["server"] == slug);
        found.map(|found| text(found, "reason")).unwrap_or_else(|| panic!("{slug} is not in {left_out:?}"))
    }

    pub async fn actions(&self) -> Vec<String> {
        let mut tx = self.app.slices().db.read(self.app.tenant).await.unwrap();
        let page = self.app.slices().audit.list(&mut tx, &Default::default(), 200, None).await.unwrap();
        page.events.into_iter().map(|event| event.action).collect()
    }
}

/// The names of the tools that a turn was offered.
pub fn offered(turn: &Value) -> Vec<&str> {
    turn["tools_offered"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

pub async fn register(operator: &Client, upstream: &Upstream, slug: &str, auth: Value) -> Value {
    let body =
        json!({ "name": slug, "slug": slug, "url": upstream.url(), "transport": "streamable_http", "auth": auth });
    operator.post("/v1/mcp-servers", body).await.expect(201).json
}

/// Approves the server as it is, with every known tool as `read`.
pub async fn decide(operator: &Client, server: &str) -> Response {
    let path = format!("/v1/mcp-servers/{server}");
    let shown = operator.get(&path).await.expect(200).json;
    let mut effects = json!({});
    for tool in shown["tools"].as_array().unwrap().iter().filter(|tool| tool["gone_at"].is_null()) {
        effects[text(tool, "name")] = json!({ "effect": "read" });
    }
    let body = approval(&shown, &effects);
    operator.post(&format!("{path}/approve"), body).await.expect(200)
}

pub async fn refresh_and_decide(operator: &Client, server: &str) {
    operator.post(&format!("/v1/mcp-servers/{server}/tools/refresh"), json!({})).await.expect(200);
    decide(operator, server).await;
}

pub async fn gateway_token(who: &Client, kind: &str) -> String {
    let body = json!({ "name": "agent", "kind": kind, "audience": "mcp", "scopes": ["write"] });
    who.post("/v1/tokens", body).await.expect(201).text_of("token")
}

/// One JSON-RPC request to the gateway, as a foreign client sends it.
pub async fn rpc(agent: &Client, path: &str, method: &str, params: Value) -> Response {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    agent.send(rpc_request(agent, path).body(body.to_string())).await
}

pub fn rpc_request(agent: &Client, path: &str) -> reqwest::RequestBuilder {
    agent
        .request("POST", path)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25")
}

pub async fn call(agent: &Client, path: &str, name: &str, arguments: Value) -> Response {
    rpc(agent, path, "tools/call", json!({ "name": name, "arguments": arguments })).await
}

pub fn names(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let tools = answer.json["result"]["tools"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    tools.iter().map(|tool| text(tool, "name")).collect()
}

/// The text of a tool's answer.
pub fn said(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    text(&answer.json["result"]["content"][0], "text")
}
