//! What happens in a thread, sent while it happens.
//!
//! Invariants: an item is sent only after the caller's access was checked at most [`ACCESS_AGE_MAX`] before; the
//! stream ends when access is lost or the process stops; the id of an item is its `thread_event` sequence, so a reader
//! resumes without gap.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use thinkwork_database::{Topic, WakeUp};
use thinkwork_primitives::{Chain, Principal, ThreadId};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::stream_slots::StreamSlot;
use super::{Error, ThreadEvent, ThreadEventKind, Threads, store};
use crate::edge::{ApiError, Recheck};

/// How old the last check of access may be when an item is sent.
const ACCESS_AGE_MAX: Duration = Duration::from_secs(5);
/// How often a silent stream checks, so that a lost one closes within [`ACCESS_AGE_MAX`].
const ACCESS_CHECK_EVERY: Duration = Duration::from_secs(3);
/// How long a stream trusts hints before it looks by itself.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Events read at a time.
const BATCH: u64 = 100;
/// A comment line keeps proxies from closing a silent stream.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// One open stream.
struct ThreadStream {
    threads: Threads,
    caller: Principal,
    recheck: Recheck,
    thread: ThreadId,
    /// The last sequence that was read.
    after: i64,
    waiting: VecDeque<ThreadEvent>,
    wake_ups: Receiver<WakeUp>,
    /// At which uptime the caller's access was checked last; none where it is to be checked in any case.
    checked_at: Option<Duration>,
    _place: StreamSlot,
}

impl Threads {
    /// The stream of a thread that the caller may see now. `after` is where the reader was; without it, or where events
    /// after it are no longer kept, the stream begins with one `thread` event that says where it stands, so that the reader
    /// loads once and misses nothing.
    pub(super) async fn follow(
        &self,
        caller: Principal,
        recheck: Recheck,
        thread: ThreadId,
        after: Option<i64>,
    ) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Error> {
        // Subscribed before the first look, so that nothing falls between.
        let wake_ups = self.db.wake_ups().subscribe();
        let mut tx = self.db.read(caller.tenant).await?;
        self.visible(&mut tx, thread, &caller).await?;
        let newest = store::event_sequence(&mut tx, thread).await?;
        // One that was away for longer than events are kept begins as one that comes first.
        let after = if let Some(after) = after.filter(|after| *after < newest) {
            let next = store::event_list(&mut tx, thread, after, 1).await?;
            next.first().filter(|next| next.sequence == after.saturating_add(1)).map(|_| after)
        } else {
            after
        };
        drop(tx);
        let slot = self.stream_slots.acquire(&caller).ok_or(Error::TooManyStreams)?;
        let mut waiting = VecDeque::new();
        if after.is_none() {
            waiting.push_back(ThreadEvent { sequence: newest, what: ThreadEventKind::Thread(thread) });
        }
        let open = ThreadStream {
            threads: self.clone(),
            caller,
            recheck,
            thread,
            // A reader from before a restored backup knows sequences that do not exist yet.
            after: after.map_or(newest, |after| after.min(newest)),
            waiting,
            wake_ups,
            checked_at: Some(self.clock.uptime()),
            _place: slot,
        };
        let stream = futures_util::stream::unfold(open, |mut open| async move {
            let item = open.next().await?;
            Some((Ok(item), open))
        });
        let stream = stream.take_until(self.closing.clone().cancelled_owned());
        Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)))
    }
}

impl ThreadStream {
    /// The next item; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return if self.is_admitted(ACCESS_AGE_MAX).await { written(item) } else { None };
            }
            self.load()
                .await
                .map_err(|error| tracing::error!(error = %Chain(&error), "a thread's stream broke off"))
                .ok()?;
            if self.waiting.is_empty() {
                let looked = self.hint().await;
                let age = if looked { Duration::ZERO } else { ACCESS_CHECK_EVERY };
                if !self.is_admitted(age).await {
                    return None;
                }
            }
        }
    }

    async fn load(&mut self) -> Result<(), Error> {
        let mut tx = self.threads.db.read(self.caller.tenant).await?;
        let found = store::event_list(&mut tx, self.thread, self.after, BATCH).await?;
        drop(tx);
        if let Some(last) = found.last() {
            self.after = last.sequence;
            // What was just read is checked anew before it is sent.
            self.checked_at = None;
        }
        self.waiting.extend(found);
        Ok(())
    }

    /// Waits for a hint about this thread or for the sweep. True when somebody's access changed.
    async fn hint(&mut self) -> bool {
        let wait = async {
            loop {
                match self.wake_ups.recv().await {
                    Ok(WakeUp { topic: Topic::Thread, id }) if id == self.thread.uuid() => return false,
                    Ok(WakeUp { topic: Topic::Access, .. }) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return false,
                }
            }
        };
        tokio::time::timeout(SWEEP_EVERY, wait).await.unwrap_or(false)
    }

    /// Whether the caller still may see the thread; asked anew where the last answer is older than `age_max`.
    async fn is_admitted(&mut self, age_max: Duration) -> bool {
        let now = self.threads.clock.uptime();
        if self.checked_at.is_some_and(|at| now.saturating_sub(at) < age_max) {
            return true;
        }
        match self.recheck_access().await {
            Ok(admitted) => {
                self.checked_at = Some(now);
                admitted
            }
            Err(error) => {
                tracing::error!(
                    error = error.log.as_deref().unwrap_or(&error.message),
                    "a stream's access check failed"
                );
                false
            }
        }
    }

    async fn recheck_access(&self) -> Result<bool, ApiError> {
        if !self.recheck.still(&self.caller).await? {
            return Ok(false);
        }
        let mut tx = self.threads.db.read(self.caller.tenant).await?;
        match self.threads.visible(&mut tx, self.thread, &self.caller).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

fn written(item: ThreadEvent) -> Option<Event> {
    let (kind, reference) = match item.what {
        ThreadEventKind::Thread(id) => ("thread", id.to_string()),
        ThreadEventKind::Message(id) => ("message", id.to_string()),
        ThreadEventKind::Turn(id) => ("turn", id.to_string()),
        ThreadEventKind::Step(id) => ("step", id.to_string()),
    };
    let data = json!({ "kind": kind, "ref_id": reference, "seq": item.sequence });
    Some(Event::default().event(kind).id(item.sequence.to_string()).data(data.to_string()))
}
