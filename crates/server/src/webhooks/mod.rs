//! Explicit inbound endpoints: verify, store durably, answer 202; later applied to a thread.
//!
//! Invariants: nothing is accepted that its scheme did not verify on the raw bytes; 202 is sent only after the event is
//! on disk; every request to a known webhook leaves a delivery; what a sender writes is `data`, never an instruction.
//! The operator's pages and API manage webhooks, `ingress` takes requests, the worker calls [`Webhooks::apply`].

mod apply;
mod deliveries;
mod endpoints;
mod envelope;
pub mod http;
pub mod ingress;
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
use strum::{EnumString, IntoStaticStr, VariantArray};

use prometheus::{IntCounter, IntCounterVec};
use thinkwork_database::Db;
use thinkwork_intake::Intake;
use thinkwork_primitives::{
    Clock, CredentialId, DeliveryId, Network, Requester, Secret, SpaceId, ThreadId, Timestamp, TurnId, WebhookId,
};

use crate::access::Access;
use crate::credentials::{CredentialInfo, CredentialMeaning, Credentials};
use crate::edge::caller::BoxFuture;
use crate::edge::{InvalidField, NameMap, Named, NamedIds, Reader, idempotency};
use crate::spaces::{self, Spaces};
use crate::threads::{Priority, Threads};
use thinkwork_database::Tx;

pub use apply::prompt_of;
pub use deliveries::DeliveryFilter;
pub use replay::ReplayMode;
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
    /// An accepted event that cannot be applied.
    #[error("{0}")]
    BadEvent(String),
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Somebody else changed it meanwhile.
    #[error("the webhook was changed meanwhile; it is at version {0} now")]
    VersionConflict(i64),
    /// This delivery cannot be replayed, and why.
    #[error("{0}")]
    NotReplayable(&'static str),
    /// The sample event of a test was not taken, and why.
    #[error("{0}")]
    TestRefused(String),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] thinkwork_primitives::crypto::RandomError),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The operator may not act any more.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
    /// The secret could not be sealed or opened.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The thread could not be written.
    #[error(transparent)]
    Threads(#[from] crate::threads::Error),
    /// The Space could not be read.
    #[error(transparent)]
    Spaces(#[from] crate::spaces::Error),
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
    pub created_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: i64,
}

impl Webhook {
    /// What its secret is for.
    pub(super) fn secret_meaning(&self) -> CredentialMeaning {
        secret_meaning(self.id, self.space, &self.scheme)
    }
}

/// What the secret of this webhook is for: nobody changes where its events go, or how they prove themselves.
fn secret_meaning(webhook: WebhookId, space: SpaceId, scheme: &Scheme) -> CredentialMeaning {
    CredentialMeaning::WebhookSecret { webhook, space, scheme: serde_json::json!(scheme).to_string() }
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
pub struct WebhookUpdate {
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
pub struct WebhookWithSecret {
    pub webhook: Webhook,
    /// What may be shown of its secret from now on.
    pub secret_state: Option<CredentialInfo>,
    /// The secret itself.
    pub secret: Secret,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryResult {
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

impl DeliveryResult {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One request that reached a webhook.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id; of an accepted one also the event's.
    pub id: DeliveryId,
    pub webhook: WebhookId,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Whether the request proved that it comes from who knows the secret.
    pub is_verified: bool,
    /// What became of it.
    pub result: DeliveryResult,
    /// Why, where that is not plain, or what the operator should know of it.
    pub reason: Option<String>,
    /// The thread it became part of.
    pub thread: Option<ThreadId>,
    /// The turn that answers it.
    pub turn: Option<TurnId>,
    /// The first delivery of the same event.
    pub duplicate_of: Option<DeliveryId>,
    /// Its headers without secrets, bounded and escaped.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body, escaped. In the table it is empty where the thread's message holds the body.
    pub body_preview: Option<String>,
    /// The size of its body as text; of a refused one, as sent.
    pub body_bytes: i64,
    /// SHA-256 of the same bytes.
    pub body_hash: Vec<u8>,
    /// The sender's id of the event.
    pub event_id: Option<String>,
    /// When it became a message.
    pub applied_at: Option<Timestamp>,
    /// How many requests this row stands for: more than one for a flood of refused ones.
    pub count: i64,
}

impl Delivery {
    /// On whose request it came: the webhook's, once it was verified; before that, nobody's.
    pub fn requester(&self) -> Option<Requester> {
        self.is_verified.then_some(Requester::Webhook(self.webhook))
    }
}

/// Where a delivery stands in a list.
pub type DeliveryCursor = (Timestamp, DeliveryId);

impl Delivery {
    /// Where it stands in a list.
    pub const fn cursor(&self) -> DeliveryCursor {
        (self.received_at, self.id)
    }
}

/// How many requests had this result.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryCount {
    pub result: DeliveryResult,
    /// How many there were at least.
    pub count: i64,
    /// Whether there were more, which nobody counted.
    pub is_more: bool,
}

/// What the slice counts.
#[derive(Clone)]
pub struct Metrics {
    /// Verified events, by what became of them: `accepted`, `duplicate` or `not_stored`.
    pub received: IntCounterVec,
    /// Requests to unknown or disabled webhooks, which leave no row.
    pub unknown: IntCounter,
}

struct Inner {
    db: Db,
    clock: Clock,
    access: Access,
    intake: Intake,
    credentials: Credentials,
    spaces: Spaces,
    threads: Threads,
    public_url: url::Url,
    cache: ingress::Cache,
    metrics: Metrics,
}

/// The slice. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    inner: Arc<Inner>,
}

/// What the ids of this slice are called.
pub fn names<'a>(
    tx: &'a mut Tx,
    ids: &'a NamedIds,
    found: &'a mut NameMap,
) -> BoxFuture<'a, Result<(), thinkwork_database::Error>> {
    Box::pin(async move {
        let known = store::webhook_names(tx, &ids.webhooks).await?;
        let seen = match ids.reader {
            Reader::Person(user) if !known.is_empty() => Some(spaces::ids_seen_by(tx, user).await?),
            Reader::Person(_) | Reader::SeesAll => None,
        };
        for (id, space, name) in known {
            if seen.as_ref().is_none_or(|seen| seen.contains(&space)) {
                found.insert(Named::Webhook(id), name);
            }
        }
        Ok(())
    })
}

impl Webhooks {
    /// Over these slices; `public_url` is the begin of every webhook's address.
    #[expect(clippy::too_many_arguments, reason = "each is another slice or handle that it stands on")]
    pub fn new(
        db: Db,
        clock: Clock,
        access: Access,
        intake: Intake,
        credentials: Credentials,
        spaces: Spaces,
        threads: Threads,
        public_url: url::Url,
        metrics: Metrics,
    ) -> Self {
        let cache = ingress::Cache::new(db.clone(), credentials.clone());
        Self {
            inner: Arc::new(Inner {
                db,
                clock,
                access,
                intake,
                credentials,
                spaces,
                threads,
                public_url,
                cache,
                metrics,
            }),
        }
    }

    /// The address of a webhook.
    pub fn url(&self, id: WebhookId) -> String {
        let mut url = self.inner.public_url.clone();
        url.set_path(&format!("/hooks/{id}"));
        url.to_string()
    }

    fn source(id: WebhookId) -> String {
        format!("{SOURCE_PREFIX}{id}")
    }
}
