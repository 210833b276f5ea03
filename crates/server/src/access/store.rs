//! Rows of `tenant`, `user_account` and `invitation`; those of sessions and tokens are in `store/proof.rs`.

pub(super) mod proof;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{InvitationId, Role, TenantId, Timestamp, UserId};
use uuid::Uuid;

use super::{Error, User};

/// What a sign-in needs to know of an account.
pub(super) struct Account {
    pub user: UserId,
    pub disabled: bool,
    pub password_hash: Option<String>,
}

/// A one-time code that sets a password.
pub(super) struct Invitation {
    pub user: UserId,
    pub expires_at: Timestamp,
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

pub(super) async fn tenant_insert(tx: &mut Tx, slug: &str, name: &str, now: Timestamp) -> Result<(), Error> {
    let row = tenant::ActiveModel {
        id: Set(tx.tenant().uuid()),
        slug: Set(slug.to_owned()),
        name: Set(name.to_owned()),
        created_at: Set(now.micros()),
    };
    let inserted = tenant::Entity::insert(row).exec_without_returning(tx.orm()).await;
    let inserted = inserted.map_err(thinkwork_database::Error::from);
    inserted.map(drop).map_err(|error| if error.is_unique_violation() { Error::SlugTaken } else { error.into() })
}

/// Slug and name of the transaction's tenant.
pub(super) async fn tenant_find(tx: &mut Tx) -> Result<Option<(String, String)>, Error> {
    let row = tenant::Entity::find_by_id(tx.tenant().uuid()).one(tx.orm()).await?;
    Ok(row.map(|row| (row.slug, row.name)))
}

/// Every tenant with its slug, in a shared transaction.
pub(super) async fn tenant_list(tx: &mut Tx) -> Result<Vec<(TenantId, String)>, Error> {
    let rows = tenant::Entity::find().order_by_asc(tenant::Column::Id).all(tx.orm()).await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.id), row.slug)).collect())
}

/// How many tenants there are, counted up to `most`, in a shared transaction.
pub(super) async fn tenant_count(tx: &mut Tx, most: usize) -> Result<usize, Error> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    Ok(tenant::Entity::find().limit(limit).all(tx.orm()).await?.len())
}

/// The tenant with this slug, in a shared transaction.
pub(super) async fn tenant_by_slug(tx: &mut Tx, slug: &str) -> Result<Option<TenantId>, Error> {
    // PostgreSQL takes no zero character, and no slug holds one.
    if slug.contains('\0') {
        return Ok(None);
    }
    let row = tenant::Entity::find().filter(tenant::Column::Slug.eq(slug)).one(tx.orm()).await?;
    Ok(row.map(|row| TenantId::from_uuid(row.id)))
}

pub(super) async fn user_insert(tx: &mut Tx, user: &User, email_key: &str) -> Result<(), Error> {
    let row = user::ActiveModel {
        id: Set(user.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        email: Set(user.email.clone()),
        email_key: Set(email_key.to_owned()),
        name: Set(user.name.clone()),
        role: Set(user.role.as_str().to_owned()),
        password_hash: Set(None),
        disabled_at: Set(None),
        created_at: Set(user.created_at.micros()),
        version: Set(user.version),
    };
    match user::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(Error::from) {
        Err(Error::Database(error)) if error.is_unique_violation() => Err(Error::EmailTaken),
        done => done.map(|_| ()),
    }
}

fn users(tx: &Tx) -> sea_orm::Select<user::Entity> {
    user::Entity::find().filter(user::Column::TenantId.eq(tx.tenant().uuid()))
}

fn user(row: user::Model) -> Result<User, Error> {
    let stored = StoredRow::new("user_account", row.id);
    Ok(User {
        id: UserId::from_uuid(row.id),
        email: row.email,
        name: row.name,
        role: stored.parse("role", &row.role)?,
        disabled: row.disabled_at.is_some(),
        accepted: row.password_hash.is_some(),
        created_at: Timestamp::from_micros(row.created_at),
        version: row.version,
    })
}

pub(super) async fn user_find(tx: &mut Tx, id: UserId) -> Result<Option<User>, Error> {
    let row = users(tx).filter(user::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(user).transpose()
}

/// The person, whose row nobody changes until this transaction ends.
pub(super) async fn user_lock(tx: &mut Tx, id: UserId) -> Result<Option<User>, Error> {
    // Not the lock that would hold up rows which refer to the person.
    let select = users(tx).filter(user::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate);
    select.one(tx.orm()).await?.map(user).transpose()
}

pub(super) async fn account_find(tx: &mut Tx, id: UserId) -> Result<Option<Account>, Error> {
    let row = users(tx).filter(user::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    Ok(row.map(|row| Account { user: id, disabled: row.disabled_at.is_some(), password_hash: row.password_hash }))
}

pub(super) async fn user_has_email(tx: &mut Tx, email_key: &str) -> Result<bool, Error> {
    let row = users(tx).filter(user::Column::EmailKey.eq(email_key)).one(tx.orm()).await?;
    Ok(row.is_some())
}

/// Names of these people, disabled ones included.
pub(super) async fn user_names(
    tx: &mut Tx,
    ids: &[UserId],
) -> Result<Vec<(UserId, String)>, thinkwork_database::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = users(tx).filter(user::Column::Id.is_in(ids.iter().map(|id| id.uuid()))).all(tx.orm()).await?;
    Ok(rows.into_iter().map(|row| (UserId::from_uuid(row.id), row.name)).collect())
}

/// People by the time they were added, oldest first.
pub(super) async fn user_list(tx: &mut Tx, after: Option<UserId>, count: u64) -> Result<Vec<User>, Error> {
    let mut select = users(tx);
    if let Some(after) = after {
        select = select.filter(user::Column::Id.gt(after.uuid()));
    }
    let rows = select.order_by_asc(user::Column::Id).limit(count).all(tx.orm()).await?;
    rows.into_iter().map(user).collect()
}

/// Locks these people and every owner, in one order for all who do: two people who change each other at once wait for
/// one another and not in a ring, and two owners cannot demote each other.
pub(super) async fn users_lock(tx: &mut Tx, ids: impl IntoIterator<Item = UserId>) -> Result<(), Error> {
    let these = user::Column::Id.is_in(ids.into_iter().map(|id| id.uuid()));
    let select = users(tx).filter(these.or(user::Column::Role.eq(Role::Owner.as_str())));
    select.order_by_asc(user::Column::Id).lock(LockType::NoKeyUpdate).all(tx.orm()).await?;
    Ok(())
}

/// The enabled owners besides `id` who can sign in.
pub(super) async fn other_owners(tx: &mut Tx, id: UserId) -> Result<u64, Error> {
    let rows = users(tx)
        .filter(user::Column::Role.eq(Role::Owner.as_str()))
        .filter(user::Column::DisabledAt.is_null())
        .filter(user::Column::PasswordHash.is_not_null())
        .all(tx.orm())
        .await?;
    Ok(u64::try_from(rows.iter().filter(|row| row.id != id.uuid()).count()).unwrap_or(0))
}

fn user_update(tx: &Tx, id: UserId) -> sea_orm::UpdateMany<user::Entity> {
    user::Entity::update_many()
        .filter(user::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(user::Column::Id.eq(id.uuid()))
}

/// Writes name, role and standing if the row still has the version that `user` was read with; false if not.
pub(super) async fn user_save(tx: &mut Tx, user: &User, now: Timestamp) -> Result<bool, Error> {
    let disabled_at = user.disabled.then(|| now.micros());
    let done = user_update(tx, user.id)
        .filter(user::Column::Version.eq(user.version))
        .col_expr(user::Column::Name, Expr::value(user.name.clone()))
        .col_expr(user::Column::Role, Expr::value(user.role.as_str()))
        .col_expr(user::Column::DisabledAt, Expr::value(disabled_at))
        .col_expr(user::Column::Version, Expr::value(user.version.saturating_add(1)))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

pub(super) async fn user_set_password(tx: &mut Tx, id: UserId, phc: &str) -> Result<bool, Error> {
    let done = user_update(tx, id)
        .col_expr(user::Column::PasswordHash, Expr::value(phc))
        .col_expr(user::Column::Version, Expr::col(user::Column::Version).add(1))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

pub(super) async fn user_set_name(tx: &mut Tx, id: UserId, name: &str) -> Result<(), Error> {
    user_update(tx, id).col_expr(user::Column::Name, Expr::value(name)).exec(tx.orm()).await?;
    Ok(())
}

pub(super) async fn invitation_insert(
    tx: &mut Tx,
    id: InvitationId,
    user: UserId,
    purpose: &str,
    code_hash: &[u8],
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), Error> {
    let row = invitation::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        user_id: Set(user.uuid()),
        purpose: Set(purpose.to_owned()),
        code_hash: Set(code_hash.to_vec()),
        created_at: Set(now.micros()),
        expires_at: Set(expires_at.micros()),
        used_at: Set(None),
    };
    invitation::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// The invitation, if its code was never used.
pub(super) async fn invitation_find(tx: &mut Tx, id: Uuid) -> Result<Option<Invitation>, Error> {
    let row = invitation::Entity::find()
        .filter(invitation::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(invitation::Column::Id.eq(id))
        .filter(invitation::Column::UsedAt.is_null())
        .one(tx.orm())
        .await?;
    Ok(row.map(|row| Invitation {
        user: UserId::from_uuid(row.user_id),
        expires_at: Timestamp::from_micros(row.expires_at),
    }))
}

/// Uses the invitation up; false where somebody else just did.
pub(super) async fn invitation_use(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<bool, Error> {
    let done = invitation::Entity::update_many()
        .col_expr(invitation::Column::UsedAt, Expr::value(now.micros()))
        .filter(invitation::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(invitation::Column::Id.eq(id))
        .filter(invitation::Column::UsedAt.is_null())
        .filter(invitation::Column::ExpiresAt.gt(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Uses up every open invitation of a person and returns which they were.
pub(super) async fn invitations_end(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<Vec<Uuid>, Error> {
    let open = |tx: &Tx| {
        invitation::Column::TenantId
            .eq(tx.tenant().uuid())
            .and(invitation::Column::UserId.eq(user.uuid()))
            .and(invitation::Column::UsedAt.is_null())
    };
    let rows = invitation::Entity::find().filter(open(tx)).all(tx.orm()).await?;
    invitation::Entity::update_many()
        .col_expr(invitation::Column::UsedAt, Expr::value(now.micros()))
        .filter(open(tx))
        .exec(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Deletes invitations that were used or have expired, at most `count`, and returns which they were.
pub(super) async fn invitations_sweep(tx: &mut Tx, now: Timestamp, count: u64) -> Result<Vec<Uuid>, Error> {
    let over = invitation::Column::ExpiresAt.lte(now.micros()).or(invitation::Column::UsedAt.is_not_null());
    let condition = invitation::Column::TenantId.eq(tx.tenant().uuid()).and(over);
    let rows = invitation::Entity::find().filter(condition).limit(count).all(tx.orm()).await?;
    let ids: Vec<Uuid> = rows.into_iter().map(|row| row.id).collect();
    invitation::Entity::delete_many()
        .filter(invitation::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(invitation::Column::Id.is_in(ids.clone()))
        .exec(tx.orm())
        .await?;
    Ok(ids)
}

mod tenant {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tenant")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub slug: String,
        pub name: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod user {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "user_account")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub email: String,
        pub email_key: String,
        pub name: String,
        pub role: String,
        pub password_hash: Option<String>,
        pub disabled_at: Option<i64>,
        pub created_at: i64,
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod invitation {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invitation")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub user_id: Uuid,
        pub purpose: String,
        pub code_hash: Vec<u8>,
        pub created_at: i64,
        pub expires_at: i64,
        pub used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
