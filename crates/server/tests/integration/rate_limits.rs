//! How many requests a minute a caller may make: each token, each person, and each address of whoever proves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use thinkwork::edge::rate_limit::UNLIMITED;

use crate::guards::operations::described;
use crate::guards::walk::pages::routes;
use crate::harness::{Client, Response, TestApp};
use crate::mcp::gateway_token;

const MINUTE: Duration = Duration::from_secs(60);

async fn token(who: &Client) -> String {
    let body = json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["write"] });
    who.post("/v1/tokens", body).await.expect(201).text_of("token")
}

/// A refusal that says when to come again, in its headers too where a program reads it.
#[track_caller]
fn refused(answer: &Response, policy: &str, limit: u32) {
    assert_eq!((answer.status, answer.code()), (429, "too_many_requests"), "{}", answer.text);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("ratelimit-policy"), format!("\"{policy}\";q={limit};w=60"));
    assert_eq!(answer.header("ratelimit"), format!("\"{policy}\";r=0;t={seconds}"));
    let message = answer.json["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("Wait {seconds} seconds")), "{message}");
}

#[tokio::test]
async fn l65_a_tokens_limit_holds_across_processes_and_is_its_own() {
    let app = TestApp::with_settings(&[("token_rate_limit_per_minute", "40")]).await;
    let owner = app.owner().await;
    let busy = token(&owner).await;
    let here = app.bearer(&busy);
    let mut there = Client::at(app.second_at().await);
    there.bearer = Some(busy);
    let other = app.bearer(&token(&owner).await);
    let host = app.address.to_string();
    app.begin_window(60);
    let mut served = 0;
    for _ in 0..40 {
        let one = here.get("/v1/me").await;
        let two = there.send(there.request("GET", "/v1/me").header("host", &host)).await;
        for answer in [one, two] {
            match answer.status {
                200 => served += 1,
                _ => refused(&answer, "token", 40),
            }
        }
    }
    assert!((38..=40).contains(&served), "{served} of 40 in two processes");
    other.get("/v1/me").await.expect(200);
    owner.get("/v1/me").await.expect(200);
    app.clock.advance(MINUTE);
    here.get("/v1/me").await.expect(200);
}

#[tokio::test]
async fn l119_a_strangers_flood_leaves_people_tokens_and_webhooks_theirs() {
    let app = TestApp::with_settings(&[("address_rate_limit_per_minute", "30")]).await;
    let owner = app.owner().await;
    let known = app.bearer(&token(&owner).await);
    let space = crate::spaces::space(&owner, "work", "public").await;
    let hook = json!({ "name": "hook", "space_id": space, "verification": { "scheme": "bearer" } });
    let hook = owner.post("/v1/webhooks", hook).await.expect(201);
    let path = format!("/hooks/{}", hook.text_of("id"));
    app.begin_window(60);
    let wrong = app.bearer("twp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    for _ in 0..30 {
        wrong.get("/v1/me").await.expect(401);
    }
    refused(&wrong.get("/v1/me").await, "address", 30);
    refused(&app.anonymous().post("/v1/sessions", json!({})).await, "address", 30);
    refused(&wrong.post(&path, json!({})).await, "address", 30);
    refused(&wrong.post("/hooks/none", json!({})).await, "address", 30);
    let mut forged = app.anonymous();
    forged.cookie = Some("__Host-tw_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
    let page = forged.get("/me").await.expect(429);
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("Wait "), "{}", page.text);
    assert!(!page.header("retry-after").is_empty());
    // Whoever proves who they are is served, from that very address.
    owner.get("/me").await.expect(200);
    owner.get("/v1/me").await.expect(200);
    known.get("/v1/me").await.expect(200);
    let event = app.bearer(&hook.text_of("secret")).post(&path, json!({})).await.expect(202);
    assert_eq!(event.header("ratelimit-policy"), "\"webhook\";q=600;w=60");
    app.anonymous().get("/assets/app.css").await.expect(200);
    app.clock.advance(MINUTE);
    wrong.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn an_address_is_the_senders_behind_our_proxy_and_a_whole_network_of_ipv6() {
    let settings = [("address_rate_limit_per_minute", "5"), ("trusted_proxies", "127.0.0.1/32")];
    let app = TestApp::with_settings(&settings).await;
    app.begin_window(60);
    let from = async |address: &str| {
        let stranger = app.anonymous();
        stranger.send(stranger.request("GET", "/v1/me").header("x-forwarded-for", address)).await.status
    };
    for number in 0..5 {
        assert_eq!(from(&format!("2001:db8::{number}")).await, 401);
    }
    assert_eq!(from("2001:db8::ffff").await, 429);
    assert_eq!(from("2001:db8:0:1::1").await, 401);
    assert_eq!(from("203.0.113.7").await, 401);
}

#[tokio::test]
async fn a_persons_limit_is_said_on_a_page_and_is_theirs_alone() {
    let app = TestApp::with_settings(&[("person_rate_limit_per_minute", "20")]).await;
    let ana = app.member("ana").await;
    let again = app.session_of(ana.user.unwrap()).await;
    let ben = app.member("ben").await;
    app.begin_window(60);
    for _ in 0..10 {
        ana.get("/me").await.expect(200);
        again.get("/me").await.expect(200);
    }
    for answer in [ana.get("/me").await, ana.form("/me/account/tokens", &[("name", "x")]).await] {
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert!(answer.header("content-type").starts_with("text/html"), "{}", answer.text);
        assert!(answer.text.contains("which is the limit for one person"), "{}", answer.text);
        assert!(!answer.header("retry-after").is_empty());
    }
    refused(&again.get("/v1/me").await, "person", 20);
    ben.get("/me").await.expect(200);
}

#[tokio::test]
async fn the_gateway_refuses_as_json_rpc_and_says_what_is_left() {
    let app = TestApp::with_settings(&[("token_rate_limit_per_minute", "3")]).await;
    let owner = app.owner().await;
    let agent = app.bearer(&gateway_token(&owner, "personal").await);
    app.begin_window(60);
    let list = async || {
        let request = agent.request("POST", "/mcp").header("content-type", "application/json");
        let request = request.header("accept", "application/json, text/event-stream");
        let request = request.header("mcp-protocol-version", "2025-11-25");
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {} });
        agent.send(request.body(body.to_string())).await
    };
    for left in [2, 1, 0] {
        let answer = list().await.expect(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"token\";q=3;w=60");
        assert!(answer.header("ratelimit").starts_with(&format!("\"token\";r={left};t=")), "{:?}", answer.headers);
    }
    let answer = list().await.expect(429);
    let error = &answer.json["error"];
    assert_eq!((&answer.json["jsonrpc"], &answer.json["id"]), (&json!("2.0"), &Value::Null), "{}", answer.text);
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32_000), &json!("too_many_requests")));
    assert_eq!(error["data"]["request_id"], answer.header("x-request-id"));
    assert_eq!(error["data"]["retry_after_seconds"].to_string(), answer.header("retry-after"));
    assert!(error["message"].as_str().unwrap().contains("Wait "), "{}", answer.text);
}

#[tokio::test]
async fn l125_a_clock_set_back_gives_nobody_more() {
    let app = TestApp::with_settings(&[("address_rate_limit_per_minute", "5")]).await;
    app.begin_window(60);
    for _ in 0..3 {
        app.anonymous().get("/v1/me").await.expect(401);
    }
    app.clock.set_back(Duration::from_secs(3_600));
    for _ in 0..2 {
        app.anonymous().get("/v1/me").await.expect(401);
    }
    refused(&app.anonymous().get("/v1/me").await, "address", 5);
    app.clock.advance(MINUTE);
    app.anonymous().get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn counting_costs_a_write_for_many_requests() {
    let app = TestApp::with_settings(&[("token_rate_limit_per_minute", "1200")]).await;
    let known = app.bearer(&token(&app.owner().await).await);
    app.begin_window(60);
    known.get("/v1/me").await.expect(200);
    let before = app.work_so_far().writes;
    for _ in 0..120 {
        known.get("/v1/me").await.expect(200);
    }
    let writes = app.work_so_far().writes - before;
    assert!((1.0..=2.0).contains(&writes), "{writes} writes for 120 requests, where a share is 60");
}

#[tokio::test]
async fn without_a_database_a_process_counts_alone() {
    let app = TestApp::with_settings(&[("address_rate_limit_per_minute", "40")]).await;
    app.begin_window(60);
    for _ in 0..3 {
        app.anonymous().get("/sign-in").await.expect(200);
    }
    app.slices().db.close().await;
    for _ in 3..40 {
        app.anonymous().get("/sign-in").await.expect(200);
    }
    app.anonymous().get("/sign-in").await.expect(429);
}

/// Every route there is, with something where its path has a parameter.
async fn all_routes(app: &TestApp) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for operation in described(app).await {
        found.insert((operation.method, operation.path));
    }
    for route in routes() {
        found.extend(route.get.then(|| ("GET".to_owned(), route.path.clone())));
        found.extend(route.post.then(|| ("POST".to_owned(), route.path.clone())));
    }
    // What is no route, and a method that a route does not take.
    found.extend(
        [("GET", "/nowhere"), ("GET", "/v1/nowhere"), ("GET", "/hooks/{webhook_id}"), ("PUT", "/me")]
            .map(|(method, path)| (method.to_owned(), path.to_owned())),
    );
    found
}

fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Everybody whose limit is used up is refused everywhere, before anything else is asked.
#[tokio::test]
async fn l65_every_route_has_a_limit_for_strangers_people_and_tokens() {
    let one = [
        ("address_rate_limit_per_minute", "2"),
        ("person_rate_limit_per_minute", "3"),
        ("token_rate_limit_per_minute", "1"),
    ];
    let app = TestApp::with_settings(&one).await;
    let owner = app.owner().await;
    let known = app.bearer(&token(&owner).await);
    let agent = app.bearer(&gateway_token(&owner, "personal").await);
    let routes = all_routes(&app).await;
    assert!(routes.len() > 140, "only {} routes", routes.len());
    app.begin_window(60);
    for (who, path, uses) in
        [(&app.anonymous(), "/sign-in", 2), (&owner, "/me", 3), (&known, "/v1/me", 1), (&agent, "/mcp", 1)]
    {
        for _ in 0..uses {
            assert_ne!(who.get(path).await.status, 429, "{path}");
        }
    }
    let mut wrong = Vec::new();
    let mut unlimited = BTreeSet::new();
    for (method, path) in &routes {
        let mut callers = vec![("a stranger", app.anonymous())];
        match path.as_str() {
            path if path.starts_with("/v1") => {
                callers.extend([("the owner", owner.clone()), ("a token", known.clone())])
            }
            path if path.starts_with("/mcp") => callers.push(("an agent", agent.clone())),
            path if path.starts_with("/hooks") => {}
            _ => callers.push(("the owner", owner.clone())),
        }
        for (name, who) in callers {
            let answer = who.send(who.request(method, &filled(path))).await;
            if UNLIMITED.contains(&path.as_str()) {
                unlimited.insert(path.as_str());
                assert_ne!(answer.status, 429, "{path}");
            } else if answer.status != 429 {
                wrong.push(format!("{name}: {method} {path}: {} {}", answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} routes have no limit:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(unlimited, BTreeSet::from(UNLIMITED), "what is no route any more needs no exception");
}
