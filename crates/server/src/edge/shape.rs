//! Whatever refuses a request below the addresses for machines says so as the usual error object: also the router, which
//! knows no such method, and the layers that stop what takes too long or panics.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::ApiError;

/// Below these no page is; what is refused there is read by programs.
const FOR_MACHINES: [&str; 5] = ["/v1", "/hooks", "/mcp", "/x", "/oauth"];

/// Whether errors at this path are JSON.
pub fn is_for_machines(path: &str) -> bool {
    FOR_MACHINES.iter().any(|prefix| path.starts_with(prefix))
}

/// The answer with the error object in it, where it is a refusal without a body of its own kind.
pub(super) fn spelled_out(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || says_enough(&response) {
        return response;
    }
    let mut shaped = error(status).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            shaped.headers_mut().insert(name, value.clone());
        }
    }
    shaped
}

/// An error object, or a page for people.
fn says_enough(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("text/html") || kind.starts_with("text/event-stream")
}

fn error(status: StatusCode) -> ApiError {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            status,
            "method_not_allowed",
            "This address does not take this method; use one that the header Allow names.",
        ),
        StatusCode::GATEWAY_TIMEOUT => ApiError::new(
            status,
            "timeout",
            "This took too long and was stopped, and may be done all the same; look before you send it again.",
        ),
        status if status.is_server_error() => {
            ApiError::internal(&std::io::Error::other("a handler panicked; its message is in the log before"))
        }
        status => ApiError::new(
            status,
            "refused",
            "The request cannot be taken as it was sent; compare it with the documentation and send it again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::middleware::map_response;
    use axum::routing::get;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;
    use tower_http::timeout::TimeoutLayer;

    use super::*;

    const PANICS: &str = "/v1/panics";
    const WAITS: &str = "/v1/waits";

    async fn panics() -> &'static str {
        panic!("on purpose")
    }

    async fn answer(method: &str, path: &str) -> (u16, String, serde_json::Value) {
        let routes = Router::new()
            .route(PANICS, get(panics))
            .route(WAITS, get(|| std::future::pending::<&'static str>()))
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(1)))
            .layer(CatchPanicLayer::new())
            .layer(map_response(async |response: Response| spelled_out(response)));
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
}
