//! How a request proves that it is the sender's: one module per scheme, behind one enum.
//!
//! Invariants: verification sees the raw bytes and runs before anything is parsed; everything that is not exactly right
//! is refused: missing, empty, repeated, malformed, old, future; comparisons take constant time. Used by `ingress`, and
//! by the test of a webhook, which signs as a sender would.

mod bearer;
mod standard_webhooks;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, HeaderValue};
use thinkwork_primitives::crypto::RandomError;
use thinkwork_primitives::{Secret, Timestamp};

/// The schemes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer <secret>`: proves the sender, signs nothing.
    Bearer,
    /// Standard Webhooks 1.0: id, time and body are signed.
    StandardWebhooks,
}

/// What a verified request proved beyond its sender.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// The event's id, where the signature covers it.
    pub signed_event_id: Option<String>,
}

/// Why a request is not the sender's. The words go to the delivery log, never to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is missing or empty.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header came more than once.
    #[error("the header {0} came more than once")]
    Repeated(&'static str),
    /// A header cannot be read.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
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

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bearer, Self::StandardWebhooks];

    /// The word in the API and in the database.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::StandardWebhooks => "standard_webhooks",
        }
    }

    /// The name on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer token",
            Self::StandardWebhooks => "Standard Webhooks signature",
        }
    }

    /// The scheme of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.word() == word)
    }

    /// Whether the sender's event id is part of what is signed.
    pub const fn signs_event_id(self) -> bool {
        match self {
            Self::Bearer => false,
            Self::StandardWebhooks => true,
        }
    }

    /// Whether the time of a request is part of what is signed, so that an old one is refused for its age.
    pub const fn signs_time(self) -> bool {
        match self {
            Self::Bearer => false,
            Self::StandardWebhooks => true,
        }
    }

    /// A fresh secret as this scheme writes it.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn secret(self) -> Result<Secret, RandomError> {
        match self {
            Self::Bearer => bearer::secret(),
            Self::StandardWebhooks => standard_webhooks::secret(),
        }
    }

    /// Refuses a dictated secret that could not work, with what to do.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check_secret(self, secret: &Secret) -> Result<(), &'static str> {
        match self {
            Self::Bearer => bearer::check_secret(secret),
            Self::StandardWebhooks => standard_webhooks::check_secret(secret),
        }
    }

    /// Verifies a request against every live secret.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn verify(
        self,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Verified, Unverified> {
        match self {
            Self::Bearer => bearer::verify(headers, secrets),
            Self::StandardWebhooks => standard_webhooks::verify(headers, body, secrets, now),
        }
    }

    /// The headers with which a sender proves this body; `None` where the secret cannot be used.
    pub fn sign(
        self,
        secret: &Secret,
        event_id: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Option<Vec<(HeaderName, HeaderValue)>> {
        match self {
            Self::Bearer => bearer::sign(secret),
            Self::StandardWebhooks => standard_webhooks::sign(secret, event_id, body, now),
        }
    }
}

/// The one value of a header, as visible ASCII.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Unverified> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Unverified::Missing(name))?;
    if values.next().is_some() {
        return Err(Unverified::Repeated(name));
    }
    let text = value.to_str().map_err(|_| Unverified::Malformed(name))?;
    if text.trim().is_empty() { Err(Unverified::Missing(name)) } else { Ok(text) }
}
