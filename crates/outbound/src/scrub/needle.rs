//! One secret in one encoding, and the search for it: Knuth, Morris and Pratt's, over every reading of the text.
//!
//! A text is read in more than one way, because `%25` can be three bytes of a secret or one. The search follows a few
//! readings at once: those that have matched most.
//!
//! Invariant: used by the scrubber only.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::spelling::{BYTES_PER_BYTE_MAX, ESCAPE_BYTES_MAX, Escape};

/// Readings that are followed at once. More arise only where a secret that holds escapes itself is spelled by somebody
/// who means to confuse.
const READINGS_MAX: usize = 4;
/// Places that are ahead of the one that is looked at, by a power of two.
const AHEAD: usize = 16;
const _: () = assert!(ESCAPE_BYTES_MAX < AHEAD);

/// Bytes to look for.
pub(super) struct Needle {
    /// In the form of [`Encoding::normal`].
    bytes: Zeroizing<Vec<u8>>,
    /// How much is still matched where the byte after so many differs, if another one stands there; `None`: nothing, and
    /// that byte is passed.
    after_mismatch: Vec<Option<usize>>,
    /// How much is still matched after a whole match.
    after_match: usize,
    encoding: Encoding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Raw,
    Base64,
}

impl Encoding {
    /// Bytes that count as the same become the same: of base64 its two alphabets, else a space and its `+` in a form.
    const fn normal(self, byte: u8) -> u8 {
        match (self, byte) {
            (Self::Base64, b'-') => b'+',
            (Self::Base64, b'_') => b'/',
            (Self::Raw, b'+') => b' ',
            (_, byte) => byte,
        }
    }
}

/// Where a needle stands in a text.
#[derive(Default)]
pub(super) struct Found {
    pub(super) places: Vec<Range<usize>>,
    /// Steps that the search took, for the test of its bound.
    #[cfg(test)]
    pub(super) steps: usize,
}

impl Found {
    #[cfg(test)]
    fn step(&mut self) {
        self.steps += 1;
    }

    #[cfg(not(test))]
    const fn step(&mut self) {}
}

impl Needle {
    /// The secret itself, and what of it shows in base64 at each of the three alignments.
    pub(super) fn all_of(secret: &[u8]) -> Vec<Self> {
        let mut needles = vec![Self::new(Zeroizing::new(secret.to_vec()), Encoding::Raw)];
        needles.extend((0..3).map(|before| Self::new(base64_core(secret, before), Encoding::Base64)));
        needles
    }

    fn new(mut bytes: Zeroizing<Vec<u8>>, encoding: Encoding) -> Self {
        for byte in bytes.iter_mut() {
            *byte = encoding.normal(*byte);
        }
        let mut needle = Self { after_mismatch: Vec::with_capacity(bytes.len()), after_match: 0, bytes, encoding };
        // What is matched of the needle behind its own beginning.
        let mut matched = 0;
        for place in 0..needle.bytes.len() {
            let byte = needle.byte(place);
            if place == 0 {
                needle.after_mismatch.push(None);
                continue;
            }
            let same = byte == needle.byte(matched);
            // Where the same byte would be compared once more it would differ once more: what follows then is known.
            let fallback = if same { needle.after_mismatch.get(matched).copied().flatten() } else { Some(matched) };
            needle.after_mismatch.push(fallback);
            matched = needle.advance(matched, byte.unwrap_or(0), &mut Found::default());
        }
        needle.after_match = matched;
        needle
    }

    /// Every place where the text spells the needle; those that overlap are one.
    pub(super) fn find_all(&self, text: &[u8]) -> Found {
        let mut found = Found::default();
        let mut ahead = [Readings::default(); AHEAD];
        let mut waiting = 0_usize;
        let mut at = 0_usize;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if waiting == 0 {
                let Some(skipped) = rest.iter().position(|byte| self.may_begin(*byte)) else { break };
                at = at.saturating_add(skipped);
            }
            let rest = text.get(at..).unwrap_or_default();
            let here = std::mem::take(readings_at(&mut ahead, at));
            waiting = waiting.saturating_sub(here.count);
            let raw = rest.first().copied().unwrap_or(0);
            let escape = Escape::at_start_of(rest);
            for matched in here.each() {
                let mut go = |bytes: &[u8], length: usize| {
                    let end = at.saturating_add(length);
                    let matched = self.follow(matched, bytes, end, text, &mut found);
                    waiting = waiting.saturating_add(readings_at(&mut ahead, end).add(matched));
                };
                go(&[raw], 1);
                if let Some(escape) = escape {
                    go(escape.bytes(), escape.length);
                }
            }
            at = at.saturating_add(1);
        }
        found
    }

    /// How much is matched after these bytes, which end there in the text; whole matches are noted.
    fn follow(&self, matched: usize, bytes: &[u8], end: usize, text: &[u8], found: &mut Found) -> usize {
        let mut matched = matched;
        for byte in bytes {
            matched = self.advance(matched, self.encoding.normal(*byte), found);
            if matched == self.bytes.len() {
                self.note(end, text, found);
                matched = self.after_match;
            }
        }
        matched
    }

    /// How much is matched with this byte after so many.
    fn advance(&self, mut matched: usize, byte: u8, found: &mut Found) -> usize {
        loop {
            found.step();
            if self.byte(matched) == Some(byte) {
                return matched.saturating_add(1);
            }
            match self.after_mismatch.get(matched).copied().flatten() {
                Some(fallback) => matched = fallback,
                None => return 0,
            }
        }
    }

    /// Notes a match that ends there. Where its shortest spelling reaches into the last one, they overlap, and where it
    /// begins need not be looked for.
    fn note(&self, end: usize, text: &[u8], found: &mut Found) {
        let latest_start = end.saturating_sub(self.bytes.len());
        match found.places.last_mut() {
            Some(last) if latest_start < last.end => last.end = last.end.max(end),
            _ => {
                let start = self.start_of(end, text, found);
                found.places.push(start..end);
            }
        }
    }

    /// Where the match begins that ends there: as early as any reading of it does.
    fn start_of(&self, end: usize, text: &[u8], found: &mut Found) -> usize {
        let latest = end.saturating_sub(self.bytes.len());
        let raw = text.get(latest..end).unwrap_or_default();
        if raw.iter().map(|byte| self.encoding.normal(*byte)).eq(self.bytes.iter().copied()) {
            return latest;
        }
        // How much of the needle stands before which place.
        let mut readings = vec![(self.bytes.len(), end)];
        let mut earliest = None;
        while let Some(longest) = readings.iter().enumerate().max_by_key(|(_, reading)| **reading) {
            let (before, place) = readings.swap_remove(longest.0);
            found.step();
            if before == 0 {
                earliest = Some(earliest.map_or(place, |earliest: usize| earliest.min(place)));
                continue;
            }
            for length in 1..=ESCAPE_BYTES_MAX {
                let Some(start) = place.checked_sub(length) else { break };
                let piece = text.get(start..place).unwrap_or_default();
                let escape = Escape::at_start_of(piece).filter(|escape| escape.length == length);
                let bytes = match &escape {
                    Some(escape) => escape.bytes(),
                    None if length == 1 => piece,
                    None => continue,
                };
                let Some(rest) = before.checked_sub(bytes.len()) else { continue };
                let wanted = self.bytes.get(rest..before).unwrap_or_default();
                let same = bytes.iter().map(|byte| self.encoding.normal(*byte)).eq(wanted.iter().copied());
                if same && readings.len() < READINGS_MAX && !readings.contains(&(rest, start)) {
                    readings.push((rest, start));
                }
            }
        }
        let longest = end.saturating_sub(self.bytes.len().saturating_mul(BYTES_PER_BYTE_MAX));
        earliest.unwrap_or(longest)
    }

    fn may_begin(&self, byte: u8) -> bool {
        matches!(byte, b'%' | b'\\') || self.byte(0) == Some(self.encoding.normal(byte))
    }

    fn byte(&self, place: usize) -> Option<u8> {
        self.bytes.get(place).copied()
    }
}

/// How much is matched at one place of the text, by each reading that leads there.
#[derive(Clone, Copy, Default)]
struct Readings {
    matched: [usize; READINGS_MAX],
    count: usize,
}

impl Readings {
    /// Each, or that nothing is matched yet.
    fn each(&self) -> impl Iterator<Item = usize> + use<> {
        self.matched.into_iter().take(self.count.max(1))
    }

    /// Adds a reading that has matched something; of too many the one with least goes. Says how many more there are.
    fn add(&mut self, matched: usize) -> usize {
        if matched == 0 || self.matched.iter().take(self.count).any(|known| *known == matched) {
            return 0;
        }
        if let Some(free) = self.matched.get_mut(self.count) {
            *free = matched;
            self.count = self.count.saturating_add(1);
            return 1;
        }
        if let Some(least) = self.matched.iter_mut().min()
            && *least < matched
        {
            *least = matched;
        }
        0
    }
}

fn readings_at(ahead: &mut [Readings; AHEAD], place: usize) -> &mut Readings {
    let [first, rest @ ..] = ahead;
    match (place % AHEAD).checked_sub(1) {
        Some(place) => rest.get_mut(place).unwrap_or(first),
        None => first,
    }
}

/// The characters of the secret's base64 that depend on the secret alone, when `before` bytes (modulo 3) precede it.
fn base64_core(secret: &[u8], before: usize) -> Zeroizing<Vec<u8>> {
    let length = secret.len().saturating_add(before);
    let mut padded = Zeroizing::new(Vec::with_capacity(length));
    padded.resize(before, 0);
    padded.extend_from_slice(secret);
    let mut encoded = Zeroizing::new(vec![0; length.div_ceil(3).saturating_mul(4)]);
    // The buffer holds base64 of any input of this length, so nothing is cut off.
    let written = STANDARD_NO_PAD.encode_slice(padded.as_slice(), &mut encoded).unwrap_or(0);
    // A character holds six bits: those that begin within `before` and those that end beyond the secret go.
    let from = before.saturating_mul(8).div_ceil(6);
    let to = (length.saturating_mul(8) / 6).min(written);
    Zeroizing::new(encoded.get(from..to).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of about this length that make a matcher do most: what is matched is long, and breaks off late.
    fn hostile(secret: &str, bytes: usize) -> Vec<String> {
        let escaped: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json: String = secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let all_but_last = secret.get(..secret.len() - 1).unwrap().to_owned();
        let pieces = [
            secret.to_owned(),
            all_but_last.clone() + "!",
            escaped.clone(),
            escaped + "%",
            json,
            all_but_last + "%%%\\\\",
            secret.get(..1).unwrap().to_owned(),
            secret.get(..1).unwrap().to_owned() + "%61",
            "%25".to_owned(),
            "\\\\".to_owned(),
            "\\u005c".to_owned(),
        ];
        pieces.iter().map(|piece| piece.repeat(bytes.div_ceil(piece.len()))).collect()
    }

    #[test]
    fn l108_the_work_grows_linearly_with_the_text_whatever_it_is() {
        let fibonacci = (0..15).fold(("b".to_owned(), "a".to_owned()), |(one, two), _| (two.clone(), two + &one)).1;
        let secrets = ["a".repeat(8_000), "%25".repeat(2_000), "\\".repeat(4_000), "ab".repeat(3_000) + "c", fibonacci];
        for secret in &secrets {
            for needle in Needle::all_of(secret.as_bytes()) {
                for text in hostile(secret, 50_000) {
                    let steps = needle.find_all(text.as_bytes()).steps;
                    let bound = 20 * text.len();
                    assert!(steps <= bound, "{steps} steps for {} bytes {:.30} of {text:.30}", text.len(), secret);
                }
            }
        }
    }
}
