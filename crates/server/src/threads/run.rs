//! The turn record while a turn runs: for the `turns` slice. Each writes in the given transaction, with its
//! thread event and wake-up.
//!
//! Invariants: one turn of a thread runs; nothing is added to a turn that has ended; a step opens nobody's credential
//! but the one its turn may use.
//!
//! Lock order, here and in `receive`: the thread's row, then its turns, its steps, credentials, and last the job. Whoever
//! writes to a turn or step holds the thread's row already, so writers of one thread wait for each other there and
//! nowhere else.

use std::collections::HashMap;

use serde_json::json;
use thinkwork_database::{Topic, Tx};
use thinkwork_primitives::{ActingClient, Actor, DomainEvent, Marks, MessageId, Principal, StepId, ThreadId, TurnId};

use super::batch::ThreadBatch;
use super::store::{self, turn};
use super::{
    Error, Message, MessageRole, NewReply, NewStep, StepEnd, ThreadEventKind, Threads, Turn, TurnEnd, TurnStatus, rules,
};
use crate::audit::{self, Event};
use crate::credentials::{CredentialUse, UseRecorder};
use crate::edge::InvalidField;
use crate::edge::caller::BoxFuture;
use crate::tools::{LeftOut, OfferedSource};

/// A credential is opened for a step of another person's turn, or for none.
const NOT_THIS_TURN: &str = "The step that asks for it does not exist, or its turn may not use this credential.";

/// What a thread has to do next.
#[derive(Clone, Debug)]
pub enum NextTurn {
    /// Nothing now: nothing is queued, or a call that waits for an approval holds the thread.
    Nothing,
    /// A running turn that a crash left.
    Resume(Turn),
    /// The oldest queued turn.
    Begin {
        turn: Turn,
        /// Whether others are queued behind it.
        has_more: bool,
    },
}

/// Locked threads with their next turns, and what is to be written to them.
pub struct TurnQueues {
    batch: ThreadBatch,
    next: HashMap<ThreadId, NextTurn>,
    /// What the next turns answer.
    answered: HashMap<MessageId, Message>,
}

impl TurnQueues {
    /// What a thread has to do next.
    pub fn next(&self, thread: ThreadId) -> NextTurn {
        self.next.get(&thread).cloned().unwrap_or(NextTurn::Nothing)
    }

    /// The message that a next turn answers.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is gone.
    pub fn answered_by(&self, turn: &Turn) -> Result<&Message, Error> {
        self.answered.get(&turn.message).ok_or(Error::NotFound)
    }

    /// Makes a queued turn the running one.
    pub fn start(&mut self, mut turn: Turn) -> Result<Turn, Error> {
        turn.status = TurnStatus::Running;
        turn.started_at = Some(self.batch.now());
        let status = self.batch.thread(turn.thread)?.status;
        self.batch.set_status(turn.thread, rules::status_after_start(status))?;
        self.batch.put_turn(turn.clone());
        Ok(turn)
    }

    /// Ends a turn of these threads.
    pub fn end(&mut self, tx: &mut Tx, turn: Turn, end: TurnEnd) -> Result<(), Error> {
        end_turn(tx, &mut self.batch, turn, end)
    }

    /// Writes everything.
    pub async fn save(self, tx: &mut Tx) -> Result<(), Error> {
        self.batch.save(tx).await
    }
}

impl Threads {
    /// Locks these threads and reads what each has to do next. At most one turn of a thread runs: where one was begun and
    /// has not ended, that one comes next.
    pub async fn turn_queues(&self, tx: &mut Tx, threads: &[ThreadId]) -> Result<TurnQueues, Error> {
        let batch = ThreadBatch::lock(tx, &self.clock, threads, &[]).await?;
        let queues = turn::queues_of(tx, threads).await?;
        let heads: Vec<TurnId> = queues.iter().filter_map(|queue| queue.active.or(queue.first)).collect();
        let mut answered = HashMap::new();
        let mut turns = HashMap::new();
        for (turn, message) in turn::turns_with_messages(tx, &heads).await? {
            answered.extend(message.map(|message| (message.id, message)));
            turns.insert(turn.id, turn);
        }
        let mut next = HashMap::new();
        for queue in queues {
            let Some(head) = queue.active.or(queue.first).and_then(|id| turns.remove(&id)) else { continue };
            let step = match head.status {
                TurnStatus::Queued => NextTurn::Begin { turn: head, has_more: queue.has_more },
                TurnStatus::Running => NextTurn::Resume(head),
                _ => NextTurn::Nothing,
            };
            next.insert(queue.thread, step);
        }
        Ok(TurnQueues { batch, next, answered })
    }

    /// Notes what the turn was offered and what it was not.
    pub async fn turn_tools(
        &self,
        tx: &mut Tx,
        id: TurnId,
        offered: &[OfferedSource],
        left_out: &[LeftOut],
    ) -> Result<(), Error> {
        let found = locked(tx, id).await?;
        turn::turn_tools(tx, id, json!(offered).to_string(), json!(left_out).to_string()).await?;
        store::events_insert(tx, found.thread, &[ThreadEventKind::Turn(id)], self.clock.now()).await
    }

    /// Adds marks to a turn; none is ever taken away.
    pub async fn turn_mark(&self, tx: &mut Tx, id: TurnId, marks: Marks) -> Result<(), Error> {
        locked(tx, id).await?;
        turn::turn_mark(tx, id, marks).await
    }

    /// Ends a running turn. False where it does not run any more, stopped by a person for example: then it stays as it
    /// is and nothing is said.
    pub async fn turn_end(&self, tx: &mut Tx, of: &Turn, end: TurnEnd) -> Result<bool, Error> {
        let mut batch = ThreadBatch::lock(tx, &self.clock, &[of.thread], &[]).await?;
        let turn = turn::turn_find(tx, of.id).await?.ok_or(Error::NotFound)?;
        if turn.status != TurnStatus::Running {
            return Ok(false);
        }
        end_turn(tx, &mut batch, turn, end)?;
        batch.save(tx).await?;
        Ok(true)
    }

    /// Stops a turn on a person's or service's request; whoever writes in the Space may. What follows it runs next.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Over`] where it has ended.
    pub async fn turn_cancel(&self, tx: &mut Tx, id: TurnId, by: &Principal) -> Result<Turn, Error> {
        let mut found = self.turn_visible(tx, id, by).await?;
        let now = self.clock.now();
        store::thread_lock(tx, found.thread).await?;
        if !turn::turn_cancel(tx, id, now).await? {
            return Err(Error::Over);
        }
        store::events_insert(tx, found.thread, &[ThreadEventKind::Turn(id)], now).await?;
        let event = Event::by(by.actor(), "turn.cancelled").on("turn", id).within(Some(found.thread), Some(id));
        audit::record(tx, now, event)?;
        tx.wake(Topic::Turn, id.uuid());
        let requester = found.requester.clone();
        tx.publish(DomainEvent::TurnCancelled { thread: found.thread, turn: id, requester }, now);
        found.status = TurnStatus::Cancelled;
        found.finished_at = Some(now);
        Ok(found)
    }

    /// The check for cancellation before anything is added to a turn. Until this transaction ends nobody cancels it:
    /// for writing transactions only.
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
            return Err(InvalidField::new("text", "a step uses no credential but its turn's").into());
        }
        let now = self.clock.now();
        let id = store::step::step_insert(tx, of, new, now).await?;
        store::events_insert(tx, of.thread, &[ThreadEventKind::Step(id)], now).await?;
        Ok(id)
    }

    /// Writes down how a step ended, also when its turn was stopped meanwhile.
    pub async fn step_finish(&self, tx: &mut Tx, id: StepId, end: StepEnd) -> Result<(), Error> {
        let step = store::step::step_find(tx, id).await?.ok_or(Error::NotFound)?;
        store::thread_lock(tx, step.thread).await?;
        let now = self.clock.now();
        store::step::step_finish(tx, id, end, now).await?;
        store::events_insert(tx, step.thread, &[ThreadEventKind::Step(id)], now).await
    }
}

/// Ends a turn of a batch, with what is said at its end before it.
fn end_turn(tx: &mut Tx, batch: &mut ThreadBatch, mut turn: Turn, end: TurnEnd) -> Result<(), Error> {
    let now = batch.now();
    for reply in end.messages {
        write_reply(tx, batch, &turn, reply)?;
    }
    turn.status = end.status;
    turn.failure = end.failure.map(str::to_owned);
    turn.finished_at = Some(now);
    let by = Actor { requester: turn.requester.clone(), client: ActingClient::Agent };
    let event = Event::by(by, "turn.ended").on("turn", turn.id).within(Some(turn.thread), Some(turn.id));
    audit::record(tx, now, event.detail("status", turn.status.as_str()))?;
    tx.publish(DomainEvent::TurnFinished { thread: turn.thread, turn: turn.id }, now);
    batch.put_turn(turn);
    Ok(())
}

fn write_reply(tx: &mut Tx, batch: &mut ThreadBatch, of: &Turn, reply: NewReply) -> Result<(), Error> {
    if reply.role == MessageRole::User {
        return Err(InvalidField::new("text", "a turn never writes as its requester").into());
    }
    let now = batch.now();
    let client = if reply.role == MessageRole::System { ActingClient::System } else { ActingClient::Agent };
    let message = Message {
        id: MessageId::new(),
        thread: of.thread,
        sequence: 0,
        role: reply.role,
        text: reply.text,
        data: None,
        requester: of.requester.clone(),
        client,
        subject: of.subject,
        turn: Some(of.id),
        marks: reply.marks,
        created_at: now,
    };
    let event = Event::by(message.actor(), "message.written").on("message", message.id);
    let event = event.within(Some(of.thread), Some(of.id)).detail("role", reply.role.as_str());
    batch.add_message(message, None)?;
    audit::record(tx, now, event)?;
    Ok(())
}

/// The turn as it is once its thread's row is locked, which comes before everything else of the thread.
async fn locked(tx: &mut Tx, id: TurnId) -> Result<Turn, Error> {
    let thread = turn::turn_find(tx, id).await?.ok_or(Error::NotFound)?.thread;
    store::thread_lock(tx, thread).await?;
    turn::turn_find(tx, id).await?.ok_or(Error::NotFound)
}

/// Records on a step which credential was opened for it.
pub struct StepUseRecorder(pub StepId);

impl UseRecorder for StepUseRecorder {
    /// Refuses a person's credential where the step's turn is not theirs, whatever the caller says of it.
    fn record_use<'a>(
        &'a self,
        tx: &'a mut Tx,
        used: CredentialUse,
    ) -> BoxFuture<'a, Result<(), crate::credentials::Error>> {
        Box::pin(async move {
            let is_owner = match (used.subject.user(), used.subject.connection()) {
                (Some(user), Some(connection)) => crate::oauth::is_owner(tx, user, connection).await?,
                (Some(_), None) => false,
                (None, _) => true,
            };
            if is_owner && store::step::step_record_use(tx, self.0, used).await? {
                Ok(())
            } else {
                Err(crate::credentials::Error::Refused(NOT_THIS_TURN))
            }
        })
    }
}
