//! Rows of `connection`; those of `oauth_client` and `oauth_flow` and the statements of a refresh are in the files below.
//!
//! Invariant: every finder takes the tenant from its transaction and, where a person acts, the owner.

mod clients;
mod flows;
mod refreshes;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::retention::{self, CONNECTION_REFERENCES, EndedColumns, StoredRows};
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{ConnectionId, CredentialId, GrantTarget, OauthClientId, Timestamp, UserId};
use uuid::Uuid;

pub(super) use clients::*;
pub(super) use connection::Model as ConnectionRow;
pub(super) use flows::*;
pub(super) use refreshes::*;

use super::Error;
use super::rules::Facts;
use crate::credentials::{CredentialInfo, CredentialMeaning};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

pub(super) async fn connection_is_of(
    tx: &mut Tx,
    user: UserId,
    id: ConnectionId,
) -> Result<bool, thinkwork_database::Error> {
    let own = all(tx).filter(connection::Column::Id.eq(id.uuid())).filter(connection::Column::UserId.eq(user.uuid()));
    Ok(own.count(tx.orm()).await? == 1)
}

/// Accounts of these connections as their owners know them, ended ones included.
pub(super) async fn connection_accounts(
    tx: &mut Tx,
    ids: &[ConnectionId],
) -> Result<Vec<(ConnectionId, String)>, thinkwork_database::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, String)> = all(tx)
        .filter(connection::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .columns([connection::Column::Id, connection::Column::Account])
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|(id, account)| (ConnectionId::from_uuid(id), account)).collect())
}

/// The two columns of a target, read back.
fn target_from(table: &'static str, row: Uuid, kind: &str, id: Uuid) -> Result<GrantTarget, Error> {
    Ok(StoredRow::new(table, row).require("target_kind", GrantTarget::from_columns(kind, id))?)
}

/// Scopes as stored: separated by spaces.
pub(super) fn scopes_from(column: &str) -> Vec<String> {
    column.split_ascii_whitespace().map(str::to_owned).collect()
}

/// What a fresh grant says of itself.
pub(super) struct Granted {
    pub account: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<Timestamp>,
    pub has_refresh_token: bool,
}

impl ConnectionRow {
    pub(super) fn connection(&self) -> ConnectionId {
        ConnectionId::from_uuid(self.id)
    }

    pub(super) fn owner(&self) -> UserId {
        UserId::from_uuid(self.user_id)
    }

    pub(super) fn credential(&self) -> CredentialId {
        CredentialId::from_uuid(self.credential_id)
    }

    pub(super) fn client(&self) -> OauthClientId {
        OauthClientId::from_uuid(self.oauth_client_id)
    }

    pub(super) fn target(&self) -> Result<GrantTarget, Error> {
        target_from("connection", self.id, &self.target_kind, self.target_id)
    }

    /// What its credential is for. `client` is the registration that it stands on.
    pub(super) fn meaning(&self, client: &ClientRow) -> Result<CredentialMeaning, Error> {
        grant_meaning(self.connection(), self.owner(), self.target()?, client)
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.access_expires_at.map(Timestamp::from_micros)
    }

    /// Why the grant needs its owner, if it does.
    pub(super) fn dead(&self) -> Option<&str> {
        (self.status == "needs_reauth").then(|| self.status_reason.as_deref().unwrap_or("provider_error"))
    }

    pub(super) fn facts(&self, sealed: &CredentialInfo) -> Facts<'_> {
        Facts {
            dead: self.dead(),
            version: sealed.version,
            standing: sealed.standing,
            expires_at: self.expires_at(),
            obtained_at: Timestamp::from_micros(self.connected_at.max(self.refreshed_at.unwrap_or_default())),
            has_refresh_token: self.has_refresh_token,
            blocked_until: self.refresh_lease_until.map(Timestamp::from_micros),
            running: self.refresh_lease.is_some(),
            forced_at: self.forced_refresh_at.map(Timestamp::from_micros),
        }
    }
}

/// What the tokens of this connection are for.
pub(super) fn grant_meaning(
    connection: ConnectionId,
    user: UserId,
    target: GrantTarget,
    client: &ClientRow,
) -> Result<CredentialMeaning, Error> {
    Ok(CredentialMeaning::OauthGrant { connection, user, target, client: client.registration()? })
}

/// The connections of the tenant, ended ones included.
fn all(tx: &Tx) -> sea_orm::Select<connection::Entity> {
    connection::Entity::find().filter(connection::Column::TenantId.eq(tx.tenant().uuid()))
}

fn live(tx: &Tx) -> sea_orm::Select<connection::Entity> {
    all(tx).filter(connection::Column::EndedAt.is_null())
}

fn at(tx: &Tx, target: GrantTarget) -> sea_orm::Select<connection::Entity> {
    live(tx)
        .filter(connection::Column::TargetKind.eq(target.kind()))
        .filter(connection::Column::TargetId.eq(target.uuid()))
}

fn own_at(tx: &Tx, user: UserId, target: GrantTarget) -> sea_orm::Select<connection::Entity> {
    at(tx, target).filter(connection::Column::UserId.eq(user.uuid()))
}

fn update(tx: &Tx, id: ConnectionId) -> sea_orm::UpdateMany<connection::Entity> {
    connection::Entity::update_many()
        .filter(connection::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(connection::Column::Id.eq(id.uuid()))
}

/// The one live connection of this person for this target.
pub(super) async fn connection_at(
    tx: &mut Tx,
    user: UserId,
    target: GrantTarget,
) -> Result<Option<ConnectionRow>, Error> {
    Ok(own_at(tx, user, target).one(tx.orm()).await?)
}

/// The same, and it stays as it is until this transaction ends: nobody ends, refreshes or replaces it meanwhile.
pub(super) async fn connection_at_lock(
    tx: &mut Tx,
    user: UserId,
    target: GrantTarget,
) -> Result<Option<ConnectionRow>, Error> {
    Ok(own_at(tx, user, target).lock(LockType::NoKeyUpdate).one(tx.orm()).await?)
}

/// A live connection of this person.
pub(super) async fn connection_own(
    tx: &mut Tx,
    user: UserId,
    id: ConnectionId,
) -> Result<Option<ConnectionRow>, Error> {
    Ok(live(tx)
        .filter(connection::Column::UserId.eq(user.uuid()))
        .filter(connection::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await?)
}

/// A connection of the tenant, ended or not: for operators, jobs and the refresh.
pub(super) async fn connection_any(tx: &mut Tx, id: ConnectionId) -> Result<Option<ConnectionRow>, Error> {
    Ok(all(tx).filter(connection::Column::Id.eq(id.uuid())).one(tx.orm()).await?)
}

/// The same, and it stays as it is until this transaction ends.
pub(super) async fn connection_lock(tx: &mut Tx, id: ConnectionId) -> Result<Option<ConnectionRow>, Error> {
    Ok(all(tx).filter(connection::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate).one(tx.orm()).await?)
}

/// The live connections of a person, oldest first.
pub(super) async fn connections_of(tx: &mut Tx, user: UserId) -> Result<Vec<ConnectionRow>, Error> {
    Ok(live(tx)
        .filter(connection::Column::UserId.eq(user.uuid()))
        .order_by_asc(connection::Column::Id)
        .all(tx.orm())
        .await?)
}

/// The live connections for a target.
pub(super) async fn connections_at(tx: &mut Tx, target: GrantTarget) -> Result<Vec<ConnectionRow>, Error> {
    Ok(at(tx, target).all(tx.orm()).await?)
}

/// A page of the tenant's live connections, oldest first.
pub(super) async fn connection_page(
    tx: &mut Tx,
    after: Option<ConnectionId>,
    count: u64,
) -> Result<Vec<ConnectionRow>, Error> {
    let mut query = live(tx).order_by_asc(connection::Column::Id).limit(count);
    if let Some(after) = after {
        query = query.filter(connection::Column::Id.gt(after.uuid()));
    }
    Ok(query.all(tx.orm()).await?)
}

/// How many connections of a client registration still hold material to revoke or use.
pub(super) async fn connections_of_client(tx: &mut Tx, client: OauthClientId) -> Result<Vec<ConnectionRow>, Error> {
    Ok(all(tx).filter(connection::Column::OauthClientId.eq(client.uuid())).all(tx.orm()).await?)
}

/// Who owns a new connection and what it stands on.
pub(super) struct NewConnection {
    pub id: ConnectionId,
    pub user: UserId,
    pub target: GrantTarget,
    pub client: OauthClientId,
    pub credential: CredentialId,
    /// Set for a grant that is only kept until it is revoked.
    pub ended_at: Option<Timestamp>,
}

pub(super) async fn connection_insert(
    tx: &mut Tx,
    new: &NewConnection,
    granted: &Granted,
    now: Timestamp,
) -> Result<(), Error> {
    let row = connection::ActiveModel {
        id: Set(new.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        user_id: Set(new.user.uuid()),
        target_kind: Set(new.target.kind().to_owned()),
        target_id: Set(new.target.uuid()),
        oauth_client_id: Set(new.client.uuid()),
        credential_id: Set(new.credential.uuid()),
        account: Set(granted.account.clone()),
        scopes: Set(granted.scopes.join(" ")),
        status: Set("connected".to_owned()),
        status_reason: Set(None),
        scopes_required: Set(String::new()),
        access_expires_at: Set(granted.expires_at.map(Timestamp::micros)),
        has_refresh_token: Set(granted.has_refresh_token),
        refresh_lease: Set(None),
        refresh_lease_until: Set(None),
        refresh_started_at: Set(None),
        refreshed_at: Set(None),
        forced_refresh_at: Set(None),
        created_at: Set(now.micros()),
        connected_at: Set(now.micros()),
        ended_at: Set(new.ended_at.map(Timestamp::micros)),
        last_used_at: Set(None),
    };
    connection::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// Puts a new grant into a connection's place (L13). Whatever a refresh was doing to the old one is void.
pub(super) async fn connection_reconnect(
    tx: &mut Tx,
    id: ConnectionId,
    client: OauthClientId,
    credential: CredentialId,
    granted: &Granted,
    now: Timestamp,
) -> Result<(), Error> {
    with_tokens(update(tx, id), granted)
        .col_expr(connection::Column::Status, Expr::value("connected"))
        .col_expr(connection::Column::StatusReason, Expr::value(Option::<String>::None))
        .col_expr(connection::Column::OauthClientId, Expr::value(client.uuid()))
        .col_expr(connection::Column::CredentialId, Expr::value(credential.uuid()))
        .col_expr(connection::Column::Account, Expr::value(granted.account.clone()))
        .col_expr(connection::Column::Scopes, Expr::value(granted.scopes.join(" ")))
        .col_expr(connection::Column::ConnectedAt, Expr::value(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

fn with_tokens(
    statement: sea_orm::UpdateMany<connection::Entity>,
    granted: &Granted,
) -> sea_orm::UpdateMany<connection::Entity> {
    statement
        .col_expr(connection::Column::AccessExpiresAt, Expr::value(granted.expires_at.map(Timestamp::micros)))
        .col_expr(connection::Column::HasRefreshToken, Expr::value(granted.has_refresh_token))
        .col_expr(connection::Column::RefreshLease, Expr::value(Option::<Uuid>::None))
        .col_expr(connection::Column::RefreshLeaseUntil, Expr::value(Option::<i64>::None))
        .col_expr(connection::Column::RefreshStartedAt, Expr::value(Option::<i64>::None))
}

/// Marks a live grant dead, with the reason for its owner.
pub(super) async fn connection_needs_reauth(tx: &mut Tx, id: ConnectionId, reason: &str) -> Result<(), Error> {
    update(tx, id)
        .col_expr(connection::Column::Status, Expr::value("needs_reauth"))
        .col_expr(connection::Column::StatusReason, Expr::value(reason))
        .col_expr(connection::Column::RefreshLease, Expr::value(Option::<Uuid>::None))
        .col_expr(connection::Column::RefreshLeaseUntil, Expr::value(Option::<i64>::None))
        .filter(connection::Column::EndedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Notes the scopes that the resource asked for, for the next consent.
pub(super) async fn connection_requires(tx: &mut Tx, id: ConnectionId, scopes: &str) -> Result<(), Error> {
    update(tx, id).col_expr(connection::Column::ScopesRequired, Expr::value(scopes)).exec(tx.orm()).await?;
    Ok(())
}

/// Ends a live connection. False where it had ended.
pub(super) async fn connection_end(tx: &mut Tx, id: ConnectionId, now: Timestamp) -> Result<bool, Error> {
    let ended = update(tx, id)
        .col_expr(connection::Column::EndedAt, Expr::value(now.micros()))
        .filter(connection::Column::EndedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(ended.rows_affected == 1)
}

/// By which columns ended connections are found.
pub(super) const ENDED_COLUMNS: EndedColumns<connection::Entity> = EndedColumns {
    tenant: connection::Column::TenantId,
    id: connection::Column::Id,
    ended_at: connection::Column::EndedAt,
};

/// Connections that ended before then and that no work names any more, with their credentials, at most `limit`.
pub(super) async fn connections_unnamed(
    tx: &mut Tx,
    before: Timestamp,
    limit: u64,
) -> Result<Vec<(Uuid, CredentialId)>, Error> {
    let ids = retention::ended_before(tx, &ENDED_COLUMNS, CONNECTION_REFERENCES, before, limit).await?;
    let rows: Vec<(Uuid, Uuid)> = all(tx)
        .filter(connection::Column::Id.is_in(ids))
        .select_only()
        .columns([connection::Column::Id, connection::Column::CredentialId])
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|(id, credential)| (id, CredentialId::from_uuid(credential))).collect())
}

pub(super) async fn ended_stored(tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
    let ended =
        all(tx).filter(connection::Column::EndedAt.is_not_null()).filter(connection::Column::EndedAt.lte(now.micros()));
    Ok(retention::stored_ended(tx, ended, connection::Column::EndedAt).await?)
}

/// Deletes these connections and returns how many there were.
pub(super) async fn connections_delete(tx: &mut Tx, ids: Vec<Uuid>) -> Result<u64, Error> {
    let ended = ENDED_COLUMNS;
    Ok(retention::delete_rows::<connection::Entity>(tx, ended.tenant, ended.id, ids).await?)
}

pub(super) async fn connection_used(tx: &mut Tx, id: ConnectionId, now: Timestamp) -> Result<(), Error> {
    update(tx, id).col_expr(connection::Column::LastUsedAt, Expr::value(now.micros())).exec(tx.orm()).await?;
    Ok(())
}

mod connection {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "connection")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub user_id: Uuid,
        pub target_kind: String,
        pub target_id: Uuid,
        pub oauth_client_id: Uuid,
        pub credential_id: Uuid,
        pub account: String,
        pub scopes: String,
        pub status: String,
        pub status_reason: Option<String>,
        pub scopes_required: String,
        pub access_expires_at: Option<i64>,
        pub has_refresh_token: bool,
        pub refresh_lease: Option<Uuid>,
        pub refresh_lease_until: Option<i64>,
        pub refresh_started_at: Option<i64>,
        pub refreshed_at: Option<i64>,
        pub forced_refresh_at: Option<i64>,
        pub created_at: i64,
        pub connected_at: i64,
        pub ended_at: Option<i64>,
        pub last_used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
