//! What a connection is doing, as far as it decides how long the other side may be silent.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// From the first byte of a request, or from connecting, to the end of its headers.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(10);
/// Between the end of an answer and the first byte of the next request.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum State {
    /// Line and headers of a request are awaited.
    Head,
    /// A request is being answered; its body and the work on it have the deadline of requests.
    Request,
    /// The last answer has ended.
    Idle,
}

/// The phase of one connection: its stream notes what arrives, its service when requests begin and end.
pub(super) struct Phase(Mutex<(State, Instant)>);

impl Default for Phase {
    /// A new connection owes a request.
    fn default() -> Self {
        Self(Mutex::new((State::Head, Instant::now())))
    }
}

impl Phase {
    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (state, Instant::now());
    }

    /// Bytes have arrived: after an answer they are the begin of the next request.
    pub(super) fn bytes_arrived(&self) {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle = phase.0 {
            *phase = (State::Head, Instant::now());
        }
    }

    pub(super) fn request_began(&self) {
        self.set(State::Request);
    }

    /// Until when something must arrive; `None` while a request is being answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (state, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            State::Head => since.checked_add(HEAD_MAX),
            State::Idle => since.checked_add(IDLE_MAX),
            State::Request => None,
        }
    }
}

/// The body of an answer. When it is dropped, it was sent or the connection has broken off.
pub(super) struct ResponseBody {
    body: Body,
    phase: Arc<Phase>,
}

impl ResponseBody {
    pub(super) const fn new(body: Body, phase: Arc<Phase>) -> Self {
        Self { body, phase }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.phase.set(State::Idle);
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l111_who_owes_a_head_has_less_time_than_who_is_idle() {
        let phase = Arc::new(Phase::default());
        let left = |phase: &Phase| phase.deadline().map(|at| at.duration_since(phase.0.lock().unwrap().1));
        let fresh = phase.deadline();
        assert_eq!(left(&phase), Some(HEAD_MAX), "a new connection owes one at once");
        phase.bytes_arrived();
        assert_eq!(phase.deadline(), fresh, "a head that comes byte by byte has no more time");
        phase.request_began();
        phase.bytes_arrived();
        assert_eq!(left(&phase), None, "a request has the deadline of requests");
        drop(ResponseBody::new(Body::empty(), Arc::clone(&phase)));
        assert_eq!(left(&phase), Some(IDLE_MAX));
        phase.bytes_arrived();
        assert_eq!(left(&phase), Some(HEAD_MAX), "the next head has begun");
    }
}
