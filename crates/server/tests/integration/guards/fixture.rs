//! A furnished tenant: one real row of everything, a second tenant beside it, and sample servers outside.
//!
//! Everything that a person would call content carries the word `marker`, so that it can be looked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use thinkwork::threads::{MessageRole, NewReply, NextTurn, TurnEnd, TurnStatus};
use thinkwork_primitives::{Marks, ThreadId};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::{Client, TestApp, approval};
use crate::oauth::Issuer;

/// Everything that lives in the private Space carries this word.
pub const PRIVATE_WORD: &str = "secluded";
/// The key of the tenant's tool server: with characters that JSON, HTML and URLs write otherwise.
pub const TENANT_KEY: &str = "canary-tenant/key+is&so<secret>0123456789";
/// The secret of the client that was registered by hand.
pub const CLIENT_SECRET: &str = "canary-client-secret-0123456789abcdef";
/// The key of the model.
pub const MODEL_KEY: &str = "canary-model-key-0123456789abcdef";

/// The tenant `acme` with its people, their things, and another tenant.
pub struct Fixture {
    pub app: TestApp,
    pub owner: Client,
    /// A member whose things stand in [`Fixture::ids`].
    pub ana: Client,
    /// A member without anything.
    pub carl: Client,
    /// The owner of another tenant, with a Space of theirs.
    pub other: Client,
    pub other_space: String,
    pub issuer: Issuer,
    pub tools: ToolServer,
    /// What a path's parameter stands for -> the id of a real row.
    pub ids: BTreeMap<&'static str, String>,
    /// What was shown once: kind -> text.
    pub shown: BTreeMap<&'static str, String>,
}

impl Fixture {
    pub async fn new() -> Self {
        let app = TestApp::new().await;
        let issuer = Issuer::start().await;
        issuer.set(|ways| {
            ways.auth_methods = vec!["client_secret_post"];
            ways.secret = Some(CLIENT_SECRET);
        });
        let owner = app.owner().await;
        let ana = app.member("ana").await;
        let carl = app.member("carl").await;
        let (other, other_space) = other_tenant(&app).await;
        let tools = ToolServer::start().await;
        let ids = BTreeMap::new();
        let shown = BTreeMap::new();
        let mut fixture = Self { app, owner, ana, carl, other, other_space, issuer, tools, ids, shown };
        fixture.people_and_spaces().await;
        fixture.servers().await;
        fixture.webhook().await;
        fixture.private_message().await;
        fixture.thread().await;
        fixture
    }

    /// The id that was kept under this name.
    pub fn id(&self, name: &str) -> &str {
        self.ids.get(name).unwrap_or_else(|| panic!("the fixture has no {name}: make one in guards/fixture.rs"))
    }

    async fn people_and_spaces(&mut self) {
        let invited = json!({ "email": "marker-ben@acme.test", "name": "Marker Ben", "role": "member" });
        let invited = self.owner.post("/v1/users", invited).await.expect(201);
        self.shown.insert("invitation", after(&invited.text_of("invite_url"), "code="));
        self.ids.insert("users", invited.text_of("id"));
        self.ids.insert("people", invited.text_of("id"));
        let space = json!({ "slug": "secluded", "name": "Marker secluded room", "access": "private", "prompt": "Marker secluded prompt" });
        let space = self.owner.post("/v1/spaces", space).await.expect(201).text_of("id");
        let member = format!("/v1/spaces/{space}/members/{}", self.ana.user.unwrap());
        self.owner.put(&member, json!({})).await.expect(200);
        self.ids.insert("spaces", space);
        let open = json!({ "slug": "open", "name": "Marker hall", "access": "public" });
        self.ids.insert("open-space", self.owner.post("/v1/spaces", open).await.expect(201).text_of("id"));
        let token = json!({ "name": "marker token", "kind": "personal", "audience": "api", "scopes": ["write"] });
        let token = self.ana.post("/v1/tokens", token).await.expect(201);
        self.ids.insert("tokens", token.text_of("id"));
        self.shown.insert("token", token.text_of("token"));
        let sessions = self.ana.get("/v1/me/sessions").await.expect(200);
        self.ids.insert("sessions", sessions.json["items"][0]["id"].as_str().unwrap().to_owned());
    }

    async fn servers(&mut self) {
        let auth = json!({ "mode": "tenant_key", "secret": TENANT_KEY });
        let server = json!({ "name": "Marker tools", "slug": "tools", "url": self.tools.url, "auth": auth });
        let server = self.register_and_approve(server).await;
        self.ids.insert("mcp-servers", server);
        let auth = json!({ "mode": "user_oauth", "client_id": "by-hand", "client_secret": CLIENT_SECRET });
        let server = json!({ "name": "Marker notes", "slug": "notes", "url": self.issuer.resource(), "auth": auth });
        let server = self.register_and_approve(server).await;
        self.connect(&self.ana, &server).await;
        let connections = self.ana.get("/v1/me/connections").await.expect(200);
        self.ids.insert("connections", connections.json["items"][0]["id"].as_str().unwrap().to_owned());
        self.ids.insert("me/mcp-servers", server);
    }

    async fn register_and_approve(&self, body: Value) -> String {
        let made = self.owner.post("/v1/mcp-servers", body).await.expect(201);
        let id = made.text_of("id");
        self.approve(&id).await;
        let path = format!("/v1/spaces/{}/mcp-servers/{id}", self.id("spaces"));
        self.owner.put(&path, json!({})).await.expect(200);
        id
    }

    /// Approves a server as it is now; its tools only read.
    pub async fn approve(&self, id: &str) {
        let path = format!("/v1/mcp-servers/{id}");
        let shown = self.owner.get(&path).await.expect(200);
        let names = shown.json["tools"].as_array().into_iter().flatten().map(|tool| tool["name"].as_str().unwrap());
        let effects: Value = names.map(|name| (name.to_owned(), json!({ "effect": "read" }))).collect();
        let effects = if effects.is_null() { json!({}) } else { effects };
        let body = approval(&shown.json, &effects);
        self.owner.post(&format!("{path}/approve"), body).await.expect(200);
    }

    /// A person connects a server in their browser, from the button to the page they come back to.
    pub async fn connect(&self, person: &Client, server: &str) {
        let path = format!("/v1/me/mcp-servers/{server}/connect");
        let started = person.post(&path, json!({})).await.expect(200);
        let cookie = started.header("set-cookie").split(';').next().unwrap().to_owned();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let consented = http.get(started.text_of("authorize_url")).send().await.unwrap();
        let back = url::Url::parse(consented.headers()["location"].to_str().unwrap()).unwrap();
        let back = format!("{}?{}", back.path(), back.query().unwrap());
        let finished = person.send(person.request("GET", &back).header("cookie", cookie)).await;
        assert!(finished.header("location").contains("status=connected"), "{} {}", finished.status, finished.text);
    }

    async fn webhook(&mut self) {
        let body = json!({
            "name": "Marker hook", "space_id": self.id("open-space"), "verification": { "scheme": "standard_webhooks" },
            "prompt": "Marker hook prompt",
        });
        let made = self.owner.post("/v1/webhooks", body).await.expect(201);
        self.ids.insert("webhooks", made.text_of("id"));
        self.shown.insert("webhook", made.text_of("secret"));
        let sample = format!("/v1/webhooks/{}/test", self.id("webhooks"));
        let delivery = self.owner.post(&sample, json!({})).await.expect(200).text_of("id");
        self.ids.insert("deliveries", delivery);
        self.app.run_pending_jobs().await;
    }

    /// Ana's thread; its turn waits, since nobody works.
    async fn thread(&mut self) {
        let body =
            json!({ "space_id": self.id("spaces"), "title": "Marker secluded title", "text": "Marker secluded text" });
        let thread = self.ana.post("/v1/threads", body).await.expect(201).text_of("id");
        let turns = self.ana.get(&format!("/v1/threads/{thread}/turns")).await.expect(200);
        self.ids.insert("turns", turns.json["items"][0]["id"].as_str().unwrap().to_owned());
        self.ids.insert("threads", thread);
    }

    /// A message in another thread of hers, of a turn that read something with her account.
    async fn private_message(&mut self) {
        let body = json!({ "space_id": self.id("spaces"), "title": "Marker secluded notes", "text": "Marker secluded question" });
        let thread = self.ana.post("/v1/threads", body).await.expect(201).text_of("id");
        let id: ThreadId = thread.parse().unwrap();
        let marks = Marks { private: true, untrusted: true, private_to: self.ana.user };
        let answer = NewReply { role: MessageRole::Agent, text: "Marker secluded answer".to_owned(), marks };
        let threads = &self.app.slices().threads;
        let mut tx = self.app.slices().db.write(self.app.tenant).await.unwrap();
        let mut queues = threads.turn_queues(&mut tx, &[id]).await.unwrap();
        let NextTurn::Begin { turn, .. } = queues.next(id) else { panic!("its turn is not queued") };
        let turn = queues.start(turn).unwrap();
        let end = TurnEnd { status: TurnStatus::Succeeded, failure: None, messages: vec![answer] };
        queues.end(&mut tx, turn, end).unwrap();
        queues.save(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        self.app.run_pending_jobs().await;
        let messages = self.ana.get(&format!("/v1/threads/{thread}/messages")).await.expect(200);
        self.ids.insert("messages", messages.json["items"][1]["id"].as_str().unwrap().to_owned());
    }

    /// A path with its parameters replaced by ids of real rows.
    pub fn fill(&self, template: &str) -> String {
        self.filled(template, |kind| self.id(kind).to_owned())
    }

    /// A path whose parameters are replaced by what `value` says for each kind.
    pub fn filled(&self, template: &str, value: impl Fn(&str) -> String) -> String {
        let mut before = "";
        let mut path = String::new();
        for segment in template.split('/').skip(1) {
            let kind = match segment {
                "{id}" if template.starts_with("/v1/me/mcp-servers/") => "me/mcp-servers",
                "{id}" if template.starts_with("/me/mcp-servers/") => "me/mcp-servers",
                "{id}" => before,
                "{user_id}" => "users",
                "{server_id}" => "mcp-servers",
                "{space_id}" => "spaces",
                "{webhook_id}" => "webhooks",
                _ => "",
            };
            path.push('/');
            path.push_str(&if kind.is_empty() { segment.to_owned() } else { value(kind) });
            before = segment;
        }
        path
    }
}

/// What follows `key` in a link.
pub fn after(link: &str, key: &str) -> String {
    let (_, rest) = link.split_once(key).unwrap();
    rest.split(['&', '#']).next().unwrap().to_owned()
}

async fn other_tenant(app: &TestApp) -> (Client, String) {
    let access = &app.slices().access;
    let made = access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap();
    let session = access.session_create(made.tenant, made.owner, "tests").await.unwrap();
    let mut other = app.anonymous();
    other.cookie = Some(format!("__Host-tw_session={}", session.cookie.expose_str().unwrap()));
    other.csrf = Some(session.csrf);
    other.user = Some(made.owner);
    let space = json!({ "slug": "theirs", "name": "Theirs", "access": "public" });
    let space = other.post("/v1/spaces", space).await.expect(201).text_of("id");
    (other, space)
}

/// An MCP server and a model that answer with whatever proof they were shown. Ends when dropped.
pub struct ToolServer {
    pub url: String,
    pub model_url: String,
    task: JoinHandle<()>,
}

impl ToolServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let routes = Router::new().route("/mcp", post(message)).route("/v1/chat/completions", post(completion));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url: format!("http://{address}/mcp"), model_url: format!("http://{address}/v1"), task }
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn proof(headers: &HeaderMap) -> String {
    headers.get("authorization").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

async fn message(headers: HeaderMap, axum::Json(asked): axum::Json<Value>) -> axum::Json<Value> {
    let result = match asked["method"].as_str().unwrap() {
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "tools", "version": "1" },
        }),
        "tools/list" => json!({ "tools": [{
            "name": "echo", "description": format!("Says {}", proof(&headers)), "inputSchema": { "type": "object" },
        }] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": format!("you sent {}", proof(&headers)) }] }),
        _ => json!({}),
    };
    axum::Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }))
}

async fn completion(headers: HeaderMap) -> axum::Json<Value> {
    axum::Json(json!({ "choices": [{ "message": { "content": format!("you sent {}", proof(&headers)) } }] }))
}
