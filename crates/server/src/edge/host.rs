//! Which Host and Origin a request may name.
//!
//! Invariants: nothing is ever built from Host; a foreign Host is 421; a foreign Origin is 403 on every unsafe method
//! and on `/mcp`. Our pages send no referrer, so browsers name the origin of their forms `null`; such a form is ours
//! where the browser itself says so in `Sec-Fetch-Site`, which no page can write.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use url::{Position, Url};

use super::ApiError;

/// Where a request comes from, as the browser says (Fetch Metadata, section 2.4).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What `public_url` allows.
pub(super) struct AllowedHost {
    public_url: Url,
    host: String,
    origin: String,
    loopback: bool,
}

fn is_loopback_name(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host });
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

impl AllowedHost {
    /// From the configured public URL, which is https or loopback by then.
    pub(super) fn new(public_url: &Url) -> Self {
        let host = public_url[Position::BeforeHost..Position::AfterPort].to_owned();
        Self {
            origin: public_url.origin().ascii_serialization(),
            loopback: is_loopback_name(&host),
            public_url: public_url.clone(),
            host,
        }
    }

    /// The answer to a request that may not go on.
    pub(super) fn refusal(&self, request: &Request) -> Option<Response> {
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
            let message = "A request names one host. Send one Host header.";
            return Some(ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message).into_response());
        }
        // A target in absolute form counts before the header (RFC 9112, section 3.2.2).
        let target = request.uri().authority().map(|authority| authority.as_str());
        let host = target.or(header(header::HOST)).unwrap_or("");
        if !host.eq_ignore_ascii_case(&self.host) {
            if !(self.loopback && is_loopback_name(host)) {
                let message = "This server is not available at this host name. Use its public address.";
                return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message).into_response());
            }
            let is_page = header(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"));
            if *request.method() == Method::GET && is_page {
                let mut target = self.public_url.clone();
                target.set_path(request.uri().path());
                target.set_query(request.uri().query());
                return Some(Redirect::permanent(target.as_str()).into_response());
            }
        }
        let path = request.uri().path();
        let is_mcp = path == "/mcp" || path.starts_with("/mcp/");
        let guarded = !request.method().is_safe() || is_mcp;
        let origin = request.headers().get(header::ORIGIN);
        let ours = |origin: &HeaderValue| match origin.as_bytes() {
            b"null" => !is_mcp && header(SEC_FETCH_SITE) == Some("same-origin"),
            named => named == self.origin.as_bytes(),
        };
        let foreign = origin.is_some_and(|origin| !ours(origin));
        (guarded && foreign).then(|| {
            ApiError::forbidden(
                "foreign_origin",
                "Requests from other sites are not allowed. Open the page on this site and try again.",
            )
            .into_response()
        })
    }
}
