//! Sealed secrets: one way in ([`Credentials::create`], [`Credentials::rotate`]), one way out ([`Credentials::open`]).
//!
//! Invariants: no secret is opened without an audit event in the same transaction, committed before the secret is
//! used; a secret opens only for the [`CredentialMeaning`] that it was sealed for; a revoked or replaced version is
//! erased, not flagged. Callers of `open` are listed in the architecture test.

mod counted;
mod jobs;
mod meaning;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use thinkwork_database::jobs as queue;
use thinkwork_database::schema::table_names;
use thinkwork_database::{Db, Topic, Tx};
use thinkwork_primitives::{
    Actor, Clock, ConnectionId, CredentialId, CredentialSubject, FlowId, OauthClientId, Secret, Surface, TenantId,
    ThreadId, Timestamp, ToolSourceId, TurnId, WebhookId, limits,
};
use thinkwork_vault::{Context, Vault};

use crate::audit::{self, Event};
use crate::edge::caller::BoxFuture;

use counted::Openings;
pub use jobs::{CredentialVersion, EraseVersion};
pub use meaning::{ClientRegistration, CredentialMeaning, FlowBinding};
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
    /// The sealed material does not open.
    #[error(transparent)]
    Vault(#[from] thinkwork_vault::Error),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Audit(#[from] audit::Error),
}

/// Whose a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user's grant.
    Connection(ConnectionId),
    /// The tenant's secret for a source of tools.
    ToolSource(ToolSourceId),
    /// A webhook's signing secret.
    Webhook(WebhookId),
    /// A client registration's secret.
    OauthClient(OauthClientId),
    /// A flow's PKCE verifier.
    OauthFlow(FlowId),
    /// The tenant platform agent's model key.
    Agent,
}

/// For which work credentials are opened.
#[derive(Clone, Debug)]
pub struct UseContext {
    /// On whose request.
    pub actor: Actor,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// For which tool, by its full name.
    pub tool: Option<String>,
}

impl UseContext {
    /// Of no thread and for no tool.
    pub const fn by(actor: Actor) -> Self {
        Self { actor, thread: None, turn: None, tool: None }
    }

    /// Asks for what is `subject`'s. The tool is named where it is called, not where `oauth` refreshes its token first.
    pub fn request<'a>(&self, surface: Surface, subject: CredentialSubject) -> OpenRequest<'a> {
        let Self { actor, thread, turn, tool } = self.clone();
        let tool = tool.filter(|_| surface == Surface::ToolCall);
        OpenRequest { surface, actor, subject, thread, turn, tool, recorder: None }
    }
}

/// Why a credential is opened: what the audit event will say.
pub struct OpenRequest<'a> {
    /// The part of the runtime that opens it.
    pub surface: Surface,
    /// On whose request.
    pub actor: Actor,
    pub subject: CredentialSubject,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// For which tool, by its full name.
    pub tool: Option<String>,
    /// Records the use with the work that it was opened for.
    pub recorder: Option<&'a dyn UseRecorder>,
}

impl<'a> OpenRequest<'a> {
    #[must_use]
    pub fn recorded_by(self, recorder: Option<&'a dyn UseRecorder>) -> Self {
        Self { recorder, ..self }
    }
}

/// What was opened for a piece of work.
#[derive(Clone, Copy, Debug)]
pub struct CredentialUse {
    pub subject: CredentialSubject,
    pub credential: CredentialId,
    pub version: i64,
}

/// Records which credential was opened for a piece of work, in the transaction that opens it. An error keeps it closed.
pub trait UseRecorder: Send + Sync {
    /// Records the use, or refuses it where this work may not have it.
    fn record_use<'a>(&'a self, tx: &'a mut Tx, used: CredentialUse) -> BoxFuture<'a, Result<(), Error>>;
}

/// An opened secret. Use it only after the transaction that opened it is committed.
pub struct OpenedCredential {
    pub secret: Secret,
    pub credential: CredentialId,
    pub version: i64,
}

/// What may be shown of a credential.
#[derive(Clone, Debug)]
pub struct CredentialInfo {
    pub id: CredentialId,
    /// The current version.
    pub version: i64,
    /// The last four characters of secrets of 16 or more.
    pub last_four: Option<String>,
    pub created_at: Timestamp,
    /// When its current version was made.
    pub rotated_at: Timestamp,
    /// When it was last opened, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Until when the version before still works, while both do.
    pub previous_ends_at: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Credentials {
    db: Db,
    clock: Clock,
    vault: Vault,
    verification: moka::sync::Cache<CredentialId, Arc<VerificationSecrets>>,
    openings: Openings,
}

impl Credentials {
    /// Over this database and these keys.
    pub fn new(db: Db, clock: Clock, vault: Vault) -> Self {
        let verification =
            moka::sync::Cache::builder().max_capacity(10_000).time_to_live(limits::SECRET_CACHE_LIFETIME).build();
        Self { db, clock, vault, verification, openings: Openings::default() }
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
        let mut tx = self.db.read_shared().await?;
        let known = store::key_checks(&mut tx).await?;
        for (key, fingerprint) in &known {
            if key == ROOT_KEY {
                self.vault.verify_root_fingerprint(fingerprint)?;
            } else {
                self.vault.verify_fingerprint(key, fingerprint)?;
            }
        }
        Ok(known)
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
        let version = row.version.saturating_add(1);
        store::versions_end(tx, row.id, row.version, now, overlap).await?;
        store::credential_set_version(tx, row.id, version, now).await?;
        let next = store::Credential { version, ..*row };
        self.seal_version(tx, &next, meaning, secret, now).await?;
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
        let event = Event::by(by.clone(), "credential.revoked").on("credential", id);
        audit::record(tx, now, rules::describe_owner(event, row.owner))?;
        tx.wake(Topic::Credential, id.uuid());
        Ok(())
    }

    /// What may be shown.
    pub async fn describe(&self, tx: &mut Tx, id: CredentialId) -> Result<Option<CredentialInfo>, Error> {
        store::credential_describe(tx, id, self.clock.now()).await
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
