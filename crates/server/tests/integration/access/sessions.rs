//! Sign-in, sign-out, cookies and CSRF.

use serde_json::json;
use thinkwork_primitives::{Role, Secret};

use crate::harness::{Client, TestApp};

pub const PASSWORD: &str = "correct horse battery";

/// Gives the owner a password.
pub async fn with_password(app: &TestApp) {
    let password = Secret::from_text(PASSWORD.to_owned());
    app.slices().access.password_set(app.tenant, app.owner, &password).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_sets_a_host_cookie_that_scripts_and_other_sites_cannot_use() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let body = json!({ "email": "owner@acme.test", "password": PASSWORD });
    let answer = app.anonymous().post("/v1/sessions", body).await.expect(201);
    let cookies: Vec<&str> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let session = cookies.iter().find(|cookie| cookie.starts_with("__Host-tw_session=")).unwrap();
    for part in ["; Path=/;", "; HttpOnly", "; Secure", "; SameSite=Lax"] {
        assert!(session.contains(part), "{session} lacks {part}");
    }
    assert!(!session.contains("Domain"));
    let mut client = app.anonymous();
    client.cookie = session.split(';').next().map(str::to_owned);
    let me = client.get("/v1/me").await.expect(200);
    assert_eq!(me.json["user"]["email"], "owner@acme.test");
    assert_eq!(client.delete("/v1/sessions/current").await.expect(403).code(), "csrf");
    client.csrf = Some(answer.text_of("csrf_token"));
    let gone = client.delete("/v1/sessions/current").await.expect(204);
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    client.get("/v1/me").await.expect(401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_e_mail_get_the_same_answer() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let try_as = async |email: &str| {
        let body = json!({ "email": email, "password": "not the password" });
        let answer = app.anonymous().post("/v1/sessions", body).await.expect(401);
        assert!(answer.headers.get("set-cookie").is_none());
        (answer.code().to_owned(), answer.json["error"]["message"].clone())
    };
    assert_eq!(try_as("owner@acme.test").await, try_as("nobody@acme.test").await);
}

#[tokio::test]
async fn l65_tries_are_limited_across_processes() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let body = json!({ "email": "owner@acme.test", "password": "not the password" });
    let mut last = 0;
    app.begin_window(300);
    for _ in 0..11 {
        last = app.anonymous().post("/v1/sessions", body.clone()).await.status;
    }
    assert_eq!(last, 429);
    let answer = app.anonymous().post("/v1/sessions", body).await.expect(429);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 300);
}

#[tokio::test]
async fn people_list_and_end_their_own_sessions_only() {
    let app = TestApp::new().await;
    let ana = app.member("ana").await;
    let other = app.session_of(ana.user.unwrap()).await;
    let list = ana.get("/v1/me/sessions").await.expect(200);
    let items = list.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    let elsewhere = items.iter().find(|item| item["current"] == false).unwrap()["id"].as_str().unwrap().to_owned();
    let ben = app.member("ben").await;
    ben.delete(&format!("/v1/me/sessions/{elsewhere}")).await.expect(404);
    ana.delete(&format!("/v1/me/sessions/{elsewhere}")).await.expect(204);
    other.get("/v1/me").await.expect(401);
    ana.get("/v1/me").await.expect(200);
    ana.delete("/v1/me/sessions/ses_nonsense").await.expect(404);
}

#[tokio::test]
async fn sign_ins_are_in_the_record_without_e_mails() {
    let app = TestApp::new().await;
    with_password(&app).await;
    for password in [PASSWORD, "not the password"] {
        app.anonymous().post("/v1/sessions", json!({ "email": "owner@acme.test", "password": password })).await;
    }
    let operator = app.session_of(app.user("op", Role::Operator).await).await;
    let record = operator.get("/v1/audit?limit=200").await.expect(200);
    for action in ["user.signed_in", "sign_in.refused", "user.password_set", "tenant.created"] {
        assert!(record.text.contains(action), "{action} is not in the record");
    }
    assert!(!record.text.contains("acme.test"), "an e-mail is in the record");
}

#[tokio::test]
async fn l65_tries_at_one_process_count_at_the_other() {
    let app = TestApp::new().await;
    with_password(&app).await;
    let body = json!({ "email": "owner@acme.test", "password": "not the password" });
    let mut last = 0;
    app.begin_window(300);
    for _ in 0..11 {
        last = app.anonymous().post("/v1/sessions", body.clone()).await.status;
    }
    assert_eq!(last, 429);
    let second = app.second().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = Client::at(format!("http://{}", listener.local_addr().unwrap()));
    let routes = thinkwork::router::router(&second).into_make_service_with_connect_info::<std::net::SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let request = elsewhere.request("POST", "/v1/sessions").header("host", app.address.to_string());
    elsewhere.send(request.header("content-type", "application/json").body(body.to_string())).await.expect(429);
    server.abort();
}
