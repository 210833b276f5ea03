//! The durable log of accepted inbound events, behind one interface: [`Log`].
//!
//! Invariants: [`Log::append`] returns only after the event is on disk; an event is delivered until it is applied or
//! parked, at least once, and applied once; events that share an order key are applied in the order in
//! which they were stored, whatever clocks say.
//! `webhooks` appends and looks up, `worker` claims and applies, `health` and `home` count. Which implementation runs is
//! decided where the handle is made; each passes the suite in `tests/conformance.rs`.

mod database;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use thinkwork_database::Counts;
pub use thinkwork_database::intake_log::{Accepted, Claimed, Event, Pending};
use thinkwork_database::retention::StoredRows;
use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{Clock, Heartbeat, TenantId, Timestamp};
use uuid::Uuid;

/// How long a claimed event is the claimer's; applying a batch takes milliseconds, so this is a crash's cost. Whoever takes
/// longer applies what another one applies as well, and the first to commit is the one that counts.
pub const LEASE: Duration = Duration::from_secs(10);
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

/// What every implementation of the log does.
#[async_trait]
pub trait Log: Send + Sync {
    /// Stores the event; returns once it is on disk. [`Error::NotStored`] where too much waits or it cannot be stored.
    ///
    /// A caller that gives up while it waits does not take its event back: it may be stored all the same.
    async fn append(&self, event: Event) -> Result<Accepted, Error>;

    /// Claims up to `count` events to apply, shared among tenants and their sources, of each the oldest first. Of those that share an order key it takes the oldest ones
    /// without a gap, and none while an older one is claimed or pauses. What is neither applied nor failed within
    /// [`LEASE`] can be claimed again.
    async fn claim(&self, count: u64) -> Result<Vec<Claimed>, Error>;

    /// Marks events applied within the transaction that applies them. Returns the ids of those that were not applied
    /// before: apply no others.
    async fn applied(&self, tx: &mut Tx, events: &[&Event]) -> Result<HashSet<Uuid>, Error>;

    /// Commits the transaction that applied these events. A log outside of the database learns of it only then.
    async fn commit(&self, tx: Tx, events: &[&Event]) -> Result<(), Error>;

    /// Puts an event back, due again after a growing pause; parks it after [`ATTEMPTS_MAX`] tries. Those of its order
    /// that were claimed with it go back untried: apply none of them now. Changes nothing where the lease was lost.
    ///
    /// `error` is a sentence for the operator, without secrets.
    async fn failed(&self, claimed: &Claimed, error: &str) -> Result<(), Error>;

    /// Forgets the keys of one source's applied events that arrived before `before`, at most `count`: from then on the
    /// same event is a new one. Returns how many it were.
    async fn forget(&self, tenant: TenantId, source: &str, before: Timestamp, count: u64) -> Result<usize, Error>;

    /// Events that are not applied yet: of the transaction's tenant, or in a shared transaction of all.
    async fn counts(&self, tx: &mut Tx) -> Result<Counts, Error>;

    /// How many events of the transaction's tenant are kept, with the keys of applied ones.
    async fn stored(&self, tx: &mut Tx) -> Result<StoredRows, Error>;

    /// When the oldest event of all arrived that is not applied yet.
    async fn oldest(&self) -> Result<Option<Timestamp>, Error>;

    /// One event of the transaction's tenant, if it is not applied yet.
    async fn find_pending(&self, tx: &mut Tx, id: Uuid) -> Result<Option<Event>, Error>;

    /// Events of one source of the transaction's tenant that are not applied yet, newest first.
    async fn list_pending(&self, tx: &mut Tx, source: &str, which: Pending) -> Result<Vec<Event>, Error>;
}

/// A handle on the log. Cheap to clone; the log's own tasks end with the last clone.
#[derive(Clone)]
pub struct Intake(Arc<dyn Log>);

impl Intake {
    /// The log in the database. Starts the task that shares commits, which tells by `heartbeat` how it is; so it needs a
    /// running Tokio runtime.
    pub fn on_database(db: Db, clock: Clock, heartbeat: Heartbeat) -> Self {
        Self(Arc::new(database::DatabaseLog::start(db, clock, heartbeat)))
    }
}

impl Deref for Intake {
    type Target = dyn Log;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The pause after so many tries: twice as long after each, from one second.
fn pause(tries: i64) -> Duration {
    let exponent = u32::try_from(tries.clamp(1, 11)).unwrap_or(11).saturating_sub(1);
    Duration::from_secs(2_u64.saturating_pow(exponent)).min(PAUSE_MAX)
}
