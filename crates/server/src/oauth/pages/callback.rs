//! On the way to a provider and back: the hand-off page and the callback.
//!
//! Invariant: the callback's words are ours; a provider's text is never shown.

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use thinkwork_primitives::AuthMethod;

use super::super::{CallbackCaller, CallbackOutcome, StartedFlow, rules};
use super::{Pages, words};
use crate::edge::{ApiError, Layout, Page, PageError, PageMember};

/// The page between our button and the provider: names the provider's host and moves on by itself (a plain link
/// beside it), so that `form-action 'self'` holds while providers hop on to further origins. Sets the flow's cookie.
pub fn handoff(layout: Layout, started: &StartedFlow) -> Response {
    let page = Handoff { layout, host: rules::host_of(&started.authorize_url), url: started.authorize_url.clone() };
    let mut response = Page(page).into_response();
    let refresh = HeaderValue::from_str(&format!("0;url={}", started.authorize_url));
    let cookie = HeaderValue::from_str(&started.set_cookie);
    if let (Ok(refresh), Ok(cookie)) = (refresh, cookie) {
        response.headers_mut().insert(header::REFRESH, refresh);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[derive(Template)]
#[template(path = "oauth/templates/handoff.html")]
struct Handoff {
    layout: Layout,
    host: String,
    url: String,
}

#[derive(Template)]
#[template(path = "oauth/templates/callback.html")]
struct CallbackPage {
    layout: Layout,
    message: &'static str,
    signed_in: bool,
}

/// Where authorization servers send browsers back to. A GET by the protocol; what it changes is bound to a state that
/// is used up, a cookie and a session.
pub(super) async fn callback(
    State(pages): State<Pages>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    member: Option<PageMember>,
) -> Response {
    let person = member.and_then(|PageMember(caller)| match caller.principal.auth {
        AuthMethod::Session { id, .. } => Some((caller.tenant(), caller.user, id)),
        _ => None,
    });
    let signed_in = person.is_some();
    let query = query.unwrap_or_default();
    let (status, title, message) = match pages.oauth.callback(&key, &query, CallbackCaller { person, headers }).await {
        CallbackOutcome::Return { to, set_cookie } => {
            // 302 as the contract says; a browser follows it with a GET, as it came.
            return (StatusCode::FOUND, [(header::LOCATION, to), (header::SET_COOKIE, set_cookie)]).into_response();
        }
        CallbackOutcome::Unknown => (StatusCode::BAD_REQUEST, "Sign-in expired", words::UNKNOWN),
        CallbackOutcome::NotYours => (StatusCode::FORBIDDEN, "Sign-in does not match", words::NOT_YOURS),
        CallbackOutcome::Mismatch => (StatusCode::BAD_REQUEST, "Unexpected response", words::MISMATCH),
        CallbackOutcome::UnderWay => (StatusCode::OK, "Almost there", words::UNDER_WAY),
        CallbackOutcome::Failed => {
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", words::FAILED);
            return PageError(error).into_response();
        }
    };
    (status, Page(CallbackPage { layout: Layout::public(title), message, signed_in })).into_response()
}
