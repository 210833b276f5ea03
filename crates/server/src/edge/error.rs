//! One error for every route: a status, a code, a sentence for the client and, apart from it, a text for the log.
//!
//! Invariant: the client's sentence says what to do and holds no detail of the inside.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What a JSON route answers when it does not do what was asked.
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable word in snake case.
    pub code: &'static str,
    /// One sentence that says what to do.
    pub message: String,
    /// What is wrong with which field, where a body was read.
    pub fields: Vec<(String, String)>,
    /// The resource that is in the way, where it helps to name it.
    pub id: Option<Box<str>>,
    /// Seconds after which to try again.
    pub retry_after_seconds: Option<u64>,
    /// For the log only.
    pub log: Option<Box<str>>,
}

impl ApiError {
    /// An error of this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            fields: Vec::new(),
            id: None,
            retry_after_seconds: None,
            log: None,
        }
    }

    /// 404: there is no such thing, or the caller may not know of it.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here that you can see; check the address.")
    }

    /// 401: nobody is signed in.
    pub fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "Sign in, or send a valid token as Authorization: Bearer.")
    }

    /// 403 with a sentence that says who may.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 409 with a sentence that says what is in the way.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422 about one field.
    pub fn invalid(field: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let mut error = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            format!("The field {field} is not acceptable: {problem}"),
        );
        error.fields.push((field.to_owned(), problem));
        error
    }

    /// 415: the body must be JSON and say so.
    pub fn not_json_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Send the body as Content-Type: application/json.",
        )
    }

    /// 503: try again later.
    pub fn unavailable(retry_after_seconds: u64, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        error.retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// 429: try again later.
    pub fn too_many(retry_after_seconds: u64, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        error.retry_after_seconds = Some(retry_after_seconds);
        error
    }

    /// 500 with the whole chain for the log and nothing of it for the client.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        let mut answer = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something failed here; nothing was changed. Try again, and give the operator the request id if it stays.",
        );
        answer.log = Some(chain.into());
        answer
    }
}

impl From<thinkwork_database::Error> for ApiError {
    fn from(error: thinkwork_database::Error) -> Self {
        Self::internal(&error)
    }
}

/// What a refusal looks like.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    #[schema(inline)]
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// A stable word in snake case.
    code: &'static str,
    /// One sentence that says what to do.
    message: String,
    /// Under which the log says more.
    request_id: String,
    /// What is wrong with which field or parameter, where one is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    fields: BTreeMap<String, String>,
    /// The thing that is in the way, where it helps to name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let request_id = super::headers::new_request_id();
        if let Some(log) = &self.log {
            tracing::error!(%request_id, code = self.code, error = %log, "a request failed");
        }
        let error = ErrorDetail {
            code: self.code,
            message: self.message,
            request_id,
            fields: self.fields.into_iter().collect(),
            id: self.id.map(String::from),
        };
        let mut response = (self.status, Json(ErrorBody { error })).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The same error as a page.
#[derive(Debug)]
pub struct PageError(pub ApiError);

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(askama::Template)]
#[template(path = "edge/templates/error.html")]
struct ErrorPage {
    frame: super::Frame,
    message: String,
    request_id: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let request_id = super::headers::new_request_id();
        if let Some(log) = &self.0.log {
            tracing::error!(%request_id, code = self.0.code, error = %log, "a page failed");
        }
        let title = match self.0.status {
            StatusCode::NOT_FOUND => "Nothing here",
            StatusCode::FORBIDDEN => "Not allowed",
            _ => "That did not work",
        };
        let page = ErrorPage { frame: super::Frame::public(title), message: self.0.message, request_id };
        let body = askama::Template::render(&page).unwrap_or_else(|_| "That did not work.".to_owned());
        (self.0.status, Html(body)).into_response()
    }
}
