//! Where an operator says an id or key is found: a JSON pointer into the body (RFC 6901) or a header.

use axum::http::{HeaderMap, HeaderName};
use thinkwork_primitives::crypto;

use super::{decode, pointer};

/// Longest key kept as it is; a longer one is kept as its digest.
const KEY_BYTES_MAX: usize = 200;
/// Longest pointer or header name.
const PLACE_BYTES_MAX: usize = 200;
/// Headers whose value is a secret and never a key.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "webhook-signature"];

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// A JSON pointer like `/data/id`.
    Pointer(String),
    /// A header's name, in lower case.
    Header(String),
}

impl Locator {
    /// A place from its text: what begins with `/` is a pointer, everything else a header's name.
    pub fn parse(text: &str) -> Self {
        if text.starts_with('/') { Self::Pointer(text.to_owned()) } else { Self::Header(text.to_ascii_lowercase()) }
    }

    /// The text of a place, as [`Locator::parse`] reads it.
    pub fn text(&self) -> &str {
        match self {
            Self::Pointer(text) | Self::Header(text) => text,
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Pointer(pointer) => {
                let escapes_fit = pointer.split('~').skip(1).all(|rest| rest.starts_with('0') || rest.starts_with('1'));
                let fits = pointer.starts_with('/') && pointer.len() <= PLACE_BYTES_MAX && escapes_fit;
                fits.then_some(()).ok_or("enter a JSON pointer of at most 200 bytes, for example /data/id.")
            }
            Self::Header(name) => {
                let fits = name.len() <= PLACE_BYTES_MAX && HeaderName::from_bytes(name.as_bytes()).is_ok();
                if !fits {
                    return Err("enter a header name, for example X-Event-Id.");
                }
                if SECRET_HEADERS.contains(&name.as_str()) {
                    return Err("this header contains a secret; choose another header.");
                }
                Ok(())
            }
        }
    }

    /// The text found there: a string, a number as it is written, or a truth value; from a header or a form's field only
    /// where it came once. Bounded, and a digest in place of what is long or holds control characters.
    pub(crate) fn find(&self, headers: &HeaderMap, body: &Body<'_>) -> Option<String> {
        let text = match self {
            Self::Pointer(pointer) => body.find(pointer)?,
            Self::Header(name) => {
                let mut values = headers.get_all(name.as_str()).iter();
                let value = values.next()?.to_str().ok()?.to_owned();
                if values.next().is_some() {
                    return None;
                }
                value
            }
        };
        match text.as_str() {
            "" => None,
            plain if plain.len() <= KEY_BYTES_MAX && !plain.chars().any(char::is_control) => Some(text),
            long => Some(format!("sha256:{}", crypto::hex(&crypto::sha256(long.as_bytes())))),
        }
    }
}

/// A decoded body, for whoever points into it.
pub(crate) struct Body<'a> {
    media_type: &'a str,
    text: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) const fn new(media_type: &'a str, text: &'a [u8]) -> Self {
        Self { media_type, text }
    }

    /// What is there in a JSON document, of whatever type it calls itself; in a form, the field of this name.
    fn find(&self, pointer: &str) -> Option<String> {
        if self.media_type != decode::FORM {
            return pointer::find(std::str::from_utf8(self.text).ok()?, pointer);
        }
        let field = pointer.strip_prefix('/')?.replace("~1", "/").replace("~0", "~");
        let mut values = url::form_urlencoded::parse(self.text).filter(|(name, _)| *name == field);
        let (_, value) = values.next()?;
        values.next().is_none().then(|| value.into_owned())
    }
}
