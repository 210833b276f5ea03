//! Writes to many threads in one transaction: each is locked once, and each table is written by one statement.
//!
//! Invariants: nobody else writes to a thread of the batch until the transaction ends; sequences follow the order of the
//! calls; of what happens to one message or turn in a batch, its readers hear the last alone. Used by `receive` and `run`.

use std::collections::BTreeMap;

use thinkwork_database::Tx;
use thinkwork_primitives::{Clock, ThreadId, Timestamp, TurnId};
use uuid::Uuid;

use super::store::locked::{self, LockedThread};
use super::store::{self, message, turn};
use super::{CorrelationKey, Error, Message, Thread, ThreadEvent, ThreadEventKind, ThreadStatus, Turn};

/// Locked and new threads, and what is to be written to them.
pub(super) struct ThreadBatch {
    now: Timestamp,
    threads: BTreeMap<ThreadId, LockedThread>,
    messages: Vec<(Message, Option<Uuid>)>,
    turns: BTreeMap<TurnId, Turn>,
    happened: Vec<(ThreadId, ThreadEventKind)>,
}

impl ThreadBatch {
    /// Locks these threads and those of the keys.
    pub(super) async fn lock(
        tx: &mut Tx,
        clock: &Clock,
        ids: &[ThreadId],
        keys: &[CorrelationKey],
    ) -> Result<Self, Error> {
        let mut found = locked::threads_lock(tx, ids).await?;
        found.extend(locked::threads_lock_correlated(tx, keys).await?);
        let threads = found.into_iter().map(|locked| (locked.thread.id, locked)).collect();
        // Once they are locked, so that what waited for another transaction is not dated before it.
        let now = clock.now();
        Ok(Self { now, threads, messages: Vec::new(), turns: BTreeMap::new(), happened: Vec::new() })
    }

    /// When everything of the batch happens.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn thread(&self, id: ThreadId) -> Result<&Thread, Error> {
        self.threads.get(&id).map(|locked| &locked.thread).ok_or(Error::NotFound)
    }

    /// The thread that answers to this key.
    pub(super) fn correlated(&self, key: &CorrelationKey) -> Option<&Thread> {
        self.threads.values().find(|locked| locked.correlation.as_ref() == Some(key)).map(|locked| &locked.thread)
    }

    pub(super) fn insert(&mut self, thread: Thread, correlation: Option<CorrelationKey>) {
        self.changed(thread.id, ThreadEventKind::Thread(thread.id));
        let locked = LockedThread {
            thread,
            correlation,
            message_sequence: 0,
            event_sequence: 0,
            is_changed: true,
            is_new: true,
        };
        self.threads.insert(locked.thread.id, locked);
    }

    /// Takes its correlation key from a thread that no longer answers to it.
    pub(super) fn release(&mut self, id: ThreadId) -> Result<(), Error> {
        self.locked(id)?.correlation = None;
        Ok(())
    }

    pub(super) fn set_status(&mut self, id: ThreadId, status: ThreadStatus) -> Result<(), Error> {
        if self.thread(id)?.status == status {
            return Ok(());
        }
        let thread = &mut self.locked(id)?.thread;
        thread.status = status;
        thread.version = thread.version.saturating_add(1);
        self.changed(id, ThreadEventKind::Thread(id));
        Ok(())
    }

    /// Puts a message at the end of its thread and returns its place.
    pub(super) fn add_message(&mut self, mut new: Message, source_event: Option<Uuid>) -> Result<i64, Error> {
        let locked = self.locked(new.thread)?;
        locked.message_sequence = locked.message_sequence.saturating_add(1);
        new.sequence = locked.message_sequence;
        let thread = new.thread;
        let id = new.id;
        let sequence = new.sequence;
        self.changed(thread, ThreadEventKind::Message(id));
        self.messages.push((new, source_event));
        Ok(sequence)
    }

    /// Stores a turn as it is now: a new one, or one that was read since its thread was locked.
    pub(super) fn put_turn(&mut self, turn: Turn) {
        self.changed(turn.thread, ThreadEventKind::Turn(turn.id));
        self.turns.insert(turn.id, turn);
    }

    fn locked(&mut self, id: ThreadId) -> Result<&mut LockedThread, Error> {
        let locked = self.threads.get_mut(&id).ok_or(Error::NotFound)?;
        locked.is_changed = true;
        Ok(locked)
    }

    fn changed(&mut self, thread: ThreadId, what: ThreadEventKind) {
        self.happened.retain(|(_, earlier)| *earlier != what);
        self.happened.push((thread, what));
    }

    /// Writes everything.
    pub(super) async fn save(mut self, tx: &mut Tx) -> Result<(), Error> {
        let mut events = Vec::with_capacity(self.happened.len());
        for (thread, what) in std::mem::take(&mut self.happened) {
            let now = self.now;
            let locked = self.locked(thread)?;
            locked.event_sequence = locked.event_sequence.saturating_add(1);
            locked.thread.updated_at = now;
            events.push((thread, ThreadEvent { sequence: locked.event_sequence, what }));
        }
        // Rows without a key first: one whose key was released comes before the new one that the key goes to.
        let mut threads: Vec<&LockedThread> = self.threads.values().filter(|locked| locked.is_changed).collect();
        threads.sort_by_key(|locked| locked.correlation.is_some());
        if !threads.is_empty() {
            locked::threads_save(tx, &threads).await?;
        }
        if !self.messages.is_empty() {
            message::messages_insert(tx, &self.messages).await?;
        }
        let turns: Vec<&Turn> = self.turns.values().collect();
        if !turns.is_empty() {
            turn::turns_save(tx, &turns).await?;
        }
        if !events.is_empty() {
            store::events_save(tx, &events, self.now).await?;
        }
        Ok(())
    }
}
