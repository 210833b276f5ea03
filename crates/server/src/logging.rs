//! The log: lines on standard error, written by a thread of their own.
//!
//! Invariant: a log that takes nothing stops nothing. A line that cannot be written (a full disk, a closed pipe) or that
//! finds the queue full (a pipe whose reader stands) is counted and lost; nobody waits for it, and nothing panics.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use prometheus::core::Collector;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::Config;

/// Lines that wait for their write: a second of a busy server.
const LINES_MAX: usize = 8_192;
/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The log of this process, from [`Log::begin`] on until it is dropped, which writes the last lines.
#[derive(Default)]
pub struct Log(OnceLock<Queue>);

impl Log {
    /// Begins the log: lines for people on a terminal, JSON otherwise. A panic is a line like any other, so that it names
    /// the request or job that it happened in.
    ///
    /// # Errors
    /// Where the thread that writes cannot be started.
    pub fn begin(&self, config: &Config) -> Result<(), LogError> {
        let queue = Queue::start(io::stderr())?;
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&config.log))
            .with_writer(queue.clone())
            // What goes wrong here would be told on standard error, and panic where that takes nothing.
            .log_internal_errors(false);
        // There is a log already where several servers run in one process, as in tests.
        let begun = if io::stderr().is_terminal() {
            log.with_target(false).try_init()
        } else {
            log.json().flatten_event(true).with_current_span(false).try_init()
        };
        if begun.is_ok() {
            std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
            drop(self.0.set(queue));
        }
        Ok(())
    }

    /// What the log measures, to be registered once.
    pub fn collectors(&self) -> impl Iterator<Item = Box<dyn Collector>> {
        self.0.get().into_iter().map(|queue| -> Box<dyn Collector> { Box::new(queue.lost.clone()) })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(queue) = self.0.get() {
            queue.flush();
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system gives no thread.
    #[error("cannot start the thread that writes the log: {0}; check the limits of this user and system")]
    Thread(#[from] io::Error),
    /// The count of lost lines cannot be set up.
    #[error("cannot set up the count of lost log lines: {0}")]
    Metrics(#[from] prometheus::Error),
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

/// The way to the thread. Cheap to clone.
#[derive(Clone)]
struct Queue {
    messages: SyncSender<Message>,
    lost: IntCounter,
}

impl Queue {
    fn start(to: impl Write + Send + 'static) -> Result<Self, LogError> {
        let lost = IntCounter::new(
            "thinkwork_log_lost_lines_total",
            "Lines of the log that could not be written, on a full disk or into a pipe that nobody reads.",
        )?;
        let (messages, waiting) = sync_channel(LINES_MAX);
        let counter = lost.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&waiting, to, &counter))?;
        Ok(Self { messages, lost })
    }

    /// Waits until everything is written that was logged so far, but not for a reader that stands.
    fn flush(&self) {
        let (written, done) = sync_channel(1);
        if self.messages.try_send(Message::Flush(written)).is_ok() {
            done.recv_timeout(FLUSH_MAX).ok();
        }
    }
}

/// Ends with the last [`Queue`].
fn write_lines(waiting: &Receiver<Message>, mut to: impl Write, lost: &IntCounter) {
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Line(line) => {
                if to.write_all(&line).and_then(|()| to.flush()).is_err() {
                    lost.inc();
                }
            }
            Message::Flush(written) => drop(written.send(())),
        }
    }
}

/// The formatter hands over a whole line at a time.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn l121_a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut queue = Queue::start(writer).unwrap();
        for _ in 0..3 {
            queue.write_all(b"line\n").unwrap();
        }
        Queue::flush(&queue);
        assert_eq!(queue.lost.get(), 3);
    }

    #[test]
    fn l121_nobody_waits_for_a_reader_that_stands() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut queue = Queue::start(writer).unwrap();
        // More than the pipe and the queue hold.
        let line = [b'x'; 65_536];
        for _ in 0..LINES_MAX + 3 {
            queue.write_all(&line[..64]).unwrap();
            if queue.lost.get() == 0 {
                queue.write_all(&line).unwrap();
            }
        }
        let lost = queue.lost.get();
        assert!(lost > 0);
        let mut begin = [0; 64];
        reader.read_exact(&mut begin).unwrap();
        assert_eq!(begin, line[..64], "what was taken is written when the reader goes on");
    }
}
