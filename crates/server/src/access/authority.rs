//! Authority in the write: what is made for a person exists only while that person may make it.
//!
//! Invariant: whatever makes a session, a token, a grant or an invitation, and whatever an operator changes, first locks
//! the row of its person in its own transaction and reads it again. Disabling, a change of role and a change of password lock the same row, so of two at
//! once one waits and sees what the other did.

use thinkwork_database::Tx;
use thinkwork_primitives::{AuthMethod, Identity, Principal, UserId};

use super::store::{self, proof};
use super::{Access, Error, rules};

impl Access {
    /// A write transaction for this caller, with their authority confirmed in it.
    pub async fn write_as(&self, by: &Principal) -> Result<Tx, Error> {
        let mut tx = self.db.write(by.tenant).await?;
        self.confirm(&mut tx, by).await?;
        Ok(tx)
    }

    /// Refuses all but a session with a recent sign-in.
    ///
    /// # Errors
    /// [`Error::NeedsSession`], [`Error::ReauthRequired`].
    pub fn require_fresh_session(&self, by: &Principal) -> Result<(), Error> {
        rules::check_fresh_session(by, self.now())
    }

    /// Confirms that the caller may still act as they did when the request came: the person is enabled and has the same
    /// role, the session or token is alive. It stays so until the transaction ends.
    pub async fn confirm(&self, tx: &mut Tx, by: &Principal) -> Result<(), Error> {
        let now = self.now();
        if let Identity::User { id, role } = by.identity {
            let user = store::user_lock(tx, id).await?.ok_or(Error::AccessChanged)?;
            if user.disabled || user.role != role {
                return Err(Error::AccessChanged);
            }
        }
        let is_alive = match by.auth {
            AuthMethod::Session { id, .. } => proof::session_find(tx, id)
                .await?
                .is_some_and(|found| rules::is_session_live(now, found.session.last_seen_at, found.session.expires_at)),
            AuthMethod::Token { id, .. } => proof::token_lock(tx, id)
                .await?
                .is_some_and(|token| token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now)),
            AuthMethod::Turn { .. } => true,
        };
        if is_alive { Ok(()) } else { Err(Error::AccessChanged) }
    }

    /// Whether the person is enabled, and stays so until the transaction ends: for what is made for somebody whose
    /// request has ended already, like a grant that an authorization server sends them back with.
    pub async fn confirm_user(&self, tx: &mut Tx, id: UserId) -> Result<bool, Error> {
        Ok(store::user_lock(tx, id).await?.is_some_and(|user| !user.disabled))
    }
}
