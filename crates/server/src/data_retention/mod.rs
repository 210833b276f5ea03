//! What is kept and for how long: the kinds of data, and how much of each a tenant has.
//!
//! Invariants: nothing is stored or deleted here; only the caller's tenant is counted, of each kind up to a limit. Every kind
//! is in [`DataKind`], which `thinkwork retention` reads, too; the deletion is in `worker/sweep.rs`.

pub mod http;
mod kinds;
pub mod pages;

use strum::VariantArray as _;
use thinkwork_database::retention::StoredRows;
use thinkwork_database::{Db, Tx};
use thinkwork_intake::Intake;
use thinkwork_primitives::{Clock, TenantId, Timestamp};

use crate::access::{self, Access};
use crate::audit::{self, Audit};
use crate::config::RetentionConfig;
use crate::credentials::{self, Credentials};
use crate::oauth::{self, Oauth};
use crate::threads::{self, Threads};
use crate::webhooks::{self, Webhooks};

pub use kinds::{DataKind, Retention};

/// What can go wrong here: a slice could not count.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Intake(#[from] thinkwork_intake::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    Oauth(#[from] oauth::Error),
    #[error(transparent)]
    Threads(#[from] threads::Error),
    #[error(transparent)]
    Webhooks(#[from] webhooks::Error),
}

/// A kind of data with how much of it a tenant has.
#[derive(Clone, Copy, Debug)]
pub struct StoredKind {
    pub kind: DataKind,
    pub retention: Retention,
    pub stored: StoredRows,
}

#[derive(Clone)]
pub struct DataRetention {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    config: RetentionConfig,
    intake: Intake,
    audit: Audit,
    access: Access,
    credentials: Credentials,
    oauth: Oauth,
    threads: Threads,
    webhooks: Webhooks,
}

impl DataRetention {
    /// Over this database and what these slices keep in it.
    #[expect(clippy::too_many_arguments, reason = "each slice that keeps data for a time is asked for its own")]
    pub const fn new(
        db: Db,
        clock: Clock,
        config: RetentionConfig,
        intake: Intake,
        audit: Audit,
        access: Access,
        credentials: Credentials,
        oauth: Oauth,
        threads: Threads,
        webhooks: Webhooks,
    ) -> Self {
        Self { db, clock, config, intake, audit, access, credentials, oauth, threads, webhooks }
    }

    /// Every kind of data, with how much of it this tenant has.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<StoredKind>, Error> {
        let now = self.clock.now();
        let mut tx = self.db.read(tenant).await?;
        let mut all = Vec::with_capacity(DataKind::VARIANTS.len());
        for kind in DataKind::VARIANTS.iter().copied() {
            let stored = self.stored(&mut tx, kind, now).await?;
            all.push(StoredKind { kind, retention: kind.retention(&self.config), stored });
        }
        Ok(all)
    }

    async fn stored(&self, tx: &mut Tx, kind: DataKind, now: Timestamp) -> Result<StoredRows, Error> {
        Ok(match kind {
            DataKind::DeliveryContents => self.webhooks.contents_stored(tx, now).await?,
            DataKind::Deliveries => self.webhooks.deliveries_stored(tx, now).await?,
            DataKind::ThreadEvents => self.threads.events_stored(tx, now).await?,
            DataKind::Steps => self.threads.steps_stored(tx, now).await?,
            DataKind::EndedConnections => self.oauth.ended_stored(tx, now).await?,
            DataKind::RevokedTokens => self.access.ended_tokens_stored(tx, now).await?,
            DataKind::ErasedCredentials => self.credentials.erased_stored(tx, now).await?,
            DataKind::IntakeEvents => self.intake.stored(tx).await?,
            DataKind::Threads => self.threads.stored(tx, now).await?,
            DataKind::AuditLog => self.audit.stored(tx, now).await?,
        })
    }
}
