//! One request to another server, built step by step and checked as it is sent.
//!
//! Invariants: only what the caller names is sent, so nothing of an inbound request passes through; secret values are
//! kept in memory that is wiped and are marked sensitive; no `Debug` shows a URL, a header value or a body.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use thinkwork_primitives::Secret;
use thinkwork_primitives::limits::{REQUEST_DEADLINE, UPSTREAM_BODY_BYTES_MAX};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::metrics::Purpose;

/// How long a stream may be silent: servers that stream send comments or pings more often.
const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(120);

/// How long a stream may live: longer than any turn waits for one answer.
const STREAM_LIFETIME_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// Headers that belong to the connection or decide who the request is for; none may be set (RFC 9110 section 7.6.1).
const HEADERS_OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request. A header that is set twice has its last value; the first that cannot be sent is reported when sending.
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) purpose: Purpose,
    headers: Result<HeaderMap, Error>,
    pub(crate) body: Option<Bytes>,
    /// The whole time for `send`; the time until the response's headers for `stream`.
    pub(crate) deadline: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) stream_idle: Duration,
    pub(crate) stream_lifetime: Duration,
}

/// The value of one field of a form.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// Anything that may be seen.
    Text(&'a str),
    /// A secret, as a client secret, a code or a refresh token.
    Secret(&'a Secret),
}

impl Request {
    /// A request with no headers and no body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            purpose: Purpose::default(),
            headers: Ok(HeaderMap::new()),
            body: None,
            deadline: REQUEST_DEADLINE,
            body_bytes_max: UPSTREAM_BODY_BYTES_MAX,
            stream_idle: STREAM_IDLE_DEFAULT,
            stream_lifetime: STREAM_LIFETIME_DEFAULT,
        }
    }

    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::POST, url)
    }

    /// A DELETE.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new(Method::DELETE, url)
    }

    /// Sets what it is counted as.
    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = purpose;
        self
    }

    /// Sets a header that may be seen.
    #[must_use]
    pub fn header(self, name: &str, value: impl AsRef<str>) -> Self {
        let value = HeaderValue::from_str(value.as_ref()).ok();
        self.insert(name, value)
    }

    /// Sets a header to `prefix` and the secret, as in `secret_header("authorization", "Bearer ", &token)`.
    #[must_use]
    pub fn secret_header(self, name: &str, prefix: &str, secret: &Secret) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len().saturating_add(secret.expose().len())));
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(secret.expose());
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok();
        self.insert(name, value.map(sensitive))
    }

    /// Sets the body to JSON, and its content type.
    ///
    /// # Errors
    /// [`Error::Json`] for a value that JSON cannot say, as a map with keys that are no text.
    pub fn json(self, value: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(value).map_err(|_| Error::Json)?;
        Ok(self.body("application/json", bytes))
    }

    /// Sets the body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, bytes: impl Into<Bytes>) -> Self {
        self.body = Some(bytes.into());
        self.header(header::CONTENT_TYPE.as_str(), content_type)
    }

    /// Sets the body to a form (`application/x-www-form-urlencoded`), in memory that is wiped after use.
    #[must_use]
    pub fn form(mut self, fields: &[(&str, Field<'_>)]) -> Self {
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (name.as_bytes(), value.bytes())).collect();
        // Three bytes for each at most, so that the buffer never grows and leaves no copy behind.
        let length = fields.iter().map(|(name, value)| (name.len() + value.len()) * 3 + 2).sum();
        let mut form = Zeroizing::new(Vec::with_capacity(length));
        for (name, value) in fields {
            if !form.is_empty() {
                form.push(b'&');
            }
            form_encode(name, &mut form);
            form.push(b'=');
            form_encode(value, &mut form);
        }
        self.body = Some(Bytes::from_owner(form));
        self.header(header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")
    }

    /// Sets the whole time for `send`, or the time until the response's headers for `stream`. 30 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how many bytes of an answer are taken, of a stream altogether. 4 MiB by default.
    #[must_use]
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Sets how long a stream may be silent. 120 s by default.
    #[must_use]
    pub fn stream_idle(mut self, idle: Duration) -> Self {
        self.stream_idle = idle;
        self
    }

    /// Sets how long a stream may live after the response's headers. 15 minutes by default.
    #[must_use]
    pub fn stream_lifetime(mut self, lifetime: Duration) -> Self {
        self.stream_lifetime = lifetime;
        self
    }

    /// The headers to send.
    pub(crate) fn take_headers(&mut self) -> Result<HeaderMap, Error> {
        std::mem::replace(&mut self.headers, Ok(HeaderMap::new()))
    }

    fn insert(mut self, name: &str, value: Option<HeaderValue>) -> Self {
        let Ok(headers) = &mut self.headers else {
            return self;
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            self.headers = Err(Error::InvalidHeader { name: "?".to_owned() });
            return self;
        };
        match value {
            Some(value) if !HEADERS_OF_THE_CONNECTION.contains(&name.as_str()) => {
                headers.insert(name, value);
            }
            _ => self.headers = Err(Error::InvalidHeader { name: name.as_str().to_owned() }),
        }
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

impl<'a> Field<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Secret(secret) => secret.expose(),
        }
    }
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Appends the bytes in the form encoding (WHATWG URL section 5.2).
fn form_encode(bytes: &[u8], form: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b' ' => form.push(b'+'),
            b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => form.push(*byte),
            byte => form.extend_from_slice(&[b'%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + (value - 10) }
}
