//! The second line: secrets that an upstream sends back are taken out of what it says.
//!
//! Found are secrets of [`SCRUBBED_BYTES_MIN`] bytes or more: raw, JSON-escaped, percent-encoded (and mixtures of
//! these), and in base64 or base64url at any alignment. The first line is that a secret goes only to its origin.
//!
//! Invariants: the work grows linearly with the text, whatever the text and the secret are; every copy of a secret is
//! wiped when dropped; of a secret in base64 at most the two characters at each end that it shares with its neighbours
//! remain.

mod needle;
mod spelling;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use thinkwork_primitives::Secret;

use needle::Needle;

/// Shorter secrets are not looked for: they would be found in ordinary words.
pub const SCRUBBED_BYTES_MIN: usize = 16;

/// A body that is larger is scrubbed on a thread for blocking work.
const INLINE_BYTES_MAX: usize = 32 * 1_024;

/// What stands where a secret was.
const REMOVED: &[u8] = b"[removed secret]";

/// Knows the secrets that were opened for one use. Cheap to clone.
#[derive(Clone)]
pub struct Scrubber {
    needles: Arc<[Needle]>,
}

impl Scrubber {
    /// A scrubber for these secrets; those below [`SCRUBBED_BYTES_MIN`] bytes are left out.
    pub fn new(secrets: &[&Secret]) -> Self {
        let long = secrets.iter().filter(|secret| secret.expose().len() >= SCRUBBED_BYTES_MIN);
        Self { needles: long.flat_map(|secret| Needle::all_of(secret.expose())).collect() }
    }

    /// The text without the secrets.
    pub fn scrub(&self, text: &str) -> String {
        let bytes = self.scrub_bytes(text.as_bytes());
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes without the secrets.
    pub fn scrub_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for secret in merged(self.needles.iter().flat_map(|needle| needle.find_all(bytes).places).collect()) {
            clean.extend_from_slice(bytes.get(at..secret.start).unwrap_or_default());
            clean.extend_from_slice(REMOVED);
            at = secret.end;
        }
        clean.extend_from_slice(bytes.get(at..).unwrap_or_default());
        clean
    }

    /// The body without the secrets. A large one does not hold up what else this thread has to do.
    pub async fn scrub_body(&self, body: Bytes) -> Vec<u8> {
        if body.len() <= INLINE_BYTES_MAX || self.needles.is_empty() {
            return self.scrub_bytes(&body);
        }
        let scrubber = self.clone();
        // A task that was cut off has no answer, and what was not scrubbed goes nowhere.
        tokio::task::spawn_blocking(move || scrubber.scrub_bytes(&body)).await.unwrap_or_default()
    }
}

/// The places in order, those that overlap as one.
fn merged(mut places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    places.sort_unstable_by_key(|place| (place.start, place.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(places.len());
    for place in places {
        match merged.last_mut() {
            Some(last) if place.start < last.end => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}
