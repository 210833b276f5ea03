//! Threads, messages and the turn record; the stream. [`Threads::receive`] is the only creator of turns.
//!
//! Invariants: thread, message, queued turn and audit are one transaction; a turn answers one message whose author is its
//! requester; messages carry a per-thread sequence; one running turn a thread (unique in the database).

pub mod attribution;
mod batch;
mod export;
pub mod http;
pub mod pages;
mod receive;
mod record;
pub mod rules;
mod run;
mod store;
mod stream;
mod stream_slots;
#[cfg(test)]
mod tests;
pub mod text;
mod wire;

use std::collections::HashMap;

use thinkwork_database::jobs::JobType;
use thinkwork_database::retention::{self, Batches, StoredRows};
use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{
    Clock, MessageId, Principal, SpaceId, StepId, TenantId, ThreadId, Timestamp, TurnId, UserId,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use record::{
    CorrelationKey, IncomingMessage, Message, MessageRole, NewReply, NewStep, Priority, ReceivedMessage, Step, StepEnd,
    StepKind, StepStatus, Thread, ThreadCursor, ThreadEvent, ThreadEventKind, ThreadFilter, ThreadPage, ThreadStatus,
    ThreadUpdate, Turn, TurnEnd, TurnStatus,
};
pub use run::{NextTurn, StepUseRecorder, TurnQueues};

use crate::access::Access;
use crate::audit::{self, Event};
use crate::edge::{InvalidField, Names};
use crate::spaces::Spaces;

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or not visible for the caller: 404.
    #[error("there is no such thread for this caller")]
    NotFound,
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The caller has as many streams open as one may have.
    #[error("the caller has too many streams open")]
    TooManyStreams,
    /// Only the person whose credential read something shares it.
    #[error("the message is private to another person")]
    NotYourMessage,
    /// The turn has ended or does not run.
    #[error("the turn does not run any more")]
    Over,
    /// `If-Match` named another version.
    #[error("the thread was changed meanwhile")]
    VersionConflict,
    /// A row does not read back as it was written.
    #[error("a stored {0} cannot be read; restore the row from a backup")]
    Damaged(&'static str),
    #[error(transparent)]
    Spaces(crate::spaces::Error),
    /// People could not be asked for.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

impl From<crate::spaces::Error> for Error {
    /// A thread in a Space that is not there for somebody is not there for them either.
    fn from(error: crate::spaces::Error) -> Self {
        match error {
            crate::spaces::Error::NotFound => Self::NotFound,
            other => Self::Spaces(other),
        }
    }
}

/// Runs the queued turns of one thread. Enqueued by what happens here, done by the `turns` slice.
pub struct RunThread;

impl JobType for RunThread {
    const NAME: &'static str = "run_thread";
    type Payload = ThreadId;
}

/// What somebody writes through `/v1` or a page.
pub struct NewMessage {
    /// Where.
    pub space: SpaceId,
    /// In which thread; a new one where it is left out.
    pub thread: Option<ThreadId>,
    /// The title of a new thread.
    pub title: Option<String>,
    /// The words.
    pub text: String,
    /// The priority of a new thread.
    pub priority: Option<Priority>,
}

#[derive(Clone)]
pub struct Threads {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    access: Access,
    spaces: Spaces,
    names: Names,
    /// Cancelled when this process ends: its open streams end with it.
    closing: CancellationToken,
    stream_slots: stream_slots::StreamSlots,
}

impl Threads {
    /// Over this database.
    pub fn new(db: Db, clock: Clock, access: Access, spaces: Spaces, names: Names) -> Self {
        Self {
            db,
            clock,
            access,
            spaces,
            names,
            closing: CancellationToken::new(),
            stream_slots: stream_slots::StreamSlots::default(),
        }
    }

    /// Ends every open stream, and each new one at once: readers come back to another process, or to the next start.
    pub fn streams_end(&self) {
        self.closing.cancel();
    }

    /// Deletes events of a tenant's threads from before then, at most `count`. A stream that would go on with one of them
    /// begins anew.
    pub async fn delete_events_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        Ok(retention::delete_before(&self.db, tenant, store::EVENT_COLUMNS, before, count).await?)
    }

    /// Deletes the steps of a tenant's turns that ended before then, at most `count`; a turn says that it had some.
    ///
    /// # Errors
    /// The database's; what was deleted in earlier transactions stays deleted.
    pub async fn delete_steps_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        let mut batches = Batches::of(count);
        while let Some(limit) = batches.next_limit() {
            let mut tx = self.db.write(tenant).await?;
            let deleted = store::step::steps_delete(&mut tx, before, limit, self.clock.now()).await?;
            tx.commit().await?;
            batches.deleted(limit, deleted);
        }
        Ok(())
    }

    /// How many events of threads the transaction's tenant has, and when the oldest happened.
    pub async fn events_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(retention::stored(tx, &store::EVENT_COLUMNS, now).await?)
    }

    /// How many steps the transaction's tenant has, and when the oldest began.
    pub async fn steps_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(retention::stored(tx, &store::step::STEP_COLUMNS, now).await?)
    }

    /// How many threads, messages and turns the transaction's tenant has, and when the oldest began.
    pub async fn stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        let threads = retention::stored(tx, &store::THREAD_COLUMNS, now).await?;
        let messages = retention::stored(tx, &store::message::MESSAGE_COLUMNS, now).await?;
        let turns = retention::stored(tx, &store::turn::TURN_COLUMNS, now).await?;
        Ok(threads.and(messages).and(turns))
    }

    /// The thread if the caller may see its Space.
    pub async fn visible(&self, tx: &mut Tx, id: ThreadId, caller: &Principal) -> Result<Thread, Error> {
        let thread = store::thread_find(tx, id).await?.ok_or(Error::NotFound)?;
        self.spaces.visible(tx, thread.space, caller).await?;
        Ok(thread)
    }

    /// The thread without asking who: for work. Never for a request.
    pub async fn find_for_work(&self, tx: &mut Tx, id: ThreadId) -> Result<Option<Thread>, Error> {
        store::thread_find(tx, id).await
    }

    /// Threads of the Spaces that the caller may see, at most `count`, after the place of another: the latest first, or
    /// those that were begun last where words are searched.
    pub async fn list(
        &self,
        tx: &mut Tx,
        caller: &Principal,
        filter: &ThreadFilter,
        count: u64,
        after: Option<ThreadCursor>,
    ) -> Result<ThreadPage, Error> {
        let spaces = self.spaces.visible_ids(tx, caller).await?;
        store::list::thread_list(tx, &spaces, filter, count, after).await
    }

    /// Changes title, status or priority. `if_version` refuses when another change came first.
    pub async fn update(
        &self,
        tx: &mut Tx,
        id: ThreadId,
        change: ThreadUpdate,
        if_version: Option<i64>,
        by: &Principal,
    ) -> Result<Thread, Error> {
        let mut thread = self.visible(tx, id, by).await?;
        if if_version.is_some_and(|version| version != thread.version) {
            return Err(Error::VersionConflict);
        }
        let mut event = Event::by(by.actor(), "thread.changed").on("thread", id).within(Some(id), None);
        let has_new_title = change.title.is_some();
        if let Some(title) = change.title {
            thread.title = rules::check_title(&title)?;
            event = event.detail("title_changed", true);
        }
        if let Some(status) = change.status {
            thread.status = status;
            event = event.detail("status", status.as_str());
        }
        if let Some(priority) = change.priority {
            thread.priority = priority;
            event = event.detail("priority", priority.as_str());
        }
        let now = self.clock.now();
        if !store::thread_update(tx, &thread, now).await? {
            return Err(Error::VersionConflict);
        }
        if has_new_title {
            store::list::search_retitle(tx, &thread).await?;
        }
        thread.version = thread.version.saturating_add(1);
        thread.updated_at = now;
        store::events_insert(tx, id, &[ThreadEventKind::Thread(id)], now).await?;
        audit::record(tx, now, event)?;
        Ok(thread)
    }

    /// Messages after the place `after`, in their order, at most `limit`.
    pub async fn messages(
        &self,
        tx: &mut Tx,
        thread: ThreadId,
        limit: u64,
        after: Option<i64>,
    ) -> Result<Vec<Message>, Error> {
        store::message::message_list(tx, thread, limit, after).await
    }

    pub async fn message(&self, tx: &mut Tx, id: MessageId) -> Result<Option<Message>, Error> {
        store::message::message_find(tx, id).await
    }

    /// The messages that came with these events, by event. The caller must have been let see their Space.
    pub async fn messages_of_events(&self, tx: &mut Tx, events: &[Uuid]) -> Result<HashMap<Uuid, Message>, Error> {
        store::message::messages_by_source(tx, events).await
    }

    /// Lets everyone in the Space read a message that is private to the caller. Twice is once.
    pub async fn message_share(&self, tx: &mut Tx, id: MessageId, by: &Principal) -> Result<Message, Error> {
        let thread = store::message::message_find(tx, id).await?.ok_or(Error::NotFound)?.thread;
        self.visible(tx, thread, by).await?;
        store::thread_lock(tx, thread).await?;
        let mut message = store::message::message_find(tx, id).await?.ok_or(Error::NotFound)?;
        let Some(owner) = message.marks.private_to else { return Ok(message) };
        if by.user() != Some(owner) {
            return Err(Error::NotYourMessage);
        }
        let now = self.clock.now();
        store::message::message_share(tx, id).await?;
        store::events_insert(tx, thread, &[ThreadEventKind::Message(id)], now).await?;
        let event = Event::by(by.actor(), "message.shared").on("message", id).within(Some(thread), message.turn);
        audit::record(tx, now, event)?;
        message.marks.private_to = None;
        Ok(message)
    }

    /// Turns in the order they were queued, at most `limit`, after `after`.
    pub async fn turns(
        &self,
        tx: &mut Tx,
        thread: ThreadId,
        limit: u64,
        after: Option<TurnId>,
    ) -> Result<Vec<Turn>, Error> {
        store::turn::turn_list(tx, thread, limit, after).await
    }

    pub async fn turn(&self, tx: &mut Tx, id: TurnId) -> Result<Option<Turn>, Error> {
        store::turn::turn_find(tx, id).await
    }

    /// The turn if the caller may see its thread.
    pub async fn turn_visible(&self, tx: &mut Tx, id: TurnId, caller: &Principal) -> Result<Turn, Error> {
        let turn = store::turn::turn_find(tx, id).await?.ok_or(Error::NotFound)?;
        self.visible(tx, turn.thread, caller).await?;
        Ok(turn)
    }

    /// A turn's steps as they were stored, for work and for the person they are of. What others may see of them:
    /// [`rules::visible_steps`].
    pub async fn steps(&self, tx: &mut Tx, turn: TurnId) -> Result<Vec<Step>, Error> {
        store::step::step_list(tx, &[turn]).await
    }

    /// A turn's steps as this caller may see them. Where some are deleted the others are not shown, since whose credential
    /// was opened by an earlier step says who may see a later one; they are deleted within minutes.
    pub async fn steps_visible(&self, tx: &mut Tx, turn: &Turn, caller: &Principal) -> Result<Vec<Step>, Error> {
        if turn.steps_deleted_at.is_some() {
            return Ok(Vec::new());
        }
        let steps = store::step::step_previews(tx, turn.id).await?;
        Ok(rules::visible_steps(turn, steps, caller.user()))
    }

    /// Steps that opened this person's credentials, newest first.
    pub async fn steps_using(
        &self,
        tx: &mut Tx,
        user: UserId,
        limit: u64,
        after: Option<StepId>,
    ) -> Result<Vec<Step>, Error> {
        store::step::steps_using(tx, user, limit, after).await
    }
}
