//! Forms of our pages: read, and refused unless they carry the session's CSRF token.

use axum::extract::{FromRequest, FromRequestParts, RawForm, Request};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thinkwork_primitives::crypto;

use super::{ApiError, PageCaller, PageError, PageMember};

/// A form that a signed-in person sent from a page of ours.
pub struct ProtectedForm<T> {
    /// Who sent it.
    pub caller: PageCaller,
    /// What they sent.
    pub form: T,
}

/// A form that is only a button.
#[derive(Deserialize)]
pub struct EmptyForm {}

/// A form that asks for the name of what it deletes or disables.
#[derive(Deserialize)]
pub struct ConfirmForm {
    confirm_name: String,
}

impl ConfirmForm {
    /// Whether the name was entered as it is.
    pub fn matches(&self, name: &str) -> bool {
        self.confirm_name.trim() == name
    }
}

#[derive(Deserialize)]
struct Csrf {
    #[serde(default)]
    csrf: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ProtectedForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let PageMember(caller) = PageMember::from_request_parts(&mut parts, state).await?;
        match read(&caller, Request::from_parts(parts, body), state).await {
            Ok(form) => Ok(Self { caller, form }),
            Err(error) => Err(PageError(error).into_response()),
        }
    }
}

/// A form that an operator sent from a page of ours; members get 403.
pub struct OperatorForm<T> {
    /// Who sent it.
    pub caller: PageCaller,
    /// What they sent.
    pub form: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OperatorForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let ProtectedForm { caller, form } = ProtectedForm::from_request(request, state).await?;
        caller.require_operator().map_err(IntoResponse::into_response)?;
        Ok(Self { caller, form })
    }
}

async fn read<S: Send + Sync, T: DeserializeOwned>(
    caller: &PageCaller,
    request: Request,
    state: &S,
) -> Result<T, ApiError> {
    let RawForm(bytes) = RawForm::from_request(request, state).await?;
    let not_read = |error: serde_urlencoded::de::Error| ApiError::invalid("form", error.to_string());
    let Csrf { csrf } = serde_urlencoded::from_bytes(&bytes).map_err(not_read)?;
    if !crypto::constant_time_eq(csrf.as_bytes(), caller.csrf.as_bytes()) {
        let message = "This form has expired and nothing was saved. Reload the page and try again.";
        return Err(ApiError::forbidden("csrf", message));
    }
    serde_urlencoded::from_bytes(&bytes).map_err(not_read)
}
