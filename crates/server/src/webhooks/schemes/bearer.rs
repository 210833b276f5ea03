//! `Authorization: Bearer <secret>` (RFC 6750 section 2.1).
//!
//! Invariant: it proves who sends and nothing about the body, so the event id it is deduplicated by is the one the
//! operator named.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use thinkwork_primitives::crypto::{self, RandomError};
use thinkwork_primitives::{Secret, limits};

use super::{Unverified, Verified, only};

const HEADER: &str = "authorization";
/// Shortest dictated token: below it guessing becomes thinkable.
const CHARS_MIN: usize = 16;

pub(super) fn secret() -> Result<Secret, RandomError> {
    crypto::token("").map(|(secret, _)| secret)
}

pub(super) fn check_secret(secret: &Secret) -> Result<(), &'static str> {
    let bytes = secret.expose();
    if bytes.len() < CHARS_MIN || bytes.len() > limits::SECRET_BYTES_MAX || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("use at least 16 visible characters without spaces, or leave it out and take the one we make.");
    }
    Ok(())
}

pub(super) fn verify(headers: &HeaderMap, secrets: &[Secret]) -> Result<Verified, Unverified> {
    let value = only(headers, HEADER)?;
    let (kind, token) = value.split_once(' ').ok_or(Unverified::Malformed(HEADER))?;
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(Unverified::Malformed(HEADER));
    }
    if token.is_empty() {
        return Err(Unverified::Missing(HEADER));
    }
    // Every live secret is compared, so that the time tells nothing about which one fits.
    let fits = secrets.iter().fold(false, |fits, secret| secret.equals(token.as_bytes()) | fits);
    if fits { Ok(Verified { signed_event_id: None }) } else { Err(Unverified::Wrong) }
}

pub(super) fn sign(secret: &Secret) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose_str()?)).ok()?;
    value.set_sensitive(true);
    Some(vec![(AUTHORIZATION, value)])
}
