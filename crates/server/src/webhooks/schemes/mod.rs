//! How a request proves that it is the sender's: one file per scheme, behind one enum.
//!
//! Invariants: verification sees the raw bytes and runs before anything is parsed; everything that is not exactly right
//! is refused: missing, empty, repeated, malformed, old, future; comparisons take constant time. Used by `ingress`, and
//! by the test of a webhook, which signs as a sender would.
//!
//! A variant holds the settings of its scheme. Its JSON is what the API reads and shows and what is stored, and its
//! [`Description`] is what pages draw, so that nothing outside this folder names a scheme.

mod bearer;
mod standard_webhooks;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::{EnumIter, IntoStaticStr};
use thinkwork_primitives::crypto::RandomError;
use thinkwork_primitives::{Secret, Timestamp};

/// How requests prove themselves: the name of a scheme, and its settings where it has any.
///
/// Pages list the variants in this order; the first is the one they suggest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, EnumIter, IntoStaticStr)]
#[serde(tag = "scheme", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Scheme {
    /// Standard Webhooks 1.0: id, time and body are signed.
    StandardWebhooks(standard_webhooks::StandardWebhooks),
    /// `Authorization: Bearer <secret>`: proves the sender, signs nothing.
    Bearer(bearer::Bearer),
}

impl Scheme {
    /// What the scheme does, with the settings of this one.
    pub fn verifier(&self) -> &dyn Verifier {
        match self {
            Self::StandardWebhooks(verifier) => verifier,
            Self::Bearer(verifier) => verifier,
        }
    }

    /// The word in the API and in the database.
    pub fn as_str(&self) -> &'static str {
        self.into()
    }

    /// The settings of this scheme, each with its value.
    pub fn settings(&self) -> Vec<(&'static Setting, String)> {
        let json = json!(self);
        let value = |setting: &Setting| json.get(setting.name).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.verifier().description().settings.iter().map(|setting| (setting, value(setting))).collect()
    }
}

/// A scheme. The type that implements it holds its settings; each has a default, and its JSON is a string.
pub trait Verifier {
    /// What people are told about it, and what it proves.
    fn description(&self) -> &'static Description;

    /// A fresh secret as this scheme writes it.
    fn secret(&self) -> Result<Secret, RandomError>;

    /// Refuses a dictated secret that could not work, with what to do.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn check_secret(&self, secret: &Secret) -> Result<(), &'static str>;

    /// Verifies a request against every live secret.
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Verified, Unverified>;

    /// The headers with which a sender proves this body; `None` where the secret cannot be used.
    fn sign(
        &self,
        secret: &Secret,
        event_id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Option<Vec<(HeaderName, HeaderValue)>>;

    /// Shell commands that send an event to `url`, for the operator to paste.
    fn example(&self, url: &str) -> String;
}

/// What people are told about a scheme, and what it proves.
pub struct Description {
    /// Its name on pages.
    pub name: &'static str,
    /// Helps to choose it.
    pub help: &'static str,
    /// What its secret is called.
    pub secret_label: &'static str,
    /// What the sender does with the secret.
    pub secret_help: &'static str,
    /// Whether the sender's event id is part of what is signed.
    pub signs_event_id: bool,
    /// Whether the time of a request is part of what is signed, so that an old one is refused for its age.
    pub signs_time: bool,
    /// Its settings, in the order of the form.
    pub settings: &'static [Setting],
}

/// One setting of a scheme, as the form asks for it.
pub struct Setting {
    /// Its name in the scheme's JSON.
    pub name: &'static str,
    /// Its name on pages.
    pub label: &'static str,
    /// What to enter.
    pub help: &'static str,
}

/// What a verified request proved beyond its sender.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// The event's id, where the signature covers it.
    pub signed_event_id: Option<String>,
}

/// Why a request is not the sender's. The words go to the delivery log, never to the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is missing or empty.
    #[error("the header {0} is missing")]
    Missing(HeaderName),
    /// A header came more than once.
    #[error("the header {0} came more than once")]
    Repeated(HeaderName),
    /// A header cannot be read.
    #[error("the header {0} is malformed")]
    Malformed(HeaderName),
    /// Signed too long ago.
    #[error("it was signed more than five minutes ago; check the sender's clock")]
    Old,
    /// Signed in the future.
    #[error("it was signed more than five minutes ahead of our time; check the sender's clock")]
    Future,
    /// The proof does not fit any live secret.
    #[error("the secret or signature does not match")]
    Wrong,
}

/// The one value of a header, as visible ASCII.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Unverified> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or_else(|| Unverified::Missing(name.clone()))?;
    if values.next().is_some() {
        return Err(Unverified::Repeated(name.clone()));
    }
    let text = value.to_str().map_err(|_| Unverified::Malformed(name.clone()))?;
    if text.trim().is_empty() { Err(Unverified::Missing(name.clone())) } else { Ok(text) }
}
