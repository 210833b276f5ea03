//! The second line: secrets that an upstream sends back are taken out of what it says.
//!
//! Found are secrets of [`SCRUBBED_BYTES_MIN`] bytes or more: raw, JSON-escaped, percent-encoded (and mixtures of
//! these), and in base64 or base64url at any alignment. The first line is that a secret goes only to its origin.
//!
//! Invariants: the result does not depend on where a stream is cut; every copy of a secret is wiped when dropped; of
//! a secret in base64 at most the two characters at each end that it shares with its neighbours remain.

mod needle;

use std::sync::Arc;

use thinkwork_primitives::Secret;
use zeroize::Zeroizing;

use needle::{Match, Needle};

/// Shorter secrets are not looked for: they would be found in ordinary words.
pub const SCRUBBED_BYTES_MIN: usize = 16;

/// What stands where a secret was.
const REMOVED: &[u8] = b"[removed secret]";

/// Knows the secrets that were opened for one use. Cheap to clone.
#[derive(Clone)]
pub struct Scrubber {
    needles: Arc<[Needle]>,
    /// Whether a match can begin with the byte of this index: most bytes of a text are passed by one look.
    beginnings: Arc<[bool; 256]>,
}

impl Scrubber {
    /// A scrubber for these secrets; those below [`SCRUBBED_BYTES_MIN`] bytes are left out.
    pub fn new(secrets: &[&Secret]) -> Self {
        let long = secrets.iter().filter(|secret| secret.expose().len() >= SCRUBBED_BYTES_MIN);
        let needles: Arc<[Needle]> = long.flat_map(|secret| Needle::all_of(secret.expose())).collect();
        let mut beginnings = [false; 256];
        for (byte, begins) in (0..=u8::MAX).zip(&mut beginnings) {
            *begins = needles.iter().any(|needle| needle.may_begin(byte));
        }
        Self { needles, beginnings: Arc::new(beginnings) }
    }

    /// The text without the secrets.
    pub fn scrub(&self, text: &str) -> String {
        let bytes = self.scrub_bytes(text.as_bytes());
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes without the secrets.
    pub fn scrub_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        self.take_clean(bytes, Input::Complete, &mut 0, &mut clean);
        clean
    }

    /// A scrubber for bytes that come in pieces.
    pub fn stream(&self) -> ScrubStream {
        ScrubStream { scrubber: self.clone(), held: Zeroizing::new(Vec::new()), covered: 0 }
    }

    /// Appends what is known to be clean and says how many bytes of the input that settled. Every place is looked at,
    /// also within a secret, because where two secrets overlap the end of the second would remain.
    fn take_clean(&self, bytes: &[u8], input: Input, covered: &mut usize, clean: &mut Vec<u8>) -> usize {
        let mut at = 0_usize;
        while let Some((first, _)) = bytes.get(at..).and_then(<[u8]>::split_first) {
            if self.may_begin(*first) {
                match self.match_at(bytes.get(at..).unwrap_or_default(), input) {
                    Match::Undecided => return at,
                    Match::Full(length) => {
                        if *covered == 0 {
                            clean.extend_from_slice(REMOVED);
                        }
                        *covered = length.max(*covered);
                    }
                    Match::None => {}
                }
            }
            match covered.checked_sub(1) {
                Some(rest) => *covered = rest,
                None => clean.push(*first),
            }
            at = at.saturating_add(1);
        }
        at
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.beginnings.get(usize::from(byte)).copied().unwrap_or(true)
    }

    /// The longest match of any secret; undecided as long as more input could make one longer.
    fn match_at(&self, bytes: &[u8], input: Input) -> Match {
        let mut longest = Match::None;
        for needle in self.needles.iter().filter(|needle| bytes.first().is_some_and(|byte| needle.may_begin(*byte))) {
            longest = match (needle.match_at(bytes, input), longest) {
                (Match::Undecided, _) => return Match::Undecided,
                (Match::Full(length), Match::Full(before)) => Match::Full(length.max(before)),
                (Match::Full(length), _) => Match::Full(length),
                (Match::None, before) => before,
            };
        }
        longest
    }
}

/// A scrubber over pieces: what could be the beginning of a secret is held until it is decided.
pub struct ScrubStream {
    scrubber: Scrubber,
    held: Zeroizing<Vec<u8>>,
    /// How many of the held bytes belong to a secret that was found already.
    covered: usize,
}

impl ScrubStream {
    /// Takes the next piece and gives what is settled, which may be nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        // A new buffer of the right size, since one that grows leaves its old bytes behind unwiped.
        let mut whole = Zeroizing::new(Vec::with_capacity(self.held.len().saturating_add(bytes.len())));
        whole.extend_from_slice(&self.held);
        whole.extend_from_slice(bytes);
        let mut clean = Vec::with_capacity(whole.len());
        let settled = self.scrubber.take_clean(&whole, Input::MoreToCome, &mut self.covered, &mut clean);
        self.held = Zeroizing::new(whole.get(settled..).unwrap_or_default().to_vec());
        clean
    }

    /// Gives what was still held, at the end of the stream.
    pub fn finish(mut self) -> Vec<u8> {
        let mut clean = Vec::with_capacity(self.held.len());
        self.scrubber.take_clean(&self.held, Input::Complete, &mut self.covered, &mut clean);
        clean
    }
}

/// Whether the end of the bytes is the end of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Complete,
    MoreToCome,
}
