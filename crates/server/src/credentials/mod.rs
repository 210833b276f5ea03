//! Sealed secrets: one way in ([`Credentials::create`], [`Credentials::rotate`]), one way out ([`Credentials::open`]).
//!
//! Invariants: no secret is opened without an audit event in the same transaction, committed before the secret is
//! used; a secret opens only for the [`CredentialMeaning`] that it was sealed for; a revoked or replaced version is
//! erased, not flagged. Callers of `open` are listed in the architecture test.

mod counted;
mod jobs;
mod kept;
mod meaning;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use thinkwork_database::jobs as queue;
use thinkwork_database::retention::{self, StoredRows};
use thinkwork_database::schema::table_names;
use thinkwork_database::{Db, Topic, Tx};
use thinkwork_primitives::{Actor, Clock, CredentialId, Secret, TenantId, Timestamp, limits};
use thinkwork_vault::{Context, Vault};

use crate::audit::{self, Event};

use counted::Openings;
pub use jobs::{CredentialVersion, EraseVersion};
pub use kept::Standing;
use kept::{KeptVersion, KeptVersions};
pub use meaning::{ClientRegistration, CredentialMeaning, FlowBinding};
pub use types::{
    CredentialInfo, CredentialUse, OpenPurpose, OpenRequest, OpenedCredential, Owner, UseContext, UseRecorder,
};
use verification::VerificationSecrets;

/// The name under which the ring's root is checked.
const ROOT_KEY: &str = "root";

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such credential, or it was revoked.
    #[error("the credential {0} does not exist or was revoked")]
    Gone(CredentialId),
    /// An empty secret or one that is too long or holds line breaks where none may be.
    #[error("{0}")]
    Refused(&'static str),
    /// The database holds an earlier version than was made, or one that was revoked.
    #[error(
        "the credential {0} in the database is not the last one that was stored: the database was restored from a back-up, \
         or changed. Enter the secret again, or connect the account again"
    )]
    Outdated(CredentialId),
    /// The file of last versions beside the key file holds something else.
    #[error(
        "line {0} of the file of last versions beside the key file cannot be read; restore the file from a copy, or remove it"
    )]
    UnreadableVersion(usize),
    /// The sealed material does not open.
    #[error(transparent)]
    Vault(#[from] thinkwork_vault::Error),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
}

impl Error {
    /// Whether the material was changed, or is not for what the database now says.
    pub const fn is_damaged(&self) -> bool {
        matches!(self, Self::Vault(thinkwork_vault::Error::Damaged { .. }))
    }
}

#[derive(Clone)]
pub struct Credentials {
    db: Db,
    clock: Clock,
    vault: Vault,
    verification: moka::sync::Cache<CredentialId, Arc<VerificationSecrets>>,
    openings: Openings,
    kept: KeptVersions,
}

impl Credentials {
    /// Over this database and these keys.
    pub fn new(db: Db, clock: Clock, vault: Vault) -> Self {
        let kept = KeptVersions::new(vault.clone());
        let verification =
            moka::sync::Cache::builder().max_capacity(10_000).time_to_live(limits::SECRET_CACHE_LIFETIME).build();
        Self { db, clock, vault, verification, openings: Openings::default(), kept }
    }

    /// Reads what is kept beside the key file of the last versions; once, before credentials are opened.
    ///
    /// # Errors
    /// [`Error::UnreadableVersion`], [`Error::Vault`].
    pub fn read_kept_versions(&self) -> Result<(), Error> {
        self.kept.open()
    }

    /// Whether this database was ever sealed under a key. One that is not migrated yet was not.
    pub async fn has_keys(db: &Db) -> Result<bool, Error> {
        if !table_names(db).await?.iter().any(|name| name == store::KEY_CHECKS) {
            return Ok(false);
        }
        let mut tx = db.read_shared().await?;
        Ok(!store::key_checks(&mut tx).await?.is_empty())
    }

    /// Compares the key ring with the fingerprints in the database and writes nothing. Gives them back by key.
    ///
    /// # Errors
    /// [`Error::Vault`] where a key is missing from the ring or is another one; the database's.
    pub async fn compare_keys(&self) -> Result<Vec<(String, String)>, Error> {
        let known = Self::key_fingerprints(&self.db).await?;
        for (key, fingerprint) in &known {
            Self::check_fingerprint(&self.vault, key, fingerprint)?;
        }
        Ok(known)
    }

    /// The fingerprints of the keys that a database was sealed under, by key.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_fingerprints(db: &Db) -> Result<Vec<(String, String)>, Error> {
        let mut tx = db.read_shared().await?;
        store::key_checks(&mut tx).await
    }

    /// Compares one key of the ring with a fingerprint of [`Credentials::key_fingerprints`].
    ///
    /// # Errors
    /// [`Error::Vault`] where the key is missing from the ring or is another one.
    pub fn check_fingerprint(vault: &Vault, key: &str, fingerprint: &str) -> Result<(), Error> {
        match key {
            ROOT_KEY => vault.verify_root_fingerprint(fingerprint)?,
            _ => vault.verify_fingerprint(key, fingerprint)?,
        }
        Ok(())
    }

    /// Compares the key ring with the fingerprints in the database and notes new keys there. Touches nothing where a
    /// key is wrong.
    ///
    /// # Errors
    /// As [`Credentials::compare_keys`].
    pub async fn check_keys(&self) -> Result<(), Error> {
        let known = self.compare_keys().await?;
        let root = (ROOT_KEY.to_owned(), self.vault.root_fingerprint());
        let ring = self.vault.key_ids().into_iter().filter_map(|key| {
            let fingerprint = self.vault.fingerprint(&key)?;
            Some((key, fingerprint))
        });
        let new: Vec<_> =
            ring.chain(std::iter::once(root)).filter(|(key, _)| !known.iter().any(|(known, _)| known == key)).collect();
        if !new.is_empty() {
            let mut tx = self.db.write_shared().await?;
            store::key_checks_insert(&mut tx, &new).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Seals a new credential of this meaning.
    ///
    /// # Errors
    /// [`Error::Refused`] for an empty or oversized secret.
    pub async fn create(
        &self,
        tx: &mut Tx,
        meaning: &CredentialMeaning,
        secret: &Secret,
        by: &Actor,
    ) -> Result<CredentialId, Error> {
        rules::check_secret(secret)?;
        let id = CredentialId::new();
        let now = self.clock.now();
        let row = store::Credential { id, owner: meaning.owner(), kind: meaning.kind(), version: 1 };
        store::credential_insert(tx, &row, now).await?;
        self.seal_version(tx, &row, meaning, secret, now).await?;
        let event = Event::by(by.clone(), "credential.created").on("credential", id);
        audit::record(tx, now, rules::describe_owner(event, row.owner))?;
        Ok(id)
    }

    /// Puts a new version in place, for what the credential means now. The one before ends after `overlap`; with none it
    /// is erased at once.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Refused`]; [`Error::Vault`] where the credential has another owner or kind.
    pub async fn rotate(
        &self,
        tx: &mut Tx,
        id: CredentialId,
        meaning: &CredentialMeaning,
        secret: &Secret,
        overlap: Duration,
        by: &Actor,
    ) -> Result<i64, Error> {
        let row = store::credential_lock(tx, id).await?.ok_or(Error::Gone(id))?;
        self.replace(tx, &row, meaning, secret, overlap, by).await
    }

    /// Puts a new version in place only if `expected` is still the current one: the compare-and-set of a refresh.
    /// False when another version won.
    pub async fn rotate_if(
        &self,
        tx: &mut Tx,
        id: CredentialId,
        meaning: &CredentialMeaning,
        expected: i64,
        secret: &Secret,
        by: &Actor,
    ) -> Result<bool, Error> {
        let row = store::credential_lock(tx, id).await?.ok_or(Error::Gone(id))?;
        if row.version != expected {
            return Ok(false);
        }
        self.replace(tx, &row, meaning, secret, Duration::ZERO, by).await.map(|_| true)
    }

    /// Seals the current version anew, in the transaction that changes what it means: the one way to keep a secret over
    /// such a change. The secret does not leave.
    ///
    /// # Errors
    /// As [`Credentials::open`], for what it meant `before`.
    pub async fn reseal(
        &self,
        tx: &mut Tx,
        id: CredentialId,
        before: &CredentialMeaning,
        after: &CredentialMeaning,
        by: &Actor,
    ) -> Result<(), Error> {
        let row = store::credential_lock(tx, id).await?.ok_or(Error::Gone(id))?;
        let secret = self.unseal(tx, &row, before).await?;
        self.replace(tx, &row, after, &secret, Duration::ZERO, by).await?;
        let event = Event::by(by.clone(), "credential.resealed").on("credential", id);
        audit::record(tx, self.clock.now(), rules::describe_owner(event, row.owner))?;
        Ok(())
    }

    async fn replace(
        &self,
        tx: &mut Tx,
        row: &store::Credential,
        meaning: &CredentialMeaning,
        secret: &Secret,
        overlap: Duration,
        by: &Actor,
    ) -> Result<i64, Error> {
        rules::check_secret(secret)?;
        rules::check_row(row, meaning)?;
        let now = self.clock.now();
        // Also later than what the database does not know of any more.
        let version = row.version.max(self.kept.get(row.id)?.current).saturating_add(1);
        store::versions_end(tx, row.id, row.version, now, overlap).await?;
        store::credential_set_version(tx, row.id, version, now).await?;
        let next = store::Credential { version, ..*row };
        self.seal_version(tx, &next, meaning, secret, now).await?;
        let ended = if overlap.is_zero() { row.version } else { row.version.saturating_sub(1) };
        self.keep(tx, row, KeptVersion { current: version, ended });
        if !overlap.is_zero() {
            // The end of the overlap is a job: nobody has to come by for the old secret to be erased.
            let ended = CredentialVersion { credential: row.id, version: row.version };
            queue::enqueue::<EraseVersion>(tx, ended, now.plus(overlap));
        }
        let event = Event::by(by.clone(), "credential.rotated").on("credential", row.id).detail("version", version);
        audit::record(tx, now, rules::describe_owner(event, row.owner))?;
        tx.wake(Topic::Credential, row.id.uuid());
        Ok(version)
    }

    /// Ends a credential for good and erases its material.
    ///
    /// # Errors
    /// The database's. Revoking what is gone changes nothing.
    pub async fn revoke(&self, tx: &mut Tx, id: CredentialId, by: &Actor) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(row) = store::credential_lock(tx, id).await? else { return Ok(()) };
        store::versions_end(tx, id, row.version, now, Duration::ZERO).await?;
        store::credential_revoke(tx, id, now).await?;
        self.keep(tx, &row, KeptVersion { current: row.version, ended: row.version });
        let event = Event::by(by.clone(), "credential.revoked").on("credential", id);
        audit::record(tx, now, rules::describe_owner(event, row.owner))?;
        tx.wake(Topic::Credential, id.uuid());
        Ok(())
    }

    /// From here on the current version is opened for nothing but its revocation, whatever becomes of the rows.
    pub async fn end_use(&self, tx: &mut Tx, id: CredentialId) -> Result<(), Error> {
        if let Some(row) = store::credential_lock(tx, id).await? {
            self.keep(tx, &row, KeptVersion { current: row.version, ended: row.version });
        }
        Ok(())
    }

    /// Keeps this of a credential beside the key file. A verifier lives for minutes, so nobody could put one back.
    fn keep(&self, tx: &mut Tx, row: &store::Credential, kept: KeptVersion) {
        if !matches!(row.owner, Owner::OauthFlow(_)) {
            self.kept.keep(tx, row.id, kept);
        }
    }

    /// Deletes versions of a tenant's credentials that were erased before then, at most `count`. The credential's own row
    /// stays, and what is kept of it beside the key file: which version is current is decided by those two.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_erased_before(&self, tenant: TenantId, before: Timestamp, count: u64) -> Result<(), Error> {
        Ok(retention::delete_ended_before(&self.db, tenant, &store::ERASED_COLUMNS, before, count).await?)
    }

    /// How many erased versions of credentials the transaction's tenant has, and when the first of them was erased.
    ///
    /// # Errors
    /// The database's.
    pub async fn erased_stored(&self, tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
        store::erased_stored(tx, now).await
    }

    /// What may be shown.
    pub async fn describe(&self, tx: &mut Tx, id: CredentialId) -> Result<Option<CredentialInfo>, Error> {
        store::credential_describe(tx, id, self.kept.get(id)?, self.clock.now()).await
    }

    /// Opens the current version for this meaning and records it. `tx` is a write transaction; commit it before using the
    /// secret.
    ///
    /// # Errors
    /// [`Error::Gone`] where it was revoked; [`Error::Vault`] where the material does not open, or was sealed for another
    /// meaning; [`Error::Refused`] where it is another subject's.
    pub async fn open(
        &self,
        tx: &mut Tx,
        id: CredentialId,
        meaning: &CredentialMeaning,
        opening: OpenRequest<'_>,
    ) -> Result<OpenedCredential, Error> {
        let now = self.clock.now();
        if !meaning.is_subject(opening.subject) {
            return Err(Error::Refused("This credential belongs to somebody else than it is opened for."));
        }
        let row = store::credential_lock(tx, id).await?.ok_or(Error::Gone(id))?;
        match (opening.purpose, self.kept.get(id)?.standing(row.version)) {
            (_, Standing::Current) | (OpenPurpose::Recheck, Standing::Older) | (OpenPurpose::Revoke, _) => {}
            (OpenPurpose::Use | OpenPurpose::Recheck, _) => return Err(Error::Outdated(id)),
        }
        let secret = self.unseal(tx, &row, meaning).await?;
        store::credential_used(tx, id, now).await?;
        if let Some(recorder) = opening.recorder {
            let used = CredentialUse { subject: opening.subject, credential: row.id, version: row.version };
            recorder.record_use(tx, used).await?;
        }
        let mut event = Event::by(opening.actor, "credential.opened")
            .on("credential", id)
            .using(opening.subject, opening.surface)
            .within(opening.thread, opening.turn)
            .detail("version", row.version);
        if let Some(tool) = opening.tool {
            event = event.detail("tool", tool);
        }
        audit::record(tx, now, rules::describe_owner(event, row.owner))?;
        Ok(OpenedCredential { secret, credential: id, version: row.version })
    }

    /// The current version's secret.
    async fn unseal(&self, tx: &mut Tx, row: &store::Credential, meaning: &CredentialMeaning) -> Result<Secret, Error> {
        rules::check_row(row, meaning)?;
        let material = store::version_find(tx, row.id, row.version).await?.ok_or(Error::Gone(row.id))?;
        Ok(self.vault.open(&context(tx.tenant(), row, row.version), &meaning.encode(), &material)?)
    }

    /// Re-wraps up to `count` versions of a tenant that an older key wraps. Returns how many; zero when all is done.
    ///
    /// # Errors
    /// The database's, the vault's.
    pub async fn rewrap(&self, tenant: TenantId, count: u64) -> Result<usize, Error> {
        let mut tx = self.db.write(tenant).await?;
        let stale = store::versions_under_other_keys(&mut tx, &self.vault.active_key_id(), count).await?;
        let mut done: usize = 0;
        for (row, version, material) in stale {
            if let Some(sealed) = self.vault.rewrap(&context(tenant, &row, version), &material)? {
                store::version_rewrap(&mut tx, row.id, version, &sealed).await?;
                done = done.saturating_add(1);
            }
        }
        tx.commit().await?;
        Ok(done)
    }

    async fn seal_version(
        &self,
        tx: &mut Tx,
        row: &store::Credential,
        meaning: &CredentialMeaning,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<(), Error> {
        let sealed = self.vault.seal(&context(tx.tenant(), row, row.version), &meaning.encode(), secret)?;
        store::version_insert(tx, row.id, row.version, &sealed, secret.last_four(), now).await
    }
}

fn context(tenant: TenantId, row: &store::Credential, version: i64) -> Context {
    let (owner_kind, owner_id) = rules::owner_columns(row.owner);
    Context {
        tenant,
        owner_kind,
        owner_id,
        credential: row.id,
        kind: row.kind,
        version: i32::try_from(version).unwrap_or(i32::MAX),
    }
}
