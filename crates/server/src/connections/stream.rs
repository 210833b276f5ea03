//! A socket that gives up on who is silent when it should speak, or does not take what is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::phase::Phase;

/// How long the other side may take nothing of what is being sent.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// A timer that is armed while something is awaited.
#[derive(Default)]
struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Ready once this moment has come.
    fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}

/// The socket of one connection.
pub(super) struct TimedStream<S> {
    socket: S,
    phase: Arc<Phase>,
    reading: Deadline,
    writing: Deadline,
    /// Since when the other side takes nothing.
    stalled_since: Option<Instant>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(socket: S, phase: Arc<Phase>) -> Self {
        Self { socket, phase, reading: Deadline::default(), writing: Deadline::default(), stalled_since: None }
    }

    /// Passes on what a write came to, or ends one that waits for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled_since = None;
            return result;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        let Some(at) = since.checked_add(WRITE_STALL_MAX) else { return Poll::Pending };
        ready!(self.writing.poll(cx, at));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.socket).poll_read(cx, buffer);
        if result.is_ready() {
            this.phase.bytes_arrived();
            return result;
        }
        let Some(at) = this.phase.deadline() else { return Poll::Pending };
        ready!(this.reading.poll(cx, at));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn l111_an_answer_that_nobody_takes_ends_and_one_that_is_taken_slowly_does_not() {
        let (ours, mut theirs) = duplex(8);
        let mut stream = TimedStream::new(ours, Arc::new(Phase::default()));
        stream.write_all(&[0; 8]).await.unwrap();
        let long_ago = Instant::now().checked_sub(WRITE_STALL_MAX);
        stream.stalled_since = long_ago;
        assert_eq!(stream.write_all(&[0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut [0; 8]).await.unwrap();
        stream.stalled_since = long_ago;
        stream.write_all(&[0; 8]).await.unwrap();
        assert_eq!(stream.stalled_since, None, "what is taken begins the time anew");
    }
}
