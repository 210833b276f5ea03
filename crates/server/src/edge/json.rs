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
            return Err(ApiError::not_json_type());
        }
        let bytes = read_body(request.into_body(), limits::API_BODY_BYTES_MAX).await?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(refused)?;
        reader.end().map_err(|error| not_json(&error))?;
        Ok(Self(value))
    }
}

/// 422 with the field's name and what was expected of it.
///
/// serde_json's message can quote a short value, never a secret, because secrets are read as strings, which always fit.
fn refused(error: serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let path = error.path().to_string();
    let error = error.into_inner();
    if !error.is_data() {
        return not_json(&error);
    }
    let text = without_place(&error);
    let named = |kind: &str| text.strip_prefix(kind)?.split_once('`');
    let within = |name: &str| match path.as_str() {
        "." => name.to_owned(),
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (named("missing field `"), named("unknown field `")) {
        (Some((name, _)), _) => ApiError::invalid(&within(name), "it is missing; send it."),
        (_, Some((name, known))) => {
            let known = known.replace('`', "").replace(", expected", "; use");
            ApiError::invalid(&within(name), format!("there is no such field here{known}."))
        }
        _ => ApiError::invalid(if path == "." { "body" } else { &path }, expected(&text)),
    }
}

/// What serde says without the names of our own types.
fn expected(text: &str) -> String {
    if text.contains(" enum ") {
        return "it is of none of the shapes that this field takes; see /v1/openapi.json.".to_owned();
    }
    text.split_once("expected struct ")
        .map_or_else(|| format!("{text}."), |(said, _)| format!("{said}expected an object."))
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::invalid("body", format!("it is not JSON: {error}; send one JSON object."))
}

/// The message without the line and column, which say nothing to whoever wrote no lines.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map(|(text, _)| text.to_owned()).unwrap_or(text)
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
