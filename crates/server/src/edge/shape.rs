//! Whatever refuses a request says so in one of two shapes: as the usual error object below the addresses for machines, as
//! a page everywhere else. Also the router, which knows no such method, axum's extractors, and the layers that stop what
//! takes too long or panics.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

use super::error::ErrorMessage;
use super::{ApiError, Layout, RequestId};

/// Below these no page is; what is refused there is read by programs.
const API_PREFIXES: [&str; 5] = ["/v1", "/hooks", "/mcp", "/x", "/oauth"];

/// Whether errors at this path are JSON.
pub fn is_api_path(path: &str) -> bool {
    API_PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// The answer to a program: with the error object in it, where it is a refusal without a body of its own kind.
pub(super) fn as_json_error(response: Response) -> Response {
    if !is_refusal(&response) || has_own_body(&response) {
        return response;
    }
    with_headers_of(response.headers(), error(response.status()).into_response())
}

/// The answer to a person: a page, where it is a refusal of ours or one without a body of its own kind.
pub(super) fn as_error_page(response: Response) -> Response {
    let sentence = response.extensions().get::<ErrorMessage>().cloned();
    if !is_refusal(&response) || sentence.is_none() && has_own_body(&response) {
        return response;
    }
    let status = response.status();
    let message = sentence.map_or_else(|| error(status).sentence(), |ErrorMessage(text)| text.to_string());
    let title = match status {
        StatusCode::NOT_FOUND => "Nothing here",
        StatusCode::FORBIDDEN => "Not allowed",
        _ => "That did not work",
    };
    let request_id = RequestId::current().to_string();
    let page = ErrorPage { layout: Layout::public(title), message, request_id };
    let body = askama::Template::render(&page).unwrap_or_else(|_| title.to_owned());
    with_headers_of(response.headers(), (status, Html(body)).into_response())
}

#[derive(askama::Template)]
#[template(path = "edge/templates/error.html")]
struct ErrorPage {
    layout: Layout,
    message: String,
    request_id: String,
}

fn is_refusal(response: &Response) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// A body of a kind that its reader expects.
fn has_own_body(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("text/html") || kind.starts_with("text/event-stream")
}

fn with_headers_of(headers: &HeaderMap, mut shaped: Response) -> Response {
    for (name, value) in headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            shaped.headers_mut().insert(name, value.clone());
        }
    }
    shaped
}

fn error(status: StatusCode) -> ApiError {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            status,
            "method_not_allowed",
            "This method is not allowed here. See the Allow header for allowed methods.",
        ),
        StatusCode::GATEWAY_TIMEOUT => ApiError::new(
            status,
            "timeout",
            "The request timed out. It may still have been completed; check before you try again.",
        ),
        status if status.is_server_error() => {
            ApiError::internal(&std::io::Error::other("a handler panicked; its message is in the log before"))
        }
        status => ApiError::new(
            status,
            "refused",
            "The request is not valid. Check it against the documentation and try again.",
        ),
    }
}
