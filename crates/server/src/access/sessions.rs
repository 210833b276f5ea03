//! Browser sessions: started with a new id at each sign-in, listed, ended.
//!
//! Invariant: the cookie's value is stored nowhere; its SHA-256 is, and its route goes with the session.

use thinkwork_database::{Topic, Tx, tenant_lookup};
use thinkwork_primitives::{Actor, Principal, SessionId, TenantId, Timestamp, UserId, crypto};

use super::store::proof;
use super::{Access, ClientInfo, Error, NewSession, Session, rules};
use crate::audit::{self, Event};

/// Leads from a session cookie to its row.
pub(super) const LOOKUP: &str = "session";
/// Sessions shown to their person; more are a sign that something signs in in a loop.
const SESSIONS_SHOWN_MAX: u64 = 100;

impl Access {
    /// Signs a person in without a password: the demonstration and tests only.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the person is unknown or disabled; the database's.
    pub async fn session_create(&self, tenant: TenantId, user: UserId, user_agent: &str) -> Result<NewSession, Error> {
        let now = self.now();
        let mut tx = self.db.write(tenant).await?;
        if !self.is_active(&mut tx, user).await? {
            return Err(Error::NotFound);
        }
        let client = ClientInfo { user_agent: user_agent.to_owned(), ..ClientInfo::default() };
        let session = self.session_start(&mut tx, user, &client, None, now).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// Starts a session and ends the one that this browser had, if it was of the same tenant.
    pub(super) async fn session_start(
        &self,
        tx: &mut Tx,
        user: UserId,
        client: &ClientInfo,
        phc: Option<&str>,
        now: Timestamp,
    ) -> Result<NewSession, Error> {
        self.sessions_sweep(tx, proof::OwnerFilter::User(user), now, SESSIONS_SHOWN_MAX).await?;
        if let Some(old) = client.replaces.as_deref() {
            self.session_replace(tx, old, now).await?;
        }
        let (cookie, hash) = crypto::generate_token("")?;
        let session = Session {
            id: SessionId::new(),
            user_agent: rules::user_agent(&client.user_agent),
            signed_in_at: now,
            last_seen_at: now,
            expires_at: now.plus(rules::SESSION_LIFETIME),
        };
        proof::session_insert(tx, user, &session, &hash).await?;
        let text = cookie.expose_str().unwrap_or_default();
        tenant_lookup::add(tx, LOOKUP, text, session.id.uuid()).await?;
        let event = Event::by(Actor::at_page(user, session.id), "user.signed_in").on("session", session.id);
        audit::record(tx, now, event)?;
        let csrf = rules::csrf(text);
        let device =
            phc.map(|phc| Ok::<_, Error>(rules::device_cookie(&crypto::base64url(&crypto::random::<16>()?), phc)));
        Ok(NewSession { device: device.transpose()?, csrf, cookie, user, session: session.id })
    }

    /// Forgets sessions that have ended, and their routes.
    pub(super) async fn sessions_sweep(
        &self,
        tx: &mut Tx,
        whose: proof::OwnerFilter,
        now: Timestamp,
        count: u64,
    ) -> Result<(), Error> {
        for over in proof::sessions_sweep(tx, whose, now, now.minus(rules::SESSION_IDLE), count).await? {
            tenant_lookup::remove(tx, LOOKUP, over).await?;
        }
        Ok(())
    }

    /// Ends the session that this browser had before, whoever's of the tenant it was.
    async fn session_replace(&self, tx: &mut Tx, cookie: &str, now: Timestamp) -> Result<(), Error> {
        let Some(row) = tenant_lookup::find_within(tx, LOOKUP, cookie).await? else { return Ok(()) };
        let id = SessionId::from_uuid(row);
        if let Some(found) = proof::session_find(tx, id).await? {
            self.session_drop(tx, found.user, id, now).await?;
        }
        Ok(())
    }

    /// A person's own sessions, newest first, those that ended by themselves left out.
    pub async fn sessions(&self, tenant: TenantId, user: UserId) -> Result<Vec<Session>, Error> {
        let now = self.now();
        let mut tx = self.db.read(tenant).await?;
        let all = proof::session_list(&mut tx, user, SESSIONS_SHOWN_MAX).await?;
        Ok(all
            .into_iter()
            .filter(|session| rules::is_session_live(now, session.last_seen_at, session.expires_at))
            .collect())
    }

    /// Ends one of a person's own sessions.
    pub async fn session_end(&self, by: &Principal, id: SessionId) -> Result<(), Error> {
        let user = by.user().ok_or(Error::NotFound)?;
        let now = self.now();
        let mut tx = self.db.write(by.tenant).await?;
        if !self.session_drop(&mut tx, user, id, now).await? {
            return Err(Error::NotFound);
        }
        let event = Event::by(by.actor(), "user.signed_out").on("session", id);
        audit::record(&mut tx, now, event)?;
        tx.commit().await?;
        Ok(())
    }

    async fn session_drop(&self, tx: &mut Tx, user: UserId, id: SessionId, now: Timestamp) -> Result<bool, Error> {
        let ended = proof::session_end(tx, user, id, now).await?;
        if ended {
            tenant_lookup::remove(tx, LOOKUP, id.uuid()).await?;
            tx.wake(Topic::Access, id.uuid());
        }
        Ok(ended)
    }

    /// Ends every session of a person and says how many there were.
    pub(super) async fn sessions_end(&self, tx: &mut Tx, user: UserId, now: Timestamp) -> Result<usize, Error> {
        self.sessions_end_except(tx, user, None, now).await
    }

    /// Ends every session of a person, but this one if it is named, and says how many ended.
    pub(super) async fn sessions_end_except(
        &self,
        tx: &mut Tx,
        user: UserId,
        but: Option<SessionId>,
        now: Timestamp,
    ) -> Result<usize, Error> {
        let mut all = proof::session_list(tx, user, u64::from(u32::MAX)).await?;
        all.retain(|session| Some(session.id) != but);
        for session in &all {
            self.session_drop(tx, user, session.id, now).await?;
        }
        Ok(all.len())
    }
}
