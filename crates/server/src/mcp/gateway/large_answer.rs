//! Answers that are so large that writing them would hold up an async worker.
//!
//! The SDK writes an answer itself, in the future that it returns. That future is polled where blocking is allowed once its
//! answer is known to be large.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use serde::Serialize;
use tokio::runtime::{Handle, RuntimeFlavor};

/// A larger answer takes more than a moment to write.
const LARGE_BYTES_MIN: usize = 32 * 1_024;

/// Whether the answer to one request is large. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LargeAnswer(Arc<AtomicBool>);

impl LargeAnswer {
    /// Notes how large this answer is once it is written. Call it on a thread for blocking work.
    pub(super) fn note(&self, answer: &impl Serialize) {
        let mut bytes = Bytes(0);
        let is_large = serde_json::to_writer(&mut bytes, answer).is_err() || bytes.0 >= LARGE_BYTES_MIN;
        self.0.store(is_large, Ordering::Release);
    }

    /// Does the work that answers the request.
    pub(super) fn answer<F: Future>(&self, work: F) -> Answering<F> {
        Answering { work: Box::pin(work), answer: self.clone() }
    }
}

/// Counts what is written.
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The work of [`LargeAnswer::answer`].
pub(super) struct Answering<F> {
    work: Pin<Box<F>>,
    answer: LargeAnswer,
}

impl<F: Future> Future for Answering<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let is_large = self.answer.0.load(Ordering::Acquire);
        // A runtime of one thread has no other one to go on with.
        let can_block = is_large && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let work = self.work.as_mut();
        if can_block { tokio::task::block_in_place(|| work.poll(context)) } else { work.poll(context) }
    }
}
