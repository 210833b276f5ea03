//! Looking at connections: a person's own, and the tenant's for operators.

use thinkwork_database::Tx;
use thinkwork_primitives::{ConnectionId, GrantTarget, Timestamp, UserId};

use super::store;
use super::{Connection, ConnectionStatus, Error, Oauth};

impl Oauth {
    /// This person's connection for this target, whatever its state.
    pub async fn connection(
        &self,
        tx: &mut Tx,
        user: UserId,
        target: GrantTarget,
    ) -> Result<Option<Connection>, Error> {
        match store::connection_at(tx, user, target).await? {
            Some(row) => self.shown(tx, &row).await,
            None => Ok(None),
        }
    }

    /// This person's connections, oldest first.
    pub async fn connections_of(&self, tx: &mut Tx, user: UserId) -> Result<Vec<Connection>, Error> {
        let mut shown = Vec::new();
        for row in store::connections_of(tx, user).await? {
            shown.extend(self.shown(tx, &row).await?);
        }
        Ok(shown)
    }

    /// A page of the tenant's connections, oldest first: metadata only, for operators.
    pub async fn connections(
        &self,
        tx: &mut Tx,
        after: Option<ConnectionId>,
        count: u64,
    ) -> Result<Vec<Connection>, Error> {
        let mut shown = Vec::new();
        for row in store::connection_page(tx, after, count).await? {
            shown.extend(self.shown(tx, &row).await?);
        }
        Ok(shown)
    }

    /// Any live connection of the tenant, for operators.
    pub(super) async fn connection_by_id(&self, tx: &mut Tx, id: ConnectionId) -> Result<Option<Connection>, Error> {
        match store::connection_any(tx, id).await?.filter(|row| row.ended_at.is_none()) {
            Some(row) => self.shown(tx, &row).await,
            None => Ok(None),
        }
    }

    /// Whether this connection is or was this person's.
    pub(super) async fn own_ever(&self, tx: &mut Tx, user: UserId, id: ConnectionId) -> Result<bool, Error> {
        Ok(store::connection_any(tx, id).await?.is_some_and(|row| row.owner() == user))
    }

    /// What may be shown; the status is that of the credential which a call would open (L26).
    async fn shown(&self, tx: &mut Tx, row: &store::ConnectionRow) -> Result<Option<Connection>, Error> {
        let sealed = self.credentials.describe(tx, row.credential()).await?.is_some();
        let ended = row.expires_at().is_some_and(|end| end <= self.clock.now());
        let status = match (sealed, row.dead(), ended && !row.has_refresh_token) {
            (false, _, _) => ConnectionStatus::NotConnected,
            (true, Some(_), _) => ConnectionStatus::NeedsReauth,
            (true, None, true) => ConnectionStatus::Expired,
            (true, None, false) => ConnectionStatus::Connected,
        };
        Ok(Some(Connection {
            id: row.connection(),
            user: row.owner(),
            target: row.target()?,
            account: row.account.clone(),
            status,
            status_reason: row.dead().map(str::to_owned),
            scopes: store::scopes_from(&row.scopes),
            credential: row.credential(),
            connected_at: Timestamp::from_micros(row.connected_at),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
        }))
    }
}
