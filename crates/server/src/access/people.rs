//! Tenants and their people: making, inviting, changing, looking up.
//!
//! Invariant: whoever is disabled loses sessions, tokens and open invitations in the same transaction, and grants by a
//! job of it.

use thinkwork_database::{Topic, Tx, tenant_lookup};
use thinkwork_primitives::{
    ActingClient, Actor, Clock, DomainEvent, Principal, Requester, Role, TenantId, Timestamp, TokenId, UserId,
};

use super::store::proof;
use super::{Access, Error, Invited, NewTenant, NewUser, User, UserUpdate, codes, rules, store};
use crate::audit::{self, Event};
use crate::edge::{Idempotency, idempotency};

/// Leads from a hashed e-mail to the accounts that have it, before the tenant is known.
pub(super) const EMAIL_LOOKUP: &str = "email";

/// How to come by a link that was shown before.
const NEW_LINK: &str = "make a new link at /v1/users/{id}/invitation with another key.";

impl Access {
    /// The time, as every rule here sees it.
    pub(crate) fn now(&self) -> Timestamp {
        Clock::now(&self.clock)
    }

    /// Makes a tenant with its owner and a one-time set-up link.
    pub async fn tenant_create(
        &self,
        slug: &str,
        name: &str,
        owner_email: &str,
        owner_name: &str,
    ) -> Result<NewTenant, Error> {
        rules::check_slug(slug)?;
        let now = self.now();
        let tenant = TenantId::new();
        let mut tx = self.db.write(tenant).await?;
        store::tenant_insert(&mut tx, slug, &rules::check_name(name)?, now).await?;
        audit::begin(&mut tx, now)?;
        let owner = NewUser { email: owner_email.to_owned(), name: owner_name.to_owned(), role: Role::Owner };
        let owner = user_insert(&mut tx, owner, now).await?.id;
        let event = Event::by(Actor::server(), "tenant.created").on("tenant", tenant);
        audit::record(&mut tx, now, event)?;
        let event = Event::by(Actor::server(), "user.created").on("user", owner).detail("role", "owner");
        audit::record(&mut tx, now, event)?;
        let (setup_code, _) = codes::code_insert(&mut tx, owner, codes::Purpose::Setup, now).await?;
        tx.commit().await?;
        Ok(NewTenant { tenant, owner, setup_code })
    }

    /// Every tenant with its slug, for sweeps and short commands.
    pub async fn tenants(&self) -> Result<Vec<(TenantId, String)>, Error> {
        store::tenant_list(&mut self.db.read_shared().await?).await
    }

    /// Slug and name of the transaction's tenant.
    pub async fn tenant(&self, tx: &mut Tx) -> Result<(String, String), Error> {
        store::tenant_find(tx).await?.ok_or(Error::NotFound)
    }

    /// One person of the transaction's tenant.
    pub async fn user(&self, tx: &mut Tx, id: UserId) -> Result<Option<User>, Error> {
        store::user_find(tx, id).await
    }

    /// Names of these people, for showing; unknown ids are left out.
    pub async fn user_names(&self, tx: &mut Tx, ids: &[UserId]) -> Result<Vec<(UserId, String)>, Error> {
        Ok(store::user_names(tx, ids).await?)
    }

    /// Whether the person exists, is enabled and of the transaction's tenant: re-checked at every event and call.
    pub async fn is_active(&self, tx: &mut Tx, id: UserId) -> Result<bool, Error> {
        Ok(store::user_find(tx, id).await?.is_some_and(|user| !user.disabled))
    }

    /// People of a tenant after this one, in the order in which they were added.
    pub async fn users(&self, tenant: TenantId, limit: u64, after: Option<UserId>) -> Result<Vec<User>, Error> {
        let mut tx = self.db.read(tenant).await?;
        store::user_list(&mut tx, after, limit).await
    }

    /// Adds a person without a link, on behalf of `by`: for the demonstration and for tests.
    pub async fn user_create(
        &self,
        tenant: TenantId,
        by: UserId,
        email: &str,
        name: &str,
        role: Role,
    ) -> Result<UserId, Error> {
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        let new = NewUser { email: email.to_owned(), name: name.to_owned(), role };
        let user = user_insert(&mut tx, new, now).await?;
        let event = Event::by(Actor { requester: Requester::User(by), client: ActingClient::System }, "user.created")
            .on("user", user.id)
            .detail("role", role.as_str());
        audit::record(&mut tx, now, event)?;
        tx.commit().await?;
        Ok(user.id)
    }

    /// Adds a person and makes the link with which they set their password; it works for seven days.
    pub async fn user_invite(&self, by: &Principal, new: NewUser, idempotency: &Idempotency) -> Result<Invited, Error> {
        let now = self.now();
        rules::check_invite(by, new.role, now)?;
        let mut tx = self.write_as(by).await?;
        if let Some(id) = idempotency.existing(&mut tx).await? {
            return Err(idempotency::Error::SecretAlreadyShown { id, next: NEW_LINK }.into());
        }
        let role = new.role.as_str();
        let user = user_insert(&mut tx, new, now).await?;
        let (code, expires_at) = codes::code_insert(&mut tx, user.id, codes::Purpose::Invitation, now).await?;
        let event = Event::by(by.actor(), "user.invited").on("user", user.id).detail("role", role);
        audit::record(&mut tx, now, event)?;
        idempotency.keep(&mut tx, &user.id.to_string()).await?;
        tx.commit().await?;
        Ok(Invited { user, invite_url: self.link("/invitation", &code), expires_at })
    }

    /// A new link for a person who has not accepted yet; the one before stops working. Whoever has a password keeps
    /// it: an operator's link never takes an account over.
    pub async fn invitation_renew(
        &self,
        by: &Principal,
        id: UserId,
        idempotency: &Idempotency,
    ) -> Result<Invited, Error> {
        let now = self.now();
        let mut tx = self.write_as(by).await?;
        if let Some(id) = idempotency.existing(&mut tx).await? {
            return Err(idempotency::Error::SecretAlreadyShown { id, next: NEW_LINK }.into());
        }
        let user = store::user_find(&mut tx, id).await?.ok_or(Error::NotFound)?;
        rules::check_invite(by, user.role, now)?;
        if user.accepted || user.disabled {
            return Err(Error::AlreadyAccepted);
        }
        codes::codes_end(&mut tx, id, now).await?;
        let (code, expires_at) = codes::code_insert(&mut tx, id, codes::Purpose::Invitation, now).await?;
        audit::record(&mut tx, now, Event::by(by.actor(), "user.invited_again").on("user", id))?;
        idempotency.keep(&mut tx, &id.to_string()).await?;
        tx.commit().await?;
        Ok(Invited { user, invite_url: self.link("/invitation", &code), expires_at })
    }

    /// Changes name, role or standing of a person.
    pub async fn user_update(&self, by: &Principal, id: UserId, change: UserUpdate) -> Result<User, Error> {
        let now = self.now();
        let mut tx = self.db.write(by.tenant).await?;
        store::users_lock(&mut tx, by.user().into_iter().chain([id])).await?;
        self.confirm(&mut tx, by).await?;
        let other_owners = store::other_owners(&mut tx, id).await?;
        let before = store::user_find(&mut tx, id).await?.ok_or(Error::NotFound)?;
        rules::check_change(by, &before, &change, other_owners, now)?;
        let mut after = before.clone();
        if let Some(name) = &change.name {
            after.name = rules::check_name(name)?;
        }
        after.role = change.role.unwrap_or(before.role);
        after.disabled = change.disabled.unwrap_or(before.disabled);
        if !store::user_save(&mut tx, &after, now).await? {
            return Err(Error::VersionConflict);
        }
        after.version = after.version.saturating_add(1);
        let mut event = Event::by(by.actor(), "user.changed").on("user", id);
        if after.role != before.role {
            event = event.detail("role", after.role.as_str()).detail("role_before", before.role.as_str());
        }
        if after.disabled != before.disabled {
            event = event.detail("disabled", after.disabled);
        }
        if after.disabled && !before.disabled {
            let (sessions, tokens) = self.access_revoke(&mut tx, id, now).await?;
            event = event.detail("sessions_ended", sessions).detail("tokens_revoked", tokens);
            tx.publish(DomainEvent::UserDisabled { user: id }, now);
        }
        audit::record(&mut tx, now, event)?;
        tx.wake(Topic::Access, id.uuid());
        tx.commit().await?;
        Ok(after)
    }

    /// Ends sessions, tokens and open invitations of a person, and says how many sessions and tokens.
    async fn access_revoke(&self, tx: &mut Tx, user: UserId, now: Timestamp) -> Result<(usize, usize), Error> {
        let sessions = self.sessions_end(tx, user, now).await?;
        let tokens: Vec<TokenId> = proof::tokens_live(tx, user).await?;
        for token in &tokens {
            proof::token_revoke(tx, *token, now).await?;
            tenant_lookup::remove(tx, super::tokens::LOOKUP, token.uuid()).await?;
            tx.wake(Topic::Access, token.uuid());
        }
        codes::codes_end(tx, user, now).await?;
        Ok((sessions, tokens.len()))
    }
}

async fn user_insert(tx: &mut Tx, new: NewUser, now: Timestamp) -> Result<User, Error> {
    let user = User {
        id: UserId::new(),
        email: rules::check_email(&new.email)?,
        name: rules::check_name(&new.name)?,
        role: new.role,
        disabled: false,
        accepted: false,
        created_at: now,
        version: 1,
    };
    let key = rules::email_key(&user.email);
    // Asked first, because on PostgreSQL a refused insert would end the transaction; the index catches the rest.
    if store::user_has_email(tx, &key).await? {
        return Err(Error::EmailTaken);
    }
    store::user_insert(tx, &user, &key).await?;
    tenant_lookup::add(tx, EMAIL_LOOKUP, &key, user.id.uuid()).await?;
    Ok(user)
}
