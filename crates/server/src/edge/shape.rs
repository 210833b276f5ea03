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
