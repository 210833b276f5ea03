//! What the layers refuse, in the layers that refuse it.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use super::shape;

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
