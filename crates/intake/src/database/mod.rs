//! The log in the database, SQLite or PostgreSQL.
//!
//! Invariant: who appends at the same time shares one commit; what waits for it is bounded in count and in bytes, and
//! past that the answer is "not stored", never a longer queue.

mod committer;

use std::collections::HashSet;

use async_trait::async_trait;
use thinkwork_database::intake_log::{self, Again};
use thinkwork_database::retention::{self, StoredRows};
use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{Clock, Heartbeat, TenantId, Timestamp};
use uuid::Uuid;

use crate::{ATTEMPTS_MAX, Accepted, Claimed, Counts, ERROR_CHARS_MAX, Error, Event, LEASE, Log, Pending, pause};
use committer::Committer;

pub(crate) struct DatabaseLog {
    db: Db,
    clock: Clock,
    committer: Committer,
}

impl DatabaseLog {
    pub(crate) fn start(db: Db, clock: Clock, heartbeat: Heartbeat) -> Self {
        let committer = Committer::start(db.clone(), heartbeat);
        Self { db, clock, committer }
    }
}

#[async_trait]
impl Log for DatabaseLog {
    async fn append(&self, event: Event) -> Result<Accepted, Error> {
        self.committer.append(event).await
    }

    async fn claim(&self, count: u64) -> Result<Vec<Claimed>, Error> {
        Ok(intake_log::claim(&self.db, self.clock.steady(), LEASE, count).await?)
    }

    async fn applied(&self, tx: &mut Tx, events: &[&Event]) -> Result<HashSet<Uuid>, Error> {
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        Ok(intake_log::applied(tx, &ids).await?)
    }

    async fn commit(&self, tx: Tx, _events: &[&Event]) -> Result<(), Error> {
        Ok(tx.commit().await?)
    }

    async fn failed(&self, claimed: &Claimed, error: &str) -> Result<(), Error> {
        let now = self.clock.steady();
        let tries = claimed.attempts.saturating_add(1);
        let again = if tries >= ATTEMPTS_MAX { Again::Park(now) } else { Again::At(now.plus(pause(tries))) };
        // PostgreSQL stores no zero character.
        let error: String = error.chars().filter(|letter| *letter != '\0').take(ERROR_CHARS_MAX).collect();
        Ok(intake_log::failed(&self.db, claimed, again, &error).await?)
    }

    async fn forget(&self, tenant: TenantId, source: &str, before: Timestamp, count: u64) -> Result<usize, Error> {
        Ok(intake_log::forget(&self.db, tenant, source, before, count).await?)
    }

    async fn counts(&self, tx: &mut Tx) -> Result<Counts, Error> {
        Ok(intake_log::counts(tx).await?)
    }

    async fn stored(&self, tx: &mut Tx) -> Result<StoredRows, Error> {
        Ok(retention::stored_intake_events(tx).await?)
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, Error> {
        Ok(intake_log::oldest(&self.db).await?)
    }

    async fn find_pending(&self, tx: &mut Tx, id: Uuid) -> Result<Option<Event>, Error> {
        Ok(intake_log::find_pending(tx, id).await?)
    }

    async fn list_pending(&self, tx: &mut Tx, source: &str, which: Pending) -> Result<Vec<Event>, Error> {
        Ok(intake_log::list_pending(tx, source, which).await?)
    }
}
