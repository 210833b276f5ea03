//! Forms of our pages: read, and refused unless they carry the session's CSRF token.

use axum::extract::{FromRequest, FromRequestParts, RawForm, Request};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thinkwork_primitives::crypto;

use super::{ApiError, PageCaller, PageError, PageMember};

/// Lists whose forms are on the list's own page: their things have no page of their own.
const LISTS: [&str; 2] = ["/admin/people", "/admin/tokens"];
/// Where the form that makes a new thing has a page of its own: its action, and that page.
const NEW_PAGES: [(&str, &str); 2] =
    [("/admin/webhooks", "/admin/webhooks/new"), ("/admin/mcp-servers", "/admin/mcp-servers/new")];

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

/// A form that an operator sent from a page of ours; members get 403. Who signed in too long ago to configure something is
/// sent to sign in and back to the page, as [`super::Operator`] is refused; [`OperatorFormWithoutReauth`] is for what needs no recent
/// sign-in.
pub struct OperatorForm<T> {
    /// Who sent it.
    pub caller: PageCaller,
    /// What they sent.
    pub form: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OperatorForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        let OperatorFormWithoutReauth { caller, form } =
            OperatorFormWithoutReauth::from_request(request, state).await?;
        if caller.is_fresh { Ok(Self { caller, form }) } else { Err(sign_in_again(page_of(&path))) }
    }
}

/// A form that an operator sent from a page of ours, however long ago they signed in: see [`super::OperatorWithoutReauth`].
pub struct OperatorFormWithoutReauth<T> {
    /// Who sent it.
    pub caller: PageCaller,
    /// What they sent.
    pub form: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OperatorFormWithoutReauth<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let ProtectedForm { caller, form } = ProtectedForm::from_request(request, state).await?;
        caller.require_operator().map_err(IntoResponse::into_response)?;
        Ok(Self { caller, form })
    }
}

/// Where an act that needs a recent sign-in leads when there was none: to sign in, and back to `page`.
pub fn sign_in_again(page: &str) -> Response {
    Redirect::to(&format!("/sign-in?again=1&next={page}")).into_response()
}

/// The page that shows the operator's form with this action: that of the thing that it changes, `/admin/{kind}/{id}`.
fn page_of(action: &str) -> &str {
    if let Some((_, page)) = NEW_PAGES.iter().find(|(list, _)| *list == action) {
        return page;
    }
    if let Some(list) = LISTS.iter().find(|list| action.starts_with(**list)) {
        return list;
    }
    let end = action.match_indices('/').nth(3).map_or(action.len(), |(end, _)| end);
    action.get(..end).unwrap_or(action)
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
