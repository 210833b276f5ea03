//! Turns through HTTP: what they call, for whom, what a crash leaves, and what nobody may make them do.

mod announced;
mod consent;
mod crash;
mod large_answers;
mod model_failures;
mod model_tools;
mod names;
mod order;
mod outside;
mod people;
mod privacy;
mod retention;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Client, TestApp, approval};
use crate::oauth::Issuer;
use outside::Upstream;

/// A deployment with one public Space.
struct TurnFixture {
    app: TestApp,
    owner: Client,
    space: String,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

impl TurnFixture {
    async fn new() -> Self {
        Self::with_settings(&[]).await
    }

    async fn with_settings(settings: &[(&'static str, &str)]) -> Self {
        let app = TestApp::with_settings(settings).await;
        let owner = app.owner().await;
        let space = crate::spaces::space(&owner, "work", "public").await;
        Self { app, owner, space }
    }

    async fn agent(&self, model: &outside::Model) {
        let agent = json!({ "model_base_url": model.url, "model": "any", "instructions": "Be brief." });
        self.owner.put("/v1/agent", agent).await.expect(200);
    }

    /// Registers a server and lets it serve the Space with this policy; tools named `send…` have that effect, all
    /// others only read.
    async fn server(&self, upstream: &Upstream, slug: &str, auth: Value, policy: Value) -> String {
        let body = json!({ "name": slug, "slug": slug, "url": upstream.url(), "auth": auth });
        let id = self.owner.post("/v1/mcp-servers", body).await.expect(201).text_of("id");
        let personal = auth["mode"] == "user_oauth";
        if personal {
            self.decide(&id).await;
            self.connect(&self.owner, &id, upstream).await;
        }
        self.owner.post(&format!("/v1/mcp-servers/{id}/tools/refresh"), json!({})).await.expect(200);
        self.decide(&id).await;
        self.owner.put(&format!("/v1/spaces/{}/mcp-servers/{id}", self.space), policy).await.expect(200);
        id
    }

    async fn decide(&self, server: &str) {
        let path = format!("/v1/mcp-servers/{server}");
        let shown = self.owner.get(&path).await.expect(200).json;
        let mut effects = json!({});
        for tool in shown["tools"].as_array().unwrap() {
            let name = text(tool, "name");
            let effect = if name.starts_with("send") { "send" } else { "read" };
            effects[name] = json!({ "effect": effect });
        }
        let body = approval(&shown, &effects);
        self.owner.post(&format!("{path}/approve"), body).await.expect(200);
    }

    /// Goes through consent at the issuer as this person; the access token that was made for it.
    async fn connect(&self, who: &Client, server: &str, upstream: &Upstream) -> String {
        let issuer = upstream.issuer();
        let live = || -> BTreeSet<String> { issuer.look(|seen| seen.live_access.iter().cloned().collect()) };
        let before = live();
        let started = who.post(&format!("/v1/me/mcp-servers/{server}/connect"), json!({})).await.expect(200);
        let outside = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let back = outside.build().unwrap().get(started.text_of("authorize_url")).send().await.unwrap();
        let location = back.headers()["location"].to_str().unwrap().to_owned();
        let flow = started.header("set-cookie").split(';').next().unwrap().to_owned();
        let mut browser = who.clone();
        browser.cookie = Some(format!("{}; {flow}", who.cookie.as_deref().unwrap()));
        let returned = browser.get(location.strip_prefix(&self.app.url("")).unwrap()).await;
        assert!(returned.header("location").contains("status=connected"), "{}", returned.header("location"));
        live().difference(&before).next().expect("one consent makes one token").clone()
    }

    /// A thread with this text, not yet worked on.
    async fn thread(&self, who: &Client, text: &str) -> String {
        let body = json!({ "space_id": self.space, "text": text });
        who.post("/v1/threads", body).await.expect(201).text_of("id")
    }

    /// The same, worked on; its only turn.
    async fn turn(&self, who: &Client, text: &str) -> Value {
        let thread = self.thread(who, text).await;
        self.app.run_pending_jobs().await;
        let turns = self.turns(who, &thread).await;
        assert_eq!(turns.len(), 1, "{turns:?}");
        turns[0].clone()
    }

    async fn turns(&self, who: &Client, thread: &str) -> Vec<Value> {
        let answer = who.get(&format!("/v1/threads/{thread}/turns?limit=200")).await.expect(200);
        answer.json["items"].as_array().unwrap().clone()
    }

    async fn messages(&self, who: &Client, thread: &str) -> Vec<Value> {
        let answer = who.get(&format!("/v1/threads/{thread}/messages?limit=200")).await.expect(200);
        answer.json["items"].as_array().unwrap().clone()
    }
}

/// An issuer whose tokens another server takes.
async fn issuer() -> Issuer {
    let issuer = Issuer::start().await;
    issuer.set(|ways| ways.resource_needed = false);
    issuer
}

/// A key of the tenant: what is read with it is private.
fn tenant_key() -> Value {
    json!({ "mode": "tenant_key", "secret": "tenant-key-of-sixteen-and-more" })
}

fn words<'a>(all: &'a [Value], name: &str) -> Vec<&'a str> {
    all.iter().map(|one| one[name].as_str().unwrap_or("")).collect()
}
