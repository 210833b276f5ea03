//! The one task that stores what waits, all of it in one commit.
//!
//! Invariants: it takes what waits, bounded in events and bytes, stores it with multi-row statements, and answers each
//! one after the commit; one failure is everyone's answer, since nothing of that commit is stored. A panic is a failure
//! like any other. It ends when the last [`Committer`] is dropped and what waited then is answered.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use thinkwork_database::{Db, intake_log};
use thinkwork_primitives::{Chain, Heartbeat};
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
    #[expect(clippy::disallowed_methods, reason = "the task supervises itself and ends with its senders")]
    pub(crate) fn start(db: Db, heartbeat: Heartbeat) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(heartbeat, waiting, move |events| {
            let db = db.clone();
            async move { intake_log::append(&db, events).await }
        }));
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

/// Stores what waits by `store` until nobody can append any more.
async fn run<S, F>(heartbeat: Heartbeat, mut waiting: mpsc::Receiver<Waiting>, store: S)
where
    S: Fn(Vec<Event>) -> F,
    F: Future<Output = Result<Vec<Accepted>, thinkwork_database::Error>>,
{
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        heartbeat.step();
        let mut events = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for Waiting { event, answer, _room } in batch.drain(..) {
            events.push(event);
            answers.push((answer, _room));
        }
        // Whoever gave up meanwhile hears nothing, which is fine: their event is stored or their sender tries again.
        match AssertUnwindSafe(async { store(events).await }).catch_unwind().await {
            Ok(Ok(accepted)) => {
                heartbeat.idle();
                for ((answer, _room), accepted) in answers.into_iter().zip(accepted) {
                    drop(answer.send(Ok(accepted)));
                }
            }
            Ok(Err(error)) => {
                heartbeat.failed();
                // Whoever asked logs it, with the id of the request that its sender was answered with.
                refuse(answers, &Chain(&error).to_string());
            }
            Err(_) => {
                // No pause: whoever waits is answered at once, and the next batch comes with the next sender.
                heartbeat.panicked();
                refuse(answers, "storing panicked; the log says where: report it");
            }
        }
    }
}

type Answer = (oneshot::Sender<Result<Accepted, Error>>, OwnedSemaphorePermit);

fn refuse(answers: Vec<Answer>, why: &str) {
    for (answer, _room) in answers {
        drop(answer.send(Err(Error::NotStored(why.to_owned()))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use thinkwork_primitives::{Clock, Loops, TenantId};
    use uuid::Uuid;

    use super::*;

    fn event() -> Event {
        Event {
            id: Uuid::now_v7(),
            tenant: TenantId::new(),
            source: "webhook:test".to_owned(),
            dedupe_key: b"key".to_vec(),
            order_key: String::new(),
            body: Vec::new(),
            body_hash: [0; 32],
            received_at: Clock::system().now(),
        }
    }

    #[tokio::test]
    async fn l121_storing_that_panics_is_answered_named_and_goes_on() {
        let loops = Loops::new(Clock::system());
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let committer = Committer { queue, room: Arc::new(Semaphore::new(WAITING_KIB_MAX)) };
        let stores = AtomicUsize::new(0);
        let store = async |_| {
            assert!(stores.fetch_add(1, Ordering::SeqCst) > 0, "a bug of the store");
            Ok(vec![Accepted::Stored])
        };
        let sender = async {
            let refused = committer.append(event()).await;
            assert!(matches!(&refused, Err(Error::NotStored(_))), "{refused:?}");
            assert_eq!(loops.stalled(), ["intake"]);
            assert_eq!(committer.append(event()).await.unwrap(), Accepted::Stored);
            drop(committer);
        };
        tokio::join!(sender, run(loops.heartbeat("intake"), waiting, store));
    }
}
