//! Rows of `session` and `token`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType};
use sea_orm::{JoinType, QueryOrder as _, QuerySelect as _};
use thinkwork_database::retention::{self, StoredRows};
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{SessionId, Timestamp, TokenId, UserId};
use uuid::Uuid;

use super::super::{Error, Session, Token, User};

/// A session with what proves it.
pub(crate) struct StoredSession {
    pub session: Session,
    pub user: UserId,
    pub hash: Vec<u8>,
}

/// A token with what proves it.
pub(crate) struct StoredToken {
    pub token: Token,
    pub hash: Vec<u8>,
    /// Whose it is, if a person's.
    pub user: Option<User>,
}

pub(crate) async fn session_insert(tx: &mut Tx, user: UserId, session: &Session, hash: &[u8]) -> Result<(), Error> {
    let row = session::ActiveModel {
        id: Set(session.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        user_id: Set(user.uuid()),
        token_hash: Set(hash.to_vec()),
        created_at: Set(session.signed_in_at.micros()),
        signed_in_at: Set(session.signed_in_at.micros()),
        last_seen_at: Set(session.last_seen_at.micros()),
        expires_at: Set(session.expires_at.micros()),
        revoked_at: Set(None),
        user_agent: Set(session.user_agent.clone()),
    };
    session::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn sessions(tx: &Tx) -> sea_orm::Select<session::Entity> {
    session::Entity::find()
        .filter(session::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(session::Column::RevokedAt.is_null())
}

fn session(row: &session::Model) -> Session {
    Session {
        id: SessionId::from_uuid(row.id),
        user_agent: row.user_agent.clone(),
        signed_in_at: Timestamp::from_micros(row.signed_in_at),
        last_seen_at: Timestamp::from_micros(row.last_seen_at),
        expires_at: Timestamp::from_micros(row.expires_at),
    }
}

/// The session, unless it was ended.
pub(crate) async fn session_find(tx: &mut Tx, id: SessionId) -> Result<Option<StoredSession>, Error> {
    let row = sessions(tx).filter(session::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    Ok(row.map(|row| StoredSession {
        session: session(&row),
        user: UserId::from_uuid(row.user_id),
        hash: row.token_hash,
    }))
}

/// A person's sessions that were not ended, newest first.
pub(crate) async fn session_list(tx: &mut Tx, user: UserId, count: u64) -> Result<Vec<Session>, Error> {
    let rows = sessions(tx)
        .filter(session::Column::UserId.eq(user.uuid()))
        .order_by_desc(session::Column::Id)
        .limit(count)
        .all(tx.orm())
        .await?;
    Ok(rows.iter().map(session).collect())
}

pub(crate) async fn session_seen(tx: &mut Tx, id: SessionId, now: Timestamp) -> Result<(), Error> {
    session::Entity::update_many()
        .col_expr(session::Column::LastSeenAt, Expr::value(now.micros()))
        .filter(session::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(session::Column::Id.eq(id.uuid()))
        .filter(session::Column::LastSeenAt.lt(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Ends one session of this person; false where there is none.
pub(crate) async fn session_end(tx: &mut Tx, user: UserId, id: SessionId, now: Timestamp) -> Result<bool, Error> {
    let done = session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(now.micros()))
        .filter(session::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(session::Column::UserId.eq(user.uuid()))
        .filter(session::Column::Id.eq(id.uuid()))
        .filter(session::Column::RevokedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Deletes sessions that ended by themselves or otherwise, a person's own or anybody's, at most `count`, and returns
/// which they were.
pub(crate) async fn sessions_sweep(
    tx: &mut Tx,
    whose: OwnerFilter,
    now: Timestamp,
    idle_since: Timestamp,
    count: u64,
) -> Result<Vec<Uuid>, Error> {
    let over = session::Column::ExpiresAt
        .lte(now.micros())
        .or(session::Column::LastSeenAt.lt(idle_since.micros()))
        .or(session::Column::RevokedAt.is_not_null());
    let condition = match whose {
        OwnerFilter::Tenant => session::Column::TenantId.eq(tx.tenant().uuid()).and(over),
        OwnerFilter::User(user) => {
            session::Column::TenantId.eq(tx.tenant().uuid()).and(session::Column::UserId.eq(user.uuid())).and(over)
        }
    };
    let rows = session::Entity::find().filter(condition).limit(count).all(tx.orm()).await?;
    let ids: Vec<Uuid> = rows.into_iter().map(|row| row.id).collect();
    session::Entity::delete_many()
        .filter(session::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(session::Column::Id.is_in(ids.clone()))
        .exec(tx.orm())
        .await?;
    Ok(ids)
}

pub(crate) async fn token_insert(tx: &mut Tx, token: &Token, hash: &[u8], created_by: String) -> Result<(), Error> {
    let row = token::ActiveModel {
        id: Set(token.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        name: Set(token.name.clone()),
        kind: Set(token.kind.as_str().to_owned()),
        audience: Set(token.audience.as_str().to_owned()),
        scope: Set(token.scope.as_str().to_owned()),
        user_id: Set(token.user.map(|id| id.uuid())),
        token_hash: Set(hash.to_vec()),
        last_four: Set(token.last_four.clone()),
        created_at: Set(token.created_at.micros()),
        expires_at: Set(token.expires_at.map(Timestamp::micros)),
        revoked_at: Set(None),
        last_used_at: Set(None),
        created_by: Set(created_by),
    };
    token::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn tokens(tx: &Tx) -> sea_orm::Select<token::Entity> {
    token::Entity::find().filter(token::Column::TenantId.eq(tx.tenant().uuid()))
}

fn token(row: &token::Model) -> Result<Token, Error> {
    let stored = StoredRow::new("token", row.id);
    Ok(Token {
        id: TokenId::from_uuid(row.id),
        name: row.name.clone(),
        kind: stored.parse("kind", &row.kind)?,
        audience: stored.parse("audience", &row.audience)?,
        scope: stored.parse("scope", &row.scope)?,
        user: row.user_id.map(UserId::from_uuid),
        last_four: row.last_four.clone(),
        created_at: Timestamp::from_micros(row.created_at),
        expires_at: row.expires_at.map(Timestamp::from_micros),
        last_used_at: row.last_used_at.map(Timestamp::from_micros),
        revoked_at: row.revoked_at.map(Timestamp::from_micros),
    })
}

/// Whose token or session it must be to be found.
#[derive(Clone, Copy)]
pub(crate) enum OwnerFilter {
    /// Any of the tenant: for operators and for the proof itself.
    Tenant,
    /// This person's own.
    User(UserId),
}

impl OwnerFilter {
    fn narrow(self, select: sea_orm::Select<token::Entity>) -> sea_orm::Select<token::Entity> {
        match self {
            Self::Tenant => select,
            Self::User(user) => select.filter(token::Column::UserId.eq(user.uuid())),
        }
    }
}

/// The token with its person, by one statement: every request with a bearer asks this.
pub(crate) async fn token_find(tx: &mut Tx, whose: OwnerFilter, id: TokenId) -> Result<Option<StoredToken>, Error> {
    let person = token::Entity::belongs_to(super::user::Entity)
        .from((token::Column::TenantId, token::Column::UserId))
        .to((super::user::Column::TenantId, super::user::Column::Id));
    let select = whose.narrow(tokens(tx)).filter(token::Column::Id.eq(id.uuid()));
    let select = select.join(JoinType::LeftJoin, person.into()).select_also(super::user::Entity);
    let row = select.one(tx.orm()).await?;
    row.map(|(row, person)| {
        let user = person.map(super::user).transpose()?;
        Ok(StoredToken { token: token(&row)?, hash: row.token_hash, user })
    })
    .transpose()
}

/// The token, which nobody revokes until this transaction ends.
pub(crate) async fn token_lock(tx: &mut Tx, id: TokenId) -> Result<Option<Token>, Error> {
    let select = tokens(tx).filter(token::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate);
    select.one(tx.orm()).await?.as_ref().map(token).transpose()
}

/// Tokens, newest first.
pub(crate) async fn token_list(
    tx: &mut Tx,
    whose: OwnerFilter,
    before: Option<TokenId>,
    count: u64,
) -> Result<Vec<Token>, Error> {
    let mut select = whose.narrow(tokens(tx));
    if let Some(before) = before {
        select = select.filter(token::Column::Id.lt(before.uuid()));
    }
    let rows = select.order_by_desc(token::Column::Id).limit(count).all(tx.orm()).await?;
    rows.iter().map(token).collect()
}

/// Names of these tokens, revoked ones included.
pub(crate) async fn token_names(
    tx: &mut Tx,
    ids: &[TokenId],
) -> Result<Vec<(TokenId, String)>, thinkwork_database::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, String)> = tokens(tx)
        .filter(token::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .columns([token::Column::Id, token::Column::Name])
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|(id, name)| (TokenId::from_uuid(id), name)).collect())
}

/// The tokens of a person that were not revoked.
pub(crate) async fn tokens_live(tx: &mut Tx, user: UserId) -> Result<Vec<TokenId>, Error> {
    let rows =
        OwnerFilter::User(user).narrow(tokens(tx)).filter(token::Column::RevokedAt.is_null()).all(tx.orm()).await?;
    Ok(rows.into_iter().map(|row| TokenId::from_uuid(row.id)).collect())
}

pub(crate) async fn token_revoke(tx: &mut Tx, id: TokenId, now: Timestamp) -> Result<bool, Error> {
    let done = token::Entity::update_many()
        .col_expr(token::Column::RevokedAt, Expr::value(now.micros()))
        .filter(token::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(token::Column::Id.eq(id.uuid()))
        .filter(token::Column::RevokedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Ids of tokens that were revoked before then, or were not and expired before then, at most `limit`.
pub(crate) async fn tokens_ended(tx: &mut Tx, before: Timestamp, limit: u64) -> Result<Vec<Uuid>, Error> {
    let revoked = tokens(tx)
        .filter(token::Column::RevokedAt.is_not_null())
        .filter(token::Column::RevokedAt.lt(before.micros()))
        .order_by_asc(token::Column::RevokedAt);
    let mut ids: Vec<Uuid> =
        revoked.limit(limit).select_only().column(token::Column::Id).into_tuple().all(tx.orm()).await?;
    let left = limit.saturating_sub(u64::try_from(ids.len()).unwrap_or(limit));
    let expired = tokens(tx)
        .filter(token::Column::RevokedAt.is_null())
        .filter(token::Column::ExpiresAt.lt(before.micros()))
        .order_by_asc(token::Column::ExpiresAt);
    let expired: Vec<Uuid> =
        expired.limit(left).select_only().column(token::Column::Id).into_tuple().all(tx.orm()).await?;
    ids.extend(expired);
    Ok(ids)
}

pub(crate) async fn ended_tokens_stored(tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
    let revoked =
        tokens(tx).filter(token::Column::RevokedAt.is_not_null()).filter(token::Column::RevokedAt.lte(now.micros()));
    let expired =
        tokens(tx).filter(token::Column::RevokedAt.is_null()).filter(token::Column::ExpiresAt.lte(now.micros()));
    let revoked = retention::stored_ended(tx, revoked, token::Column::RevokedAt).await?;
    Ok(revoked.and(retention::stored_ended(tx, expired, token::Column::ExpiresAt).await?))
}

/// Deletes these tokens and returns how many there were.
pub(crate) async fn tokens_delete(tx: &mut Tx, ids: Vec<Uuid>) -> Result<u64, Error> {
    Ok(retention::delete_rows::<token::Entity>(tx, token::Column::TenantId, token::Column::Id, ids).await?)
}

pub(crate) async fn token_used(tx: &mut Tx, id: TokenId, now: Timestamp) -> Result<(), Error> {
    token::Entity::update_many()
        .col_expr(token::Column::LastUsedAt, Expr::value(now.micros()))
        .filter(token::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(token::Column::Id.eq(id.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

mod session {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "session")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub user_id: Uuid,
        pub token_hash: Vec<u8>,
        pub created_at: i64,
        pub signed_in_at: i64,
        pub last_seen_at: i64,
        pub expires_at: i64,
        pub revoked_at: Option<i64>,
        pub user_agent: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod token {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "token")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
        pub kind: String,
        pub audience: String,
        pub scope: String,
        pub user_id: Option<Uuid>,
        pub token_hash: Vec<u8>,
        pub last_four: String,
        pub created_at: i64,
        pub expires_at: Option<i64>,
        pub revoked_at: Option<i64>,
        pub last_used_at: Option<i64>,
        pub created_by: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
