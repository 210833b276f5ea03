//! From the bytes that a sender sent to text that can be read, searched and shown.
//!
//! Invariants: what is announced is checked before a body is read, and nothing is decoded before the bytes as sent were
//! verified; decoding takes linear time and no more memory than a body may have; what cannot be read is refused with the
//! reason, so that no accepted event is unreadable. The result is UTF-8 without a byte order mark.

use std::borrow::Cow;
use std::io::{BufRead, Read as _};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde::de::IgnoredAny;
use thinkwork_primitives::limits;

use super::show::escaped;

/// The type of forms, also of those that carry a JSON document in one field.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// Longest media type: registered ones are shorter.
const MEDIA_TYPE_BYTES_MAX: usize = 100;
/// Characters repeated of what a sender announced.
const NAMED_CHARS_MAX: usize = 80;
/// How far into a document its XML declaration is looked for.
const XML_DECLARATION_BYTES_MAX: usize = 200;
/// What Windows-1252 has at 0x80 to 0x9F; everything else in it is the code point of the same number. `iso-8859-1` is
/// read by the same table, as browsers do (WHATWG Encoding section 4.2).
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}',
    '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}',
    '\u{17e}', '\u{178}',
];

/// What the headers say of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// `None` where no `Content-Type` was sent.
    media_type: Option<String>,
    charset: Option<Charset>,
    compression: Option<Compression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Utf8,
    /// Its order is what the byte order mark says.
    Utf16,
    Utf16Le,
    Utf16Be,
    Windows1252,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Deflate,
}

/// A body as it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The media type without parameters; of what the text is, where a form only carried it.
    pub media_type: String,
    /// UTF-8.
    pub text: Bytes,
}

/// A kind of body that is not taken, and how it was announced.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsupported {
    #[error("its Content-Type {0} is not supported")]
    MediaType(String),
    #[error("its Content-Encoding {0} is not supported; gzip and deflate are")]
    Compression(String),
    #[error("its charset {0} is not supported; utf-8, utf-16 and iso-8859-1 are")]
    Charset(String),
}

/// Why a verified body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is larger than 1,048,576 bytes when decompressed")]
    TooLarge,
    #[error("it is not what its Content-Encoding says, or it is cut off")]
    Compression,
    #[error("it is not UTF-8; name its charset in Content-Type")]
    NotUtf8,
    #[error("it is not UTF-16 with a byte order mark")]
    NotUtf16,
    #[error("its XML declaration names an encoding that is not supported; use UTF-8")]
    XmlEncoding,
}

impl Format {
    /// Reads what the headers say.
    ///
    /// # Errors
    /// [`Unsupported`] for what is not taken.
    pub(crate) fn announced(headers: &HeaderMap) -> Result<Self, Unsupported> {
        let compression = match all_of(headers, &header::CONTENT_ENCODING).to_ascii_lowercase().as_str() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(Compression::Gzip),
            "deflate" => Some(Compression::Deflate),
            other => return Err(Unsupported::Compression(named(other))),
        };
        let content_type = all_of(headers, &header::CONTENT_TYPE);
        let mut parts = content_type.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameter =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let label = parameter.map(|(_, label)| label.trim().trim_matches('"'));
        let charset = label.map(|label| Charset::named(label).ok_or_else(|| Unsupported::Charset(named(label))));
        let media_type = match kind.as_str() {
            "" if headers.contains_key(header::CONTENT_TYPE) => {
                return Err(Unsupported::MediaType("(empty)".to_owned()));
            }
            "" => None,
            kind if is_text(kind) => Some(kind.to_owned()),
            _ => return Err(Unsupported::MediaType(named(&content_type))),
        };
        Ok(Self { media_type, charset: charset.transpose()?, compression })
    }

    /// Whether reading such a body can take longer than a moment.
    pub(crate) const fn is_compressed(&self) -> bool {
        self.compression.is_some()
    }

    /// A verified body as text.
    ///
    /// # Errors
    /// [`Unreadable`] with the reason.
    pub(crate) fn read(&self, sent: &Bytes) -> Result<Content, Unreadable> {
        let bytes = match self.compression {
            None => sent.clone(),
            Some(Compression::Gzip) => inflated(MultiGzDecoder::new(sent.as_ref()), |_| true)?,
            // RFC 9110 section 8.4.1.2 means zlib; some senders leave its head away.
            Some(Compression::Deflate) if is_zlib(sent) => {
                inflated(ZlibDecoder::new(sent.as_ref()), |decoder| is_read(decoder.into_inner()))?
            }
            Some(Compression::Deflate) => {
                inflated(DeflateDecoder::new(sent.as_ref()), |decoder| is_read(decoder.into_inner()))?
            }
        };
        let text = self.decoded(bytes)?;
        if text.len() > limits::WEBHOOK_BODY_BYTES_MAX {
            return Err(Unreadable::TooLarge);
        }
        Ok(match self.media_type.as_deref() {
            Some(FORM) => match carried_document(&text) {
                Some(document) => Content { media_type: "application/json".to_owned(), text: document },
                None => Content { media_type: FORM.to_owned(), text },
            },
            Some(kind) => Content { media_type: kind.to_owned(), text },
            None if is_json(&text) => Content { media_type: "application/json".to_owned(), text },
            None => Content { media_type: "text/plain".to_owned(), text },
        })
    }

    /// The same text in UTF-8. A byte order mark tells more than a header (WHATWG Encoding section 6).
    fn decoded(&self, bytes: Bytes) -> Result<Bytes, Unreadable> {
        let is_xml = self.media_type.as_deref().is_some_and(|kind| kind.ends_with("/xml") || kind.ends_with("+xml"));
        match bytes.as_ref() {
            // The mark of UTF-32 begins with that of UTF-16.
            [0xff, 0xfe, 0, 0, ..] => Err(Unreadable::NotUtf8),
            [0xef, 0xbb, 0xbf, ..] => utf8(bytes.slice(3..)),
            [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
            plain => match self.charset {
                None if is_xml => match xml_encoding(plain).map(Charset::named) {
                    Some(None) => Err(Unreadable::XmlEncoding),
                    Some(Some(Charset::Windows1252)) => Ok(windows_1252(plain)),
                    // A declaration that can be read byte by byte is in no UTF-16.
                    Some(Some(_)) | None => utf8(bytes),
                },
                None | Some(Charset::Utf8) => utf8(bytes),
                Some(Charset::Utf16) => Err(Unreadable::NotUtf16),
                Some(Charset::Utf16Le) => utf16(plain, u16::from_le_bytes),
                Some(Charset::Utf16Be) => utf16(plain, u16::from_be_bytes),
                Some(Charset::Windows1252) => Ok(windows_1252(plain)),
            },
        }
    }
}

impl Charset {
    /// What a label stands for, of those that senders use.
    fn named(label: &str) -> Option<Self> {
        Some(match label.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "us-ascii" | "ascii" => Self::Utf8,
            "utf-16" => Self::Utf16,
            "utf-16le" => Self::Utf16Le,
            "utf-16be" => Self::Utf16Be,
            "iso-8859-1" | "iso8859-1" | "latin1" | "windows-1252" | "cp1252" => Self::Windows1252,
            _ => return None,
        })
    }
}

/// All values of a header as one list, so that a second one cannot hide behind the first.
fn all_of(headers: &HeaderMap, name: &header::HeaderName) -> String {
    let values: Vec<Cow<'_, str>> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ").trim().to_owned()
}

/// Whether a media type is text: JSON, XML, a form, or anything below `text/`.
fn is_text(kind: &str) -> bool {
    let of_application =
        |kind: &str| kind == "json" || kind == "xml" || kind.ends_with("+json") || kind.ends_with("+xml");
    let is_known = kind == FORM
        || kind.strip_prefix("text/").is_some_and(|rest| !rest.is_empty())
        || kind.strip_prefix("application/").is_some_and(of_application);
    is_known && kind.len() <= MEDIA_TYPE_BYTES_MAX && !kind.contains(',')
}

fn named(announced: &str) -> String {
    escaped(announced.as_bytes(), NAMED_CHARS_MAX)
}

/// Decompresses no further than a body may be large. What is compressed must end where the body ends.
fn inflated<D: std::io::Read>(mut decoder: D, is_whole: impl FnOnce(D) -> bool) -> Result<Bytes, Unreadable> {
    let most = u64::try_from(limits::WEBHOOK_BODY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    decoder.by_ref().take(most).read_to_end(&mut bytes).map_err(|_| Unreadable::Compression)?;
    if bytes.len() > limits::WEBHOOK_BODY_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    if is_whole(decoder) { Ok(bytes.into()) } else { Err(Unreadable::Compression) }
}

fn is_read(mut rest: impl BufRead) -> bool {
    rest.fill_buf().is_ok_and(<[u8]>::is_empty)
}

/// Whether the bytes begin with the head of zlib (RFC 1950 section 2.2).
fn is_zlib(bytes: &[u8]) -> bool {
    match bytes {
        [method, flags, ..] => method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31),
        _ => false,
    }
}

fn utf8(bytes: Bytes) -> Result<Bytes, Unreadable> {
    if std::str::from_utf8(&bytes).is_ok() { Ok(bytes) } else { Err(Unreadable::NotUtf8) }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<Bytes, Unreadable> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text.into()),
        _ => Err(Unreadable::NotUtf16),
    }
}

fn windows_1252(bytes: &[u8]) -> Bytes {
    let letter = |byte: &u8| match byte.checked_sub(0x80).and_then(|place| WINDOWS_1252.get(usize::from(place))) {
        Some(letter) => *letter,
        None => char::from(*byte),
    };
    bytes.iter().map(letter).collect::<String>().into()
}

/// The encoding that a document's XML declaration names.
fn xml_encoding(bytes: &[u8]) -> Option<&str> {
    let begin = bytes.get(..XML_DECLARATION_BYTES_MAX).unwrap_or(bytes);
    let ascii = begin.iter().position(|byte| !byte.is_ascii()).and_then(|end| begin.get(..end)).unwrap_or(begin);
    let declaration = std::str::from_utf8(ascii).ok()?.strip_prefix("<?xml")?.split_once("?>")?.0;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    value.split(quote).nth(1)
}

/// The JSON document of a form that has nothing but the field `payload`, as GitHub sends it by default.
fn carried_document(form: &[u8]) -> Option<Bytes> {
    let mut fields = url::form_urlencoded::parse(form);
    let (name, document) = fields.next()?;
    let is_document = name == "payload" && fields.next().is_none() && document.trim_start().starts_with(['{', '[']);
    (is_document && is_json(document.as_bytes())).then(|| document.into_owned().into())
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}
