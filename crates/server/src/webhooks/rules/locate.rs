//! Where an operator says an id or key is found: a JSON pointer into the body (RFC 6901) or a header.

use axum::http::{HeaderMap, HeaderName};
use serde_json::Value;
use thinkwork_primitives::crypto;

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

    /// The text found there: a string, a number or a truth value; from a header only where it came once. Bounded, and
    /// a digest in place of what is long or holds control characters.
    pub(crate) fn find(&self, headers: &HeaderMap, body: &Body<'_>) -> Option<String> {
        let text = match self {
            Self::Pointer(pointer) => match body.json()?.pointer(pointer)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            },
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

/// A body that is parsed at most once, and only if somebody points into it.
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    parsed: std::cell::OnceCell<Option<Value>>,
}

impl<'a> Body<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, parsed: std::cell::OnceCell::new() }
    }

    fn json(&self) -> Option<&Value> {
        self.parsed.get_or_init(|| serde_json::from_slice(self.bytes).ok()).as_ref()
    }
}
