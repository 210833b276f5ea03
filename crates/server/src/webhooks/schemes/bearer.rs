//! `Authorization: Bearer <secret>` (RFC 6750 section 2.1).
//!
//! Invariant: it proves who sends and nothing about the body, so the event id it is deduplicated by is the one the
//! operator named.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::crypto::{self, RandomError};
use thinkwork_primitives::{Secret, Timestamp, limits};

use super::{Description, Unverified, Verified, Verifier, only};

/// Shortest dictated token: below it guessing becomes thinkable.
const CHARS_MIN: usize = 16;

/// A bearer token has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {}

impl Verifier for Bearer {
    fn description(&self) -> &'static Description {
        &Description {
            name: "Bearer token",
            help: "The sender includes a token in each request. Requests are not signed.",
            secret_label: "Token",
            secret_help: "The sender sends it in the header Authorization: Bearer.",
            signs_event_id: false,
            signs_time: false,
            settings: &[],
        }
    }

    fn secret(&self) -> Result<Secret, RandomError> {
        crypto::generate_token("").map(|(secret, _)| secret)
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), &'static str> {
        let bytes = secret.expose();
        if bytes.len() < CHARS_MIN || bytes.len() > limits::SECRET_BYTES_MAX || !bytes.iter().all(u8::is_ascii_graphic)
        {
            return Err("use at least 16 visible characters without spaces, or leave it empty to have one generated.");
        }
        Ok(())
    }

    fn verify(&self, headers: &HeaderMap, _: &[u8], secrets: &[Secret], _: Timestamp) -> Result<Verified, Unverified> {
        let value = only(headers, &AUTHORIZATION)?;
        let (kind, token) = value.split_once(' ').ok_or(Unverified::Malformed(AUTHORIZATION))?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(Unverified::Malformed(AUTHORIZATION));
        }
        if token.is_empty() {
            return Err(Unverified::Missing(AUTHORIZATION));
        }
        // Every live secret is compared, so that the time tells nothing about which one fits.
        let fits = secrets.iter().fold(false, |fits, secret| secret.equals(token.as_bytes()) | fits);
        if fits { Ok(Verified { signed_event_id: None }) } else { Err(Unverified::Wrong) }
    }

    fn sign(&self, secret: &Secret, _: &str, _: &[u8], _: Timestamp) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose_str()?)).ok()?;
        value.set_sensitive(true);
        Some(vec![(AUTHORIZATION, value)])
    }

    fn example(&self, url: &str) -> String {
        format!(
            "TOKEN='the token you copied'\nBODY='{{\"hello\":\"world\"}}'\n\
             curl '{url}' -H \"Authorization: Bearer $TOKEN\" \\\n  \
             -H 'Content-Type: application/json' --data-binary \"$BODY\""
        )
    }
}
