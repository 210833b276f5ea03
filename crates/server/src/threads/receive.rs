//! How what arrives becomes work: one transaction's worth of writes, for one arrival or a batch.
//!
//! Invariants: a source event makes one message and one turn for ever; a correlation key leads to one thread of its
//! source; nobody writes into a Space that does not admit them now; an arrival that is refused leaves nothing.

use std::collections::HashMap;

use thinkwork_database::Tx;
use thinkwork_primitives::{DomainEvent, MessageId, Principal, SpaceId, ThreadId, Timestamp, TurnId, UserId};
use uuid::Uuid;

use super::batch::ThreadBatch;
use super::store::{self, message, turn};
use super::{
    CorrelationKey, Error, IncomingMessage, Message, NewMessage, Priority, ReceivedMessage, Thread, ThreadStatus,
    Threads, Turn, TurnStatus, rules,
};
use crate::audit::{self, Event};
use crate::spaces::Space;

impl Threads {
    /// Writes thread, message, queued turn, thread events, audit and domain events in `tx`.
    ///
    /// A source event that was received before changes nothing and gives what it made then.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the Space or thread is not there or does not admit the requester now,
    /// [`Error::Invalid`] for attribution or text that does not fit.
    pub async fn receive(&self, tx: &mut Tx, incoming: IncomingMessage) -> Result<ReceivedMessage, Error> {
        let mut arrivals = Arrivals::read(self, tx, std::slice::from_ref(&incoming)).await?;
        let received = arrivals.receive(tx, incoming).await?;
        arrivals.batch.save(tx).await?;
        Ok(received)
    }

    /// The same for many, in their order, with as few statements as for one. The inner errors are those of
    /// [`Threads::receive`]: what is refused leaves nothing, and the others are received.
    pub async fn receive_many(
        &self,
        tx: &mut Tx,
        incoming_all: Vec<IncomingMessage>,
    ) -> Result<Vec<Result<ReceivedMessage, Error>>, Error> {
        let mut arrivals = Arrivals::read(self, tx, &incoming_all).await?;
        let mut outcomes = Vec::with_capacity(incoming_all.len());
        for incoming in incoming_all {
            match arrivals.receive(tx, incoming).await {
                Err(error) if !matches!(error, Error::Invalid(..) | Error::NotFound) => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        arrivals.batch.save(tx).await?;
        Ok(outcomes)
    }

    /// What a caller of `/v1` or of a page writes: a person's own message, or that of a service token.
    pub async fn write(&self, tx: &mut Tx, new: NewMessage, by: &Principal) -> Result<ReceivedMessage, Error> {
        let incoming = rules::incoming_of(by, new);
        // A service token has no person to admit: it writes where everyone sees.
        self.spaces.visible(tx, incoming.space, by).await?;
        self.receive(tx, incoming).await
    }

    /// Whether this person is enabled and may see and write in this Space now.
    pub(super) async fn is_admitted(&self, tx: &mut Tx, space: SpaceId, user: UserId) -> Result<bool, Error> {
        Ok(self.access.is_active(tx, user).await? && self.spaces.admits(tx, space, user).await?)
    }
}

/// What was read for arrivals of one transaction, and what they write.
struct Arrivals<'a> {
    threads: &'a Threads,
    spaces: HashMap<SpaceId, Space>,
    /// The messages of those that were received before, by source event.
    received: HashMap<Uuid, Message>,
    batch: ThreadBatch,
}

/// A thread that a message goes to, and how it was found.
struct Target {
    thread: ThreadId,
    is_new: bool,
    reopened: bool,
}

impl<'a> Arrivals<'a> {
    async fn read(threads: &'a Threads, tx: &mut Tx, incoming_all: &[IncomingMessage]) -> Result<Self, Error> {
        let mut spaces: Vec<SpaceId> = incoming_all.iter().map(|incoming| incoming.space).collect();
        spaces.sort_unstable();
        spaces.dedup();
        let spaces = threads.spaces.list_for_work(tx, &spaces).await?;
        let events: Vec<Uuid> = incoming_all.iter().filter_map(|incoming| incoming.source_event).collect();
        let received = message::messages_by_source(tx, &events).await?;
        let ids: Vec<ThreadId> = incoming_all.iter().filter_map(|incoming| incoming.thread).collect();
        let keys: Vec<CorrelationKey> = incoming_all
            .iter()
            .filter(|incoming| incoming.thread.is_none())
            .filter_map(|incoming| incoming.correlation.clone())
            .collect();
        let batch = ThreadBatch::lock(tx, &threads.clock, &ids, &keys).await?;
        let spaces = spaces.into_iter().map(|space| (space.id, space)).collect();
        Ok(Self { threads, spaces, received, batch })
    }

    async fn receive(&mut self, tx: &mut Tx, incoming: IncomingMessage) -> Result<ReceivedMessage, Error> {
        rules::check_incoming(&incoming)?;
        self.check_admitted(tx, &incoming).await?;
        if let Some(first) = incoming.source_event.and_then(|event| self.received.get(&event)) {
            return received_before(tx, first).await;
        }
        let now = self.batch.now();
        let target = self.target(&incoming)?;
        let mut entry = message_of(&incoming, target.thread, now);
        entry.sequence = self.batch.add_message(entry.clone(), incoming.source_event)?;
        let turn = turn_of(&incoming, &entry, now);
        let id = turn.id;
        self.batch.put_turn(turn);
        record(tx, &incoming, &target, &entry, id, now)?;
        let thread = target.thread;
        if target.is_new {
            tx.publish(DomainEvent::ThreadCreated { thread }, now);
        }
        tx.publish(DomainEvent::TurnQueued { thread, turn: id, requester: incoming.requester }, now);
        let thread = self.batch.thread(thread)?.clone();
        Ok(ReceivedMessage { thread, message: entry.id, turn: id, reopened: target.reopened, fresh: true })
    }

    async fn check_admitted(&self, tx: &mut Tx, incoming: &IncomingMessage) -> Result<(), Error> {
        if !self.spaces.contains_key(&incoming.space) {
            return Err(Error::NotFound);
        }
        match incoming.subject.user() {
            Some(user) if !self.threads.is_admitted(tx, incoming.space, user).await? => Err(Error::NotFound),
            _ => Ok(()),
        }
    }

    /// The named thread, else that of the correlation key, else a new one.
    fn target(&mut self, incoming: &IncomingMessage) -> Result<Target, Error> {
        if let Some(id) = incoming.thread {
            let thread = self.batch.thread(id)?;
            return if thread.space == incoming.space { self.continued(id) } else { Err(Error::NotFound) };
        }
        let found = incoming.correlation.as_ref().and_then(|key| self.batch.correlated(key));
        if let Some(found) = found {
            let id = found.id;
            if !self.starts_new_thread(found, incoming) {
                return self.continued(id);
            }
            self.batch.release(id)?;
        }
        let thread = new_thread(incoming, self.batch.now());
        let id = thread.id;
        self.batch.insert(thread, incoming.correlation.clone());
        Ok(Target { thread: id, is_new: true, reopened: false })
    }

    /// Whether the key of this thread goes to a new one: its Space begins anew after closed work, or the source moved to
    /// another Space, and what was written before stays where its readers are.
    fn starts_new_thread(&self, found: &Thread, incoming: &IncomingMessage) -> bool {
        let reopens = self.spaces.get(&incoming.space).is_some_and(|space| space.reopen);
        found.space != incoming.space || (rules::is_closed(found.status) && !reopens)
    }

    fn continued(&mut self, id: ThreadId) -> Result<Target, Error> {
        let status = self.batch.thread(id)?.status;
        let reopened = rules::is_closed(status);
        if reopened {
            self.batch.set_status(id, rules::status_after_input(status))?;
        }
        Ok(Target { thread: id, is_new: false, reopened })
    }
}

async fn received_before(tx: &mut Tx, first: &Message) -> Result<ReceivedMessage, Error> {
    let turn = turn::turn_by_message(tx, first.id).await?.ok_or(Error::Damaged("turn"))?;
    let thread = store::thread_find(tx, first.thread).await?.ok_or(Error::Damaged("thread"))?;
    Ok(ReceivedMessage { thread, message: first.id, turn: turn.id, reopened: false, fresh: false })
}

fn new_thread(incoming: &IncomingMessage, now: Timestamp) -> Thread {
    Thread {
        id: ThreadId::new(incoming.channel),
        space: incoming.space,
        title: rules::title_of(incoming.title.as_deref(), &incoming.text),
        status: ThreadStatus::Todo,
        priority: incoming.priority.unwrap_or(Priority::Medium),
        requester: incoming.requester.clone(),
        client: incoming.client,
        subject: incoming.subject,
        created_at: now,
        updated_at: now,
        version: 1,
    }
}

/// The message of an arrival; its place comes with the batch.
fn message_of(incoming: &IncomingMessage, thread: ThreadId, now: Timestamp) -> Message {
    Message {
        id: MessageId::new(),
        thread,
        sequence: 0,
        role: incoming.role,
        text: incoming.text.clone(),
        data: incoming.data.clone(),
        requester: incoming.requester.clone(),
        client: incoming.client,
        subject: incoming.subject,
        turn: None,
        marks: rules::arrival_marks(incoming),
        created_at: now,
    }
}

fn turn_of(incoming: &IncomingMessage, entry: &Message, now: Timestamp) -> Turn {
    Turn {
        id: TurnId::new(),
        thread: entry.thread,
        space: incoming.space,
        message: entry.id,
        message_sequence: entry.sequence,
        status: TurnStatus::Queued,
        requester: incoming.requester.clone(),
        client: incoming.client,
        subject: incoming.subject,
        marks: entry.marks,
        tools_offered: None,
        tools_left_out: None,
        failure: None,
        created_at: now,
        started_at: None,
        finished_at: None,
        steps_deleted_at: None,
    }
}

fn record(
    tx: &mut Tx,
    incoming: &IncomingMessage,
    target: &Target,
    entry: &Message,
    turn: TurnId,
    now: Timestamp,
) -> Result<(), Error> {
    let thread = target.thread;
    let by = incoming.actor();
    let of_thread = |action| Event::by(by.clone(), action).on("thread", thread).within(Some(thread), None);
    if target.is_new {
        let event = of_thread("thread.created").detail("space_id", incoming.space.to_string());
        audit::record(tx, now, event)?;
    } else if target.reopened {
        audit::record(tx, now, of_thread("thread.reopened"))?;
    }
    let event = Event::by(by, "message.received").on("message", entry.id).within(Some(thread), Some(turn));
    audit::record(tx, now, event.detail("role", entry.role.as_str()))?;
    Ok(())
}
