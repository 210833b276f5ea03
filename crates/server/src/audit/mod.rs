//! The record: who did or asked what, with whose credential. Append-only, in the change's own transaction.
//!
//! Each event carries a MAC under the key of the record, which the database does not hold.
//!
//! Invariants: payloads hold ids and allow-listed words, never names, secrets or bodies; an event is written in the
//! transaction of what it tells. Every slice below may call [`record`]; the sealer chains events afterwards.

mod accept;
mod chain;
mod checkpoint;
mod heads;
pub mod http;
pub mod pages;
mod rules;
mod seal;
mod store;
mod verify;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use thinkwork_database::retention::{self, StoredRows};
use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{
    ActingClient, Actor, AuditId, Clock, CredentialSubject, Requester, Surface, TenantId, ThreadId, Timestamp, TurnId,
    UserId,
};
use thinkwork_vault::Vault;

use crate::edge::Names;

pub use accept::{Accepted, Behind};
pub use checkpoint::Checkpoints;
pub use heads::Heads;
pub use seal::Sealer;
pub use store::uses::{Use, uses_of};
pub use verify::{Evidence, Finding, Verified};

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The file beside the key file cannot be used.
    #[error(transparent)]
    Vault(#[from] thinkwork_vault::Error),
    /// The file beside the key file holds something else.
    #[error(
        "line {0} of the file of signed heads beside the key file cannot be read; restore the file from a copy, or remove \
         it: then a worker begins a new one with what the database holds"
    )]
    UnreadableHead(usize),
    /// The chain of a tenant cannot be gone on with.
    #[error(
        "{finding} (tenant {tenant}). Its events wait unsealed. If you restored an older database on purpose, stop the \
         server, run `thinkwork audit accept {tenant}` and start it again; else run `thinkwork audit verify` and compare the \
         database with a backup"
    )]
    Refused {
        /// Whose.
        tenant: TenantId,
        /// Why not.
        finding: Finding,
    },
    /// More is wrong with a record than that it is older.
    #[error(
        "the record of {tenant} cannot be accepted, since more is wrong with it than that it ends earlier: {finding}. \
         Restore a backup that `thinkwork audit verify` finds in order apart from its age, then accept that"
    )]
    NotAcceptable {
        /// Whose.
        tenant: TenantId,
        /// The first of it.
        finding: Finding,
    },
}

/// One event to record. Begin with [`Event::by`].
pub struct Event {
    pub(crate) action: &'static str,
    pub(crate) actor: Actor,
    pub(crate) subject: CredentialSubject,
    pub(crate) surface: Option<Surface>,
    pub(crate) target: Option<(&'static str, String)>,
    pub(crate) thread: Option<ThreadId>,
    pub(crate) turn: Option<TurnId>,
    pub(crate) detail: Map<String, Value>,
}

impl Event {
    /// `actor` did `action`, a word like `webhook.created`; nobody's credential was used.
    pub fn by(actor: Actor, action: &'static str) -> Self {
        Self {
            action,
            actor,
            subject: CredentialSubject::None,
            surface: None,
            target: None,
            thread: None,
            turn: None,
            detail: Map::new(),
        }
    }

    /// To what, as its kind and printed id.
    #[must_use]
    pub fn on(mut self, kind: &'static str, id: impl ToString) -> Self {
        self.target = Some((kind, id.to_string()));
        self
    }

    /// With whose credential, opened for which surface.
    #[must_use]
    pub const fn using(mut self, subject: CredentialSubject, surface: Surface) -> Self {
        self.subject = subject;
        self.surface = Some(surface);
        self
    }

    /// In which thread and turn.
    #[must_use]
    pub const fn within(mut self, thread: Option<ThreadId>, turn: Option<TurnId>) -> Self {
        self.thread = thread;
        self.turn = turn;
        self
    }

    /// One more fact: an id, a number or a fixed word; never a name, an e-mail, a secret or a body.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.detail.insert(key.to_owned(), value.into());
        self
    }
}

/// Begins the record of a tenant, in the transaction that makes the tenant: its first checkpoint is signed.
pub fn begin(tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
    let beginning = checkpoint::Checkpoint::beginning(tx.record_key()?, tx.tenant(), now);
    store::chain::checkpoint_insert(tx, &beginning);
    Ok(())
}

/// Records an event in the transaction of what it tells.
pub fn record(tx: &mut Tx, now: Timestamp, event: Event) -> Result<AuditId, Error> {
    store::event_insert(tx, now, event)
}

/// The slice: reading, sealing and verifying the record.
#[derive(Clone)]
pub struct Audit {
    db: Db,
    clock: Clock,
    vault: Vault,
    names: Names,
    watched: Arc<Mutex<Option<WatchedEvent>>>,
}

/// An event that was not sealed yet when this process, at this uptime, began to watch it.
#[derive(Clone, Copy)]
struct WatchedEvent {
    event: (TenantId, AuditId),
    since: Duration,
}

/// One event as it was recorded.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// The event.
    pub id: AuditId,
    pub at: Timestamp,
    /// What, like `webhook.created`.
    pub action: String,
    pub requester: Requester,
    pub client: ActingClient,
    pub subject: CredentialSubject,
    /// For which part of the runtime a credential was opened.
    pub surface: Option<String>,
    /// To what, as kind and printed id.
    pub target: Option<(String, String)>,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// The further facts.
    pub detail: Value,
    /// The event exactly as it is hashed.
    pub payload: String,
}

/// Where an event stands in a list.
pub type EventCursor = (Timestamp, AuditId);

/// One page of a list.
#[derive(Debug, Default)]
pub struct EventPage {
    /// What it shows. A filter that no index serves may leave a page short, or empty, though there is a next one.
    pub events: Vec<AuditEvent>,
    /// Those of them that are not as this server recorded them: somebody changed the database.
    pub changed: Vec<AuditId>,
    /// Where the next one begins; `None` on the last.
    pub next: Option<EventCursor>,
}

/// Which events are asked for; all that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// The printed id of the requester.
    pub actor: Option<String>,
    /// The person whose credential was used.
    pub subject: Option<UserId>,
    /// The action; one that ends with a dot is a beginning, like `webhook.`.
    pub action: Option<String>,
    pub thread: Option<ThreadId>,
}

impl Audit {
    /// Over this database; signed heads are kept beside the file of these keys.
    pub fn new(db: Db, clock: Clock, vault: Vault, names: Names) -> Self {
        Self { db, clock, vault, names, watched: Arc::default() }
    }

    /// Events of the transaction's tenant, newest first, at most `count`, behind `after`.
    pub async fn list(
        &self,
        tx: &mut Tx,
        filter: &Filter,
        count: u64,
        after: Option<EventCursor>,
    ) -> Result<EventPage, Error> {
        store::list::event_list(tx, filter, count, after).await
    }

    /// How many events the transaction's tenant has, and when the oldest was recorded.
    ///
    /// # Errors
    /// The database's.
    pub async fn stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(retention::stored(tx, &store::EVENT_COLUMNS, now).await?)
    }

    /// The sealer of this record.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.clone())
    }

    /// How many events are not sealed yet.
    pub async fn unsealed(&self) -> Result<u64, Error> {
        store::unsealed_count(&mut self.db.read_shared().await?).await
    }

    /// How many events the sealer refuses, since they are gone or none that this server recorded.
    pub async fn refused(&self) -> Result<u64, Error> {
        store::refused_count(&mut self.db.read_shared().await?).await
    }

    /// For how long at least an event has waited to be sealed, as this process saw it: what other processes wrote carries
    /// the time of their clocks, which may be wrong. The first call only begins to watch.
    pub async fn sealing_behind(&self) -> Result<Duration, Error> {
        let now = self.clock.uptime();
        let watched = *self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tx = self.db.read_shared().await?;
        if let Some(WatchedEvent { event, since }) = watched
            && store::is_unsealed(&mut tx, event).await?
        {
            return Ok(now.saturating_sub(since));
        }
        // The newest, so that a sealer that goes on and stays behind is seen, too.
        let newest = store::unsealed_newest(&mut tx).await?.map(|event| WatchedEvent { event, since: now });
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        Ok(Duration::ZERO)
    }
}
