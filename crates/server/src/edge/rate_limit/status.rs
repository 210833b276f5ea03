//! How a caller stands against a limit, and how answers say so: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-10 (sections 3 and 4), as structured fields (RFC 9651).

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A limit of requests a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whom it counts, as headers name it: `token`, `person`, `address` or `webhook`.
    pub name: &'static str,
    pub per_minute: i64,
}

/// What is left to a caller after a request was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    pub policy: Policy,
    /// Requests left in this minute, as far as this process knows.
    pub remaining: i64,
    /// Seconds until the next minute.
    pub reset_seconds: u64,
    /// Whether this request was one too many.
    pub is_exceeded: bool,
}

impl RateLimitStatus {
    /// Says it in the headers of an answer.
    pub(super) fn set_headers(&self, response: &mut Response) {
        let Policy { name, per_minute } = self.policy;
        let fields = [
            (RATE_LIMIT_POLICY, format!("\"{name}\";q={per_minute};w=60")),
            (RATE_LIMIT, format!("\"{name}\";r={};t={}", self.remaining, self.reset_seconds)),
        ];
        for (header, value) in fields {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(header, value);
            }
        }
    }
}
