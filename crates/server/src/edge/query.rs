//! The query of an address: 422 with the field when it does not fit.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::ApiError;

/// The parameters of the query.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map(Self).map_err(refused)
    }
}

fn refused(error: serde_path_to_error::Error<serde_urlencoded::de::Error>) -> ApiError {
    let path = error.path().to_string();
    let text = error.into_inner().to_string();
    let named = |kind: &str| text.strip_prefix(kind)?.split_once('`').map(|(name, _)| name.to_owned());
    match (named("duplicate field `"), named("missing field `")) {
        (Some(name), _) => ApiError::invalid(&name, "it is there more than once; send it once."),
        (_, Some(name)) => ApiError::invalid(&name, "it is missing; send it."),
        _ if matches!(path.as_str(), "." | "") => ApiError::invalid("query", format!("{text}; mend the address.")),
        _ => ApiError::invalid(&path, format!("{text}; mend it, or leave it out.")),
    }
}
