//! Tokens: who makes them, where they work, what they never do.

use std::time::Duration;

use serde_json::{Value, json};

use thinkwork::access::{Error, NewToken, TokenKind};
use thinkwork::edge::Idempotency;
use thinkwork::worker::sweep;
use thinkwork_primitives::{Audience, AuthMethod, Identity, Principal, Role, Scope};

use crate::harness::{Client, TestApp, execute_sql};

async fn mint(client: &Client, kind: &str, audience: &str, scope: &str) -> crate::harness::Response {
    let body = json!({ "name": "x", "kind": kind, "audience": audience, "scopes": [scope] });
    client.post("/v1/tokens", body).await
}

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let made = mint(&ana, "personal", "api", "write").await.expect(201);
    let text = made.text_of("token");
    assert!(text.starts_with("twp_") && text.len() == 47, "{}", text.len());
    assert_eq!(made.json["scopes"], json!(["read", "write"]));
    let list = ana.get("/v1/tokens").await.expect(200);
    assert!(list.text.contains(&made.text_of("id")) && !list.text.contains(&text));
    let bearer = app.bearer(&text);
    assert_eq!(bearer.get("/v1/me").await.expect(200).json["via"], "token");
    assert_ne!(ana.get("/v1/tokens").await.json["items"][0]["last_used_at"], Value::Null);
    let ben = app.member("ben").await;
    ben.delete(&format!("/v1/tokens/{}", made.text_of("id"))).await.expect(404);
    ana.delete(&format!("/v1/tokens/{}", made.text_of("id"))).await.expect(204);
    bearer.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn a_token_ends_by_itself() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let body =
        json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["read"], "expires_in_seconds": 60 });
    let bearer = app.bearer(&ana.post("/v1/tokens", body).await.expect(201).text_of("token"));
    bearer.get("/v1/me").await.expect(200);
    app.clock.advance(Duration::from_secs(60));
    bearer.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn an_ended_token_is_deleted_and_what_it_did_stays_attributed() {
    const DAY: Duration = Duration::from_secs(86_400);
    let app = TestApp::with_settings(&[("retention.revoked_tokens_days", "10")]).await;
    let owner = app.owner().await;
    let space = crate::spaces::space(&owner, "work", "public").await;
    let mint = async |name: &str, days: u32| {
        let body = json!({ "name": name, "kind": "personal", "audience": "api", "scopes": ["write"],
            "expires_in_seconds": days * 86_400 });
        owner.post("/v1/tokens", body).await.expect(201)
    };
    let revoked = mint("revoked", 60).await;
    let expired = mint("expired", 1).await;
    let live = mint("live", 60).await;
    let thread = json!({ "space_id": space, "text": "hello" });
    let thread = app.bearer(&revoked.text_of("token")).post("/v1/threads", thread).await.expect(201).text_of("id");
    owner.delete(&format!("/v1/tokens/{}", revoked.text_of("id"))).await.expect(204);
    app.run_pending_jobs().await;
    let left = async || {
        sweep(&app.app).await;
        let owner = app.owner().await;
        let mut names = Vec::new();
        for token in [&revoked, &expired, &live] {
            if owner.get(&format!("/v1/tokens/{}", token.text_of("id"))).await.status == 200 {
                names.push(token.text_of("name"));
            }
        }
        names
    };
    app.clock.advance(DAY * 9);
    assert_eq!(left().await, ["revoked", "expired", "live"]);
    let named = async || {
        let shown = app.owner().await.get(&format!("/v1/threads/{thread}")).await.expect(200);
        shown.json["acting_client"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(named().await, "revoked");
    app.clock.advance(Duration::from_secs(86_400 + 3_600));
    assert_eq!(left().await, ["expired", "live"], "it expired a day after the other was revoked");
    app.clock.advance(DAY);
    assert_eq!(left().await, ["live"]);
    assert_eq!(named().await, "a deleted token");
    let audit = app.owner().await.get(&format!("/admin/audit?thread={thread}")).await.expect(200).text;
    assert!(audit.contains("through a deleted token"), "{audit}");
    app.bearer(&expired.text_of("token")).get("/v1/me").await.expect(401);
    app.bearer(&live.text_of("token")).get("/v1/me").await.expect(200);
    let connection = crate::guards::tables::connect(&app).await;
    let routes = "SELECT CAST(count(*) AS TEXT) FROM route WHERE kind = 'token'";
    assert_eq!(crate::guards::tables::texts(&connection, routes).await, ["1"]);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn l52_each_token_works_at_one_audience() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let api = mint(&ana, "personal", "api", "write").await.expect(201).text_of("token");
    let mcp = mint(&ana, "personal", "mcp", "write").await.expect(201).text_of("token");
    app.bearer(&mcp).get("/v1/me").await.expect(401);
    app.bearer(&mcp).get("/v1/tokens").await.expect(401);
    let gateway = format!("/mcp/spaces/{}", thinkwork_primitives::SpaceId::new());
    app.bearer(&api).post(&gateway, json!({})).await.expect(401);
    // A cookie proves nothing on /mcp.
    ana.post(&gateway, json!({})).await.expect(401);
}

#[tokio::test]
async fn s07_no_token_mints_a_token_that_acts_as_a_person() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let admin = app.bearer(&mint(&owner, "personal", "api", "admin").await.expect(201).text_of("token"));
    let service = app.bearer(&mint(&owner, "service", "api", "admin").await.expect(201).text_of("token"));
    for bearer in [&admin, &service] {
        for audience in ["api", "mcp"] {
            assert_eq!(mint(bearer, "personal", audience, "read").await.expect(403).code(), "needs_session");
        }
        assert_eq!(mint(bearer, "service", "mcp", "write").await.expect(403).code(), "needs_session");
        let body = json!({ "email": "ghost@acme.test", "name": "Ghost", "role": "operator" });
        assert_eq!(bearer.post("/v1/users", body).await.expect(403).code(), "needs_session");
    }
    let writer = app.bearer(&mint(&owner, "personal", "api", "write").await.expect(201).text_of("token"));
    assert_eq!(mint(&writer, "service", "api", "read").await.expect(403).code(), "needs_operator");
    assert_eq!(admin.delete("/v1/sessions/current").await.expect(403).code(), "needs_session");
    let reader = app.bearer(&mint(&owner, "personal", "api", "read").await.expect(201).text_of("token"));
    assert_eq!(mint(&reader, "personal", "api", "read").await.expect(403).code(), "scope");
}

#[tokio::test]
async fn an_old_sign_in_makes_no_tokens_and_names_no_roles() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    app.clock.advance(Duration::from_secs(601));
    assert_eq!(mint(&owner, "service", "api", "read").await.expect(403).code(), "reauth_required");
    assert_eq!(mint(&ana, "personal", "mcp", "read").await.expect(403).code(), "reauth_required");
    let path = format!("/v1/users/{}", ana.user.unwrap());
    assert_eq!(owner.patch(&path, json!({ "role": "operator" })).await.expect(403).code(), "reauth_required");
    assert_eq!(owner.patch(&path, json!({ "name": "Anna" })).await.expect(403).code(), "reauth_required");
    app.owner().await.patch(&path, json!({ "name": "Anna" })).await.expect(200);
}

#[tokio::test]
async fn l85_no_platform_token() {
    let app = TestApp::new().await;
    let made = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap();
    let ours = app.slices().access.setup_token(app.tenant, app.owner).await.unwrap();
    let theirs = app.slices().access.setup_token(made.tenant, made.owner).await.unwrap();
    let ours = app.bearer(ours.expose_str().unwrap());
    let theirs = app.bearer(theirs.expose_str().unwrap());
    let otto = app.session_in(made.tenant, made.owner).await;
    let service = mint(&otto, "service", "api", "admin").await.expect(201);
    ours.delete(&format!("/v1/tokens/{}", service.text_of("id"))).await.expect(404);
    let service = app.bearer(&service.text_of("token"));
    for bearer in [&theirs, &service] {
        let me = bearer.get("/v1/me").await.expect(200);
        assert_eq!(me.json["tenant"]["slug"], "other");
        assert!(!bearer.get("/v1/users").await.expect(200).text.contains("acme.test"));
        assert!(!bearer.get("/v1/tokens").await.expect(200).text.contains(&app.owner.to_string()));
        bearer.patch(&format!("/v1/users/{}", app.owner), json!({ "name": "Mine" })).await.expect(404);
    }
    // The tenant is the token's; nothing that a caller sends names another.
    theirs.get("/v1/me?tenant=acme").await.expect(422);
    let request = theirs.request("GET", "/v1/me").header("x-tenant-id", app.tenant.to_string());
    assert_eq!(theirs.send(request).await.expect(200).json["tenant"]["slug"], "other");
    for guess in ["tws_", "twp_", "twt_x", "", "owner", "tws_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        app.bearer(guess).get("/v1/me").await.expect(401);
    }
}

#[tokio::test]
async fn l25_a_token_leads_to_the_user_id_of_its_own_tenant() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let made = mint(&ana, "personal", "api", "read").await.expect(201);
    assert_eq!(made.json["user_id"], ana.user.unwrap().to_string());
    let me = app.bearer(&made.text_of("token")).get("/v1/me").await.expect(200);
    assert_eq!(me.json["user"]["id"], ana.user.unwrap().to_string());
    assert_eq!(me.json["tenant"]["id"], app.tenant.to_string());
}

/// A member whose request came in before an operator disabled them.
#[tokio::test]
async fn what_a_request_makes_does_not_outrun_the_end_of_its_person() {
    let app = TestApp::new().await;
    let access = &app.slices().access;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    let user = ana.user.unwrap();
    let session = access.session_create(app.tenant, user, "tests").await.unwrap();
    let auth = AuthMethod::Session { id: session.session, signed_in_at: app.clock.now() };
    let principal = Principal { tenant: app.tenant, identity: Identity::User { id: user, role: Role::Member }, auth };
    let new = || NewToken {
        name: "late".to_owned(),
        kind: TokenKind::Personal,
        audience: Audience::Api,
        scope: Scope::Read,
        expires_in: None,
    };
    let unkeyed = || Idempotency::unkeyed(app.clock.now());
    access.token_create(&principal, new(), &unkeyed()).await.unwrap();
    // While her row is being changed, whoever makes something for her waits, and then sees the change.
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    execute_sql(&tx, "UPDATE user_account SET disabled_at = 1 WHERE email = 'ana@acme.test'").await.unwrap();
    let late = tokio::spawn({
        let access = access.clone();
        let idempotency = unkeyed();
        async move { access.token_create(&principal, new(), &idempotency).await.map(drop) }
    });
    crate::harness::until_blocked(&app.slices().config.database_url).await;
    tx.wake(thinkwork_database::Topic::Access, user.uuid());
    tx.commit().await.unwrap();
    assert!(matches!(late.await.unwrap(), Err(Error::AccessChanged)));
    assert_eq!(owner.get("/v1/tokens").await.expect(200).json["items"].as_array().unwrap().len(), 1);
}
