//! Our cookies: read and set.
//!
//! Invariant: each is HTTP-only, sent over TLS or to this machine alone, and bound to this very host (`__Host-`).

use axum::http::{HeaderMap, HeaderValue, header};

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "__Host-tw_session";

/// The value of a cookie; the first one where a name repeats.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets a cookie for so many seconds; 0 deletes it.
pub fn set_cookie(headers: &mut HeaderMap, name: &str, value: &str, seconds: u64) {
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax");
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
}
