//! What happens in a thread, sent while it happens.
//!
//! Invariants: an item is sent only after the caller's access was checked at most [`ACCESS_AGE_MAX`] before; the
//! stream ends when access is lost or the process stops; the id of an item is its `thread_event` sequence, so a reader
//! resumes without gap. A silent stream costs next to nothing: it waits for hints about its thread and its caller, and
//! looks by itself every [`IDLE_CHECK_EVERY`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use thinkwork_database::{Topic, WakeUp, Watch};
use thinkwork_primitives::{AuthMethod, Chain, Principal, SpaceId, ThreadId};

use super::stream_slots::StreamSlot;
use super::{Error, ThreadEvent, ThreadEventKind, Threads, store};
use crate::edge::{ApiError, Recheck};

/// How old the last check of access may be when an item is sent.
const ACCESS_AGE_MAX: Duration = Duration::from_secs(5);
/// How often a silent stream checks access and reads events without a hint. What takes access away sends a hint; a session
/// or token that expires sends none.
const IDLE_CHECK_EVERY: Duration = Duration::from_secs(30);
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
    thread_changes: Watch,
    access_changes: Watch,
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
        let thread_changes = self.db.wake_ups().watch(vec![WakeUp { topic: Topic::Thread, id: thread.uuid() }]);
        let mut tx = self.db.read(caller.tenant).await?;
        let space = self.visible(&mut tx, thread, &caller).await?.space;
        let access_changes = self.db.wake_ups().watch(access_keys(&caller, space));
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
            thread_changes,
            access_changes,
            // What changed before the watch began is seen by the first check.
            checked_at: None,
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
            if self.waiting.is_empty() && !self.changed().await {
                return None;
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

    /// Waits until there may be something to send. False where the caller has lost access meanwhile.
    async fn changed(&mut self) -> bool {
        if !self.is_admitted(IDLE_CHECK_EVERY).await {
            return false;
        }
        tokio::select! {
            () = self.thread_changes.changed() => return true,
            () = self.access_changes.changed() => {}
            () = self.threads.clock.pause(IDLE_CHECK_EVERY) => {}
        }
        self.is_admitted(Duration::ZERO).await
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

/// What takes this caller's access to a thread of this Space away.
fn access_keys(caller: &Principal, space: SpaceId) -> Vec<WakeUp> {
    let proof = match caller.auth {
        AuthMethod::Session { id, .. } => id.uuid(),
        AuthMethod::Token { id, .. } => id.uuid(),
        AuthMethod::Turn { id } => id.uuid(),
    };
    let person = caller.user().map(|user| user.uuid());
    let ids = [proof, space.uuid()].into_iter().chain(person);
    ids.map(|id| WakeUp { topic: Topic::Access, id }).collect()
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
