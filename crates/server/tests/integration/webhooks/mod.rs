//! Webhooks through HTTP: a sender written here, an operator, the worker when the test says so.

mod accept;
mod apply;
mod bodies;
mod clock;
mod manage;
mod proxy;
mod refuse;
mod replay;
mod sweep;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use thinkwork_primitives::crypto;

use crate::harness::{Client, Response, TestApp};

/// A server with an operator, a Space and a webhook of one scheme in it.
struct Fixture {
    app: TestApp,
    operator: Client,
    space: String,
    webhook: String,
    secret: String,
}

impl Fixture {
    async fn new(scheme: &str) -> Self {
        Self::with(scheme, json!({})).await
    }

    /// The same, with more in the webhook.
    async fn with(scheme: &str, more: Value) -> Self {
        Self::over(TestApp::new().await, scheme, more).await
    }

    /// The same on a server that was made before.
    async fn over(app: TestApp, scheme: &str, more: Value) -> Self {
        let operator = app.operator().await;
        let space = json!({ "slug": "billing", "name": "Billing", "access": "public" });
        let space = operator.post("/v1/spaces", space).await.expect(201).text_of("id");
        let mut body = json!({ "name": "invoices", "space_id": space, "verification": { "scheme": scheme } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = operator.post("/v1/webhooks", body).await.expect(201);
        let webhook = made.text_of("id");
        let secret = made.text_of("secret");
        Self { app, operator, space, webhook, secret }
    }

    fn path(&self) -> String {
        format!("/hooks/{}", self.webhook)
    }

    /// A request to the webhook that proves nothing yet.
    fn request(&self, body: &str) -> RequestBuilder {
        let request = self.app.anonymous().request("POST", &self.path());
        request.header("content-type", "application/json").body(body.to_owned())
    }

    async fn bearer(&self, body: &str) -> Response {
        self.send(self.request(body).bearer_auth(&self.secret)).await
    }

    /// A request signed as a Standard Webhooks sender signs.
    fn signed(&self, secret: &str, id: &str, body: &str) -> RequestBuilder {
        let time = self.app.clock.now().seconds();
        self.request(body)
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", signature(secret, id, time, body))
    }

    async fn standard(&self, id: &str, body: &str) -> Response {
        self.send(self.signed(&self.secret, id, body)).await
    }

    async fn send(&self, request: RequestBuilder) -> Response {
        self.app.anonymous().send(request).await
    }

    /// Moves time to the begin of a minute, so that what follows lies in one.
    fn begin_minute(&self) {
        self.app.begin_window(60);
    }

    async fn delivery(&self, id: &str) -> Value {
        self.operator.get(&format!("/v1/deliveries/{id}")).await.expect(200).json
    }

    /// The deliveries of the webhook, newest first.
    async fn deliveries(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/webhooks/{}/deliveries{query}", self.webhook);
        self.operator.get(&path).await.expect(200).json["items"].as_array().unwrap().clone()
    }

    async fn threads(&self) -> Vec<Value> {
        let path = format!("/v1/threads?space={}", self.space);
        self.operator.get(&path).await.expect(200).json["items"].as_array().unwrap().clone()
    }

    async fn messages(&self, thread: &str) -> Vec<Value> {
        let path = format!("/v1/threads/{thread}/messages");
        let items = self.operator.get(&path).await.expect(200).json["items"].as_array().unwrap().clone();
        items.into_iter().filter(|message| message["role"] == "data").collect()
    }
}

pub fn signature(secret: &str, id: &str, time: i64, body: impl AsRef<[u8]>) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mac = crypto::hmac_sha256(&key, &[format!("{id}.{time}.").as_bytes(), body.as_ref()]);
    format!("v1,{}", STANDARD.encode(mac))
}
