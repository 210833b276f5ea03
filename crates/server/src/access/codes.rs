//! One-time codes that set a password: the set-up link of an owner, the invitation of everybody else.
//!
//! Invariant: a code works once, only until its end, and only while its person is enabled; stored is its SHA-256.

use std::time::Duration;
use strum::{EnumString, IntoStaticStr};

use thinkwork_database::{Tx, quota, tenant_lookup};
use thinkwork_primitives::{Actor, InvitationId, Secret, TenantId, Timestamp, UserId, crypto};

use super::people::EMAIL_LOOKUP;
use super::store::proof;
use super::{Access, ClientInfo, Error, NewSession, rules, store};
use crate::audit::{self, Event};
use crate::edge::Idempotency;

/// Leads from a code to its row, before the tenant is known.
const LOOKUP: &str = "invitation";

/// What a code is for.
#[derive(Clone, Copy, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Purpose {
    Setup,
    Invitation,
}

impl Purpose {
    pub(super) fn as_str(self) -> &'static str {
        self.into()
    }

    const fn lifetime(self) -> Duration {
        match self {
            Self::Setup => rules::SETUP_LIFETIME,
            Self::Invitation => rules::INVITATION_LIFETIME,
        }
    }
}

/// Whom a code lets in: what its page greets them with.
pub struct PendingInvitation {
    pub name: String,
    pub email: String,
    /// The tenant's name.
    pub tenant_name: String,
}

pub(super) async fn code_insert(
    tx: &mut Tx,
    user: UserId,
    purpose: Purpose,
    now: Timestamp,
) -> Result<(Secret, Timestamp), Error> {
    let id = InvitationId::new();
    let expires_at = now.plus(purpose.lifetime());
    let (code, hash) = crypto::generate_token("")?;
    store::invitation_insert(tx, id, user, purpose.as_str(), &hash, now, expires_at).await?;
    tenant_lookup::add(tx, LOOKUP, code.expose_str().unwrap_or_default(), id.uuid()).await?;
    Ok((code, expires_at))
}

pub(super) async fn codes_end(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<(), Error> {
    for id in store::invitations_end(tx, user, now).await? {
        tenant_lookup::remove(tx, LOOKUP, id).await?;
    }
    Ok(())
}

impl Access {
    /// Forgets what has ended by itself in a tenant: sessions, invitations, idempotency keys; at most `count` of each.
    pub async fn sweep(&self, tenant: TenantId, count: u64) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        self.sessions_sweep(&mut tx, proof::OwnerFilter::Tenant, now, count).await?;
        for over in store::invitations_sweep(&mut tx, now, count).await? {
            tenant_lookup::remove(&mut tx, LOOKUP, over).await?;
        }
        Idempotency::sweep(&mut tx, now, count).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets the counts of tries at signing in whose time is over, at most `count`.
    pub async fn throttles_sweep(&self, count: u64) -> Result<(), Error> {
        quota::forget(&self.db, rules::THROTTLE_PREFIX, rules::throttle_window(self.now()), count).await?;
        Ok(())
    }

    /// A new one-time set-up code for a person, for the commands on the machine; those before stop working.
    pub async fn setup_code(&self, tenant: TenantId, user: UserId) -> Result<Secret, Error> {
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        store::user_find(&mut tx, user).await?.ok_or(Error::NotFound)?;
        codes_end(&mut tx, user, now).await?;
        let (code, _) = code_insert(&mut tx, user, Purpose::Setup, now).await?;
        let event = Event::by(Actor::server(), "user.setup_link_made").on("user", user);
        audit::record(&mut tx, now, event)?;
        tx.commit().await?;
        Ok(code)
    }

    /// A new one-time set-up code for the person of this tenant with this e-mail, for whoever is at the machine: what
    /// mends a forgotten password where nobody can invite.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such enabled person; the database's.
    pub async fn setup_code_of(&self, tenant: &str, email: &str) -> Result<Secret, Error> {
        let tenant = store::tenant_by_slug(&mut self.db.read_shared().await?, tenant).await?.ok_or(Error::NotFound)?;
        let found = tenant_lookup::find_all(&self.db, EMAIL_LOOKUP, &rules::email_key(email)).await?;
        let route = found.into_iter().find(|route| route.tenant == tenant).ok_or(Error::NotFound)?;
        let user = UserId::from_uuid(route.row);
        let mut tx = self.db.read(tenant).await?;
        if !self.is_active(&mut tx, user).await? {
            return Err(Error::NotFound);
        }
        drop(tx);
        self.setup_code(tenant, user).await
    }

    /// The absolute set-up link with this code.
    pub fn setup_url(&self, code: &Secret) -> Secret {
        self.link("/setup", code)
    }

    /// Whom a code lets in; `None` once it does not work any more.
    pub async fn code_find(&self, code: &str) -> Result<Option<PendingInvitation>, Error> {
        let Some((mut tx, row)) = tenant_lookup::read(&self.db, LOOKUP, code).await? else { return Ok(None) };
        let Some(invitation) = store::invitation_find(&mut tx, row).await? else { return Ok(None) };
        if invitation.expires_at <= self.now() {
            return Ok(None);
        }
        let (_, tenant_name) = self.tenant(&mut tx).await?;
        let user = store::user_find(&mut tx, invitation.user).await?.filter(|user| !user.disabled);
        Ok(user.map(|user| PendingInvitation { name: user.name, email: user.email, tenant_name }))
    }

    /// Uses a code up: sets the password, and the name if one is given, and signs the person in.
    pub async fn code_accept(
        &self,
        code: &str,
        name: Option<&str>,
        password: &Secret,
        client: &ClientInfo,
    ) -> Result<NewSession, Error> {
        rules::check_password(password)?;
        let name = name.map(rules::check_name).transpose()?;
        // Looked at before hashing, so that a stranger's guesses cost us no work.
        self.code_find(code).await?.ok_or(Error::CodeExpired)?;
        let phc = self.hashing.hash(password).await?;
        let route = tenant_lookup::find(&self.db, LOOKUP, code).await?.ok_or(Error::CodeExpired)?;
        let now = self.now();
        let mut tx = self.db.write(route.tenant).await?;
        let invitation = store::invitation_find(&mut tx, route.row).await?.ok_or(Error::CodeExpired)?;
        let user = invitation.user;
        if !store::invitation_use(&mut tx, route.row, now).await? || !self.confirm_user(&mut tx, user).await? {
            return Err(Error::CodeExpired);
        }
        tenant_lookup::remove(&mut tx, LOOKUP, route.row).await?;
        codes_end(&mut tx, user, now).await?;
        if let Some(name) = name {
            store::user_set_name(&mut tx, user, &name).await?;
        }
        self.password_replace(&mut tx, user, &phc, now).await?;
        let session = self.session_start(&mut tx, user, client, Some(&phc), now).await?;
        let by = Actor::at_page(user, session.session);
        audit::record(&mut tx, now, Event::by(by, "user.accepted").on("user", user))?;
        tx.commit().await?;
        Ok(session)
    }
}
