//! Ids in paths: parsed at the edge, a malformed one is 404.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::ApiError;

/// The first path parameter as an id. Use [`Ids`] where there are two.
pub struct Id<T>(pub T);

/// The first two path parameters as ids.
pub struct Ids<T, U>(pub T, pub U);

async fn parameters<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Vec<String>, ApiError> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.map_err(|_| ApiError::not_found())?;
    Ok(parameters.iter().map(|(_, value)| value.to_owned()).collect())
}

fn parse<T: std::str::FromStr>(value: Option<&String>) -> Result<T, ApiError> {
    value.and_then(|text| text.parse().ok()).ok_or_else(ApiError::not_found)
}

impl<S: Send + Sync, T: std::str::FromStr> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let values = parameters(parts, state).await?;
        Ok(Self(parse(values.first())?))
    }
}

impl<S: Send + Sync, T: std::str::FromStr, U: std::str::FromStr> FromRequestParts<S> for Ids<T, U> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let values = parameters(parts, state).await?;
        Ok(Self(parse(values.first())?, parse(values.get(1))?))
    }
}
