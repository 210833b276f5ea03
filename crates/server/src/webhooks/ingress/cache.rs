//! What this process remembers of its webhooks, so that a request reads no database.
//!
//! Invariants: bounded; at most 60 s old; dropped at once when this process changes a webhook or hears that another one
//! did. A load that began before a change is never kept after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thinkwork_database::{Db, Heard, Subscription, Topic, WakeUp, tenant_lookup};
use thinkwork_primitives::{CredentialId, Secret, TenantId, Timestamp, WebhookId, limits};

use super::refusals::Refusals;
use crate::credentials::{self, CredentialMeaning, Credentials};
use crate::edge::rate_limit::MinuteQuota;
use crate::webhooks::{Error, Webhook, Webhooks, store};

/// Webhooks remembered; more are read again.
const ENDPOINTS_MAX: u64 = 10_000;

/// The kind of the route from a webhook's id to its tenant.
pub(crate) const LOOKUP: &str = "webhook";

/// An enabled webhook, ready to take requests.
pub(crate) struct Endpoint {
    pub tenant: TenantId,
    pub webhook: Webhook,
    /// What its secret is for.
    meaning: CredentialMeaning,
    /// Its name in the intake log.
    pub source: String,
    pub limit: Arc<MinuteQuota>,
    pub refusals: Arc<Refusals>,
    /// When a replaced secret ends: from then on what is remembered is read again.
    secret_ends_at: Option<Timestamp>,
}

impl Endpoint {
    /// Its live secrets, for the verification of a request.
    pub(crate) async fn secrets(&self, credentials: &Credentials) -> Result<Arc<Vec<Secret>>, credentials::Error> {
        credentials.open_for_verification(self.tenant, self.webhook.credential, &self.meaning).await
    }
}

/// The counters of one webhook, which outlive what is remembered of its configuration.
#[derive(Clone, Default)]
struct Counters {
    limit: Arc<MinuteQuota>,
    refusals: Arc<Refusals>,
}

/// The memory.
pub(crate) struct Cache {
    db: Db,
    credentials: Credentials,
    endpoints: moka::sync::Cache<WebhookId, Arc<Endpoint>>,
    counters: moka::sync::Cache<WebhookId, Counters>,
    wake_ups: Mutex<Subscription>,
    changes: AtomicU64,
}

impl Cache {
    pub(crate) fn new(db: Db, credentials: Credentials) -> Self {
        let wake_ups = Mutex::new(db.wake_ups().subscribe());
        Self {
            db,
            credentials,
            endpoints: moka::sync::Cache::builder()
                .max_capacity(ENDPOINTS_MAX)
                .time_to_live(limits::SECRET_CACHE_LIFETIME)
                .build(),
            // Two minutes without a request, and no window of a limit or flood is open any more.
            counters: moka::sync::Cache::builder()
                .max_capacity(ENDPOINTS_MAX)
                .time_to_idle(limits::SECRET_CACHE_LIFETIME.saturating_mul(2))
                .build(),
            wake_ups,
            changes: AtomicU64::new(0),
        }
    }

    /// The enabled webhook of this id.
    pub(crate) async fn find(&self, id: WebhookId, now: Timestamp) -> Result<Option<Arc<Endpoint>>, Error> {
        self.hear();
        if let Some(endpoint) = self.endpoints.get(&id) {
            if endpoint.secret_ends_at.is_none_or(|ends_at| now < ends_at) {
                return Ok(Some(endpoint));
            }
            self.forget(id, endpoint.webhook.credential);
        }
        let before = self.changes.load(Ordering::Acquire);
        let Some(endpoint) = self.load(id).await? else { return Ok(None) };
        let endpoint = Arc::new(endpoint);
        self.endpoints.insert(id, Arc::clone(&endpoint));
        if self.changes.load(Ordering::Acquire) != before {
            // Something changed while this was read: it may be what was read. The next request reads again.
            self.endpoints.invalidate(&id);
            self.credentials.forget(endpoint.webhook.credential);
        }
        Ok(Some(endpoint))
    }

    async fn load(&self, id: WebhookId) -> Result<Option<Endpoint>, Error> {
        let Some((mut tx, _)) = tenant_lookup::read(&self.db, LOOKUP, &id.to_string()).await? else { return Ok(None) };
        let Some(webhook) = store::webhook_find(&mut tx, id).await?.filter(|webhook| webhook.enabled) else {
            return Ok(None);
        };
        let secret = self.credentials.describe(&mut tx, webhook.credential).await?;
        let counters = self.counters.get_with(id, Counters::default);
        Ok(Some(Endpoint {
            tenant: tx.tenant(),
            source: Webhooks::source(id),
            limit: counters.limit,
            refusals: counters.refusals,
            secret_ends_at: secret.and_then(|secret| secret.previous_ends_at),
            meaning: webhook.secret_meaning(),
            webhook,
        }))
    }

    /// Forgets a webhook and its secret. Call it after the commit of each change.
    pub(crate) fn forget(&self, id: WebhookId, credential: CredentialId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.endpoints.invalidate(&id);
        self.credentials.forget(credential);
    }

    /// Takes the hints that came since the last request.
    fn hear(&self) {
        let mut wake_ups = self.wake_ups.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(heard) = wake_ups.try_recv() {
            match heard {
                Heard::Hint(WakeUp { topic: Topic::Credential, id }) => {
                    self.forget_credential(CredentialId::from_uuid(id));
                }
                Heard::Hint(_) => {}
                Heard::Gap => {
                    self.changes.fetch_add(1, Ordering::AcqRel);
                    for (id, endpoint) in &self.endpoints {
                        self.forget(*id, endpoint.webhook.credential);
                    }
                }
            }
        }
    }

    /// Changes of a webhook are announced as changes of its credential. A refresh of a grant comes here too, and finds none.
    fn forget_credential(&self, credential: CredentialId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.credentials.forget(credential);
        for (id, endpoint) in &self.endpoints {
            if endpoint.webhook.credential == credential {
                self.endpoints.invalidate(id.as_ref());
            }
        }
    }
}
