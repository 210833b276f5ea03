//! Signing in with e-mail and password: throttled, the same work for known and unknown e-mails, recorded.

use thinkwork_database::{Tx, quota, tenant_lookup};
use thinkwork_primitives::{Actor, AuthMethod, Principal, Secret, TenantId, Timestamp, UserId};

use super::password::Lane;
use super::people::EMAIL_LOOKUP;
use super::rules::Throttle;
use super::store::Account;
use super::{Access, ClientInfo, Error, NewSession, rules, store};
use crate::audit::{self, Event};
use crate::edge::InvalidField;

/// Accounts of one e-mail that a sign-in without a tenant is tried against; each costs a hash.
const ACCOUNTS_MAX: usize = 5;

/// Who wants to sign in.
pub struct SignIn<'a> {
    /// The tenant's slug; needed only where several know the e-mail.
    pub tenant: Option<&'a str>,
    pub email: &'a str,
    pub password: &'a Secret,
}

struct Candidate {
    tenant: TenantId,
    account: Account,
}

impl Candidate {
    /// Whether this browser signed in as this person before.
    fn knows_device(&self, client: &ClientInfo) -> bool {
        let device = client.device.as_deref().unwrap_or_default();
        self.account.password_hash.as_deref().is_some_and(|phc| rules::device_holds(device, phc))
    }
}

/// A try at signing in, once it is counted.
struct Attempt {
    /// The accounts that it is held against.
    candidates: Vec<Candidate>,
    /// Whether others are left out, since too many tries were made at them.
    is_throttled: bool,
}

impl Access {
    /// Signs a person in.
    pub async fn sign_in(&self, sign_in: SignIn<'_>, client: &ClientInfo) -> Result<NewSession, Error> {
        let email_key = rules::email_key(sign_in.email);
        // Whoever shows no device is sent away before a flood costs a statement.
        let admitted = if client.device.is_none() { Some(self.hashing.admit_stranger()?) } else { None };
        let candidates = self.candidates(sign_in.tenant, &email_key).await?;
        let lane = match admitted {
            Some(stranger) => stranger,
            None if candidates.iter().any(|one| one.knows_device(client)) => Lane::Known,
            None => self.hashing.admit_stranger()?,
        };
        let Attempt { candidates, is_throttled } = self.attempt(candidates, &email_key, client).await?;
        let mut matching = Vec::new();
        // As much work whoever knows the e-mail: nobody, one tenant or several.
        for _ in candidates.len()..self.tries(sign_in.tenant).await? {
            self.hashing.check(&lane, sign_in.password, None).await?;
            // Takes the place of the event that a known account would get, and its time.
            quota::lease(&self.db, "sign_in:unknown", rules::throttle_window(self.now()), 1, i64::MAX).await?;
        }
        for candidate in candidates {
            let usable = if candidate.account.disabled { None } else { candidate.account.password_hash.clone() };
            if self.hashing.check(&lane, sign_in.password, usable).await? {
                matching.push(candidate);
            } else {
                self.refused(&candidate).await?;
            }
        }
        match (matching.pop(), matching.is_empty()) {
            (None, _) if is_throttled => Err(self.too_many_attempts()),
            (None, _) => Err(Error::WrongPassword),
            (Some(_), false) => Err(Error::AmbiguousTenant),
            (Some(candidate), true) => self.signed_in(candidate, client).await,
        }
    }

    async fn candidates(&self, tenant: Option<&str>, email_key: &str) -> Result<Vec<Candidate>, Error> {
        let only = match tenant {
            Some(slug) => match store::tenant_by_slug(&mut self.db.read_shared().await?, slug.trim()).await? {
                Some(id) => Some(id),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let mut candidates = Vec::new();
        for route in tenant_lookup::find_all(&self.db, EMAIL_LOOKUP, email_key).await? {
            if candidates.len() >= ACCOUNTS_MAX || only.is_some_and(|only| only != route.tenant) {
                continue;
            }
            let mut tx = self.db.read(route.tenant).await?;
            if let Some(account) = store::account_find(&mut tx, UserId::from_uuid(route.row)).await? {
                candidates.push(Candidate { tenant: route.tenant, account });
            }
        }
        Ok(candidates)
    }

    /// How many accounts a try is held against at most: as many as there are tenants, unless one is named.
    async fn tries(&self, tenant: Option<&str>) -> Result<usize, Error> {
        if tenant.is_some() {
            return Ok(1);
        }
        let tenants = store::tenant_count(&mut self.db.read_shared().await?, ACCOUNTS_MAX).await?;
        Ok(tenants.max(1))
    }

    /// Counts a try and says which accounts it may be held against. A browser is known to one account, which is counted by
    /// that browser alone; every other account is counted as for a stranger.
    async fn attempt(
        &self,
        candidates: Vec<Candidate>,
        email_key: &str,
        client: &ClientInfo,
    ) -> Result<Attempt, Error> {
        let device = client.device.as_deref().unwrap_or_default();
        let (mut allowed, strange): (Vec<Candidate>, Vec<Candidate>) =
            candidates.into_iter().partition(|one| one.knows_device(client));
        let only_known = !allowed.is_empty() && strange.is_empty();
        let mut is_throttled = false;
        if !allowed.is_empty() && !self.count_attempt(&[rules::throttle_of_device(device)]).await? {
            is_throttled = true;
            allowed.clear();
        }
        if !only_known {
            if self.count_attempt(&rules::throttles(email_key, client.address)).await? {
                allowed.extend(strange);
            } else {
                is_throttled = true;
            }
        }
        if is_throttled {
            tracing::warn!("a sign-in was throttled");
        }
        if allowed.is_empty() && is_throttled {
            return Err(self.too_many_attempts());
        }
        Ok(Attempt { candidates: allowed, is_throttled })
    }

    fn too_many_attempts(&self) -> Error {
        Error::TooManyAttempts { retry_after_seconds: rules::throttle_retry_after(self.now()) }
    }

    /// Counts a try in each; false where one of them has reached its limit.
    async fn count_attempt(&self, throttles: &[Throttle]) -> Result<bool, Error> {
        let window = rules::throttle_window(self.now());
        for throttle in throttles {
            if quota::lease(&self.db, &throttle.key, window, 1, throttle.limit).await?.granted < 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn refused(&self, candidate: &Candidate) -> Result<(), Error> {
        let reason = match (&candidate.account.password_hash, candidate.account.disabled) {
            (_, true) => "disabled",
            (None, false) => "not_accepted",
            (Some(_), false) => "wrong_password",
        };
        let mut tx = self.db.write(candidate.tenant).await?;
        let event =
            Event::by(Actor::server(), "sign_in.refused").on("user", candidate.account.user).detail("reason", reason);
        audit::record(&mut tx, self.now(), event)?;
        tx.commit().await?;
        Ok(())
    }

    async fn signed_in(&self, candidate: Candidate, client: &ClientInfo) -> Result<NewSession, Error> {
        let now = self.now();
        let user = candidate.account.user;
        let mut tx = self.db.write(candidate.tenant).await?;
        // Read again: while we hashed, the account may have been disabled or its password changed.
        if !self.confirm_user(&mut tx, user).await? {
            return Err(Error::WrongPassword);
        }
        let account = store::account_find(&mut tx, user).await?.ok_or(Error::WrongPassword)?;
        if account.disabled || account.password_hash != candidate.account.password_hash {
            return Err(Error::WrongPassword);
        }
        let session = self.session_start(&mut tx, user, client, account.password_hash.as_deref(), now).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// Sets the password at once (`setup --owner-password-stdin`, demonstration); sessions made before end.
    pub async fn password_set(&self, tenant: TenantId, user: UserId, password: &Secret) -> Result<(), Error> {
        rules::check_password(password)?;
        let phc = self.hashing.hash(password).await?;
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        self.password_replace(&mut tx, user, &phc, now).await?;
        audit::record(&mut tx, now, Event::by(Actor::server(), "user.password_set").on("user", user))?;
        tx.commit().await?;
        Ok(())
    }

    /// Changes one's own password: the present one is asked for, every other session ends, this one goes on.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a password does not fit, [`Error::TooManyAttempts`], [`Error::NeedsSession`], the
    /// database's.
    pub async fn password_change(&self, by: &Principal, current: &Secret, new: &Secret) -> Result<(), Error> {
        let Some(user) = by.user() else { return Err(Error::NeedsSession) };
        let AuthMethod::Session { id: this, .. } = by.auth else { return Err(Error::NeedsSession) };
        rules::check_password(new)?;
        if !self.count_attempt(&[rules::throttle_of_change(user)]).await? {
            return Err(self.too_many_attempts());
        }
        let account = {
            let mut tx = self.db.read(by.tenant).await?;
            store::account_find(&mut tx, user).await?.ok_or(Error::NotFound)?
        };
        if !self.hashing.check(&Lane::Known, current, account.password_hash.clone()).await? {
            let problem = "the current password is incorrect; try again.";
            return Err(InvalidField::new("current_password", problem).into());
        }
        let phc = self.hashing.hash(new).await?;
        let now = self.now();
        let mut tx = self.write_as(by).await?;
        let unchanged = store::account_find(&mut tx, user)
            .await?
            .is_some_and(|now| !now.disabled && now.password_hash == account.password_hash);
        if !unchanged || !store::user_set_password(&mut tx, user, &phc).await? {
            return Err(Error::VersionConflict);
        }
        let ended = self.sessions_end_except(&mut tx, user, Some(this), now).await?;
        let event = Event::by(by.actor(), "user.password_changed").on("user", user);
        audit::record(&mut tx, now, event.detail("sessions_ended", ended))?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn password_replace(
        &self,
        tx: &mut Tx,
        user: UserId,
        phc: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        if !store::user_set_password(tx, user, phc).await? {
            return Err(Error::NotFound);
        }
        self.sessions_end(tx, user, now).await?;
        Ok(())
    }
}
