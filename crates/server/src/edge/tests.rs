//! What the layers refuse, in the layers that refuse it.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use thinkwork_linear_time::{assert_linear, assert_linear_in};
use thinkwork_primitives::{TraceContext, limits};
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use super::cookies::{SESSION_COOKIE, cookie};
use super::host::AllowedHost;
use super::proxy::TrustedProxies;
use super::visible::visible;
use super::{shape, validation};

async fn panics() -> &'static str {
    panic!("on purpose")
}

async fn answer(method: &str, path: &str) -> (u16, String, serde_json::Value) {
    let routes = Router::new()
        .route("/v1/panics", get(panics))
        .route("/v1/waits", get(std::future::pending::<&'static str>))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(1)))
        .layer(CatchPanicLayer::new())
        .layer(axum::middleware::map_response(async |response: Response| shape::as_json_error(response)));
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = routes.oneshot(request).await.unwrap();
    let allow = response.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, allow, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn what_the_layers_refuse_is_an_error_object() {
    for (method, path, status, code) in [
        ("GET", "/v1/panics", 500, "internal"),
        ("GET", "/v1/waits", 504, "timeout"),
        ("PUT", "/v1/panics", 405, "method_not_allowed"),
    ] {
        let (answered, allow, body) = answer(method, path).await;
        assert_eq!((answered, body["error"]["code"].as_str()), (status, Some(code)), "{path}: {body}");
        assert!(body["error"]["request_id"].as_str().is_some_and(|id| id.starts_with("req_")));
        assert_eq!(allow, if status == 405 { "GET,HEAD" } else { "" });
    }
}

/// What a server accepts of all headers of a request.
const HEADER_BYTES: usize = 65_536;

fn with_header(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

#[test]
fn l108_headers_are_read_in_linear_time() {
    let address = std::net::IpAddr::from([10, 0, 0, 1]);
    let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
    let marks = ["10.0.0.1,", ",", "[::1]", ":", " "];
    assert_linear(&marks, HEADER_BYTES, |value| proxies.sender(address, &with_header("x-forwarded-for", value)));
    assert_linear(&["a=b;", ";", "=", "__Host-tw_session", " "], HEADER_BYTES, |value| {
        cookie(&with_header("cookie", value), SESSION_COOKIE).map(str::to_owned)
    });
    assert_linear(&["0", "-", "00-", "f"], HEADER_BYTES, |value| value.parse::<TraceContext>());
    let allowed = AllowedHost::new(&url::Url::parse("http://localhost:8080").unwrap());
    for name in ["host", "origin", "accept"] {
        assert_linear(&["localhost", ":", "text/html", "[", "1"], HEADER_BYTES, |value| {
            let mut request = Request::new(Body::empty());
            *request.headers_mut() = with_header("host", "127.0.0.1:8080");
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
            allowed.refusal(&request).is_some()
        });
    }
    let path = |bytes: usize| format!("/{}", "a/../".repeat(bytes / 5)).parse::<axum::http::Uri>().unwrap();
    assert_linear_in(HEADER_BYTES - 8, path, |uri| {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = with_header("host", "127.0.0.1:8080");
        request.headers_mut().insert("accept", HeaderValue::from_static("text/html"));
        allowed.refusal(&request).is_some()
    });
}

#[test]
fn l108_text_of_people_is_read_in_linear_time() {
    // A part of the largest body: it keeps the test short, and what is quadratic takes seconds for it.
    const TEXT_BYTES: usize = limits::API_BODY_BYTES_MAX / 8;
    let marks = ["a", "\u{202e}", "\n", "\u{1f600}"];
    assert_linear(&marks, TEXT_BYTES, |text| (visible(text), validation::name(text).is_some()));
    assert_linear(&["csrf=", "&", "%41", "+", "a=b&"], TEXT_BYTES, |form| {
        serde_urlencoded::from_str::<std::collections::BTreeMap<String, String>>(form)
    });
    assert_linear(&["0", "CHAT-", "_"], HEADER_BYTES, |id| id.parse::<thinkwork_primitives::ThreadId>().is_ok());
}
