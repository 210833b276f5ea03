//! The OAuth core inside the whole server: the callback's answer, a person who is disabled, the server's stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use serde_json::json;
use thinkwork::commands::serve::serve;
use thinkwork::oauth::{ClientSettings, Error};
use thinkwork_primitives::GrantTarget;
use tokio::net::TcpListener;

use super::{Issuer, access_token_query, consent, consent_at_issuer, query_of, text, use_of};
use crate::harness::{Client, Response, TestApp};

/// A whole server that knows one issuer's resource.
struct Whole {
    app: TestApp,
    issuer: Issuer,
    target: GrantTarget,
}

impl Whole {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let issuer = Issuer::start().await;
        let target = super::target();
        let oauth = &app.app.oauth;
        let client = ClientSettings {
            target,
            audience: super::AUDIENCE.to_owned(),
            discovered: oauth.discover(&issuer.resource(), None, Default::default()).await.unwrap(),
            pre_registered: None,
            pkce_though_silent: false,
            without_resource: false,
            scopes: None,
            without_offline_access: false,
            prompt: None,
            token_auth_method: None,
        };
        super::register(&app.app.db, oauth, app.tenant, client).await.unwrap();
        Self { app, issuer, target }
    }

    /// This person consents; the answer of the callback.
    async fn come_back(&self, person: &Client) -> Response {
        let (browser, path) = self.consented(person).await;
        browser.get(&path).await
    }

    /// This person consents; their browser and the way back.
    async fn consented(&self, person: &Client) -> (Client, String) {
        let consent = consent(&self.app.app.access, self.app.tenant, person.user.unwrap()).await;
        let started = self.app.app.oauth.start(&consent, self.target, "").await.unwrap();
        let (key, query) = consent_at_issuer(&started).await;
        let flow = started.set_cookie.split(';').next().unwrap();
        let mut browser = person.clone();
        browser.cookie = Some(format!("{}; {flow}", person.cookie.as_deref().unwrap()));
        (browser, format!("/oauth/callback/{key}?{query}"))
    }
}

/// The first person of a tenant is its owner, and somebody else consents.
#[tokio::test]
async fn l01_a_grant_is_its_starters_and_not_the_first_persons_of_the_tenant() {
    let whole = Whole::new().await;
    let owner = whole.app.owner().await;
    let ana = whole.app.member("ana").await;
    let bo = whole.app.member("bo").await;
    whole.come_back(&bo).await.expect(302);
    for (person, count) in [(&owner, 0), (&ana, 0), (&bo, 1)] {
        let mine = person.get("/v1/me/connections").await.expect(200);
        assert_eq!(mine.json["items"].as_array().unwrap().len(), count, "{}", mine.text);
    }
}

#[tokio::test]
async fn l03_nothing_that_is_stored_says_the_state() {
    let whole = Whole::new().await;
    let ana = whole.app.member("ana").await;
    let consent = consent(&whole.app.app.access, whole.app.tenant, ana.user.unwrap()).await;
    let started = whole.app.app.oauth.start(&consent, whole.target, "").await.unwrap();
    let state = query_of(&started.authorize_url)["state"].clone();
    let hex: String = state.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (table, rows) in crate::guards::tables::dump(&whole.app).await {
        let said = rows.iter().find(|row| row.contains(&state) || row.to_lowercase().contains(&hex));
        assert_eq!(said, None, "{table}");
    }
}

#[tokio::test]
async fn l12_the_callback_answers_with_a_302_by_the_server() {
    let whole = Whole::new().await;
    let ana = whole.app.member("ana").await;
    let answer = whole.come_back(&ana).await.expect(302);
    let to = answer.header("location").to_owned();
    assert!(to.starts_with("/me/connections?"), "{to}");
    assert_eq!(query_of(&to)["status"], "connected");
    assert!(answer.header("set-cookie").contains("Max-Age=0"), "the flow's cookie goes");
}

#[tokio::test]
async fn l28_a_disabled_persons_grants_are_revoked_at_the_provider_and_erased() {
    let whole = Whole::new().await;
    let owner = whole.app.owner().await;
    let ana = whole.app.member("ana").await;
    let bo = whole.app.member("bo").await;
    for person in [&ana, &bo] {
        whole.come_back(person).await.expect(302);
    }
    let credential_of = async |person: &Client| {
        let mut tx = whole.app.app.db.read(whole.app.tenant).await.unwrap();
        let user = person.user.unwrap();
        whole.app.app.oauth.connection(&mut tx, user, whole.target).await.unwrap().map(|found| found.credential)
    };
    let credential = credential_of(&ana).await.unwrap();
    let path = format!("/v1/users/{}", ana.user.unwrap());
    owner.patch(&path, json!({ "disabled": true })).await.expect(200);
    whole.app.run_pending_jobs().await;
    assert_eq!(whole.issuer.look(|seen| (seen.revoked.len(), seen.live_access.len())), (2, 1), "hers and no other's");
    assert!(credential_of(&ana).await.is_none());
    assert!(credential_of(&bo).await.is_some());
    let mut tx = whole.app.app.db.read(whole.app.tenant).await.unwrap();
    assert!(whole.app.app.credentials.describe(&mut tx, credential).await.unwrap().is_none(), "erased");
    drop(tx);
    let listed = owner.get("/v1/connections").await.expect(200);
    assert_eq!(listed.json["items"].as_array().unwrap().len(), 1, "{}", listed.text);
    let told = owner.get("/v1/audit?action=connection.ended").await.expect(200);
    assert_eq!(told.json["items"].as_array().unwrap().len(), 1, "{}", told.text);
    // Let in again, the person is not connected again.
    owner.patch(&path, json!({ "disabled": false })).await.expect(200);
    assert!(credential_of(&ana).await.is_none());
}

#[tokio::test]
async fn l23_over_http_members_see_and_end_their_own_and_operators_see_metadata_and_revoke() {
    let whole = Whole::new().await;
    let owner = whole.app.owner().await;
    let ana = whole.app.member("ana").await;
    let bo = whole.app.member("bo").await;
    for person in [&ana, &bo] {
        whole.come_back(person).await.expect(302);
    }
    let of = async |person: &Client| {
        let mine = person.get("/v1/me/connections").await.expect(200);
        assert_eq!(mine.json["items"].as_array().unwrap().len(), 1);
        assert_eq!(
            (mine.json["items"][0]["for"].as_str(), mine.json["items"][0]["status"].as_str()),
            (Some("mcp_server"), Some("connected"))
        );
        mine.json["items"][0]["id"].as_str().unwrap().to_owned()
    };
    let hers = of(&ana).await;
    let his = of(&bo).await;
    let user = ana.user.unwrap();
    let oauth = &whole.app.app.oauth;
    oauth.access_token(access_token_query(whole.app.tenant, user, whole.target, &use_of(user))).await.unwrap();
    let by_owner = use_of(owner.user.unwrap());
    let used = oauth.access_token(access_token_query(whole.app.tenant, user, whole.target, &by_owner)).await;
    assert!(matches!(used, Err(Error::NotConnected)), "an operator may revoke it, never use it");
    let uses = ana.get(&format!("/v1/me/connections/{hers}/uses")).await.expect(200);
    assert_eq!(uses.json["items"][0]["tool"], "notes__search", "{}", uses.text);
    assert_eq!(uses.json["items"][0]["requester"], json!({ "kind": "user", "id": user.to_string() }));
    ana.get(&format!("/v1/me/connections/{his}/uses")).await.expect(404);
    ana.delete(&format!("/v1/me/connections/{his}")).await.expect(404);
    ana.get("/v1/connections").await.expect(403);
    ana.post(&format!("/v1/connections/{his}/revoke"), json!({})).await.expect(403);
    owner.get(&format!("/v1/me/connections/{hers}/uses")).await.expect(404);
    let all = owner.get("/v1/connections").await.expect(200);
    assert_eq!(all.json["items"].as_array().unwrap().len(), 2);
    for token in whole.issuer.look(|seen| seen.live_access.clone()) {
        assert!(!all.text.contains(&token));
    }
    let expected = json!({ "revocations": [
        { "token": "refresh", "result": "revoked" }, { "token": "access", "result": "revoked" },
    ] });
    let revoked = owner.post(&format!("/v1/connections/{his}/revoke"), json!({})).await.expect(200);
    assert_eq!(revoked.json, expected);
    owner.post(&format!("/v1/connections/{his}/revoke"), json!({})).await.expect(404);
    assert_eq!(ana.delete(&format!("/v1/me/connections/{hers}")).await.expect(200).json, expected);
    assert!(whole.issuer.look(|seen| seen.live_access.is_empty()));
}

#[tokio::test]
async fn an_ended_flow_is_kept_for_a_day_and_then_forgotten() {
    let whole = Whole::new().await;
    let ana = whole.app.member("ana").await;
    whole.come_back(&ana).await.expect(302);
    let flows = async || {
        let connection = crate::guards::tables::connect(&whole.app).await;
        let found = crate::guards::tables::texts(&connection, "SELECT outcome FROM oauth_flow").await;
        connection.close().await.unwrap();
        found
    };
    thinkwork::worker::sweep(&whole.app.app).await;
    assert_eq!(flows().await, ["connected"]);
    whole.app.clock.advance(Duration::from_secs(86_401));
    thinkwork::worker::sweep(&whole.app.app).await;
    assert!(flows().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l70_a_refresh_that_has_begun_is_stored_before_the_server_ends() {
    let whole = Whole::new().await;
    let ana = whole.app.member("ana").await;
    whole.come_back(&ana).await.expect(302);
    whole.app.clock.advance(Duration::from_secs(3_590));
    let gate = Arc::clone(&whole.issuer.gate);
    gate.closed.store(true, Ordering::SeqCst);
    let app = Arc::clone(&whole.app.app);
    let tenant = whole.app.tenant;
    let user = ana.user.unwrap();
    let server = whole.target;
    let oauth = app.oauth.clone();
    let call = tokio::spawn(async move {
        oauth.access_token(access_token_query(tenant, user, server, &use_of(user))).await.map(drop)
    });
    gate.reached.notified().await;
    // Whoever asked went away, and then the server is told to stop.
    call.abort();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut serving = tokio::spawn(serve(app, listener, async move { drop(stopped.await) }));
    drop(stop);
    let early = tokio::time::timeout(Duration::from_millis(700), &mut serving).await;
    assert!(early.is_err(), "the server ended while the issuer's answer was under way");
    gate.closed.store(false, Ordering::SeqCst);
    gate.open.notify_one();
    serving.await.unwrap();
    let next = whole.app.second().await;
    let token = next.oauth.access_token(access_token_query(tenant, user, server, &use_of(user))).await.unwrap();
    assert!(whole.issuer.accepts(&text(&token)));
    assert_eq!(whole.issuer.look(|seen| seen.refreshes()), 1, "the rotated token was kept");
}

#[tokio::test]
async fn a_database_that_fails_at_the_callback_costs_no_consent() {
    let whole = Whole::new().await;
    let ana = whole.app.member("ana").await;
    let (browser, path) = whole.consented(&ana).await;
    let database = crate::guards::tables::connect(&whole.app).await;
    let rename = async |from: &str, to: &str| {
        database.execute_unprepared(&format!("ALTER TABLE {from} RENAME TO {to}")).await.unwrap();
    };
    rename("session", "session_away").await;
    browser.get(&path).await.expect(500);
    rename("session_away", "session").await;
    database.close().await.unwrap();
    let answer = browser.get(&path).await.expect(302);
    assert!(answer.header("location").contains("status=connected"), "{}", answer.header("location"));
}

#[tokio::test]
async fn l22_an_issuer_that_is_down_for_days_is_asked_until_it_answers_or_a_month_is_over() {
    for answers in [true, false] {
        let whole = Whole::new().await;
        let ana = whole.app.member("ana").await;
        whole.come_back(&ana).await.expect(302);
        let mine = ana.get("/v1/me/connections").await.expect(200);
        let id = mine.json["items"][0]["id"].as_str().unwrap().to_owned();
        let database = crate::guards::tables::connect(&whole.app).await;
        let sealed = "SELECT 'sealed' FROM credential_version v WHERE v.erased_at IS NULL";
        assert_eq!(crate::guards::tables::texts(&database, sealed).await.len(), 1);
        whole.issuer.set(|ways| ways.revoke_script.extend([503; 2_000]));
        ana.delete(&format!("/v1/me/connections/{id}")).await.expect(200);
        for _ in 0..30 {
            whole.app.clock.advance(Duration::from_secs(3_600));
            whole.app.run_pending_jobs().await;
        }
        assert_eq!(crate::guards::tables::texts(&database, sealed).await.len(), 1, "it is still to be revoked");
        if answers {
            whole.issuer.set(|ways| ways.revoke_script.clear());
            whole.app.clock.advance(Duration::from_secs(3_600));
        } else {
            whole.app.clock.advance(Duration::from_secs(30 * 86_400));
        }
        whole.app.run_pending_jobs().await;
        assert!(crate::guards::tables::texts(&database, sealed).await.is_empty(), "answers: {answers}");
        database.close().await.unwrap();
        assert_eq!(whole.issuer.look(|seen| seen.revoked.len()), if answers { 2 } else { 0 });
        let owner = whole.app.owner().await;
        let told = owner.get("/v1/audit?action=connection.revocation_failed").await.expect(200);
        assert_eq!(told.json["items"].as_array().unwrap().len(), usize::from(!answers), "{}", told.text);
        whole.app.clock.advance(Duration::from_secs(86_400));
        let mut tx = whole.app.app.db.read(whole.app.tenant).await.unwrap();
        let jobs = thinkwork_database::jobs::counts(&mut tx).await.unwrap();
        assert_eq!(jobs.parked, 0);
    }
}
