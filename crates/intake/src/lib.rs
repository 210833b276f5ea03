//! The durable log of accepted inbound events.
//!
//! Invariants: [`Intake::append`] returns only after the event is on disk; who waits at the same time shares one
//! commit; what waits is bounded in count and in bytes, and past that the answer is "not stored", never a longer
//! queue. `webhooks` and `connectors` append, `worker` claims.

mod committer;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use thinkwork_database::intake_log::{Accepted, Event};
use thinkwork_database::{Db, intake_log};
use thinkwork_primitives::{Clock, TenantId, Timestamp};

use committer::Committer;

/// How long a claimed event is the claimer's; applying a batch takes milliseconds, so this is a crash's cost.
const LEASE: Duration = Duration::from_secs(30);
/// Tries before an event is parked where the operator sees it.
pub const ATTEMPTS_MAX: i64 = 12;
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Longest error text kept with an event.
const ERROR_CHARS_MAX: usize = 500;

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored, and the text says why, for the log: answer 503, the sender tries again.
    #[error("the event could not be stored: {0}")]
    NotStored(String),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
}

/// The log. Cheap to clone; its one task ends with the last clone.
#[derive(Clone)]
pub struct Intake {
    db: Db,
    clock: Clock,
    committer: Committer,
}

impl Intake {
    /// Over the database. Starts the task that shares commits, so it needs a running Tokio runtime.
    pub fn on_database(db: Db, clock: Clock) -> Self {
        let committer = Committer::start(db.clone());
        Self { db, clock, committer }
    }

    /// Stores the event; returns once it is on disk. Shares its commit with whoever waits.
    ///
    /// A caller that gives up while it waits does not take its event back: it may be stored all the same.
    ///
    /// # Errors
    /// [`Error::NotStored`] where the queue is full or the commit failed.
    pub async fn append(&self, event: Event) -> Result<Accepted, Error> {
        self.committer.append(event).await
    }

    /// Claims up to `count` events to apply, oldest first, each with the number of its earlier tries. What is neither
    /// applied nor failed within 30 s can be claimed again.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn claim(&self, count: u64) -> Result<Vec<(Event, i64)>, Error> {
        Ok(intake_log::claim(&self.db, self.clock.now(), LEASE, count).await?)
    }

    /// Forgets the keys of one source's applied events that arrived before `before`, at most `count`: from then on the
    /// same event is a new one. Returns how many it were.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn forget(&self, tenant: TenantId, source: &str, before: Timestamp, count: u64) -> Result<usize, Error> {
        Ok(intake_log::forget(&self.db, tenant, source, before, count).await?)
    }

    /// Puts an event back, due again after a growing pause; parks it after [`ATTEMPTS_MAX`] tries. `attempts` is what
    /// [`Intake::claim`] said, `error` a sentence for the operator without secrets.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn failed(&self, event: &Event, attempts: i64, error: &str) -> Result<(), Error> {
        let (now, tries) = (self.clock.now(), attempts.saturating_add(1));
        let error: String = error.chars().filter(|letter| *letter != '\0').take(ERROR_CHARS_MAX).collect();
        let again = if tries >= ATTEMPTS_MAX {
            intake_log::Again::Park(now)
        } else {
            intake_log::Again::At(now.plus(pause(tries)))
        };
        intake_log::failed(&self.db, event.id, again, &error).await?;
        Ok(())
    }
}

/// Twice as long after each try, from one second.
fn pause(tries: i64) -> Duration {
    let exponent = u32::try_from(tries.clamp(1, 11)).unwrap_or(11).saturating_sub(1);
    Duration::from_secs(2_u64.saturating_pow(exponent)).min(PAUSE_MAX)
}
