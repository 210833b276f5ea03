//! What an operator approved or entered, changed in the database behind their back: nothing is sent to the new place.

use serde_json::{Value, json};

use super::Tampering;
use crate::harness::{Client, TestApp};
use crate::mcp::{McpFixture, Upstream, decide, said};

/// A server with the tenant's key, in use.
async fn with_key(fixture: &McpFixture, upstream: &Upstream, slug: &str) -> String {
    let auth =
        json!({ "mode": "tenant_key", "header": format!("x-{slug}"), "secret": format!("key-of-{slug}-and-no-other") });
    let server = crate::mcp::register(&fixture.owner, upstream, slug, auth).await;
    let id = crate::mcp::text(&server, "id");
    decide(&fixture.owner, &id).await;
    fixture.serve(&id, json!({})).await;
    id
}

async fn is_done(fixture: &McpFixture, agent: &Client, slug: &str) -> bool {
    let answer = fixture.call(agent, &format!("{slug}__echo")).await;
    answer.json["result"]["content"][0]["text"] == "done"
}

async fn shown(fixture: &McpFixture, server: &str) -> Value {
    fixture.owner.get(&format!("/v1/mcp-servers/{server}")).await.expect(200).json
}

#[tokio::test]
async fn l112_a_server_that_was_altered_after_approval_waits_for_an_operator() {
    let fixture = McpFixture::new().await;
    let elsewhere = Upstream::start(&fixture.issuer).await;
    let server = with_key(&fixture, &fixture.upstream, "notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let database = Tampering::at(&fixture.app.slices().config.database_url).await;
    database.run(&format!("UPDATE mcp_server SET url = '{}'", elsewhere.url())).await;
    let before = fixture.upstream.seen().len();
    let seen = shown(&fixture, &server).await;
    assert_eq!(seen["status"], "pending");
    assert!(seen["reason"].as_str().unwrap().contains("it was not changed in ThinkWork"), "{seen}");
    assert!(!is_done(&fixture, &agent, "notes").await);
    assert!(fixture.actions().await.contains(&"mcp_server.altered".to_owned()));
    assert_eq!((elsewhere.seen().len(), fixture.upstream.seen().len()), (0, before), "nothing was sent");
    // Whoever knows how the hash is made approves it in the database; the key was entered for another address.
    let hash = crate::mcp::text(&shown(&fixture, &server).await, "definition_hash");
    database.run(&format!("UPDATE mcp_server SET status = 'approved', approved_hash = '{hash}'")).await;
    assert_eq!(shown(&fixture, &server).await["status"], "approved");
    assert!(!is_done(&fixture, &agent, "notes").await);
    assert!(elsewhere.seen().is_empty(), "nothing was sent");
    database.run(&format!("UPDATE mcp_server SET url = '{}'", fixture.upstream.url())).await;
    decide(&fixture.owner, &server).await;
    assert!(is_done(&fixture, &agent, "notes").await);
}

#[tokio::test]
async fn l112_an_altered_address_gets_no_token() {
    let fixture = McpFixture::new().await;
    let elsewhere = Upstream::start(&fixture.issuer).await;
    let server = fixture.personal("notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let database = Tampering::at(&fixture.app.slices().config.database_url).await;
    database.run(&format!("UPDATE mcp_server SET url = '{}'", elsewhere.url())).await;
    let hash = crate::mcp::text(&shown(&fixture, &server).await, "definition_hash");
    database.run(&format!("UPDATE mcp_server SET approved_hash = '{hash}'")).await;
    assert!(!is_done(&fixture, &agent, "notes").await);
    // And where the registration says the same, too.
    database.run(&format!("UPDATE oauth_client SET audience = '{}'", elsewhere.url())).await;
    assert!(!is_done(&fixture, &agent, "notes").await);
    assert!(elsewhere.seen().iter().all(|request| request.bearer().is_none()), "{:?}", elsewhere.seen());
}

/// Columns of a server that decide where its key goes, or what was approved.
const DECISIVE: [&str; 4] = ["id", "url", "auth", "credential_id"];

#[tokio::test]
async fn l112_no_column_swapped_between_two_servers_sends_a_key_elsewhere() {
    let fixture = McpFixture::new().await;
    let other = Upstream::start(&fixture.issuer).await;
    let servers = [with_key(&fixture, &fixture.upstream, "one").await, with_key(&fixture, &other, "two").await];
    let agent = fixture.agent(&fixture.owner).await;
    let database = Tampering::at(&fixture.app.slices().config.database_url).await;
    database.drop_unique_indexes("mcp_server").await;
    let rows = [&servers[0], &servers[1]].map(|id| id.parse::<thinkwork_primitives::McpServerId>().unwrap().uuid());
    let mut swapped = Vec::new();
    for column in database.columns("mcp_server").await {
        assert!(is_done(&fixture, &agent, "one").await && is_done(&fixture, &agent, "two").await, "before {column}");
        if !database.swap("mcp_server", &column, rows).await {
            continue;
        }
        let before = (fixture.upstream.calls().len(), other.calls().len());
        let done = (is_done(&fixture, &agent, "one").await, is_done(&fixture, &agent, "two").await);
        if DECISIVE.contains(&column.as_str()) {
            assert_eq!(done, (false, false), "{column}");
            assert_eq!((fixture.upstream.calls().len(), other.calls().len()), before, "{column}: something was sent");
        }
        database.swap("mcp_server", &column, rows).await;
        for server in &servers {
            decide(&fixture.owner, server).await;
        }
        swapped.push(column);
    }
    assert!(DECISIVE.iter().all(|column| swapped.iter().any(|swapped| swapped == column)), "{swapped:?}");
    for (upstream, own, foreign) in [(&fixture.upstream, "one", "two"), (&other, "two", "one")] {
        for request in upstream.seen() {
            let text = format!("{:?}{}", request.headers, request.body);
            assert!(!text.contains(&format!("key-of-{foreign}")), "{own} was sent the key of {foreign}: {text}");
        }
    }
}

#[tokio::test]
async fn l112_no_column_swapped_between_two_webhooks_takes_a_request() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let mut webhooks = Vec::new();
    for (slug, scheme) in [("one", "bearer"), ("two", "standard_webhooks")] {
        let space = crate::spaces::space(&owner, slug, "public").await;
        let body = json!({ "name": slug, "space_id": space, "verification": { "scheme": scheme } });
        let made = owner.post("/v1/webhooks", body).await.expect(201);
        webhooks.push((made.text_of("id"), made.text_of("secret")));
    }
    let database = Tampering::at(&app.slices().config.database_url).await;
    let rows = [0, 1].map(|at: usize| webhooks[at].0.parse::<thinkwork_primitives::WebhookId>().unwrap().uuid());
    // Whoever asks proves themselves in both ways, with the secret that was given to them.
    let mut number = 0;
    let mut knock = async |(id, secret): &(String, String)| {
        number += 1;
        let number = number.to_string();
        owner.patch(&format!("/v1/webhooks/{id}"), json!({ "prompt": number })).await;
        let request = app.anonymous().request("POST", &format!("/hooks/{id}"));
        let mut request = request.header("content-type", "application/json").body("{}").bearer_auth(secret);
        if secret.starts_with("whsec_") {
            let time = app.clock.now().seconds();
            let signature = crate::webhooks::signature(secret, &number, time, "{}");
            request = request.header("webhook-id", &number).header("webhook-timestamp", time);
            request = request.header("webhook-signature", signature);
        }
        app.anonymous().send(request).await.status
    };
    let mut swapped = Vec::new();
    for column in database.columns("webhook").await {
        assert_eq!((knock(&webhooks[0]).await, knock(&webhooks[1]).await), (202, 202), "before {column}");
        if !database.swap("webhook", &column, rows).await {
            continue;
        }
        let status = (knock(&webhooks[0]).await, knock(&webhooks[1]).await);
        if ["id", "space_id", "verification", "credential_id"].contains(&column.as_str()) {
            assert!(status.0 >= 400 && status.1 >= 400, "{column}: {status:?}");
            swapped.push(column.clone());
        }
        database.swap("webhook", &column, rows).await;
    }
    assert!(swapped.len() >= 3, "{swapped:?}");
}

#[tokio::test]
async fn l112_a_models_key_goes_to_no_altered_address() {
    let fixture = McpFixture::new().await;
    let addresses = ["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"];
    let agent = json!({ "model_base_url": addresses[0], "model": "any", "instructions": "", "api_key": "the-key-of-the-model" });
    fixture.owner.put("/v1/agent", agent).await.expect(200);
    let opened = async || {
        let thread = json!({ "space_id": fixture.space, "text": "hello" });
        fixture.owner.post("/v1/threads", thread).await.expect(201);
        let before = fixture.actions().await.into_iter().filter(|action| action == "credential.opened").count();
        fixture.app.run_pending_jobs().await;
        fixture.actions().await.into_iter().filter(|action| action == "credential.opened").count() > before
    };
    assert!(opened().await);
    let database = Tampering::at(&fixture.app.slices().config.database_url).await;
    database.run(&format!("UPDATE agent SET model_base_url = '{}'", addresses[1])).await;
    assert!(!opened().await);
}
