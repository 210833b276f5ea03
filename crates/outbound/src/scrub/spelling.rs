//! How text may spell a byte: as itself, or as an escape of JSON or of a URL.

/// Longest escape: `\uXXXX\uXXXX`.
pub(super) const ESCAPE_BYTES_MAX: usize = 12;
/// Most bytes of text for one byte of a secret: `\u00XX`.
pub(super) const BYTES_PER_BYTE_MAX: usize = 6;

/// What an escape stands for, and how long it is.
#[derive(Clone, Copy)]
pub(super) struct Escape {
    bytes: [u8; 4],
    count: usize,
    /// Its length in the text.
    pub(super) length: usize,
}

impl Escape {
    /// The escape that the text begins with.
    pub(super) fn at_start_of(text: &[u8]) -> Option<Self> {
        match text {
            [b'%', high, low, ..] => hex_byte(*high, *low).map(|byte| Self::byte(byte, 3)),
            [b'\\', b'u', ..] => unicode(text),
            [b'\\', letter, ..] => short(*letter).map(|byte| Self::byte(byte, 2)),
            _ => None,
        }
    }

    /// What it stands for, in UTF-8.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
    }

    const fn byte(byte: u8, length: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], count: 1, length }
    }
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

/// The character of `\uXXXX`, or of two that are a surrogate pair (RFC 8259 section 7).
fn unicode(text: &[u8]) -> Option<Escape> {
    let first = hex_unit(text.get(2..)?)?;
    let of = |char: char, length| {
        let mut bytes = [0; 4];
        let count = char.encode_utf8(&mut bytes).len();
        Escape { bytes, count, length }
    };
    if let Some(char) = char::from_u32(first.into()) {
        return Some(of(char, 6));
    }
    let second = hex_unit(text.get(6..)?.strip_prefix(b"\\u")?)?;
    let char = char::decode_utf16([first, second]).next()?.ok()?;
    Some(of(char, ESCAPE_BYTES_MAX))
}

/// The byte of JSON's escapes with one letter (RFC 8259 section 7).
fn short(letter: u8) -> Option<u8> {
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
