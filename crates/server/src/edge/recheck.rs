//! The caller of a long answer, asked for again while it lasts.
//!
//! Invariant: the proof is kept only as long as the answer is open, and goes nowhere but to [`Authenticate`].

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use thinkwork_primitives::{Principal, Secret};

use super::ApiError;
use super::caller::{Authenticate, Presented, bearer};
use super::cookies::{SESSION_COOKIE, cookie};

/// What the caller presented, to be presented again. Use it beside `Caller`, which refuses strangers first.
pub struct Recheck {
    access: Arc<dyn Authenticate>,
    proof: Secret,
    is_bearer: bool,
}

impl Recheck {
    /// Whether the same person or token still stands behind `first`: enabled, not revoked, not expired.
    ///
    /// # Errors
    /// Those of [`Authenticate`].
    pub async fn still(&self, first: &Principal) -> Result<bool, ApiError> {
        let Some(proof) = self.proof.expose_str() else { return Ok(false) };
        let presented = if self.is_bearer { Presented::Bearer(proof) } else { Presented::Session(proof) };
        let known = self.access.authenticate(presented).await?;
        Ok(known.is_some_and(|known| known.principal.tenant == first.tenant && known.principal.user() == first.user()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Recheck {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(access) = parts.extensions.get::<Arc<dyn Authenticate>>() else {
            return Err(ApiError::internal(&std::io::Error::other("the router lacks its Authenticate layer")));
        };
        let found = match bearer(&parts.headers) {
            Some(token) => Some((token, true)),
            None => cookie(&parts.headers, SESSION_COOKIE).map(|session| (session, false)),
        };
        let (proof, is_bearer) = found.ok_or_else(ApiError::not_signed_in)?;
        Ok(Self { access: Arc::clone(access), proof: Secret::from_text(proof.to_owned()), is_bearer })
    }
}
