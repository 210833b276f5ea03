//! The pages: sign-in, set-up, people, tokens, the own account.

use super::sessions::{PASSWORD, with_password};
use crate::harness::{Response, TestApp};

async fn sign_in(app: &TestApp, next: &str) -> Response {
    let fields = [("email", "owner@acme.test"), ("password", PASSWORD), ("next", next)];
    app.anonymous().form("/sign-in", &fields).await
}

#[tokio::test]
async fn l05_signing_in_leads_nowhere_else() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let table = [
        ("/me/spaces?x=1", "/me/spaces?x=1"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("https://evil.test", "/"),
        ("javascript:alert(1)", "/"),
    ];
    for (next, expect) in table {
        let answer = sign_in(&app, next).await.expect(303);
        assert_eq!(answer.header("location"), expect, "{next:?}");
    }
}

#[tokio::test]
async fn s13_a_sign_in_form_from_another_site_is_refused() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let client = app.anonymous();
    let body = format!("email=owner%40acme.test&password={}", PASSWORD.replace(' ', "+"));
    let form = |origin: &str| {
        let request = client.request("POST", "/sign-in").header("origin", origin.to_owned());
        request.header("content-type", "application/x-www-form-urlencoded").body(body.clone())
    };
    let refused = client.send(form("https://evil.test")).await.expect(403);
    assert!(refused.headers.get("set-cookie").is_none());
    client.send(form("null")).await.expect(403);
    client.send(form(&app.url(""))).await.expect(303);
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again_without_it() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let fields = [("email", "owner@acme.test"), ("password", "planted-secret-in-form")];
    let answer = app.anonymous().form("/sign-in", &fields).await.expect(403);
    assert!(answer.text.contains("owner@acme.test") && !answer.text.contains("planted-secret-in-form"));
    assert!(answer.text.contains("role=\"alert\""));
}

#[tokio::test]
async fn the_set_up_link_works_once_and_then_says_so_kindly() {
    let app = TestApp::new().await;
    let code = app.slices().access.setup_code(app.tenant, app.owner).await.unwrap();
    let code = code.expose_str().unwrap();
    let page = app.anonymous().get(&format!("/setup?code={code}")).await.expect(200);
    assert!(page.text.contains("owner@acme.test"));
    let differ = [("code", code), ("name", "Olivia"), ("password", PASSWORD), ("password_again", "something else")];
    app.anonymous().form("/setup", &differ).await.expect(422);
    let fields = [("code", code), ("name", "Olive"), ("password", PASSWORD), ("password_again", PASSWORD)];
    let done = app.anonymous().form("/setup", &fields).await.expect(303);
    assert_eq!(done.header("location"), "/admin");
    let mut owner = app.anonymous();
    owner.cookie = done.header("set-cookie").split(';').next().map(str::to_owned);
    assert_eq!(owner.get("/v1/me").await.expect(200).json["user"]["name"], "Olive");
    let gone = app.anonymous().get(&format!("/setup?code={code}")).await.expect(410);
    assert!(gone.text.contains("This link is no longer valid"));
    app.anonymous().form("/setup", &fields).await.expect(410);
}

#[tokio::test]
async fn an_operator_invites_disables_and_makes_tokens_on_pages() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    operator.get("/admin/people").await.expect(200);
    let fields = [("name", "Ana"), ("email", "ana@acme.test"), ("role", "member")];
    let shown = operator.submit("/admin/people", &fields).await.expect(200);
    assert!(shown.text.contains("/invitation?code="));
    assert!(!operator.get("/admin/people").await.text.contains("/invitation?code="));
    let users = operator.get("/v1/users").await;
    let ana = users.json["items"].as_array().unwrap().iter().find(|user| user["name"] == "Ana").unwrap().clone();
    let disable = format!("/admin/people/{}/disable", ana["id"].as_str().unwrap());
    operator.form(&disable, &[("confirm_name", "Anna")]).await.expect(422);
    operator.form(&disable, &[("confirm_name", "Ana")]).await.expect(303);
    assert!(operator.get("/admin/people").await.text.contains("Disabled"));
    let token = [("name", "Nightly"), ("audience", "api"), ("scope", "read"), ("days", "30")];
    let shown = operator.submit("/admin/tokens", &token).await.expect(200);
    assert!(shown.text.contains("tws_"));
    let page = operator.get("/admin/tokens").await.expect(200);
    assert!(page.text.contains("Nightly") && !page.text.contains("tws_"));
    operator.submit("/me/account/tokens", &token).await.expect(200);
    let account = operator.get("/me/account").await.expect(200);
    assert!(account.text.contains("This browser") && account.text.contains("Nightly"));
}

#[tokio::test]
async fn members_and_strangers_stay_out_of_the_operators_pages() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    for page in ["/admin/people", "/admin/tokens"] {
        ana.get(page).await.expect(403);
        let away = app.anonymous().get(page).await.expect(303);
        assert_eq!(away.header("location"), format!("/sign-in?next={}", page.replace('/', "%2F")));
    }
    ana.form("/admin/people", &[("name", "X"), ("email", "x@y.z"), ("role", "owner")]).await.expect(403);
    let token = [("name", "x"), ("audience", "api"), ("scope", "admin"), ("days", "1")];
    ana.form("/admin/tokens", &token).await.expect(403);
    let mut forged = ana.clone();
    forged.csrf = Some("guess".to_owned());
    forged.form("/me/account/tokens", &token).await.expect(403);
    ana.form("/sign-out", &[]).await.expect(303);
    ana.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn an_old_sign_in_is_sent_to_sign_in_again_and_back() {
    let app = TestApp::new().await;
    let operator = app.operator().await;
    app.clock.advance(std::time::Duration::from_secs(601));
    let token = [("name", "Nightly"), ("audience", "api"), ("scope", "read"), ("days", "30")];
    let away = operator.form("/admin/tokens", &token).await.expect(303);
    assert_eq!(away.header("location"), "/sign-in?again=1&next=/admin/tokens");
    // Signed in already, the page still offers the form instead of looping back.
    operator.get("/sign-in?again=1&next=/admin/tokens").await.expect(200);
    assert_eq!(operator.get("/sign-in?next=/me").await.expect(303).header("location"), "/me");
}
