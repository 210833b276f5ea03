//! What reaches an upstream with a call, what comes back, and who waits for whom.

use std::collections::HashMap;

use serde_json::json;

use super::{Guarded, McpFixture, Upstream, call, decide, refresh_and_decide, register, rpc_request, said, text};

#[tokio::test]
async fn l52_nothing_of_the_callers_request_reaches_the_upstream() {
    let fixture = McpFixture::new().await;
    let personal = fixture.personal("mine").await;
    fixture.usable("open", json!({ "mode": "none" })).await;
    let key = json!({ "mode": "tenant_key", "secret": "the-tenants-own-key-0001" });
    fixture.usable("keyed", key).await;
    let token = fixture.connect(&fixture.owner, &personal).await;
    let agent = fixture.agent(&fixture.owner).await;
    let bearer = agent.bearer.clone().unwrap();
    for name in ["mine__echo", "open__echo", "keyed__echo"] {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name, "arguments": { "text": "hello" }, "_meta": { "progressToken": "inbound-canary" },
        }});
        let request = rpc_request(&agent, &fixture.gateway())
            .header("cookie", "__Host-tw_session=inbound-canary")
            .header("x-forwarded-for", "inbound-canary")
            .header("proxy-authorization", "Bearer inbound-canary")
            .header("x-api-key", "inbound-canary")
            .header("user-agent", "inbound-canary");
        assert_eq!(said(&agent.send(request.body(body.to_string())).await), "hello");
    }
    let calls = fixture.upstream.calls();
    let bearers: Vec<Option<&str>> = calls.iter().map(|request| request.bearer()).collect();
    assert_eq!(bearers, [Some(token.as_str()), None, Some("the-tenants-own-key-0001")]);
    for request in fixture.upstream.seen() {
        let whole = format!("{:?} {}", request.headers, request.body);
        assert!(!whole.contains(&bearer) && !whole.contains("inbound-canary"), "{whole}");
        let other =
            request.headers.keys().find(|name| ["cookie", "x-forwarded-for", "forwarded"].contains(&name.as_str()));
        assert_eq!(other, None);
    }
    // And the upstream's own token opens nothing here.
    fixture.app.bearer(&token).get("/v1/me").await.expect(401);
    call(&fixture.app.bearer(&token), &fixture.gateway(), "mine__echo", json!({})).await.expect(401);
}

#[tokio::test]
async fn l55_a_secret_that_a_tool_says_back_is_nowhere_in_what_comes_out() {
    let fixture = McpFixture::new().await;
    let personal = fixture.personal("mine").await;
    let key = "the-tenants-own-key-0001";
    fixture.usable("keyed", json!({ "mode": "tenant_key", "secret": key, "header": "X-Key" })).await;
    let token = fixture.connect(&fixture.owner, &personal).await;
    let agent = fixture.agent(&fixture.owner).await;
    for (name, secret) in [("mine__whoami", token.as_str()), ("keyed__whoami", key)] {
        let answer = fixture.call(&agent, name).await;
        assert!(said(&answer).starts_with("you sent "), "{}", answer.text);
        let turn = fixture.turn(&fixture.owner, &format!("/tool {name} {{}}")).await;
        assert_eq!(turn["status"], "succeeded", "{turn}");
        let thread = text(&turn, "thread_id");
        let export = fixture.owner.get(&format!("/v1/threads/{thread}/export")).await.expect(200).text;
        let page = fixture.owner.get(&format!("/me/threads/{thread}")).await.expect(200).text;
        assert!(export.contains("you sent ") && page.contains("you sent "));
        let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
        let inner = base64::engine::general_purpose::STANDARD.encode(format!("x{secret}"));
        for spelling in [secret, &percent, base64.trim_end_matches('='), &inner[4..20]] {
            for shown in [&answer.text, &export, &page] {
                assert!(!shown.contains(spelling), "{spelling} in {shown}");
            }
        }
    }
    // What would break out of a header is refused when it is entered, and says nothing of itself.
    for bad in ["broken\r\nx-evil: 1", "broken\nline-of-a-key", "nul\u{0}nul-nul-nul-nul", "", "   "] {
        let auth = json!({ "mode": "tenant_key", "secret": bad });
        let body = json!({ "name": "bad", "url": fixture.upstream.url(), "auth": auth });
        let refused = fixture.owner.post("/v1/mcp-servers", body).await.expect(422);
        assert!(!refused.text.contains("evil") && !refused.text.contains("line-of"), "{}", refused.text);
    }
}

/// Fails where a secret stands in one of these in any of the spellings that an upstream says back.
#[track_caller]
fn none_holds(secret: &str, texts: &[&str]) {
    use base64::Engine as _;
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
    for spelling in [secret, &percent, base64.trim_end_matches('=')] {
        for shown in texts {
            assert!(!shown.contains(spelling), "{spelling} in {shown}");
        }
    }
}

#[tokio::test]
async fn l55_a_secret_that_is_said_back_by_a_stream_or_in_a_refusal_is_nowhere_in_what_comes_out() {
    let fixture = McpFixture::new().await;
    let key = "the-tenants-own-key-0001";
    fixture.usable("keyed", json!({ "mode": "tenant_key", "secret": key, "header": "X-Key" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    for (streams, refuses) in [(true, false), (false, true)] {
        fixture.upstream.set(|ways| (ways.streams, ways.refuses) = (streams, refuses));
        let answer = fixture.call(&agent, "keyed__whoami").await;
        assert!(answer.text.contains("you sent "), "{}", answer.text);
        let turn = fixture.turn(&fixture.owner, "/tool keyed__whoami {}").await;
        let thread = text(&turn, "thread_id");
        let export = fixture.owner.get(&format!("/v1/threads/{thread}/export")).await.expect(200).text;
        let page = fixture.owner.get(&format!("/me/threads/{thread}")).await.expect(200).text;
        assert!(export.contains("you sent "), "{export}");
        none_holds(key, &[&answer.text, &export, &page]);
    }
}

#[tokio::test]
async fn l21_a_call_that_meets_a_401_is_made_once_more_with_a_fresh_token() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "user_oauth" })).await;
    let first = fixture.connect(&fixture.owner, &id).await;
    refresh_and_decide(&fixture.owner, &id).await;
    fixture.upstream.set(|ways| ways.guarded = Guarded::CallsOnly);
    let agent = fixture.agent(&fixture.owner).await;
    let bearers = || -> Vec<String> {
        fixture.upstream.calls().iter().map(|request| request.bearer().unwrap().to_owned()).collect()
    };
    fixture.issuer.refuse_access(&first);
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let sent = bearers();
    assert_eq!((sent.len(), &sent[0]), (2, &first));
    assert!(fixture.issuer.accepts(&sent[1]));
    // Refused again within the minute, nothing is forced and nothing is tried any more.
    fixture.issuer.refuse_access(&sent[1]);
    let barred = fixture.call(&agent, "notes__echo").await;
    assert!(said(&barred).contains(&format!("/me/mcp-servers/{id}/connect")), "{}", barred.text);
    assert_eq!(bearers().len(), 3);
    assert_eq!(fixture.issuer.look(|seen| seen.refreshes()), 1);
}

#[tokio::test]
async fn l21_a_call_that_meets_two_401s_is_made_no_third_time() {
    let fixture = McpFixture::new().await;
    // A server that names our issuer and takes tokens of another alone.
    let strict = Upstream::start(&crate::oauth::Issuer::start().await).await;
    strict.set(|ways| {
        ways.guarded = Guarded::CallsOnly;
        ways.moved_to = Some(fixture.issuer.clone());
    });
    let id = text(&register(&fixture.owner, &strict, "notes", json!({ "mode": "user_oauth" })).await, "id");
    decide(&fixture.owner, &id).await;
    fixture.serve(&id, json!({})).await;
    fixture.connect(&fixture.owner, &id).await;
    refresh_and_decide(&fixture.owner, &id).await;
    let agent = fixture.agent(&fixture.owner).await;
    let barred = fixture.call(&agent, "notes__echo").await;
    assert!(said(&barred).contains(&format!("/me/mcp-servers/{id}/connect")), "{}", barred.text);
    assert_eq!((strict.calls().len(), fixture.issuer.look(|seen| seen.refreshes())), (2, 1));
}

#[tokio::test]
async fn s03_a_session_at_an_upstream_is_one_persons() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let bo = fixture.app.member("bo").await;
    fixture.connect(&bo, &id).await;
    for who in [&fixture.owner, &bo, &fixture.owner] {
        let agent = fixture.agent(who).await;
        assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    }
    let mut holders: HashMap<String, String> = HashMap::new();
    for request in fixture.upstream.calls() {
        let session = request.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let bearer = request.bearer().unwrap().to_owned();
        assert_eq!(*holders.entry(session).or_insert(bearer.clone()), bearer, "{request:?}");
    }
    assert_eq!(holders.len(), 2);
}

#[tokio::test]
async fn l47_a_server_that_knows_only_what_it_must_stays_connected() {
    let fixture = McpFixture::new().await;
    fixture.upstream.set(|ways| {
        ways.unknown_methods = vec![
            "ping",
            "logging/setLevel",
            "resources/list",
            "prompts/list",
            "completion/complete",
            "server/discover",
        ];
    });
    fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    fixture.call(&agent, "notes__echo").await;
    let greeted = fixture.upstream.of("initialize").len();
    for _ in 0..3 {
        assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
        assert_eq!(fixture.turn(&fixture.owner, "/tool notes__echo {}").await["status"], "succeeded");
    }
    assert_eq!(fixture.upstream.of("initialize").len(), greeted, "the connection stays between calls and turns");
    // A refused request is an answer: it ends nothing either.
    fixture.upstream.set(|ways| ways.unknown_methods.push("tools/call"));
    let refused = fixture.call(&agent, "notes__echo").await;
    assert!(said(&refused).contains("no such method"), "{}", refused.text);
    fixture.upstream.set(|ways| ways.unknown_methods.retain(|method| *method != "tools/call"));
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    assert_eq!(fixture.upstream.of("initialize").len(), greeted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l50_a_call_that_takes_long_holds_up_no_other() {
    let fixture = McpFixture::new().await;
    fixture.usable("slow", json!({ "mode": "none" })).await;
    let quick = Upstream::start(&fixture.issuer).await;
    let id = text(&register(&fixture.owner, &quick, "quick", json!({ "mode": "none" })).await, "id");
    decide(&fixture.owner, &id).await;
    fixture.serve(&id, json!({})).await;
    let agent = fixture.agent(&fixture.owner).await;
    let waiter = agent.clone();
    let gateway = fixture.gateway();
    let mut slow = tokio::task::JoinSet::new();
    slow.spawn(async move { call(&waiter, &gateway, "slow__wait", json!({})).await });
    fixture.upstream.reached().await;
    assert_eq!(said(&fixture.call(&agent, "quick__echo").await), "done");
    assert_eq!(said(&fixture.call(&agent, "slow__echo").await), "done", "not even at the same server");
    assert_eq!(fixture.turn(&fixture.owner, "/tool quick__echo {}").await["status"], "succeeded");
    assert!(slow.try_join_next().is_none(), "the slow one was still at it");
    fixture.upstream.let_go();
    assert_eq!(said(&slow.join_next().await.unwrap().unwrap()), "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l50_servers_that_never_answer_are_left_out_together_and_the_rest_is_offered() {
    let fixture = McpFixture::new().await;
    fixture.usable("good", json!({ "mode": "none" })).await;
    let silent = Upstream::start(&fixture.issuer).await;
    silent.set(|ways| ways.broken = Some(500));
    for slug in ["mute-a", "mute-b", "mute-c"] {
        let id = text(&register(&fixture.owner, &silent, slug, json!({ "mode": "none" })).await, "id");
        decide(&fixture.owner, &id).await;
        fixture.serve(&id, json!({})).await;
    }
    silent.set(|ways| {
        ways.broken = None;
        ways.silent_at = Some("initialize");
    });
    let agent = fixture.agent(&fixture.owner).await;
    let began = std::time::Instant::now();
    assert_eq!(fixture.listed(&agent).await, ["good__echo", "good__wait", "good__whoami"]);
    let first = began.elapsed();
    assert!(first < std::time::Duration::from_secs(20), "one after the other: {first:?}");
    // Whoever comes next does not wait for them again.
    let began = std::time::Instant::now();
    assert_eq!(said(&fixture.call(&agent, "good__echo").await), "done");
    let turn = fixture.turn(&fixture.owner, "/tool good__echo {}").await;
    assert_eq!(turn["status"], "succeeded");
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "{:?}", began.elapsed());
    for slug in ["mute-a", "mute-b", "mute-c"] {
        assert_eq!(McpFixture::reason_of(&turn, slug), "timeout");
    }
    // Once they answer, they are in again.
    silent.set(|ways| ways.silent_at = None);
    fixture.app.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(fixture.listed(&agent).await.len(), 12);
}
