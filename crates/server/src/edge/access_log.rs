//! One line and one measurement for each request, made when its answer has ended, however it ended.
//!
//! Invariant: it names the pattern of the route and never the path or query, which can hold codes.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use prometheus::HistogramVec;
use tracing::Span;

/// The target of the lines, so that a filter can name them: `access=off`.
const TARGET: &str = "access";

/// What the line will say. It is written when this is dropped: after the last byte of the answer, or where the client
/// went away.
pub(super) struct AccessLogEntry {
    span: Span,
    durations: HistogramVec,
    started: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    peer: Option<IpAddr>,
    status: Option<StatusCode>,
    body_bytes: u64,
}

impl AccessLogEntry {
    /// For this request, whose work belongs to `span`.
    pub(super) fn begin(request: &Request, span: Span, durations: HistogramVec) -> Self {
        let extensions = request.extensions();
        Self {
            span,
            durations,
            started: Instant::now(),
            method: known_method(request.method()),
            route: extensions.get::<MatchedPath>().cloned(),
            peer: extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip()),
            status: None,
            body_bytes: 0,
        }
    }

    /// Goes along with the answer until its last byte.
    pub(super) fn follow(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        response.map(|body| Body::new(LoggedBody { body, entry: self }))
    }
}

impl Drop for AccessLogEntry {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        let labels = [self.method, route, class_of(self.status)];
        self.durations.with_label_values(&labels).observe(elapsed.as_secs_f64());
        let _entered = self.span.enter();
        tracing::info!(
            target: TARGET,
            method = self.method,
            route,
            status = self.status.map(|status| status.as_u16()),
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            bytes = self.body_bytes,
            peer = self.peer.map(tracing::field::display),
            "{}",
            if self.status.is_some() { "answered" } else { "the client went away before the answer" }
        );
    }
}

/// The method as a word of ours: a caller may name any.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The class of a status as the measurements show it.
fn class_of(status: Option<StatusCode>) -> &'static str {
    match status.map_or(0, |status| status.as_u16() / 100) {
        0 => "none",
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// A body whose end is the end of its line, and whose work belongs to the request.
struct LoggedBody {
    body: Body,
    entry: AccessLogEntry,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, entry } = self.get_mut();
        let entered = entry.span.enter();
        let polled = Pin::new(body).poll_frame(cx);
        drop(entered);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            entry.body_bytes = entry.body_bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
