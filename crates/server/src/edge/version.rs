//! `If-Match` with a version: optional, and refused with 412 where another change came first.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;

use super::ApiError;

/// The version that the caller saw, if they say so. `*` and no header mean any.
pub struct IfMatch(pub Option<i64>);

impl IfMatch {
    /// The answer where another change came first.
    pub fn precondition_failed() -> ApiError {
        ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            "changed_meanwhile",
            "Someone else changed this in the meantime. Your change was not saved. Reload and try again.",
        )
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(None)) };
        match value.to_str().map(|text| text.trim().trim_matches('"')) {
            Ok("*") => Ok(Self(None)),
            Ok(text) => {
                let version = text.parse().map_err(|_| ApiError::invalid("If-Match", "send the version you read."))?;
                Ok(Self(Some(version)))
            }
            Err(_) => Err(ApiError::invalid("If-Match", "send the version you read.")),
        }
    }
}
