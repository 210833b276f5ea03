//! Rows of `credential` and `credential_version`.

use std::time::Duration;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::Tx;
use thinkwork_database::retention::{self, EndedColumns, StoredRows};
use thinkwork_primitives::{CredentialId, Timestamp};
use thinkwork_vault::Sealed;
use uuid::Uuid;

use super::kept::KeptVersion;
use super::rules::{self, KINDS};
use super::{CredentialInfo, Error, Owner};

/// By which columns erased versions are found.
pub(super) const ERASED_COLUMNS: EndedColumns<version::Entity> =
    EndedColumns { tenant: version::Column::TenantId, id: version::Column::Id, ended_at: version::Column::ErasedAt };

pub(super) async fn erased_stored(tx: &mut Tx, now: Timestamp) -> Result<StoredRows, Error> {
    let erased = version::Entity::find()
        .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(version::Column::ErasedAt.is_not_null())
        .filter(version::Column::ErasedAt.lte(now.micros()));
    Ok(retention::stored_ended(tx, erased, version::Column::ErasedAt).await?)
}

/// A live credential.
#[derive(Clone, Copy)]
pub(super) struct Credential {
    pub id: CredentialId,
    pub owner: Owner,
    pub kind: &'static str,
    pub version: i64,
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

pub(super) async fn credential_insert(tx: &mut Tx, new: &Credential, now: Timestamp) -> Result<(), Error> {
    let (owner_kind, owner_id) = rules::owner_columns(new.owner);
    let row = credential::ActiveModel {
        id: Set(new.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        owner_kind: Set(owner_kind.to_owned()),
        owner_id: Set(owner_id),
        kind: Set(new.kind.to_owned()),
        version: Set(new.version),
        created_at: Set(now.micros()),
        rotated_at: Set(now.micros()),
        revoked_at: Set(None),
        last_used_at: Set(None),
    };
    credential::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

async fn row_find(tx: &mut Tx, id: CredentialId) -> Result<Option<credential::Model>, Error> {
    Ok(credential::Entity::find()
        .filter(credential::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(credential::Column::Id.eq(id.uuid()))
        .filter(credential::Column::RevokedAt.is_null())
        .one(tx.orm())
        .await?)
}

fn live(row: &credential::Model) -> Option<Credential> {
    Some(Credential {
        id: CredentialId::from_uuid(row.id),
        owner: rules::owner_from_columns(&row.owner_kind, &row.owner_id)?,
        kind: KINDS.into_iter().find(|kind| *kind == row.kind)?,
        version: row.version,
    })
}

pub(super) async fn credential_find(tx: &mut Tx, id: CredentialId) -> Result<Option<Credential>, Error> {
    Ok(row_find(tx, id).await?.as_ref().and_then(live))
}

/// The same, and it stays as it is until this transaction ends: what follows is decided by its version.
pub(super) async fn credential_lock(tx: &mut Tx, id: CredentialId) -> Result<Option<Credential>, Error> {
    let row = credential::Entity::find()
        .filter(credential::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(credential::Column::Id.eq(id.uuid()))
        .filter(credential::Column::RevokedAt.is_null())
        .lock(LockType::NoKeyUpdate)
        .one(tx.orm())
        .await?;
    Ok(row.as_ref().and_then(live))
}

pub(super) async fn credential_set_version(
    tx: &mut Tx,
    id: CredentialId,
    version: i64,
    now: Timestamp,
) -> Result<(), Error> {
    update(tx, id)
        .col_expr(credential::Column::Version, Expr::value(version))
        .col_expr(credential::Column::RotatedAt, Expr::value(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

pub(super) async fn credential_revoke(tx: &mut Tx, id: CredentialId, now: Timestamp) -> Result<(), Error> {
    update(tx, id).col_expr(credential::Column::RevokedAt, Expr::value(now.micros())).exec(tx.orm()).await?;
    Ok(())
}

pub(super) async fn credential_used(tx: &mut Tx, id: CredentialId, now: Timestamp) -> Result<(), Error> {
    update(tx, id).col_expr(credential::Column::LastUsedAt, Expr::value(now.micros())).exec(tx.orm()).await?;
    Ok(())
}

fn update(tx: &Tx, id: CredentialId) -> sea_orm::UpdateMany<credential::Entity> {
    credential::Entity::update_many()
        .filter(credential::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(credential::Column::Id.eq(id.uuid()))
}

pub(super) async fn credential_describe(
    tx: &mut Tx,
    id: CredentialId,
    kept: KeptVersion,
    now: Timestamp,
) -> Result<Option<CredentialInfo>, Error> {
    let Some(row) = row_find(tx, id).await? else { return Ok(None) };
    let versions = versions(tx, id).order_by_desc(version::Column::Version).limit(2).all(tx.orm()).await?;
    let current = versions.iter().find(|version| version.version == row.version);
    let previous = versions.iter().find(|version| version.version != row.version && version.erased_at.is_none());
    Ok(Some(CredentialInfo {
        id,
        version: row.version,
        last_four: current.and_then(|version| version.last_four.clone()),
        created_at: Timestamp::from_micros(row.created_at),
        rotated_at: Timestamp::from_micros(row.rotated_at),
        last_used_at: row.last_used_at.map(Timestamp::from_micros),
        previous_ends_at: previous
            .and_then(|version| version.ends_at)
            .map(Timestamp::from_micros)
            .filter(|ends_at| *ends_at > now),
        standing: kept.standing(row.version),
    }))
}

fn versions(tx: &Tx, id: CredentialId) -> sea_orm::Select<version::Entity> {
    version::Entity::find()
        .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(version::Column::CredentialId.eq(id.uuid()))
}

fn sealed(row: version::Model) -> Option<Sealed> {
    Some(Sealed { kek_id: row.kek_id, wrapped_key: row.wrapped_key?, ciphertext: row.ciphertext? })
}

pub(super) async fn version_insert(
    tx: &mut Tx,
    id: CredentialId,
    number: i64,
    sealed: &Sealed,
    last_four: Option<String>,
    now: Timestamp,
) -> Result<(), Error> {
    let row = version::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        credential_id: Set(id.uuid()),
        version: Set(number),
        kek_id: Set(sealed.kek_id.clone()),
        wrapped_key: Set(Some(sealed.wrapped_key.clone())),
        ciphertext: Set(Some(sealed.ciphertext.clone())),
        last_four: Set(last_four),
        created_at: Set(now.micros()),
        ends_at: Set(None),
        erased_at: Set(None),
    };
    version::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

pub(super) async fn version_find(tx: &mut Tx, id: CredentialId, number: i64) -> Result<Option<Sealed>, Error> {
    let row = versions(tx, id).filter(version::Column::Version.eq(number)).one(tx.orm()).await?;
    Ok(row.and_then(sealed))
}

pub(super) async fn versions_live(tx: &mut Tx, id: CredentialId, now: Timestamp) -> Result<Vec<(i64, Sealed)>, Error> {
    let rows = versions(tx, id)
        .filter(version::Column::ErasedAt.is_null())
        .filter(version::Column::EndsAt.is_null().or(version::Column::EndsAt.gt(now.micros())))
        .order_by_desc(version::Column::Version)
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.version, sealed(row)?))).collect())
}

/// Ends version `current` after `overlap` and erases every version whose end has come.
pub(super) async fn versions_end(
    tx: &mut Tx,
    id: CredentialId,
    current: i64,
    now: Timestamp,
    overlap: Duration,
) -> Result<(), Error> {
    let of_credential = |statement: sea_orm::UpdateMany<version::Entity>, tx: &Tx| {
        statement
            .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
            .filter(version::Column::CredentialId.eq(id.uuid()))
    };
    of_credential(version::Entity::update_many(), tx)
        .col_expr(version::Column::EndsAt, Expr::value(now.plus(overlap).micros()))
        .filter(version::Column::Version.eq(current))
        .exec(tx.orm())
        .await?;
    // A credential has at most two live versions: whatever is older than the current one goes now.
    let erased = version::Column::EndsAt.lte(now.micros()).or(version::Column::Version.lt(current));
    of_credential(version::Entity::update_many(), tx)
        .col_expr(version::Column::WrappedKey, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(version::Column::Ciphertext, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(version::Column::ErasedAt, Expr::value(now.micros()))
        .filter(version::Column::ErasedAt.is_null())
        .filter(erased)
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Erases one version whose end has come. False where there was nothing to erase.
pub(super) async fn version_erase(tx: &mut Tx, id: CredentialId, number: i64, now: Timestamp) -> Result<bool, Error> {
    let erased = version::Entity::update_many()
        .col_expr(version::Column::WrappedKey, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(version::Column::Ciphertext, Expr::value(Option::<Vec<u8>>::None))
        .col_expr(version::Column::ErasedAt, Expr::value(now.micros()))
        .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(version::Column::CredentialId.eq(id.uuid()))
        .filter(version::Column::Version.eq(number))
        .filter(version::Column::ErasedAt.is_null())
        .filter(version::Column::EndsAt.lte(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(erased.rows_affected == 1)
}

pub(super) async fn versions_under_other_keys(
    tx: &mut Tx,
    active_key: &str,
    count: u64,
) -> Result<Vec<(Credential, i64, Sealed)>, Error> {
    let rows = version::Entity::find()
        .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(version::Column::KekId.ne(active_key))
        .filter(version::Column::ErasedAt.is_null())
        .limit(count)
        .all(tx.orm())
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let id = CredentialId::from_uuid(row.credential_id);
        let number = row.version;
        if let (Some(credential), Some(material)) = (credential_find(tx, id).await?, sealed(row)) {
            found.push((credential, number, material));
        }
    }
    Ok(found)
}

pub(super) async fn version_rewrap(tx: &mut Tx, id: CredentialId, number: i64, sealed: &Sealed) -> Result<(), Error> {
    version::Entity::update_many()
        .col_expr(version::Column::KekId, Expr::value(sealed.kek_id.clone()))
        .col_expr(version::Column::WrappedKey, Expr::value(sealed.wrapped_key.clone()))
        .filter(version::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(version::Column::CredentialId.eq(id.uuid()))
        .filter(version::Column::Version.eq(number))
        .filter(version::Column::ErasedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// The table of the fingerprints of keys.
pub(super) const KEY_CHECKS: &str = "key_check";

pub(super) async fn key_checks(tx: &mut Tx) -> Result<Vec<(String, String)>, Error> {
    let rows = key_check::Entity::find().all(tx.orm()).await?;
    Ok(rows.into_iter().map(|row| (row.kek_id, row.fingerprint)).collect())
}

pub(super) async fn key_checks_insert(tx: &mut Tx, keys: &[(String, String)]) -> Result<(), Error> {
    let rows = keys.iter().map(|(kek_id, fingerprint)| key_check::ActiveModel {
        kek_id: Set(kek_id.clone()),
        fingerprint: Set(fingerprint.clone()),
    });
    // Two processes that start at once note the same keys.
    let keep = sea_orm::sea_query::OnConflict::column(key_check::Column::KekId).do_nothing().to_owned();
    key_check::Entity::insert_many(rows).on_conflict(keep).exec_without_returning(tx.orm()).await?;
    Ok(())
}

mod key_check {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_check")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub kek_id: String,
        pub fingerprint: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod credential {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credential")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub owner_kind: String,
        pub owner_id: String,
        pub kind: String,
        pub version: i64,
        pub created_at: i64,
        pub rotated_at: i64,
        pub revoked_at: Option<i64>,
        pub last_used_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod version {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credential_version")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub credential_id: Uuid,
        pub version: i64,
        pub kek_id: String,
        pub wrapped_key: Option<Vec<u8>>,
        pub ciphertext: Option<Vec<u8>>,
        pub last_four: Option<String>,
        pub created_at: i64,
        pub ends_at: Option<i64>,
        pub erased_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
