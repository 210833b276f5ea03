//! Host, Origin, cookies and the headers of every page, error and export.

use std::net::SocketAddr;

use serde_json::json;
use thinkwork::app::App;
use tokio::net::TcpListener;

use super::fixture::Fixture;
use super::operations::{Who, described};
use super::tables;
use super::walk::pages::routes;
use crate::harness::{Response, TestApp};

const FOREIGN_HOSTS: [&str; 9] = [
    "evil.test",
    "evil.test:80",
    "127.0.0.1.evil.test",
    "localhost.evil.test",
    "evil.test:80@127.0.0.1",
    "127.0.0.1:80:evil",
    "[::1]evil.test",
    "169.254.169.254",
    "xn--localhost-",
];

fn policy(answer: &Response) -> Vec<&str> {
    answer.header("content-security-policy").split(';').map(str::trim).collect()
}

/// What no answer of ours goes without.
#[track_caller]
fn secured(what: &str, answer: &Response) {
    let policy = policy(answer);
    let sandboxed = policy == ["default-src 'none'", "sandbox"];
    let wanted = [
        "default-src 'self'",
        "img-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    ];
    assert!(sandboxed || wanted.iter().all(|part| policy.contains(part)), "{what}: {policy:?}");
    assert!(!policy.iter().any(|part| part.contains("unsafe") || part.contains('*')), "{what}: {policy:?}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{what}: {name}");
    }
    let cached = answer.header("cache-control");
    assert!(cached == "no-store" || what.contains("/assets/") || what.contains("favicon"), "{what}: {cached}");
    let shared = answer.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(shared, None, "{what}: other sites may not read our answers");
}

/// A page loads nothing from elsewhere and holds nothing that the policy would have to allow.
#[track_caller]
fn inert(what: &str, answer: &Response) {
    if !answer.header("content-type").starts_with("text/html") {
        return;
    }
    let page = answer.text.to_lowercase();
    let handlers = [" onclick=", " onload=", " onerror=", " onsubmit=", " style=\"", "<style", "javascript:"];
    let elsewhere = ["src=\"http", "src=\"//", "<iframe", "<object", "<embed", "@import"];
    for part in handlers.iter().chain(&elsewhere) {
        assert!(!page.contains(part), "{what} holds {part}");
    }
    for script in page.split("<script").skip(1) {
        assert!(script.trim_start().starts_with("src=\"/assets/") || script.contains("src=\"/assets/"), "{what}");
    }
}

#[tokio::test]
async fn s23_every_page_answer_and_error_carries_its_headers() {
    let fixture = Fixture::new().await;
    let mut paths: Vec<String> = Vec::new();
    for route in routes().iter().filter(|route| route.get) {
        let path = route.path.replace("{name}", "app.css").replace("{key}", "unknown");
        paths.push(fixture.fill(&path));
    }
    for operation in described(&fixture.app).await {
        if !operation.is_change() && !operation.path.ends_with("/stream") {
            paths.push(fixture.fill(&operation.path));
        }
    }
    paths.extend(["/nowhere", "/v1/nowhere", "/me/threads/x", "/x/y", "/assets/none.css"].map(str::to_owned));
    for path in &paths {
        for (name, who) in
            [("owner", &fixture.owner), ("member", &fixture.carl), ("stranger", &fixture.app.anonymous())]
        {
            let answer = who.get(path).await;
            assert!(answer.status < 500, "{path}: {}", answer.text);
            secured(&format!("{name}: GET {path}"), &answer);
            inert(&format!("{name}: GET {path}"), &answer);
        }
    }
    // Errors before any handler: a wrong method, a body too large, a host of others.
    let owner = &fixture.owner;
    secured("405", &owner.send(owner.request("PUT", "/me")).await.expect(405));
    secured("405 of the API", &owner.send(owner.request("POST", "/v1/me")).await.expect(405));
    secured("413", &owner.post("/v1/spaces", json!({ "slug": "x".repeat(300_000) })).await.expect(413));
    secured("421", &owner.send(owner.request("GET", "/me").header("host", "evil.test")).await.expect(421));
    secured("404 of a hook", &owner.post("/hooks/none", json!({})).await.expect(404));
}

#[tokio::test]
async fn s23_exports_are_attachments_that_run_nothing() {
    let fixture = Fixture::new().await;
    for path in ["/v1/audit/export".to_owned(), fixture.fill("/v1/threads/{id}/export")] {
        let who = if path.contains("audit") { &fixture.owner } else { &fixture.ana };
        let answer = who.get(&path).await.expect(200);
        assert_eq!(policy(&answer), ["default-src 'none'", "sandbox"], "{path}");
        assert!(answer.header("content-disposition").starts_with("attachment; filename=\""), "{path}");
        let kind = answer.header("content-type");
        assert!(["application/json", "application/x-ndjson"].contains(&kind), "{path}: {kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn s23_a_forged_host_is_421_and_stands_in_no_answer() {
    let fixture = Fixture::new().await;
    let before = tables::dump(&fixture.app).await;
    let space = json!({ "slug": "forged", "name": "Forged", "access": "public" }).to_string();
    for host in FOREIGN_HOSTS {
        for path in ["/me", "/v1/me", "/sign-in", "/livez", "/v1/openapi.json", "/mcp/spaces/x"] {
            let request = fixture.owner.request("GET", path).header("host", host).header("accept", "text/html");
            let answer = fixture.owner.send(request).await;
            assert_eq!((answer.status, answer.code()), (421, "misdirected"), "{host}{path}");
            assert!(!answer.text.contains("evil"), "{host}");
        }
        let request = fixture.owner.request("POST", "/v1/spaces").header("host", host);
        let request = request.header("content-type", "application/json").body(space.clone());
        fixture.owner.send(request).await.expect(421);
    }
    // Headers that name another host count for nothing.
    let me = fixture.app.anonymous().request("GET", "/me").header("x-forwarded-host", "evil.test");
    let me = fixture.app.anonymous().send(me.header("forwarded", "host=evil.test;proto=https")).await.expect(303);
    assert_eq!(me.header("location"), "/sign-in?next=%2Fme");
    let hook = fixture.owner.request("GET", &fixture.fill("/v1/webhooks/{id}")).header("x-forwarded-host", "evil.test");
    let hook = fixture.owner.send(hook).await.expect(200);
    assert!(hook.text_of("url").starts_with(fixture.app.slices().config.public_url.as_str()), "{}", hook.text);
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn s23_another_loopback_name_leads_to_the_public_address() {
    let app = TestApp::new().await;
    let port = app.address.port();
    for host in [format!("localhost:{port}"), format!("[::1]:{port}"), "localhost".to_owned()] {
        let page = app.anonymous().request("GET", "/me/spaces?limit=1&x=//evil.test").header("host", &host);
        let answer = app.anonymous().send(page.header("accept", "text/html,*/*")).await.expect(308);
        let wanted = format!("http://{}/me/spaces?limit=1&x=//evil.test", app.address);
        assert_eq!(answer.header("location"), wanted, "{host}");
        // A program that asks for no page is answered where it asked.
        app.anonymous().send(app.anonymous().request("GET", "/livez").header("host", &host)).await.expect(200);
        let form = app.anonymous().request("POST", "/sign-in").header("host", &host).header("accept", "text/html");
        let form = form.header("origin", format!("http://{host}"));
        assert_ne!(app.anonymous().send(form).await.status, 308, "a form is not sent on");
    }
    let path = app.anonymous().request("GET", "//evil.test/..%2f").header("host", format!("localhost:{port}"));
    let answer = app.anonymous().send(path.header("accept", "text/html")).await;
    let location = answer.header("location");
    assert!(location.is_empty() || location.starts_with(&format!("http://{}/", app.address)), "{location}");
}

#[tokio::test]
async fn s23_a_foreign_origin_is_403_on_every_unsafe_method_and_on_mcp() {
    let fixture = Fixture::new().await;
    let before = tables::dump(&fixture.app).await;
    let port = fixture.app.address.port();
    let origins = [
        "https://evil.test".to_owned(),
        "null".to_owned(),
        "http://127.0.0.1".to_owned(),
        format!("https://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}.evil.test"),
        String::new(),
    ];
    for origin in &origins {
        for operation in described(&fixture.app).await.iter().filter(|operation| operation.is_change()) {
            let who =
                if matches!(operation.who(), Who::Public(_)) { fixture.app.anonymous() } else { fixture.owner.clone() };
            let request = who.request(&operation.method, &fixture.fill(&operation.path)).header("origin", origin);
            let answer = who.send(request).await;
            assert_eq!((answer.status, answer.code()), (403, "foreign_origin"), "{} {origin}", operation.name);
        }
        for route in routes().iter().filter(|route| route.post && !route.path.contains("{key}")) {
            let request = fixture.owner.request("POST", &fixture.fill(&route.path)).header("origin", origin);
            assert_eq!(fixture.owner.send(request).await.code(), "foreign_origin", "{} {origin}", route.path);
        }
        let gateway = fixture.fill("/mcp/spaces/{space_id}");
        for method in ["GET", "POST", "DELETE"] {
            let request = fixture.owner.request(method, &gateway).header("origin", origin);
            assert_eq!(fixture.owner.send(request).await.code(), "foreign_origin", "{method} {gateway} {origin}");
        }
        // Reading from elsewhere is answered, and the browser is not told that it may read on.
        let request = fixture.owner.request("GET", "/v1/me").header("origin", origin);
        secured("GET from elsewhere", &fixture.owner.send(request).await.expect(200));
        let preflight = fixture.owner.request("OPTIONS", "/v1/spaces").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST");
        secured("preflight", &fixture.owner.send(preflight).await);
    }
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn s23_cookies_are_for_this_host_https_and_no_script() {
    let fixture = Fixture::new().await;
    let app = &fixture.app;
    let carl = fixture.carl.user.unwrap();
    let password = thinkwork_primitives::Secret::from_text("a long enough password".to_owned());
    app.slices().access.password_set(app.tenant, carl, &password).await.unwrap();
    let body = json!({ "email": "carl@acme.test", "password": "a long enough password" });
    let signed_in = app.anonymous().post("/v1/sessions", body).await.expect(201);
    let connect = fixture.fill("/v1/me/mcp-servers/{id}/connect");
    let started = fixture.owner.post(&connect, json!({})).await.expect(200);
    let pressed = fixture.owner.form(&fixture.fill("/me/mcp-servers/{id}/connect"), &[]).await.expect(200);
    let mut count = 0;
    for answer in [&signed_in, &started, &pressed] {
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let flags: Vec<&str> = cookie.split("; ").skip(1).collect();
            assert!(cookie.starts_with("__Host-tw_"), "{cookie}");
            for flag in ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"] {
                assert!(flags.contains(&flag), "{cookie} without {flag}");
            }
            assert!(!flags.iter().any(|flag| flag.starts_with("Domain")), "{cookie}");
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} cookies were set");
    assert!(!pressed.text.contains(app.slices().config.public_url.as_str()), "the page moves on to the provider");
}

/// A deployment behind https: loopback names are foreign there too, and only its own origin may change something.
#[tokio::test]
async fn s23_a_public_deployment_answers_its_own_name_only() {
    let app = TestApp::new().await;
    let mut config = app.slices().config.clone();
    config.public_url = "https://work.acme.test/".parse().unwrap();
    config.outbound.allow_loopback = false;
    let public = App::build(config, app.clock.clone()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let routes = thinkwork::router::router(&public).into_make_service_with_connect_info::<SocketAddr>();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = async |host: &str| {
        let request = http.get(format!("{base}/sign-in")).header("host", host).header("accept", "text/html");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(get("work.acme.test").await, 200);
    assert_eq!(get("WORK.acme.test").await, 200);
    for host in ["localhost", "127.0.0.1", "[::1]", "work.acme.test.evil.test", "work.acme.test:8443", "acme.test"] {
        assert_eq!(get(host).await, 421, "{host}");
    }
    for (origin, status) in [("https://work.acme.test", 415), ("http://work.acme.test", 403), ("null", 403)] {
        let request = http.post(format!("{base}/v1/sessions")).header("host", "work.acme.test");
        assert_eq!(request.header("origin", origin).send().await.unwrap().status().as_u16(), status, "{origin}");
    }
}
