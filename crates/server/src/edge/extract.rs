//! axum's extractors of bodies, queries and paths, with their rejections in our words: 415 without the type, 413 when too
//! large, 422 with the field when something does not fit, 404 for an id that is none.
//!
//! Invariant: what is quoted of a request is never a secret: secrets are read as strings, which always fit.

use std::error::Error;

use axum::extract::rejection::{
    BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection, RawFormRejection,
};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::ApiError;

/// A JSON body, in or out.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Json<T>(pub T);

impl<T: Serialize + Send + 'static> Json<T> {
    /// The answer, written on a thread for blocking work: for lists of texts that others wrote.
    pub async fn render_off_worker(self) -> Response {
        match tokio::task::spawn_blocking(move || self.into_response()).await {
            Ok(response) => response,
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The parameters of the query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// The id in the path, or a tuple of them where there are several.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// A form of somebody who need not be signed in. Those of signed-in people are [`super::ProtectedForm`].
#[derive(FromRequest)]
#[from_request(via(axum::Form), rejection(ApiError))]
pub struct Form<T>(pub T);

impl From<PathRejection> for ApiError {
    fn from(_: PathRejection) -> Self {
        Self::not_found()
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = "The request body is too large.";
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message);
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            "body_broken_off",
            "The request body was incomplete. Send the request again.",
        )
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => Self::not_json_type(),
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            other => match cause::<serde_path_to_error::Error<serde_json::Error>>(&other) {
                Some(error) if error.inner().is_data() => field_of_body(&error.path().to_string(), error.inner()),
                Some(error) => not_json(error.inner()),
                None => not_json(&other),
            },
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        parameter("query", &rejection, "mend the address.")
    }
}

impl From<FormRejection> for ApiError {
    fn from(rejection: FormRejection) -> Self {
        match rejection {
            FormRejection::BytesRejection(rejection) => rejection.into(),
            other => parameter("form", &other, "correct it and send the form again."),
        }
    }
}

impl From<RawFormRejection> for ApiError {
    fn from(rejection: RawFormRejection) -> Self {
        match rejection {
            RawFormRejection::BytesRejection(rejection) => rejection.into(),
            other => parameter("form", &other, "correct it and send the form again."),
        }
    }
}

/// The error of this type that lies behind a rejection.
fn cause<'a, E: Error + 'static>(rejection: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(rejection);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What is wrong with one parameter of a query or one field of a form.
pub(super) fn parameter(whole: &str, rejection: &(dyn Error + 'static), next: &str) -> ApiError {
    type Detail = serde_path_to_error::Error<serde_urlencoded::de::Error>;
    let Some(error) = cause::<Detail>(rejection) else {
        return ApiError::invalid(whole, format!("{rejection}; {next}"));
    };
    let path = error.path().to_string();
    let text = error.inner().to_string();
    let named = |kind: &str| text.strip_prefix(kind)?.split_once('`').map(|(name, _)| name.to_owned());
    match (named("duplicate field `"), named("missing field `")) {
        (Some(name), _) => ApiError::invalid(&name, "it was sent more than once; send it once."),
        (_, Some(name)) => ApiError::invalid(&name, "it is required."),
        _ if matches!(path.as_str(), "." | "") => ApiError::invalid(whole, format!("{text}; {next}")),
        _ => ApiError::invalid(&path, format!("{text}; correct it, or leave it out.")),
    }
}

/// 422 with the field's name and what was expected of it.
fn field_of_body(path: &str, error: &serde_json::Error) -> ApiError {
    let text = without_place(error);
    let named = |kind: &str| text.strip_prefix(kind)?.split_once('`');
    let within = |name: &str| match path {
        "." => name.to_owned(),
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (named("missing field `"), named("unknown field `")) {
        (Some((name, _)), _) => ApiError::invalid(&within(name), "it is required."),
        (_, Some((name, known))) => {
            let known = known.replace('`', "").replace(", expected", "; use");
            ApiError::invalid(&within(name), format!("unknown field{known}."))
        }
        _ => ApiError::invalid(if path == "." { "body" } else { path }, expected(&text)),
    }
}

/// What serde says without the names of our own types.
fn expected(text: &str) -> String {
    if text.contains(" enum ") {
        return "the value does not have a supported format; see /v1/openapi.json.".to_owned();
    }
    text.split_once("expected struct ").map_or_else(
        || format!("{}.", text.replace("unknown variant", "unknown value")),
        |(said, _)| format!("{said}expected an object."),
    )
}

fn not_json(error: &dyn Error) -> ApiError {
    ApiError::invalid("body", format!("not valid JSON: {error}; send one JSON object."))
}

/// The message without the line and column, which say nothing to whoever wrote no lines.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map(|(text, _)| text.to_owned()).unwrap_or(text)
}

/// Tells a field that is null from one that is not there, with `#[serde(default, deserialize_with)]`.
pub fn double_option<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}
