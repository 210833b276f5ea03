//! Forms of our pages: read, and refused unless they carry the session's CSRF token.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thinkwork_primitives::{crypto, limits};

use super::json::read_body;
use super::{ApiError, PageCaller, PageError, PageMember};

/// A form that a signed-in person sent from a page of ours. Authorisation beyond "signed in" is the handler's:
/// call [`PageCaller::require_operator`] in operator pages.
pub struct CheckedForm<T> {
    /// Who sent it.
    pub caller: PageCaller,
    /// What they sent.
    pub form: T,
}

#[derive(Deserialize)]
struct Csrf {
    #[serde(default)]
    csrf: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for CheckedForm<T> {
    type Rejection = axum::response::Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        use axum::response::IntoResponse as _;
        let (mut parts, body) = request.into_parts();
        let PageMember(caller) = PageMember::from_request_parts(&mut parts, state).await?;
        let bytes =
            read_body(body, limits::API_BODY_BYTES_MAX).await.map_err(|error| PageError(error).into_response())?;
        let parsed = || -> Result<T, ApiError> {
            let sent: Csrf = axum::extract::Form::<Csrf>::from_bytes(&bytes)?;
            if !crypto::equal(sent.csrf.as_bytes(), caller.csrf.as_bytes()) {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "csrf",
                    "This form is from an earlier sign-in; reload the page and send it again.",
                ));
            }
            axum::extract::Form::<T>::from_bytes(&bytes)
        };
        match parsed() {
            Ok(form) => Ok(Self { caller, form }),
            Err(error) => Err(PageError(error).into_response()),
        }
    }
}

trait FromBytes: Sized {
    type Out;
    fn from_bytes(bytes: &[u8]) -> Result<Self::Out, ApiError>;
}

impl<T: DeserializeOwned> FromBytes for axum::extract::Form<T> {
    type Out = T;

    fn from_bytes(bytes: &[u8]) -> Result<T, ApiError> {
        serde_urlencoded::from_bytes(bytes).map_err(|error| ApiError::invalid("form", error.to_string()))
    }
}
