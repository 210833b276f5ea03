//! One error for every route: a status, a code, a sentence for the client and, apart from it, a text for the log.
//!
//! Invariant: the client's sentence says what to do and holds no detail of the inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use thinkwork_primitives::Chain;
use utoipa::ToSchema;

use super::RequestId;

/// Seconds after which to try again where the database cannot store: about as long as a restart of it takes.
const UNAVAILABLE_SECONDS: u64 = 5;

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
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found, or you do not have access. Check the address.")
    }

    /// 401: nobody is signed in.
    pub fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_signed_in", "Sign in, or send a valid token as Authorization: Bearer.")
    }

    /// 403 with a sentence that says who may.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 403: the session was signed in to too long ago for this.
    pub fn reauth_required() -> Self {
        Self::forbidden("reauth_required", "For security, sign in again to continue. Nothing was changed.")
    }

    /// 409 with a sentence that says what is in the way.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422 about one field.
    pub fn invalid(field: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let mut error =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("Invalid value for {field}: {problem}"));
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

    /// 406: the answer comes in other types than the request takes.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
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

    /// 500 with the whole chain for the log and nothing of it for the client; 503 where the database cannot be reached or
    /// cannot store.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut answer = if thinkwork_database::is_unavailable(error) {
            Self::unavailable(
                UNAVAILABLE_SECONDS,
                "The data cannot be stored or read at the moment, and nothing was changed. Try again in a few seconds. If it \
                 goes on, send an operator the request ID.",
            )
        } else {
            Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong and nothing was changed. Try again. If it happens again, send an operator the \
                 request ID.",
            )
        };
        answer.log = Some(Chain(error).to_string().into());
        answer
    }

    /// Logs what the client is not told and returns the id of the request, under which it stands in the log. For whoever
    /// shows the error, once.
    pub fn report(&self) -> RequestId {
        if let Some(log) = &self.log {
            tracing::error!(code = self.code, error = %log, "a request failed");
        }
        RequestId::current()
    }

    /// The sentence for a page that is shown again; with the id of the request where the log says more.
    pub fn sentence(&self) -> String {
        let request_id = self.report();
        match self.log {
            Some(_) => format!("{} Request ID: {request_id}.", self.message),
            None => self.message.clone(),
        }
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

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// A stable word in snake case.
    #[schema(example = "invalid")]
    code: &'static str,
    /// One sentence that says what to do.
    #[schema(example = "The field limit is not acceptable: use a whole number from 1 to 200.")]
    message: String,
    /// The request's id, under which the log says more.
    #[schema(example = "req_Zm9vYmFyYmF6cXV4")]
    request_id: String,
    /// What is wrong with which field or parameter, where one is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false, example = json!({ "limit": "use a whole number from 1 to 200." }))]
    fields: BTreeMap<String, String>,
    /// The thing that is in the way, where it helps to name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "tok_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: Option<String>,
}

/// The sentence of a refusal, beside its body: for the door, which says it on a page where a person reads the answer.
#[derive(Clone)]
pub(super) struct ErrorMessage(pub(super) Arc<str>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let request_id = self.report().to_string();
        let sentence = ErrorMessage(self.message.as_str().into());
        let error = ErrorDetail {
            code: self.code,
            message: self.message,
            request_id,
            fields: self.fields.into_iter().collect(),
            id: self.id.map(String::from),
        };
        let mut response = (self.status, Extension(sentence), Json(ErrorBody { error })).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The same error on the way to a person: the door makes a page of it.
#[derive(Debug)]
pub struct PageError(pub ApiError);

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
