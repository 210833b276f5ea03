//! Where a grant and a secret belong: to one issuer, and back to one address of ours.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{McpFixture, call, decide, refresh_and_decide, register, said, text};
use crate::harness::{Response, TestApp};
use crate::oauth::Issuer;

const CLIENT_SECRET: &str = "a-secret-for-the-first-issuer-alone";

/// The operator changes what is asked for; the secret stays the stored one.
async fn change_scopes(fixture: &McpFixture, server: &str, mut auth: Value) {
    auth["mode"] = json!("user_oauth");
    auth["scopes"] = json!(["notes:write"]);
    let changed = fixture.owner.patch(&format!("/v1/mcp-servers/{server}"), json!({ "auth": auth })).await.expect(200);
    assert_eq!(changed.json["status"], "pending", "{}", changed.text);
}

async fn move_to_another(fixture: &McpFixture) -> Issuer {
    let other = Issuer::start().await;
    other.set(|ways| ways.resource_needed = false);
    let named = other.clone();
    fixture.upstream.set(|ways| ways.moved_to = Some(named));
    other
}

#[tokio::test]
async fn l37_a_grant_of_one_issuer_is_not_used_once_another_is_approved() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let token = fixture.connect(&fixture.owner, &id).await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let other = move_to_another(&fixture).await;
    let before = fixture.upstream.seen().len();
    change_scopes(&fixture, &id, json!({})).await;
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert_eq!(shown["issuer"], json!(other.base), "found at once, and to be reviewed");
    let reason = async || fixture.owner.get("/v1/me/connections").await.json["items"][0]["status_reason"].clone();
    assert_eq!(reason().await, "issuer_changed");
    decide(&fixture.owner, &id).await;
    let answer = fixture.call(&agent, "notes__echo").await;
    assert!(said(&answer).contains(&format!("/me/mcp-servers/{id}/connect")), "{}", answer.text);
    let reached = fixture.upstream.seen().split_off(before);
    assert!(reached.iter().all(|request| request.bearer() != Some(token.as_str())), "{reached:?}");
    let started = fixture.owner.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await.expect(200);
    assert!(fixture.finish(&fixture.owner, &started).await.header("location").contains("status=connected"));
    refresh_and_decide(&fixture.owner, &id).await;
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
    let last = fixture.upstream.calls().pop().unwrap();
    assert!(other.accepts(last.bearer().unwrap()), "{last:?}");
}

#[tokio::test]
async fn s14_a_client_secret_stays_with_its_issuer_also_when_the_operator_changed_something_meanwhile() {
    let fixture = McpFixture::new().await;
    let hand = |ways: &mut crate::oauth::Behavior| {
        ways.registration = false;
        ways.auth_methods = vec!["client_secret_post", "none"];
    };
    fixture.issuer.set(hand);
    let auth = json!({ "mode": "user_oauth", "client_id": "by-hand", "client_secret": CLIENT_SECRET });
    let id = text(&fixture.register("notes", auth).await, "id");
    decide(&fixture.owner, &id).await;
    let other = move_to_another(&fixture).await;
    other.set(hand);
    change_scopes(&fixture, &id, json!({ "client_id": "by-hand" })).await;
    decide(&fixture.owner, &id).await;
    let started = fixture.owner.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await.expect(200);
    assert!(started.text_of("authorize_url").starts_with(&other.base));
    fixture.finish(&fixture.owner, &started).await;
    let sent = other.look(|seen| seen.token_requests.clone());
    assert_eq!(sent.len(), 1, "the code was exchanged there");
    assert!(!sent[0].values().any(|value| value.contains(CLIENT_SECRET)), "{sent:?}");
}

fn redirect_uri(authorize_url: &str) -> String {
    let query: HashMap<String, String> = url::Url::parse(authorize_url).unwrap().query_pairs().into_owned().collect();
    query["redirect_uri"].clone()
}

/// Whatever a request says of the host it came by, the issuer is told the configured address, or nothing.
#[tokio::test]
async fn l06_a_forged_host_is_in_no_redirect_uri() {
    let evil = "evil.example";
    // A peer that nobody trusts, and a proxy that may name the sender's address, and no more than that.
    for trusted_proxies in ["", "127.0.0.0/8, ::1/128"] {
        let fixture = McpFixture::over(TestApp::behind(trusted_proxies).await).await;
        let port = fixture.app.address.port();
        let configured = fixture.app.slices().config.public_url.join("/oauth/callback/").unwrap();
        let id =
            text(&register(&fixture.owner, &fixture.upstream, "notes", json!({ "mode": "user_oauth" })).await, "id");
        let by = async |path: &str, body: &Value, headers: &[(&str, &str)]| -> Response {
            let mut request = fixture.owner.request("POST", path).header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            fixture.owner.send(request.body(body.to_string())).await
        };
        let named = format!("host={evil};proto=https;for=192.0.2.1");
        let told: Vec<Vec<(&str, &str)>> = vec![
            vec![("x-forwarded-host", evil), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")],
            vec![("forwarded", &named), ("x-forwarded-for", "192.0.2.1")],
            vec![("x-original-host", evil), ("x-host", evil), ("x-forwarded-server", evil), ("x-real-ip", "192.0.2.1")],
        ];
        // Our registration as a client, with forged headers: the redirect URI that the issuer keeps is the configured one.
        let approve = format!("/v1/mcp-servers/{id}/approve");
        let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
        let decision = json!({ "definition_hash": shown["definition_hash"] });
        by(&approve, &decision, &[("host", evil)]).await.expect(421);
        assert!(fixture.issuer.look(|seen| seen.registrations.is_empty()), "nothing was registered");
        by(&approve, &decision, &told[0]).await.expect(200);
        let registered = fixture.issuer.look(|seen| seen.registrations[0]["redirect_uris"].clone());
        assert_eq!(registered.as_array().unwrap().len(), 1);
        assert!(registered[0].as_str().unwrap().starts_with(configured.as_str()), "{registered}");
        let registered = registered[0].as_str().unwrap().to_owned();
        // The start of a flow.
        let connect = format!("/v1/me/mcp-servers/{id}/connect");
        let page = format!("/me/mcp-servers/{id}/connect");
        for host in [evil, "evil.example:443", &format!("{evil}:{port}"), &format!("127.0.0.1.{evil}:{port}")] {
            let refused = by(&connect, &json!({}), &[("host", host)]).await.expect(421);
            assert_eq!((refused.code(), refused.header("set-cookie")), ("misdirected", ""), "{host}");
            let form = fixture.owner.request("POST", &page).header("host", host);
            fixture.owner.send(form.body("")).await.expect(421);
        }
        // Names that a server on loopback answers to are let by, and are in no redirect URI either.
        let localhost = format!("localhost:{port}");
        let bare = format!("localhost:{}", port.wrapping_add(1));
        let mut let_by = told;
        let_by.extend([vec![("host", localhost.as_str())], vec![("host", bare.as_str())], vec![("host", "[::1]")]]);
        for headers in &let_by {
            let started = by(&connect, &json!({}), headers).await.expect(200);
            assert_eq!(redirect_uri(&started.text_of("authorize_url")), registered, "{headers:?}");
            fixture.finish(&fixture.owner, &started).await;
        }
        let seen = fixture.issuer.look(|seen| seen.redirect_uris.clone());
        assert_eq!(seen, vec![registered; let_by.len()], "what the issuer was asked to answer to");
        // The page's button says the same.
        let form = fixture.owner.request("POST", &page).header("x-forwarded-host", evil);
        let csrf = format!("csrf={}", fixture.owner.csrf.as_deref().unwrap());
        let form = form.header("content-type", "application/x-www-form-urlencoded").body(csrf);
        let pressed = fixture.owner.send(form).await.expect(200);
        assert!(pressed.text.contains("redirect_uri=") && !pressed.text.contains("evil"), "{}", pressed.text);
        let agent = fixture.agent(&fixture.owner).await;
        fixture.serve(&id, json!({})).await;
        assert!(!call(&agent, &fixture.gateway(), "notes__connect", json!({})).await.text.contains("evil"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_under_way_does_not_outlive_the_move_rejection_or_deletion_of_its_server() {
    for what in ["move", "reject", "delete"] {
        let fixture = McpFixture::new().await;
        let id = fixture.usable("notes", json!({ "mode": "user_oauth" })).await;
        let path = format!("/v1/mcp-servers/{id}");
        let started = fixture.owner.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await.expect(200);
        fixture.issuer.gate.close();
        let elsewhere = super::Upstream::start(&fixture.issuer).await;
        let change = async {
            fixture.issuer.gate.reached.notified().await;
            match what {
                "move" => fixture.owner.patch(&path, json!({ "url": elsewhere.url() })).await.expect(200),
                "reject" => fixture.owner.post(&format!("{path}/reject"), json!({ "reason": "No." })).await.expect(200),
                _ => fixture.owner.delete(&path).await.expect(204),
            };
            fixture.issuer.gate.let_go();
        };
        let (finished, ()) = tokio::join!(fixture.finish(&fixture.owner, &started), change);
        assert!(finished.header("location").contains("reason=registration_replaced"), "{what}: {finished:?}");
        assert_eq!(fixture.owner.get("/v1/me/connections").await.expect(200).json["items"], json!([]), "{what}");
        fixture.app.run_pending_jobs().await;
        assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()), "{what}: revoked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_under_way_is_not_kept_for_a_server_that_goes_meanwhile() {
    let fixture = McpFixture::new().await;
    let server = fixture.register("notes", json!({ "mode": "user_oauth" })).await;
    let id = text(&server, "id");
    let path = format!("/v1/mcp-servers/{id}");
    let shown = fixture.owner.get(&path).await.expect(200).json;
    fixture.issuer.gate.close();
    let change = async {
        fixture.issuer.gate.reached.notified().await;
        fixture.owner.delete(&path).await.expect(204);
        fixture.issuer.gate.let_go();
    };
    let decision = json!({ "definition_hash": shown["definition_hash"] });
    let approve = format!("{path}/approve");
    let (approved, ()) = tokio::join!(fixture.owner.post(&approve, decision), change);
    approved.expect(404);
    let mut tx = fixture.app.slices().db.read(fixture.app.tenant).await.unwrap();
    let kept = fixture.app.slices().oauth.redirect_uri(&mut tx, id.parse().unwrap()).await.unwrap();
    assert_eq!(kept, None, "no registration for a server that is gone");
}

#[tokio::test]
async fn a_client_secret_in_a_change_reaches_the_registration_as_the_put_does() {
    let fixture = McpFixture::new().await;
    fixture.issuer.set(|ways| {
        ways.registration = false;
        ways.auth_methods = vec!["client_secret_post"];
        ways.secret = Some("the-first-secret-of-ours");
    });
    let auth = |secret: &str| json!({ "mode": "user_oauth", "client_id": "by-hand", "client_secret": secret });
    let id = fixture.usable("notes", auth("the-first-secret-of-ours")).await;
    fixture.connect(&fixture.owner, &id).await;
    fixture.issuer.set(|ways| ways.secret = Some("the-second-secret-of-ours"));
    let path = format!("/v1/mcp-servers/{id}");
    let changed = fixture.owner.patch(&path, json!({ "auth": auth("the-second-secret-of-ours") })).await.expect(200);
    assert_eq!(changed.json["status"], "approved", "{}", changed.text);
    fixture.connect(&fixture.owner, &id).await;
    fixture.issuer.set(|ways| ways.secret = Some("the-third-secret-of-ours"));
    fixture.owner.put(&format!("{path}/secret"), json!({ "secret": "the-third-secret-of-ours" })).await.expect(200);
    fixture.connect(&fixture.owner, &id).await;
}

#[tokio::test]
async fn a_refused_registration_is_told_to_the_operator_and_ends_nobodys_grant() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "user_oauth", "client_id": "by-hand" })).await;
    fixture.connect(&fixture.owner, &id).await;
    refresh_and_decide(&fixture.owner, &id).await;
    let agent = fixture.agent(&fixture.owner).await;
    fixture.issuer.set(|ways| ways.token_script.push_back((401, r#"{"error":"invalid_client"}"#.to_owned())));
    fixture.app.clock.advance(std::time::Duration::from_secs(3_601));
    let calls = fixture.upstream.calls().len();
    fixture.call(&agent, "notes__echo").await;
    assert_eq!(fixture.upstream.calls().len(), calls, "nothing to present");
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert!(text(&shown, "last_error").contains("invalid_client"), "{shown}");
    assert_eq!(fixture.owner.get("/v1/me/connections").await.json["items"][0]["status"], "connected");
    fixture.app.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done", "mended, it works again");
}

#[tokio::test]
async fn l90_a_forgotten_client_is_told_and_registered_anew_when_somebody_connects() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    fixture.issuer.set(|ways| ways.token_script.push_back((401, r#"{"error":"invalid_client"}"#.to_owned())));
    fixture.app.clock.advance(std::time::Duration::from_secs(3_601));
    let answer = fixture.call(&agent, "notes__echo").await;
    assert!(said(&answer).contains(&format!("/me/mcp-servers/{id}/connect")), "{}", answer.text);
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert!(text(&shown, "last_error").contains("no longer knows ThinkWork"), "{shown}");
    let connection = fixture.owner.get("/v1/me/connections").await.json["items"][0].clone();
    assert_eq!(connection["status_reason"], "client_forgotten");
    let before = fixture.issuer.look(|seen| seen.registrations.len());
    fixture.connect(&fixture.owner, &id).await;
    assert_eq!(fixture.issuer.look(|seen| seen.registrations.len()), before + 1);
    assert_eq!(said(&fixture.call(&agent, "notes__echo").await), "done");
}

#[tokio::test]
async fn l90_a_client_that_the_issuer_lost_in_silence_is_registered_anew() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let registrations = || fixture.issuer.look(|seen| seen.registrations.len());
    let forget =
        || fixture.issuer.set(|ways| ways.token_script.push_back((401, r#"{"error":"invalid_client"}"#.to_owned())));
    // A person whom the issuer sent nowhere tries again.
    let start = format!("/v1/me/mcp-servers/{id}/connect");
    fixture.owner.post(&start, json!({})).await.expect(200);
    assert_eq!(registrations(), 1, "there was no sign of it");
    forget();
    fixture.connect(&fixture.owner, &id).await;
    assert_eq!(registrations(), 2);
    // An operator approves again.
    forget();
    decide(&fixture.owner, &id).await;
    assert_eq!(registrations(), 3);
    fixture.connect(&fixture.owner, &id).await;
    // One that is known stays.
    decide(&fixture.owner, &id).await;
    fixture.owner.post(&start, json!({})).await.expect(200);
    fixture.owner.post(&start, json!({})).await.expect(200);
    assert_eq!(registrations(), 3);
}

#[tokio::test]
async fn l107_a_moved_issuer_is_noticed_at_a_401() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let agent = fixture.agent(&fixture.owner).await;
    let other = move_to_another(&fixture).await;
    fixture.upstream.set(|ways| ways.guarded = super::Guarded::CallsForGood);
    let answer = fixture.call(&agent, "notes__echo").await;
    assert_eq!(said(&answer), "notes is not available: an operator has not approved it yet.");
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    assert_eq!((&shown["status"], &shown["issuer"]), (&json!("pending"), &json!(other.base)));
    let connection = fixture.owner.get("/v1/me/connections").await.json["items"][0].clone();
    assert_eq!(connection["status_reason"], "issuer_changed");
}

/// What a person is sent to the issuer with: the scope and the prompt.
async fn authorized(fixture: &McpFixture, settings: Value) -> (String, Option<String>) {
    let mut auth = json!({ "mode": "user_oauth" });
    auth.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let id = fixture.usable("notes", auth).await;
    let started = fixture.owner.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await.expect(200);
    fixture.owner.delete(&format!("/v1/mcp-servers/{id}")).await.expect(204);
    let url = url::Url::parse(&started.text_of("authorize_url")).unwrap();
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    (query.get("scope").cloned().unwrap_or_default(), query.get("prompt").cloned())
}

fn list_offline_access(fixture: &McpFixture) {
    fixture.issuer.set(|ways| ways.metadata.push(("scopes_supported", json!(["notes:read", "offline_access"]))));
}

#[tokio::test]
async fn l93_offline_access_and_a_prompt_are_asked_for_only_where_wanted() {
    let fixture = McpFixture::new().await;
    assert_eq!(authorized(&fixture, json!({})).await, ("notes:read".to_owned(), None));
    list_offline_access(&fixture);
    assert_eq!(authorized(&fixture, json!({})).await, ("notes:read offline_access".to_owned(), None));
    let settings = json!({ "without_offline_access": true, "prompt": "consent" });
    assert_eq!(authorized(&fixture, settings).await, ("notes:read".to_owned(), Some("consent".to_owned())));
    let auth = json!({ "mode": "user_oauth", "prompt": "none" });
    let body = json!({ "name": "n", "url": fixture.upstream.url(), "auth": auth });
    fixture.owner.post("/v1/mcp-servers", body).await.expect(422);
}

#[tokio::test]
async fn l106_a_client_is_registered_with_what_servers_demand() {
    let fixture = McpFixture::new().await;
    list_offline_access(&fixture);
    let registered = || fixture.issuer.look(|seen| seen.registrations.last().unwrap().clone());
    authorized(&fixture, json!({})).await;
    assert_eq!(registered()["scope"], "notes:read offline_access");
    assert_eq!(registered()["application_type"], "native", "the address here is http");
    assert_eq!(registered()["token_endpoint_auth_method"], "none");
    authorized(&fixture, json!({ "token_auth_method": "client_secret_post" })).await;
    assert_eq!(registered()["token_endpoint_auth_method"], "client_secret_post");
}

#[tokio::test]
async fn l02_whose_account_is_connected_is_not_taken_from_the_start_of_a_flow() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "user_oauth" })).await;
    let bo = fixture.app.member("bo").await;
    let other = bo.user.unwrap();
    let path = format!("/v1/me/mcp-servers/{id}/connect");
    for name in ["user", "user_id", "owner"] {
        let refused = fixture.owner.post(&format!("{path}?{name}={other}"), json!({})).await.expect(422);
        assert!(refused.json["error"]["fields"][name].is_string(), "{}", refused.text);
        fixture.owner.post(&path, json!({ name: other })).await.expect(422);
    }
    let request = fixture.owner.request("POST", &path).header("x-user-id", other.to_string());
    let started = fixture.owner.send(request.header("content-type", "application/json").body("{}")).await.expect(200);
    let finished = fixture.finish(&fixture.owner, &started).await;
    assert!(finished.header("location").contains("status=connected"), "{}", finished.header("location"));
    assert_eq!(fixture.owner.get("/v1/me/connections").await.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(bo.get("/v1/me/connections").await.json["items"], json!([]));
    // The page's button asks its address no more than that.
    let page = format!("/me/mcp-servers/{id}/connect?user={other}&user_id={other}&owner={other}");
    let fields = ["user", "user_id", "owner"].map(|name| (name, other.to_string()));
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let pressed = fixture.owner.form(&page, &fields).await;
    let started = fixture.owner.get("/v1/audit?action=connection.flow_started").await.expect(200).json;
    let starters: Vec<&Value> = started["items"].as_array().unwrap().iter().map(|event| &event["requester"]).collect();
    let olivia = json!({ "kind": "user", "id": fixture.owner.user.unwrap().to_string() });
    assert_eq!((starters, pressed.status), (vec![&olivia, &olivia], 200), "{}", pressed.text);
}
