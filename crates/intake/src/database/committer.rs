//! The one task that stores what waits, all of it in one commit.
//!
//! Invariants: it takes what waits, bounded in events and bytes, stores it with multi-row statements, and answers each
//! one after the commit; one failure is everyone's answer, since nothing of that commit is stored. It ends when the
//! last [`Committer`] is dropped and what waited then is answered.

use std::sync::Arc;

use thinkwork_database::{Db, intake_log};
use thinkwork_primitives::Chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{Accepted, Error, Event};

/// Events of one commit: more make the commit longer and the sync no cheaper.
const BATCH_MAX: usize = intake_log::ROWS_MAX;
/// Events that may wait: four commits' worth, some tens of milliseconds.
const WAITING_MAX: usize = 2_048;
/// Kibibytes of events that may wait or be stored at the same moment, so that a burst of large bodies is refused and
/// not held in memory.
const WAITING_KIB_MAX: usize = 64 * 1_024;

struct Waiting {
    event: Event,
    answer: oneshot::Sender<Result<Accepted, Error>>,
    _room: OwnedSemaphorePermit,
}

/// The way to the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Committer {
    #[expect(
        clippy::disallowed_methods,
        reason = "the task lives below the supervised spawner and ends with its senders"
    )]
    pub(crate) fn start(db: Db) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(db, waiting));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_KIB_MAX)) }
    }

    pub(crate) async fn append(&self, event: Event) -> Result<Accepted, Error> {
        let kib = u32::try_from(event.body.len().div_ceil(1_024).saturating_add(1)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(kib)
            .map_err(|_| Error::NotStored("too much waits to be stored".to_owned()))?;
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Waiting { event, answer, _room: room })
            .map_err(|_| Error::NotStored("too many wait to be stored".to_owned()))?;
        answered.await.unwrap_or_else(|_| Err(Error::NotStored("the task that stores events ended".to_owned())))
    }
}

async fn run(db: Db, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut events = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for Waiting { event, answer, _room } in batch.drain(..) {
            events.push(event);
            answers.push((answer, _room));
        }
        let outcome = intake_log::append(&db, events).await;
        // Whoever gave up meanwhile hears nothing, which is fine: their event is stored or their sender tries again.
        match outcome {
            Ok(accepted) => {
                for ((answer, _room), accepted) in answers.into_iter().zip(accepted) {
                    drop(answer.send(Ok(accepted)));
                }
            }
            Err(error) => {
                // Whoever asked logs it, with the id of the request that its sender was answered with.
                let text = Chain(&error).to_string();
                for (answer, _room) in answers {
                    drop(answer.send(Err(Error::NotStored(text.clone()))));
                }
            }
        }
    }
}
