//! Requests that must lead nowhere, as a person in a browser meets them: flows that are over or somebody else's, places
//! that are not ours to send people to, and others who do not answer.

use serde_json::{Value, json};

use crate::guards::Fixture;
use crate::harness::{Client, Response};

/// A page that says in words of ours what happened and what to do.
#[track_caller]
fn told(answer: &Response, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text);
    for word in words {
        assert!(answer.text.contains(word), "{word} is not in {}", answer.text);
    }
    for inside in ["::", "sqlx", "panicked", "unwrap", "stack backtrace"] {
        assert!(!answer.text.contains(inside), "{inside} in {}", answer.text);
    }
}

/// A flow that has come back from the provider: the path of the callback and the cookie of its browser.
struct Flow {
    path: String,
    cookie: String,
}

impl Flow {
    async fn begun(fixture: &Fixture, person: &Client) -> Self {
        let path = format!("/v1/me/mcp-servers/{}/connect", fixture.id("me/mcp-servers"));
        let started = person.post(&path, json!({})).await.expect(200);
        let cookie = started.header("set-cookie").split(';').next().unwrap().to_owned();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let consented = http.get(started.text_of("authorize_url")).send().await.unwrap();
        let back = url::Url::parse(consented.headers()["location"].to_str().unwrap()).unwrap();
        Self { path: format!("{}?{}", back.path(), back.query().unwrap()), cookie }
    }

    async fn finish(&self, person: &Client) -> Response {
        person.send(person.request("GET", &self.path).header("cookie", &self.cookie)).await
    }
}

async fn connected(person: &Client) -> bool {
    let connections = person.get("/v1/me/connections").await.expect(200);
    let items = connections.json["items"].as_array().unwrap();
    items.iter().any(|item| item["status"] == "connected")
}

/// What the record holds of this action, newest first.
async fn recorded(fixture: &Fixture, action: &str) -> Vec<Value> {
    let found = fixture.owner.get(&format!("/v1/audit?action={action}")).await.expect(200);
    found.json["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_flow_that_is_over_or_anothers_connects_nobody_and_says_where_to_begin_again() {
    let fixture = Fixture::new().await;
    let owner = &fixture.owner;
    let exchanged = fixture.issuer.look(|seen| seen.token_requests.len());
    let foreign = Flow::begun(&fixture, owner).await;
    told(&foreign.finish(&fixture.carl).await, 403, &["someone else", "start again from Connected accounts"]);
    let before = recorded(&fixture, "connection.flow_ended").await.len();
    assert!(before > 0, "the end of that flow is in the record");
    told(&foreign.finish(owner).await, 400, &["Nothing was connected", "Start again"]);
    let late = Flow::begun(&fixture, owner).await;
    fixture.app.clock.advance(std::time::Duration::from_secs(601));
    told(&late.finish(owner).await, 400, &["has expired", "Start again"]);
    let key = late.path.split('?').next().unwrap().to_owned();
    for query in ["", "?state=", "?state=forged&code=x", "?code=x", "?state=a&state=b&code=x", "?error=access_denied"] {
        told(&owner.get(&format!("{key}{query}")).await, 400, &["Nothing was connected", "Start again"]);
    }
    told(&owner.get("/oauth/callback/unknown?state=x&code=y").await, 400, &["Start again"]);
    assert!(!connected(owner).await && !connected(&fixture.carl).await);
    assert_eq!(fixture.issuer.look(|seen| seen.token_requests.len()), exchanged, "no code was exchanged");
    // One that is in order connects; the same answer once more connects nothing again.
    let good = Flow::begun(&fixture, owner).await;
    assert!(good.finish(owner).await.expect(302).header("location").contains("status=connected"));
    let exchanged = fixture.issuer.look(|seen| seen.token_requests.len());
    assert_ne!(good.finish(owner).await.status, 500);
    assert_eq!(fixture.issuer.look(|seen| seen.token_requests.len()), exchanged, "a replayed code is not exchanged");
    assert!(connected(owner).await, "and what was connected stays");
}

const ELSEWHERE: [&str; 14] = [
    "//evil.test",
    "///evil.test",
    "/\\evil.test",
    "\\\\evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "https://evil.test",
    "https:evil.test",
    "javascript:alert(1)",
    "data:text/html,x",
    "me@evil.test",
    "/me/../..//evil.test",
    "/%2f%2fevil.test\r\nset-cookie: a=b",
    "evil.test/me",
];

#[tokio::test]
async fn nobody_is_sent_elsewhere_after_signing_in_or_connecting() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let carl = fixture.carl.user.unwrap();
    let password = thinkwork_primitives::Secret::from_text("a long enough password".to_owned());
    app.slices().access.password_set(app.tenant, carl, &password).await.unwrap();
    let connect = format!("/v1/me/mcp-servers/{}/connect", fixture.id("me/mcp-servers"));
    for place in ELSEWHERE {
        // Tries to sign in are counted.
        app.clock.advance(std::time::Duration::from_secs(900));
        let fields = [("email", "carl@acme.test"), ("password", "a long enough password"), ("next", place)];
        let signed_in = app.anonymous().form("/sign-in", &fields).await;
        assert_eq!(signed_in.status, 303, "{}", signed_in.text);
        let to = signed_in.header("location");
        assert!(["/", "/me"].contains(&to), "{place:?} led to {to}");
        assert!(
            signed_in
                .headers
                .get_all("set-cookie")
                .iter()
                .all(|cookie| cookie.to_str().unwrap().starts_with("__Host-"))
        );
        let page =
            format!("/sign-in?next={}", url::form_urlencoded::byte_serialize(place.as_bytes()).collect::<String>());
        assert!(
            !app.anonymous().get(&page).await.expect(200).text.contains("evil.test"),
            "{place:?} stands in the page"
        );
        let answer = fixture.owner.post(&connect, json!({ "return_to": place })).await.expect(422);
        assert!(
            answer.json["error"]["fields"]["return_to"].as_str().unwrap().contains("for example /me"),
            "{}",
            answer.text
        );
        assert!(!answer.text.contains("evil"), "{}", answer.text);
    }
    assert_eq!(
        fixture.issuer.look(|seen| seen.authorizations.len()),
        1,
        "only ana's own flow ever reached the provider"
    );
}

/// An address of this machine on which nobody listens.
fn nowhere(path: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}{path}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_server_or_provider_that_does_not_answer_is_named_with_the_next_step_and_nothing_is_lost() {
    let fixture = Fixture::new().await;
    for (name, auth) in [("Gone", json!({ "mode": "none" })), ("Gone too", json!({ "mode": "user_oauth" }))] {
        let body = json!({ "name": name, "url": nowhere("/mcp"), "auth": auth });
        let made = fixture.owner.post("/v1/mcp-servers", body).await.expect(201);
        assert_eq!(made.json["status"], "pending");
        let path = format!("/v1/mcp-servers/{}", made.text_of("id"));
        let tested = fixture.owner.post(&format!("{path}/test"), json!({})).await.expect(200);
        let error = tested.json["error"].as_str().unwrap();
        assert!(tested.json["ok"] == false && error.ends_with('.') && error.starts_with(char::is_uppercase), "{error}");
        let shown = fixture.owner.get(&path).await.expect(200);
        assert!(shown.json["last_error"].as_str().is_some_and(|error| error.ends_with('.')), "{}", shown.text);
        let refreshed = fixture.owner.post(&format!("{path}/tools/refresh"), json!({})).await;
        assert!((400..500).contains(&refreshed.status), "{}", refreshed.text);
        assert!(!recorded(&fixture, "mcp_server.tested").await.is_empty());
    }
    // A provider that is down while somebody disconnects: it is done here and tried there again.
    fixture.issuer.set(|ways| ways.revoke_script.extend([503, 503]));
    let path = format!("/v1/me/connections/{}", fixture.id("connections"));
    let ended = fixture.ana.delete(&path).await.expect(200);
    let results: Vec<&str> =
        ended.json["revocations"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["pending_retry", "pending_retry"]);
    assert!(!connected(&fixture.ana).await);
    fixture.app.clock.advance(std::time::Duration::from_secs(3_600));
    fixture.app.run_pending_jobs().await;
    assert_eq!(fixture.issuer.look(|seen| seen.revoked.len()), 2, "both tokens were revoked later");
}

#[tokio::test]
async fn a_model_that_does_not_answer_is_told_in_the_thread_with_the_next_step() {
    let fixture = Fixture::new().await;
    let agent = json!({ "model_base_url": nowhere("/v1"), "model": "sample" });
    fixture.owner.put("/v1/agent", agent).await.expect(200);
    let thread = format!("/v1/threads/{}", fixture.id("threads"));
    fixture.ana.post(&format!("{thread}/messages"), json!({ "text": "Say something" })).await.expect(201);
    for _ in 0..12 {
        fixture.app.run_pending_jobs().await;
        fixture.app.clock.advance(std::time::Duration::from_secs(600));
    }
    let turns = fixture.ana.get(&format!("{thread}/turns")).await.expect(200);
    let over = ["succeeded", "failed"];
    for turn in turns.json["items"].as_array().unwrap() {
        assert!(over.contains(&turn["status"].as_str().unwrap()), "{turn}");
    }
    let messages = fixture.ana.get(&format!("{thread}/messages")).await.expect(200);
    let items = messages.json["items"].as_array().unwrap();
    let told = items.iter().filter(|message| message["role"] == "system").map(|message| message["text"].to_string());
    let told: Vec<String> = told.collect();
    assert!(told.iter().any(|text| text.contains("model") && text.contains('.')), "{told:?}");
    let own = items.iter().filter(|message| message["role"] == "user").count();
    assert_eq!(own, 2, "what ana wrote is there");
}
