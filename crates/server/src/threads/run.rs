//! The turn record while a turn runs: for the `turns` slice. Each writes in the given transaction, with its
//! thread event and wake-up.
//!
//! Invariants: one turn of a thread runs; nothing is added to a turn that has ended; a step opens nobody's credential
//! but the one its turn may use.
//!
//! Lock order, here and in `receive`: the thread's row, then its turns, its steps, credentials, and last the job. Whoever
//! writes to a turn or step holds the thread's row already, so writers of one thread wait for each other there and
//! nowhere else.

use serde_json::Value;
use thinkwork_database::{Tx, jobs};
use thinkwork_primitives::{Marks, MessageId, Principal, Requester, StepId, ThreadId, TurnId};

use super::store::{self, message, turn};
use super::{Changed, Error, Message, MessageRole, NewStep, RUN_JOB, StepEnd, Threads, Turn, TurnStatus, rules};
use crate::audit::{self, Event};

/// Why a queued turn never ran.
const LOST_ACCESS: &str = "The requester no longer has access to this Space, so nothing was done.";
/// The same, where the Space is gone.
const LOST_SPACE: &str = "The Space is no longer there, so nothing was done.";

impl Threads {
    /// A running turn left by a crash, else the oldest queued one made running; `None` when there is nothing to do.
    ///
    /// A queued turn whose requester is no longer active and admitted ends `failed` with the reason.
    ///
    /// # Errors
    /// The database's.
    pub async fn turn_claim(&self, tx: &mut Tx, thread: ThreadId) -> Result<Option<Turn>, Error> {
        let Some(mut record) = store::thread_lock(tx, thread).await? else { return Ok(None) };
        if let Some(running) = turn::turn_first(tx, thread, TurnStatus::Running).await? {
            return Ok(Some(running));
        }
        // A call that waits for approval holds the thread: what comes after it queues behind.
        if turn::turn_first(tx, thread, TurnStatus::WaitingApproval).await?.is_some() {
            return Ok(None);
        }
        let now = self.clock.now();
        while let Some(mut next) = turn::turn_first(tx, thread, TurnStatus::Queued).await? {
            if let Some(reason) = self.refusal(tx, &next).await? {
                self.turn_finish(tx, next.id, TurnStatus::Failed, Some(reason)).await?;
                continue;
            }
            turn::turn_start(tx, next.id, now).await?;
            next.status = TurnStatus::Running;
            next.started_at = Some(now);
            let status = rules::status_after_start(record.status);
            if status == record.status {
                store::events_insert(tx, thread, &[Changed::Turn(next.id)], now).await?;
            } else {
                record.status = status;
                store::thread_update(tx, &record, now).await?;
                store::events_insert(tx, thread, &[Changed::Thread(thread), Changed::Turn(next.id)], now).await?;
            }
            return Ok(Some(next));
        }
        Ok(None)
    }

    async fn refusal(&self, tx: &mut Tx, next: &Turn) -> Result<Option<&'static str>, Error> {
        if self.spaces.find_for_work(tx, next.space).await?.is_none() {
            return Ok(Some(LOST_SPACE));
        }
        match next.subject.user() {
            Some(user) if !self.is_admitted(tx, next.space, user).await? => Ok(Some(LOST_ACCESS)),
            _ => Ok(None),
        }
    }

    /// Notes what the turn was offered and what it was not: `[{server, reason, connect_url?}]`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn turn_tools(&self, tx: &mut Tx, id: TurnId, offered: &[String], left_out: &Value) -> Result<(), Error> {
        let found = locked(tx, id).await?;
        turn::turn_tools(tx, id, serde_json::json!(offered).to_string(), left_out.to_string()).await?;
        store::events_insert(tx, found.thread, &[Changed::Turn(id)], self.clock.now()).await
    }

    /// Adds marks to a turn; none is ever taken away.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn turn_mark(&self, tx: &mut Tx, id: TurnId, marks: Marks) -> Result<(), Error> {
        locked(tx, id).await?;
        turn::turn_mark(tx, id, marks).await
    }

    /// Ends a turn. One that has ended, by a person for example, stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn turn_finish(
        &self,
        tx: &mut Tx,
        id: TurnId,
        status: TurnStatus,
        failure: Option<&str>,
    ) -> Result<(), Error> {
        let found = locked(tx, id).await?;
        let now = self.clock.now();
        if turn::turn_end(tx, id, status, failure, now).await? {
            store::events_insert(tx, found.thread, &[Changed::Turn(id)], now).await?;
            let event = Event::by(found.requester, "turn.ended").on("turn", id).within(Some(found.thread), Some(id));
            audit::record(tx, now, event.detail("status", rules::turn_status_word(status)))?;
        }
        Ok(())
    }

    /// Stops a turn on a person's or service's request; whoever writes in the Space may. What follows it runs next.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Over`] where it has ended.
    pub async fn turn_cancel(&self, tx: &mut Tx, id: TurnId, by: &Principal) -> Result<Turn, Error> {
        let mut found = self.turn_visible(tx, id, by).await?;
        let now = self.clock.now();
        store::thread_lock(tx, found.thread).await?;
        if !turn::turn_end(tx, id, TurnStatus::Cancelled, None, now).await? {
            return Err(Error::Over);
        }
        store::events_insert(tx, found.thread, &[Changed::Turn(id)], now).await?;
        let event = Event::by(by.requester(), "turn.cancelled").on("turn", id).within(Some(found.thread), Some(id));
        audit::record(tx, now, event)?;
        jobs::enqueue(tx, RUN_JOB, &found.thread.to_string(), now).await?;
        found.status = TurnStatus::Cancelled;
        found.finished_at = Some(now);
        Ok(found)
    }

    /// The check for cancellation before anything is added to a turn. Until this transaction ends nobody cancels it:
    /// for writing transactions only.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn turn_is_running(&self, tx: &mut Tx, id: TurnId) -> Result<bool, Error> {
        Ok(locked(tx, id).await?.status == TurnStatus::Running)
    }

    /// Writes down a step before its call.
    ///
    /// # Errors
    /// [`Error::Over`] where the turn does not run any more; [`Error::Invalid`] where the subject is not the turn's.
    pub async fn step_start(&self, tx: &mut Tx, of: &Turn, new: NewStep) -> Result<StepId, Error> {
        if !self.turn_is_running(tx, of.id).await? {
            return Err(Error::Over);
        }
        if !rules::may_open(&of.requester, of.subject, new.subject) {
            return Err(Error::Invalid("text", "a step uses no credential but its turn's"));
        }
        let now = self.clock.now();
        let id = turn::step_insert(tx, of, new, now).await?;
        store::events_insert(tx, of.thread, &[Changed::Step(id)], now).await?;
        Ok(id)
    }

    /// Writes down how a step ended, also when its turn was stopped meanwhile.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn step_finish(&self, tx: &mut Tx, id: StepId, end: StepEnd) -> Result<(), Error> {
        let step = turn::step_find(tx, id).await?.ok_or(Error::NotFound)?;
        store::thread_lock(tx, step.thread).await?;
        let now = self.clock.now();
        turn::step_finish(tx, id, end, now).await?;
        store::events_insert(tx, step.thread, &[Changed::Step(id)], now).await
    }

    /// What the agent or the server writes, and what a tool answered to a person who typed its call, as data: never
    /// starts a turn.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the role of those who ask.
    pub async fn message_append(
        &self,
        tx: &mut Tx,
        of: &Turn,
        role: MessageRole,
        text: &str,
        marks: Marks,
    ) -> Result<MessageId, Error> {
        if role == MessageRole::User {
            return Err(Error::Invalid("text", "a turn never writes as the one who asks"));
        }
        let now = self.clock.now();
        let entry = Message {
            id: MessageId::new(),
            thread: of.thread,
            sequence: store::message_sequence_next(tx, of.thread).await?,
            role,
            text: text.to_owned(),
            data: None,
            requester: of.requester.clone(),
            subject: of.subject,
            turn: Some(of.id),
            marks,
            typed_in_session: false,
            created_at: now,
        };
        if !message::message_insert(tx, &entry, None).await? {
            return Err(Error::Damaged("message"));
        }
        store::events_insert(tx, of.thread, &[Changed::Message(entry.id)], now).await?;
        let event = Event::by(Requester::server(), "message.written").on("message", entry.id);
        let event = event.within(Some(of.thread), Some(of.id)).detail("role", rules::role_word(role));
        audit::record(tx, now, event)?;
        Ok(entry.id)
    }
}

/// The turn as it is once its thread's row is locked, which comes before everything else of the thread.
async fn locked(tx: &mut Tx, id: TurnId) -> Result<Turn, Error> {
    let thread = turn::turn_find(tx, id).await?.ok_or(Error::NotFound)?.thread;
    store::thread_lock(tx, thread).await?;
    turn::turn_find(tx, id).await?.ok_or(Error::NotFound)
}
