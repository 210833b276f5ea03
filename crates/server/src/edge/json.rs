//! JSON bodies: 415 without the type, 413 when too large, 422 with the field when malformed.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thinkwork_primitives::limits;

use super::ApiError;

/// A JSON body, in or out.
pub struct Json<T>(pub T);

/// Reads a body of at most `bytes_max`.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<axum::body::Bytes, ApiError> {
    to_bytes(body, bytes_max).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("The body is larger than {bytes_max} bytes or broke off; send less."),
        )
    })
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send the body as Content-Type: application/json.",
            ));
        }
        let bytes = read_body(request.into_body(), limits::API_BODY_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            // serde_json's message names the field and the expectation; it can quote a short value, never a secret,
            // because secrets are read as strings, which always fit.
            ApiError::invalid("body", format!("{error}"))
        })
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
