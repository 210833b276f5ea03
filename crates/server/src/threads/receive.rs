//! How what arrives becomes work: one transaction's worth of writes.
//!
//! Invariants: a source event makes one message and one turn for ever; a correlation key leads to one thread of its
//! source; nobody writes into a Space that does not admit them now.

use thinkwork_database::{Tx, jobs};
use thinkwork_primitives::{Marks, MessageId, Principal, Requester, ThreadId, Timestamp, TurnId};

use super::store::{self, message, turn};
use super::{
    Changed, Error, Inbound, Message, NewMessage, RUN_JOB, Received, Thread, Threads, Turn, TurnStatus, rules,
};
use crate::audit::{self, Event};

/// A thread that a message goes to, and how it was found.
struct Target {
    thread: Thread,
    is_new: bool,
    reopened: bool,
}

impl Threads {
    /// Writes thread, message, queued turn, thread events, audit and the job [`RUN_JOB`] in `tx`.
    ///
    /// A source event that was received before changes nothing and gives what it made then.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the Space or thread is not there or does not admit the requester now,
    /// [`Error::Invalid`] for attribution or text that does not fit.
    pub async fn receive(&self, tx: &mut Tx, inbound: Inbound) -> Result<Received, Error> {
        self.receive_typed(tx, inbound, false).await
    }

    /// What a caller of `/v1` or of a page writes: a person's own message, or that of a service token.
    ///
    /// # Errors
    /// As [`Threads::receive`].
    pub async fn write(&self, tx: &mut Tx, new: NewMessage, by: &Principal) -> Result<Received, Error> {
        let (inbound, typed_in_session) = rules::inbound_of(by, new);
        // A service token has no person to admit: it writes where everyone sees.
        self.spaces.visible(tx, inbound.space, by).await?;
        self.receive_typed(tx, inbound, typed_in_session).await
    }

    async fn receive_typed(&self, tx: &mut Tx, inbound: Inbound, typed_in_session: bool) -> Result<Received, Error> {
        rules::check_inbound(&inbound)?;
        self.check_admitted(tx, &inbound).await?;
        let now = self.clock.now();
        let mut entry = message_of(&inbound, typed_in_session, now);
        if !message::message_insert(tx, &entry, inbound.source_event).await? {
            return self.received_before(tx, &inbound).await;
        }
        let target = self.target(tx, &inbound, now).await?;
        let thread = target.thread.id;
        entry.thread = thread;
        entry.sequence = store::message_sequence_next(tx, thread).await?;
        message::message_place(tx, entry.id, thread, entry.sequence).await?;
        // Made while the thread's row is locked, so that ids order the queue.
        let queued = turn_of(&inbound, &target.thread, entry.id, entry.marks, now);
        turn::turn_insert(tx, &queued).await?;
        let (message, turn) = (Changed::Message(entry.id), Changed::Turn(queued.id));
        if target.is_new || target.reopened {
            store::events_insert(tx, thread, &[Changed::Thread(thread), message, turn], now).await?;
        } else {
            store::events_insert(tx, thread, &[message, turn], now).await?;
        }
        record(tx, &inbound.requester, &target, &entry, queued.id, now)?;
        jobs::enqueue(tx, RUN_JOB, &thread.to_string(), now).await?;
        let Target { thread, reopened, .. } = target;
        Ok(Received { thread, message: entry.id, turn: queued.id, reopened, fresh: true })
    }

    async fn check_admitted(&self, tx: &mut Tx, inbound: &Inbound) -> Result<(), Error> {
        if self.spaces.find_for_work(tx, inbound.space).await?.is_none() {
            return Err(Error::NotFound);
        }
        match inbound.subject.user() {
            Some(user) if !self.is_admitted(tx, inbound.space, user).await? => Err(Error::NotFound),
            _ => Ok(()),
        }
    }

    /// Whether this person is enabled and may see and write in this Space now.
    pub(super) async fn is_admitted(
        &self,
        tx: &mut Tx,
        space: thinkwork_primitives::SpaceId,
        user: thinkwork_primitives::UserId,
    ) -> Result<bool, Error> {
        Ok(self.access.is_active(tx, user).await? && self.spaces.admits(tx, space, user).await?)
    }

    async fn received_before(&self, tx: &mut Tx, inbound: &Inbound) -> Result<Received, Error> {
        let Some(event) = inbound.source_event else { return Err(Error::Damaged("message")) };
        let first = message::message_by_source(tx, event).await?.ok_or(Error::Damaged("message"))?;
        let turn = turn::turn_by_message(tx, first.thread, first.id).await?.ok_or(Error::Damaged("turn"))?;
        let thread = store::thread_find(tx, first.thread).await?.ok_or(Error::Damaged("thread"))?;
        Ok(Received { thread, message: first.id, turn: turn.id, reopened: false, fresh: false })
    }

    /// The named thread, else that of the correlation key, else a new one.
    async fn target(&self, tx: &mut Tx, inbound: &Inbound, now: Timestamp) -> Result<Target, Error> {
        if let Some(id) = inbound.thread {
            let found = store::thread_lock(tx, id).await?.filter(|thread| thread.space == inbound.space);
            return continued(tx, found.ok_or(Error::NotFound)?, now).await;
        }
        if let Some((source, key)) = &inbound.correlation
            && let Some(found) = store::thread_by_correlation(tx, source, key).await?
        {
            return self.correlated(tx, inbound, found, now).await;
        }
        let thread = store::new_thread(inbound, now);
        if store::thread_insert(tx, &thread, inbound.correlation.as_ref()).await? {
            return Ok(Target { thread, is_new: true, reopened: false });
        }
        // Another transaction made the thread of this key while we looked; it is committed by now.
        let (source, key) = inbound.correlation.as_ref().ok_or(Error::Damaged("thread"))?;
        let found = store::thread_by_correlation(tx, source, key).await?.ok_or(Error::Damaged("thread"))?;
        continued(tx, found, now).await
    }

    /// A thread of the same source with the same key, unless its Space begins anew or the source moved elsewhere: then
    /// the key goes to a new thread, and what was written before stays where its readers are.
    async fn correlated(&self, tx: &mut Tx, inbound: &Inbound, found: Thread, now: Timestamp) -> Result<Target, Error> {
        let space = self.spaces.find_for_work(tx, found.space).await?;
        let begins_anew = rules::is_closed(found.status) && space.is_some_and(|space| !space.reopen);
        if found.space == inbound.space && !begins_anew {
            return continued(tx, found, now).await;
        }
        store::thread_release(tx, found.id).await?;
        let thread = store::new_thread(inbound, now);
        if store::thread_insert(tx, &thread, inbound.correlation.as_ref()).await? {
            Ok(Target { thread, is_new: true, reopened: false })
        } else {
            Err(Error::Damaged("thread"))
        }
    }
}

async fn continued(tx: &mut Tx, mut thread: Thread, now: Timestamp) -> Result<Target, Error> {
    let reopened = rules::is_closed(thread.status);
    if reopened {
        thread.status = rules::status_after_input(thread.status);
        if !store::thread_update(tx, &thread, now).await? {
            return Err(Error::Changed);
        }
        thread.version = thread.version.saturating_add(1);
    }
    thread.updated_at = now;
    Ok(Target { thread, is_new: false, reopened })
}

fn message_of(inbound: &Inbound, typed_in_session: bool, now: Timestamp) -> Message {
    let id = MessageId::new();
    Message {
        id,
        // Its own id stands for a thread until there is one, so that the unique place is free.
        thread: ThreadId::from_uuid(id.uuid()),
        sequence: 0,
        role: inbound.role,
        text: inbound.text.clone(),
        data: inbound.data.clone(),
        requester: inbound.requester.clone(),
        subject: inbound.subject,
        turn: None,
        marks: rules::arrival_marks(inbound),
        typed_in_session,
        created_at: now,
    }
}

fn turn_of(inbound: &Inbound, thread: &Thread, message: MessageId, marks: Marks, now: Timestamp) -> Turn {
    Turn {
        id: TurnId::new(),
        thread: thread.id,
        space: thread.space,
        message,
        status: TurnStatus::Queued,
        requester: inbound.requester.clone(),
        subject: inbound.subject,
        marks,
        tools_offered: None,
        tools_left_out: None,
        failure: None,
        created_at: now,
        started_at: None,
        finished_at: None,
    }
}

fn record(
    tx: &mut Tx,
    requester: &Requester,
    target: &Target,
    entry: &Message,
    turn: TurnId,
    now: Timestamp,
) -> Result<(), Error> {
    let thread = target.thread.id;
    let of_thread = |action| Event::by(requester.clone(), action).on("thread", thread).within(Some(thread), None);
    if target.is_new {
        let event = of_thread("thread.created").detail("space_id", target.thread.space.to_string());
        audit::record(tx, now, event)?;
    } else if target.reopened {
        audit::record(tx, now, of_thread("thread.reopened"))?;
    }
    let event =
        Event::by(requester.clone(), "message.received").on("message", entry.id).within(Some(thread), Some(turn));
    audit::record(tx, now, event.detail("role", rules::role_word(entry.role)))?;
    Ok(())
}
