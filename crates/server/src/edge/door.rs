//! The one door of every request: which id and span its work has, which host it names, where it comes from, what its
//! answer carries and how errors look.
//!
//! Invariant: nothing is answered without the headers of [`headers::add_security_headers`], refusals included; a refused request
//! reaches no handler. One layer does all of it, since each layer of its own costs a request a copy of all below it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::HistogramVec;
use thinkwork_primitives::{Network, TraceContext};
use tracing::{Instrument as _, field};
use url::Url;

use super::access_log::AccessLogEntry;
use super::request_id::{RequestId, X_REQUEST_ID};
use super::{headers, host::AllowedHost, proxy::TrustedProxies, shape};

/// What the door knows of the deployment.
pub struct Door {
    allowed: AllowedHost,
    proxies: TrustedProxies,
    durations: HistogramVec,
}

impl Door {
    /// For a deployment at `public_url` behind these proxies of its own. `durations` measures requests by method, route
    /// and class of status.
    pub fn new(public_url: &Url, trusted_proxies: &[Network], durations: HistogramVec) -> Arc<Self> {
        Arc::new(Self {
            allowed: AllowedHost::new(public_url),
            proxies: TrustedProxies::new(trusted_proxies),
            durations,
        })
    }
}

pub async fn pass(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let is_from_proxy = door.proxies.forward(&mut request);
    let request_id = RequestId::of(request.headers(), is_from_proxy);
    let trace = trace_context(request.headers());
    if let Some(trace) = trace {
        request.extensions_mut().insert(trace);
    }
    // Of the level of errors, so that no filter that shows a line of this work leaves its request out. The caller's
    // extractor fills in the rest.
    let span = tracing::error_span!(
        "request",
        %request_id,
        trace_id = trace.map(|trace| field::display(trace.trace_id())),
        tenant = field::Empty,
        requester = field::Empty,
        client = field::Empty,
    );
    let entry = AccessLogEntry::begin(&request, span.clone(), door.durations.clone());
    let work = request_id.scope(answer(&door, request, next));
    let mut response = headers::add_security_headers(work.instrument(span).await);
    response.headers_mut().insert(X_REQUEST_ID, request_id.header_value());
    entry.follow(response)
}

async fn answer(door: &Door, request: Request, next: Next) -> Response {
    if let Some(refusal) = door.allowed.refusal(&request) {
        return refusal;
    }
    let is_api_path = shape::is_api_path(request.uri().path());
    let response = next.run(request).await;
    if is_api_path { shape::as_json_error(response) } else { shape::as_error_page(response) }
}

/// The caller's `traceparent`, where it is sent once and is one.
fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut sent = headers.get_all("traceparent").iter();
    let only = sent.next().filter(|_| sent.next().is_none())?;
    only.to_str().ok()?.parse().ok()
}
