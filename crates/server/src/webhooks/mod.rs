//! Explicit inbound endpoints: verify, store durably, answer 202; later applied to a thread.
//!
//! Invariants: nothing is accepted that its scheme did not verify on the raw bytes; 202 is sent only after the event is
//! on disk; every request to a known webhook leaves a delivery; what a sender writes is `data`, never an instruction.
//! The operator's pages and API manage webhooks, `ingress` takes requests, the worker calls [`Webhooks::apply`].

mod deliveries;
mod endpoints;
mod envelope;
pub mod http;
pub mod ingress;
mod jobs;
pub mod pages;
mod replay;
mod rules;
pub mod schemes;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use thinkwork_database::Db;
use thinkwork_intake::Intake;
use thinkwork_primitives::{Clock, CredentialId, DeliveryId, Secret, SpaceId, ThreadId, Timestamp, TurnId, WebhookId};

use crate::credentials::{Credentials, Described};
use crate::edge::Network;
use crate::spaces::Spaces;
use crate::threads::{Priority, Threads};

pub use deliveries::Filter;
pub use jobs::prompt_of;
pub use replay::Order;
pub use rules::Locator;
use schemes::Scheme;

/// The prefix of this slice's sources in the intake log: `webhook:<whk_…>`.
pub const SOURCE_PREFIX: &str = "webhook:";

/// Deliveries a minute where the operator names none: far above what a sender's retries make.
pub const RATE_LIMIT_DEFAULT: i64 = 600;
/// The largest rate limit: more than one process accepts.
pub const RATE_LIMIT_MAX: i64 = 6_000_000;
/// Longest time for which a replaced secret may go on verifying: a month of a slow sender's change windows.
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a replaced secret goes on where nobody says otherwise: a day.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such webhook or delivery of this tenant.
    #[error("there is no such webhook")]
    NotFound,
    /// A value that does not fit.
    #[error("{0}")]
    Invalid(String),
    /// A value of one field that does not fit.
    #[error("{field}: {problem}")]
    Field {
        /// The field as the API spells it.
        field: &'static str,
        /// What to do about it.
        problem: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("the webhook was changed meanwhile; it is at version {0} now")]
    Changed(i64),
    /// This delivery cannot be replayed, and why.
    #[error("{0}")]
    NotReplayable(&'static str),
    /// The sample event of a test was not taken, and why.
    #[error("{0}")]
    TestRefused(String),
    /// The idempotency key was used before.
    #[error("the idempotency key was used before")]
    Once(Box<crate::edge::ApiError>),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] thinkwork_primitives::crypto::RandomError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The secret could not be sealed or opened.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The thread could not be written.
    #[error(transparent)]
    Threads(#[from] crate::threads::Error),
    /// The Space could not be read.
    #[error(transparent)]
    Spaces(#[from] crate::spaces::Error),
    /// The record refused.
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
    /// The event could not be stored.
    #[error(transparent)]
    Intake(#[from] thinkwork_intake::Error),
}

/// An endpoint, as its operator configured it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id, also in its address.
    pub id: WebhookId,
    /// Where its events become threads.
    pub space: SpaceId,
    /// Its name.
    pub name: String,
    /// How requests prove themselves.
    pub scheme: Scheme,
    /// Its secret.
    pub credential: CredentialId,
    /// Where the sender's event id is found, for schemes that sign none.
    pub event_id: Option<Locator>,
    /// Where the key is found that ties events to one thread.
    pub correlation: Option<Locator>,
    /// The operator's instruction for turns that answer its events.
    pub prompt: Option<String>,
    /// Requests a minute, all processes together.
    pub rate_limit_per_minute: i64,
    /// From where requests are taken; empty: from everywhere.
    pub allowed_cidrs: Vec<Network>,
    /// The priority of new threads.
    pub default_priority: Option<Priority>,
    /// Whether it takes requests.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: i64,
}

/// A webhook to make.
pub struct NewWebhook {
    /// Its name, 1 to 120 characters.
    pub name: String,
    /// A Space that the maker sees.
    pub space: SpaceId,
    /// How requests prove themselves.
    pub scheme: Scheme,
    /// The secret where the sender dictates it; else one is made.
    pub secret: Option<Secret>,
    /// Where the sender's event id is found.
    pub event_id: Option<Locator>,
    /// Where the key is found that ties events to one thread.
    pub correlation: Option<Locator>,
    /// The operator's instruction.
    pub prompt: Option<String>,
    /// Requests a minute.
    pub rate_limit_per_minute: i64,
    /// From where requests are taken.
    pub allowed_cidrs: Vec<Network>,
    /// The priority of new threads.
    pub default_priority: Option<Priority>,
}

/// What to change; `None` leaves a value as it is, `Some(None)` takes it away.
#[derive(Default)]
pub struct Change {
    /// A new name.
    pub name: Option<String>,
    /// Take requests, or answer 404.
    pub enabled: Option<bool>,
    /// Another instruction.
    pub prompt: Option<Option<String>>,
    /// Another limit.
    pub rate_limit_per_minute: Option<i64>,
    /// Other networks; empty: everywhere.
    pub allowed_cidrs: Option<Vec<Network>>,
    /// Another place of the event id.
    pub event_id: Option<Option<Locator>>,
    /// Another place of the correlation key.
    pub correlation: Option<Option<Locator>>,
    /// Another priority.
    pub default_priority: Option<Option<Priority>>,
}

/// A webhook with a secret that is shown this once.
pub struct Shown {
    /// The webhook.
    pub webhook: Webhook,
    /// What may be shown of its secret from now on.
    pub secret_state: Option<Described>,
    /// The secret itself.
    pub secret: Secret,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, not applied yet.
    Accepted,
    /// Became a message of a thread.
    Applied,
    /// The same event as an earlier one.
    Duplicate,
    /// The id of an earlier event with another body.
    Conflict,
    /// Not taken.
    Refused,
    /// Taken, and could not become a message.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Applied, Self::Duplicate, Self::Conflict, Self::Refused, Self::Failed];

    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// The outcome of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// One request that reached a webhook.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id; of an accepted one also the event's.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// When it arrived.
    pub received_at: Timestamp,
    /// What became of it.
    pub result: Outcome,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// The thread it became part of.
    pub thread: Option<ThreadId>,
    /// The turn that answers it.
    pub turn: Option<TurnId>,
    /// The first delivery of the same event.
    pub duplicate_of: Option<DeliveryId>,
    /// Its headers without secrets, bounded and escaped.
    pub headers: Vec<(String, String)>,
    /// The begin of its body, escaped.
    pub body_preview: String,
    /// The size of its body.
    pub body_bytes: i64,
    /// SHA-256 of its body.
    pub body_hash: Vec<u8>,
    /// The sender's id of the event.
    pub event_id: Option<String>,
    /// When it became a message.
    pub applied_at: Option<Timestamp>,
    /// How many requests this row stands for: more than one for a flood of refused ones.
    pub count: i64,
}

struct Parts {
    db: Db,
    clock: Clock,
    intake: Intake,
    credentials: Credentials,
    spaces: Spaces,
    threads: Threads,
    public_url: url::Url,
    cache: ingress::Cache,
    unknown: std::sync::atomic::AtomicU64,
}

/// The slice. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    parts: Arc<Parts>,
}

impl Webhooks {
    /// Over these slices; `public_url` is the begin of every webhook's address.
    pub fn new(
        db: Db,
        clock: Clock,
        intake: Intake,
        credentials: Credentials,
        spaces: Spaces,
        threads: Threads,
        public_url: url::Url,
    ) -> Self {
        let cache = ingress::Cache::new(db.clone(), credentials.clone());
        let unknown = std::sync::atomic::AtomicU64::new(0);
        Self { parts: Arc::new(Parts { db, clock, intake, credentials, spaces, threads, public_url, cache, unknown }) }
    }

    /// The address of a webhook.
    pub fn url(&self, id: WebhookId) -> String {
        let mut url = self.parts.public_url.clone();
        url.set_path(&format!("/hooks/{id}"));
        url.to_string()
    }

    /// Requests to unknown or disabled webhooks since the start of this process; they leave no row.
    pub fn unknown_count(&self) -> u64 {
        self.parts.unknown.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn source(id: WebhookId) -> String {
        format!("{SOURCE_PREFIX}{id}")
    }
}
