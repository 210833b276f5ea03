//! Opening the secrets of webhooks, to check signatures and for nothing else.
//!
//! Invariants: what is kept in memory serves the meaning that it was opened for, for at most 60 s; the delivery row is the
//! record of each use, and the audit gets one counted event per webhook, version and minute.

use std::sync::Arc;

use thinkwork_primitives::{
    ActingClient, Actor, CredentialId, CredentialSubject, Requester, Secret, Surface, TenantId,
};

use super::counted::{OpeningCount, OpeningKey};
use super::{CredentialMeaning, Credentials, Error, Owner, Standing, context, rules, store};
use crate::audit::{self, Event};

/// The live versions of a webhook's secret in memory, and what counts their openings.
pub(super) struct VerificationSecrets {
    /// What they were opened for.
    meaning: CredentialMeaning,
    secrets: Arc<Vec<Secret>>,
    counts: Vec<OpeningCount>,
}

impl VerificationSecrets {
    fn open(&self) -> Arc<Vec<Secret>> {
        self.counts.iter().for_each(|count| count.add(1));
        Arc::clone(&self.secrets)
    }
}

impl Credentials {
    /// The live versions of a webhook's secret, newest first, for checking a signature and nothing else. Served from
    /// memory for at most 60 s; the delivery row is the record, and [`Credentials::record_openings`] tells how often.
    pub async fn open_for_verification(
        &self,
        tenant: TenantId,
        id: CredentialId,
        meaning: &CredentialMeaning,
    ) -> Result<Arc<Vec<Secret>>, Error> {
        if let Some(verifying) = self.verification.get(&id).filter(|verifying| verifying.meaning == *meaning) {
            return Ok(verifying.open());
        }
        let mut tx = self.db.read(tenant).await?;
        let row = store::credential_find(&mut tx, id).await?.ok_or(Error::Gone(id))?;
        let Owner::Webhook(webhook) = meaning.owner() else { return Err(Error::Gone(id)) };
        rules::check_row(&row, meaning)?;
        let kept = self.kept.get(id)?;
        if kept.standing(row.version) != Standing::Current {
            return Err(Error::Outdated(id));
        }
        let encoded = meaning.encode();
        let mut secrets = Vec::new();
        let mut counts = Vec::new();
        let live = store::versions_live(&mut tx, id, self.clock.now()).await?;
        for (version, material) in live.into_iter().filter(|(version, _)| *version > kept.ended) {
            secrets.push(self.vault.open(&context(tenant, &row, version), &encoded, &material)?);
            counts.push(self.openings.of(OpeningKey { tenant, webhook, credential: id, version }));
        }
        let secrets = Arc::new(secrets);
        let verifying = Arc::new(VerificationSecrets { meaning: meaning.clone(), secrets, counts });
        self.verification.insert(id, Arc::clone(&verifying));
        Ok(verifying.open())
    }

    /// Tells the record what was opened for verification since the last time: one event per webhook and version, with
    /// the count. The supervisor calls it each minute and at the end.
    ///
    /// # Errors
    /// The database's; what could not be recorded is recorded the next time.
    pub async fn record_openings(&self) -> Result<(), Error> {
        let mut failed = None;
        for (counted, opened) in self.openings.take() {
            if let Err(error) = self.record_opening(counted, opened).await {
                self.openings.of(counted).add(opened);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn record_opening(&self, counted: OpeningKey, opened: i64) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.db.write(counted.tenant).await?;
        store::credential_used(&mut tx, counted.credential, now).await?;
        let by = Actor { requester: Requester::Webhook(counted.webhook), client: ActingClient::System };
        let event = Event::by(by, "credential.opened")
            .on("credential", counted.credential)
            .using(CredentialSubject::Tenant, Surface::WebhookVerification)
            .detail("version", counted.version)
            .detail("count", opened);
        audit::record(&mut tx, now, rules::describe_owner(event, Owner::Webhook(counted.webhook)))?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets what is in memory of this credential; called for each hint that it changed.
    pub fn forget(&self, id: CredentialId) {
        self.verification.invalidate(&id);
    }
}
