//! Inviting, roles, disabling.

use serde_json::json;
use thinkwork_primitives::Role;

use super::sessions::{PASSWORD, with_password};
use crate::harness::TestApp;

#[tokio::test]
async fn an_invited_person_sets_a_password_once_and_is_signed_in() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let body = json!({ "email": "Ana@acme.test", "name": "Ana", "role": "member" });
    let request = |client: &crate::harness::Client| {
        client.request("POST", "/v1/users").header("idempotency-key", "one").header("content-type", "application/json")
    };
    let made = owner.send(request(&owner).body(body.to_string())).await.expect(201);
    assert_eq!(made.header("location"), format!("/v1/users/{}", made.text_of("id")));
    let url = url::Url::parse(&made.text_of("invite_url")).unwrap();
    assert_eq!(url.path(), "/invitation");
    let again = owner.send(request(&owner).body(body.to_string())).await.expect(409);
    assert_eq!(again.code(), "secret_already_shown");
    assert!(again.text.contains(&made.text_of("id")));
    assert_eq!(owner.post("/v1/users", body).await.expect(409).code(), "email_taken");

    let code = url.query_pairs().next().unwrap().1.into_owned();
    let accept = json!({ "code": code, "password": PASSWORD });
    let session = app.anonymous().post("/v1/invitations/accept", accept.clone()).await.expect(200);
    let mut ana = app.anonymous();
    ana.cookie = session.header("set-cookie").split(';').next().map(str::to_owned);
    assert_eq!(ana.get("/v1/me").await.expect(200).json["user"]["email"], "Ana@acme.test");
    assert_eq!(app.anonymous().post("/v1/invitations/accept", accept).await.expect(410).code(), "code_expired");
    let renew = format!("/v1/users/{}/invitation", made.text_of("id"));
    assert_eq!(owner.post(&renew, json!({})).await.expect(409).code(), "already_accepted");
}

#[tokio::test]
async fn an_invitation_ends_after_seven_days_and_a_new_one_ends_the_old() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let made = owner.post("/v1/users", json!({ "email": "a@b.c", "name": "A", "role": "member" })).await.expect(201);
    let code_of = |answer: &crate::harness::Response| {
        let url = url::Url::parse(&answer.text_of("invite_url")).unwrap();
        url.query_pairs().next().unwrap().1.into_owned()
    };
    let renewed = owner.post(&format!("/v1/users/{}/invitation", made.text_of("id")), json!({})).await.expect(200);
    let accept = async |code: String| {
        app.anonymous().post("/v1/invitations/accept", json!({ "code": code, "password": PASSWORD })).await.status
    };
    assert_eq!(accept(code_of(&made)).await, 410);
    app.clock.advance(std::time::Duration::from_secs(7 * 86_400));
    assert_eq!(accept(code_of(&renewed)).await, 410);
}

#[tokio::test]
async fn l28_a_disabled_person_loses_everything_at_once() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    let mint = json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["read"] });
    let token = ana.post("/v1/tokens", mint).await.expect(201);
    let bearer = app.bearer(&token.text_of("token"));
    bearer.get("/v1/me").await.expect(200);
    let path = format!("/v1/users/{}", ana.user.unwrap());
    let changed = owner.patch(&path, json!({ "disabled": true })).await.expect(200);
    assert_eq!(changed.json["disabled"], true);
    ana.get("/v1/me").await.expect(401);
    bearer.get("/v1/me").await.expect(401);
    assert!(app.slices().access.session_create(app.tenant, ana.user.unwrap(), "x").await.is_err());
    // Let in again, the person has to sign in again, and the tokens stay revoked.
    owner.patch(&path, json!({ "disabled": false })).await.expect(200);
    ana.get("/v1/me").await.expect(401);
    bearer.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn roles_take_effect_with_the_next_request() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.member("ana").await;
    ana.get("/v1/users").await.expect(403);
    let path = format!("/v1/users/{}", ana.user.unwrap());
    owner.patch(&path, json!({ "role": "operator" })).await.expect(200);
    ana.get("/v1/users").await.expect(200);
    assert_eq!(ana.patch(&path, json!({ "role": "owner" })).await.expect(403).code(), "needs_owner");
    let owner_path = format!("/v1/users/{}", app.owner);
    assert_eq!(ana.patch(&owner_path, json!({ "disabled": true })).await.expect(403).code(), "needs_owner");
    with_password(&app).await;
    let owner = app.owner().await;
    assert_eq!(owner.patch(&owner_path, json!({ "role": "member" })).await.expect(409).code(), "last_owner");
    owner.patch(&path, json!({ "role": "member" })).await.expect(200);
    ana.get("/v1/users").await.expect(403);
}

#[tokio::test]
async fn a_change_names_the_version_it_was_made_from() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let ana = app.user("ana", Role::Member).await;
    let rename = async |version: &str| {
        let request = owner.request("PATCH", &format!("/v1/users/{ana}")).header("if-match", version);
        owner.send(request.header("content-type", "application/json").body(r#"{"name":"Anna"}"#)).await
    };
    assert_eq!(rename("\"1\"").await.expect(200).json["version"], 2);
    rename("1").await.expect(412);
    rename("*").await.expect(200);
}

#[tokio::test]
async fn l80_people_of_another_tenant_do_not_exist() {
    let app = TestApp::new().await;
    let owner = app.owner().await;
    let made = app.slices().access.tenant_create("other", "Other", "owner@other.test", "Otto").await.unwrap();
    let path = format!("/v1/users/{}", made.owner);
    owner.patch(&path, json!({ "disabled": true })).await.expect(404);
    owner.post(&format!("{path}/invitation"), json!({})).await.expect(404);
    let list = owner.get("/v1/users").await.expect(200);
    assert!(!list.text.contains("other.test"));
    owner.patch("/v1/users/usr_nonsense", json!({})).await.expect(404);
}

#[tokio::test]
async fn a_person_changes_their_password_with_the_present_one_and_is_signed_out_elsewhere() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let here = app.owner().await;
    let elsewhere = app.owner().await;
    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    let wrong = here.put("/v1/me/password", change("not my password", "another good password")).await.expect(422);
    assert!(wrong.text.contains("current_password"), "{}", wrong.text);
    here.put("/v1/me/password", change(PASSWORD, "short")).await.expect(422);
    elsewhere.get("/v1/me").await.expect(200);
    here.put("/v1/me/password", change(PASSWORD, "another good password")).await.expect(204);
    here.get("/v1/me").await.expect(200);
    elsewhere.get("/v1/me").await.expect(401);
    let sign_in = async |password: &str| {
        app.anonymous().post("/v1/sessions", json!({ "email": "owner@acme.test", "password": password })).await.status
    };
    assert_eq!((sign_in(PASSWORD).await, sign_in("another good password").await), (401, 201));
    let told = here.get("/v1/audit?action=user.password_changed").await.expect(200);
    assert_eq!(told.json["items"][0]["detail"]["sessions_ended"], 1, "{}", told.text);
    // Guessing at the present password is throttled, whoever holds the session.
    app.begin_window(300);
    let mut last = 0;
    for _ in 0..12 {
        last = here.put("/v1/me/password", change("not my password", "another good password")).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn the_account_page_changes_the_password() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let owner = app.owner().await;
    assert!(owner.get("/me/account").await.expect(200).text.contains("Change password"));
    let form = |again: &'static str| {
        [("current_password", PASSWORD), ("password", "another good password"), ("password_again", again)]
    };
    let differs = owner.form("/me/account/password", &form("a different password")).await.expect(422);
    assert!(differs.text.contains("The passwords do not match"), "{}", differs.text);
    let done = owner.submit("/me/account/password", &form("another good password")).await.expect(200);
    assert!(done.text.contains("Your password was changed"));
}

#[tokio::test]
async fn a_forgotten_password_is_mended_by_a_link_from_the_machine() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let access = &app.slices().access;
    let code = access.setup_code_of("acme", "Owner@Acme.test").await.unwrap();
    assert!(access.setup_code_of("acme", "nobody@acme.test").await.is_err());
    assert!(access.setup_code_of("other", "owner@acme.test").await.is_err());
    let fields = [
        ("code", code.expose_str().unwrap()),
        ("name", "Olivia"),
        ("password", "another good password"),
        ("password_again", "another good password"),
    ];
    let before = app.owner().await;
    app.anonymous().form("/setup", &fields).await.expect(303);
    before.get("/v1/me").await.expect(401);
    let sign_in = json!({ "email": "owner@acme.test", "password": "another good password" });
    app.anonymous().post("/v1/sessions", sign_in).await.expect(201);
    let gone = json!({ "code": code.expose_str().unwrap(), "password": "a third good password" });
    app.anonymous().post("/v1/invitations/accept", gone).await.expect(410);
}
