//! One secret in one encoding, and the matcher that knows how text may spell its bytes.
//!
//! Invariant: used by the scrubber only. The matcher follows every reading of the text at once, because `%25` can be
//! three bytes of a secret or one; the readings are few, since each consumes the text in a different way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::Input;

/// Whether bytes begin with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    None,
    /// With one of so many bytes.
    Full(usize),
    /// More input is needed to say so.
    Undecided,
}

/// Bytes to look for.
pub(super) struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    encoding: Encoding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Raw,
    /// Base64's two alphabets differ in `+/` and `-_`, which count as the same here.
    Base64,
}

impl Needle {
    /// The secret itself, and what of it shows in base64 at each of the three alignments.
    pub(super) fn all_of(secret: &[u8]) -> Vec<Self> {
        let raw = Self { bytes: Zeroizing::new(secret.to_vec()), encoding: Encoding::Raw };
        let aligned = (0..3).map(|before| Self { bytes: base64_core(secret, before), encoding: Encoding::Base64 });
        std::iter::once(raw).chain(aligned).collect()
    }

    /// Whether a match can begin with the byte.
    pub(super) fn may_begin(&self, byte: u8) -> bool {
        matches!(byte, b'%' | b'\\')
            || self.bytes.first().is_some_and(|first| self.is_same(*first, byte) || (*first == b' ' && byte == b'+'))
    }

    /// Follows all readings of the text from its beginning; the longest one counts.
    pub(super) fn match_at(&self, text: &[u8], input: Input) -> Match {
        let mut longest = Match::None;
        // Readings by (bytes of the needle matched, bytes of the text read), in the order of the needle.
        let mut readings = vec![(0_usize, 0_usize)];
        while let Some(place) = readings.iter().enumerate().min_by_key(|(_, reading)| **reading).map(|(place, _)| place)
        {
            let (matched, read) = readings.swap_remove(place);
            let wanted = self.bytes.get(matched..).unwrap_or_default();
            if wanted.is_empty() {
                longest = match longest {
                    Match::Full(before) => Match::Full(before.max(read)),
                    _ => Match::Full(read),
                };
                continue;
            }
            let rest = text.get(read..).unwrap_or_default();
            if input == Input::MoreToCome && is_open(rest) {
                return Match::Undecided;
            }
            for (bytes, length) in self.spellings(wanted, rest) {
                let reading = (matched.saturating_add(bytes), read.saturating_add(length));
                if !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
        }
        longest
    }

    /// The ways in which the text spells what is wanted next: (bytes of the needle, bytes of the text).
    fn spellings(&self, wanted: &[u8], text: &[u8]) -> impl Iterator<Item = (usize, usize)> + use<> {
        let first = wanted.first().copied();
        let is_first = |byte: u8| first.is_some_and(|first| self.is_same(first, byte));
        let raw = text.first().is_some_and(|byte| is_first(*byte)).then_some((1, 1));
        let plus = (first == Some(b' ') && text.first() == Some(&b'+')).then_some((1, 1));
        let escaped = match text {
            [b'%', high, low, ..] => hex_byte(*high, *low).filter(|byte| is_first(*byte)).map(|_| (1, 3)),
            [b'\\', b'u', ..] => unicode_escape(text).and_then(|(char, length)| {
                let mut buffer = Zeroizing::new([0_u8; 4]);
                let utf8 = char.encode_utf8(buffer.as_mut_slice()).as_bytes();
                let same = wanted.len() >= utf8.len()
                    && wanted.iter().zip(utf8).all(|(wanted, byte)| self.is_same(*wanted, *byte));
                same.then_some((utf8.len(), length))
            }),
            [b'\\', short, ..] => short_escape(*short).filter(|byte| is_first(*byte)).map(|_| (1, 2)),
            _ => None,
        };
        [raw, plus, escaped].into_iter().flatten()
    }

    fn is_same(&self, wanted: u8, byte: u8) -> bool {
        wanted == byte || (self.encoding == Encoding::Base64 && matches!((wanted, byte), (b'+', b'-') | (b'/', b'_')))
    }
}

/// Whether more text could change how this one reads: it is used up, or ends within an escape.
fn is_open(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b'%', rest @ ..] => rest.len() < 2,
        [b'\\'] => true,
        [b'\\', b'u', rest @ ..] => {
            // A high surrogate needs its second half.
            let is_high = hex_unit(rest).is_some_and(|unit| (0xd800..0xdc00).contains(&unit));
            rest.len() < if is_high { 10 } else { 4 }
        }
        _ => false,
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

/// The byte of two hexadecimal digits of either case.
fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The 16 bits of four hexadecimal digits.
fn hex_unit(text: &[u8]) -> Option<u16> {
    let [a, b, c, d, ..] = text else { return None };
    Some(u16::from_be_bytes([hex_byte(*a, *b)?, hex_byte(*c, *d)?]))
}

/// The character of `\uXXXX` or of two that are a surrogate pair, and how long that is (RFC 8259 section 7).
fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let first = hex_unit(text.get(2..)?)?;
    if let Some(char) = char::from_u32(first.into()) {
        return Some((char, 6));
    }
    let second = text.get(6..)?.strip_prefix(b"\\u")?;
    let char = char::decode_utf16([first, hex_unit(second)?]).next()?.ok()?;
    Some((char, 12))
}

/// The byte of JSON's escapes with one letter (RFC 8259 section 7).
fn short_escape(letter: u8) -> Option<u8> {
    match letter {
        b'"' | b'\\' | b'/' => Some(letter),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}
