//! Standard Webhooks 1.0, symmetric signatures: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! Signed is `<id>.<timestamp>.<body>` with HMAC-SHA-256 under the bytes that the secret's base64 stands for; the
//! signature header is a list of `v1,<base64>` separated by spaces (specification, "Verifying webhook authenticity").
//! Invariant: signatures are compared as decoded bytes, so no other spelling of one is a new event.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::crypto::{self, RandomError};
use thinkwork_primitives::{Secret, Timestamp};
use zeroize::Zeroizing;

use super::{Description, Unverified, Verified, Verifier, only};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const PREFIX: &str = "whsec_";
/// How far the sender's clock may be off, either way; the specification's libraries take the same.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Longest event id: the sender's choice, stored with each delivery.
const ID_BYTES_MAX: usize = 256;
/// Signatures in one header: a rotation has two, and more only cost time.
const SIGNATURES_MAX: usize = 8;
/// Digits of a timestamp in seconds; twelve last for 30,000 years.
const TIMESTAMP_DIGITS_MAX: usize = 12;

/// A Standard Webhooks signature has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooks {}

impl Verifier for StandardWebhooks {
    fn description(&self) -> &'static Description {
        &Description {
            name: "Standard Webhooks signature",
            help: "Each request is signed with its ID and time. Recommended if the sender supports it.",
            secret_label: "Signing secret",
            secret_help: "The sender uses it to sign each request.",
            signs_event_id: true,
            signs_time: true,
            settings: &[],
        }
    }

    fn secret(&self) -> Result<Secret, RandomError> {
        let bytes = Zeroizing::new(crypto::random::<32>()?);
        Ok(Secret::from_text(format!("{PREFIX}{}", STANDARD.encode(*bytes))))
    }

    fn check_secret(&self, secret: &Secret) -> Result<(), &'static str> {
        match key(secret) {
            Some(_) => Ok(()),
            None => {
                Err("use whsec_ followed by the base64 of 24 to 64 bytes, or leave it empty to have one generated.")
            }
        }
    }

    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Verified, Unverified> {
        let id = only(headers, &ID)?;
        let timestamp = only(headers, &TIMESTAMP)?;
        let list = only(headers, &SIGNATURE)?;
        if id.len() > ID_BYTES_MAX {
            return Err(Unverified::Malformed(ID));
        }
        let signed_at = seconds(timestamp)?;
        let signatures = signatures(list)?;
        if signed_at.plus(TOLERANCE) < now {
            return Err(Unverified::Old);
        }
        if signed_at > now.plus(TOLERANCE) {
            return Err(Unverified::Future);
        }
        // Every live secret is tried with every signature, so that the time tells nothing about which one fits.
        let mut fits = false;
        for key in secrets.iter().filter_map(key) {
            let expected = crypto::hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
            for signature in &signatures {
                fits |= crypto::constant_time_eq(&expected, signature);
            }
        }
        if fits { Ok(Verified { signed_event_id: Some(id.to_owned()) }) } else { Err(Unverified::Wrong) }
    }

    fn sign(
        &self,
        secret: &Secret,
        event_id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let timestamp = now.seconds().to_string();
        let key = key(secret)?;
        let mac = crypto::hmac_sha256(&key, &[event_id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
        let signature = format!("v1,{}", STANDARD.encode(mac));
        [(ID, event_id), (TIMESTAMP, &timestamp), (SIGNATURE, &signature)]
            .into_iter()
            .map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
            .collect()
    }

    fn example(&self, url: &str) -> String {
        format!(
            "SECRET='the whsec_ secret you copied'\nBODY='{{\"hello\":\"world\"}}'\n\
             ID=\"msg_$(date +%s)\" TIME=$(date +%s)\n\
             KEY=$(printf %s \"${{SECRET#whsec_}}\" | base64 -d | od -An -v -tx1 | tr -d ' \\n')\n\
             SIGNATURE=$(printf %s \"$ID.$TIME.$BODY\" | openssl dgst -sha256 -mac HMAC -macopt hexkey:$KEY -binary | base64)\n\
             curl '{url}' -H \"webhook-id: $ID\" -H \"webhook-timestamp: $TIME\" \\\n  \
             -H \"webhook-signature: v1,$SIGNATURE\" \\\n  \
             -H 'Content-Type: application/json' --data-binary \"$BODY\""
        )
    }
}

/// The key that the secret's text stands for, 24 to 64 bytes as the specification says.
fn key(secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(STANDARD.decode(secret.expose_str()?.strip_prefix(PREFIX)?).ok()?);
    (24..=64).contains(&key.len()).then_some(key)
}

fn seconds(text: &str) -> Result<Timestamp, Unverified> {
    let plain = text.len() <= TIMESTAMP_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = if plain { text.parse().ok() } else { None }.ok_or(Unverified::Malformed(TIMESTAMP))?;
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

/// The `v1` signatures of the list, decoded; other versions are left to those who know them.
fn signatures(list: &str) -> Result<Vec<Vec<u8>>, Unverified> {
    let mut decoded = Vec::new();
    for (position, part) in list.split(' ').filter(|part| !part.is_empty()).enumerate() {
        let (version, signature) = part.split_once(',').ok_or(Unverified::Malformed(SIGNATURE))?;
        if position >= SIGNATURES_MAX {
            return Err(Unverified::Malformed(SIGNATURE));
        }
        if version == "v1" {
            decoded.push(STANDARD.decode(signature).map_err(|_| Unverified::Malformed(SIGNATURE))?);
        }
    }
    if decoded.is_empty() { Err(Unverified::Malformed(SIGNATURE)) } else { Ok(decoded) }
}
