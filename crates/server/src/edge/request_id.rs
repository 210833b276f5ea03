//! The id that ties an answer to the log lines of its work: in the header `x-request-id`, in every error shown and in
//! the span of the request.
//!
//! Invariant: the door makes one for each request; only a proxy of the deployment may bring one along.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use thinkwork_primitives::crypto;
use uuid::Uuid;

/// Where the id stands in an answer, and in a request that a proxy of ours passes on.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a proxy: two UUIDs' worth.
const GIVEN_BYTES_MAX: usize = 72;

tokio::task_local! {
    /// Set by the door for the task that answers the request.
    static CURRENT: RequestId;
}

/// The id of one request: visible characters, without quotes.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A fresh one. It is no secret, and a UUID spares the first request the 20 ms that the generator for secrets takes
    /// to begin.
    fn generate() -> Self {
        let text = format!("req_{}", crypto::base64url(Uuid::now_v7().as_bytes()));
        Self(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("req_unknown")))
    }

    /// The one that a proxy gave this request, else a fresh one.
    pub(super) fn of(headers: &HeaderMap, is_from_proxy: bool) -> Self {
        let given = headers.get(X_REQUEST_ID).filter(|value| is_from_proxy && is_acceptable(value.as_bytes()));
        given.map_or_else(Self::generate, |value| Self(value.clone()))
    }

    /// That of the request which this task answers; outside of one, a fresh one.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self::generate())
    }

    /// Runs the work of this request.
    pub(super) async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// As a header's value.
    pub(super) fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_acceptable(given: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=GIVEN_BYTES_MAX).contains(&given.len()) && given.iter().all(allowed)
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_brings_an_id_along() {
        let check = |given: &'static str, is_from_proxy: bool, kept: bool| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static(given))]);
            let id = RequestId::of(&headers, is_from_proxy).to_string();
            assert_eq!(id == given, kept, "{given}");
            assert!(kept || id.starts_with("req_") && id.len() == 26, "{id}");
        };
        check("018f6f3e-1d2c-7a1b-9c3d-5e6f7a8b9c0d", true, true);
        check("018f6f3e-1d2c-7a1b-9c3d-5e6f7a8b9c0d", false, false);
        check("with space", true, false);
        check("\"quoted\"", true, false);
        check("", true, false);
        check(concat!("0123456789012345678901234567890123456789", "012345678901234567890123456789012"), true, false);
    }
}
