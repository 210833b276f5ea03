//! The browser or app at the other end: where it calls from, and the cookies that a sign-in reads and sets.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::super::{ClientInfo, NewSession};
use crate::edge::cookies::{SESSION_COOKIE, cookie, set_cookie};

/// Remembers that a person signed in with this browser, so that strangers' tries do not lock it out.
const DEVICE_COOKIE: &str = "__Host-tw_device";
/// Cookies live as long as the session at most does.
const COOKIE_SECONDS: u64 = 30 * 86_400;
/// A browser is remembered for half a year.
const DEVICE_SECONDS: u64 = 183 * 86_400;

/// Who sends the request, as far as a sign-in cares.
pub(crate) struct Sender(pub ClientInfo);

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Self(ClientInfo {
            address: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()),
            user_agent: text(header::USER_AGENT).unwrap_or_default().to_owned(),
            device: cookie(&parts.headers, DEVICE_COOKIE).map(str::to_owned),
            replaces: cookie(&parts.headers, SESSION_COOKIE).map(str::to_owned),
        }))
    }
}

/// The cookies of a new session.
pub(crate) fn session_cookies(session: &NewSession) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set_cookie(&mut headers, SESSION_COOKIE, session.cookie.expose_str().unwrap_or_default(), COOKIE_SECONDS);
    if let Some(device) = &session.device {
        set_cookie(&mut headers, DEVICE_COOKIE, device, DEVICE_SECONDS);
    }
    headers
}

/// Takes the session cookie back.
pub(crate) fn session_cookies_end() -> HeaderMap {
    let mut headers = HeaderMap::new();
    set_cookie(&mut headers, SESSION_COOKIE, "", 0);
    headers
}
