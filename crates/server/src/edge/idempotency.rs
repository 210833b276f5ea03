//! `Idempotency-Key` on POSTs that create: the same key and body lead to the resource that was made, for 24 hours.
//!
//! Invariant: kept is the resource's id, never the answer, so a secret that was shown once is never shown again.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{LockType, OnConflict};
use std::time::Duration;
use thinkwork_database::Tx;
use thinkwork_primitives::{Principal, Timestamp, crypto};
use uuid::Uuid;

use super::ApiError;

/// How long a key is remembered.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// Longest key taken.
const KEY_BYTES_MAX: usize = 200;

/// Why nothing is created under a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key came with another body before: 409.
    #[error("the idempotency key was used with another request")]
    Reused,
    /// The key created `id` before, whose secret was shown then: 409. `next` says how to come by a new one.
    #[error("the idempotency key already created {id}, whose secret was shown then")]
    SecretAlreadyShown { id: String, next: &'static str },
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Reused => Self::conflict(
                "idempotency_key_reused",
                "This Idempotency-Key was already used with a different request. Use a new key.",
            ),
            Error::SecretAlreadyShown { id, next } => {
                let message =
                    format!("This Idempotency-Key already created {id}, and its secret was shown then; {next}");
                let mut answer = Self::conflict("secret_already_shown", message);
                answer.id = Some(id.into());
                answer
            }
            Error::Database(error) => error.into(),
        }
    }
}

/// The header as sent, if it was.
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(text) if (1..=KEY_BYTES_MAX).contains(&text.len()) => Ok(Self(Some(text.to_owned()))),
            _ => Err(ApiError::invalid("Idempotency-Key", "use 1 to 200 visible characters.")),
        }
    }
}

/// One creation that happens once per key. Make it in the handler, check it first thing in the creating
/// transaction, keep the new id last.
pub struct Idempotency {
    key: Option<Vec<u8>>,
    body_hash: Vec<u8>,
    now: Timestamp,
}

impl Idempotency {
    /// For pages and the server itself, which need no key.
    pub const fn unkeyed(now: Timestamp) -> Self {
        Self { key: None, body_hash: Vec::new(), now }
    }

    /// For this caller, operation (like `webhooks.create`) and request body, given as the parsed body serialized
    /// or described again.
    pub fn new(key: IdempotencyKey, caller: &Principal, operation: &str, body: &str, now: Timestamp) -> Self {
        let requester = caller.requester();
        let key = key.0.map(|key| {
            crypto::sha256(format!("{operation}\n{}\n{}\n{key}", requester.kind(), requester.id()).as_bytes()).to_vec()
        });
        Self { key, body_hash: crypto::sha256(body.as_bytes()).to_vec(), now }
    }

    /// The printed id of what this key made before. Where it made nothing, the key is taken until this transaction
    /// ends: a second request with it waits here, and then finds what the first one made.
    ///
    /// # Errors
    /// [`Error::Reused`]; the driver's.
    pub async fn existing(&self, tx: &mut Tx) -> Result<Option<String>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        let one_row = OnConflict::columns([row::Column::TenantId, row::Column::KeyHash]).do_nothing().to_owned();
        let taken =
            row::Entity::insert(self.row(tx, key, "")).on_conflict(one_row).exec_without_returning(tx.orm()).await?;
        if taken == 1 {
            return Ok(None);
        }
        let found = row::Entity::find()
            .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
            .filter(row::Column::KeyHash.eq(key.clone()))
            .lock(LockType::NoKeyUpdate)
            .one(tx.orm())
            .await?;
        let forgotten = self.now.minus(KEY_LIFETIME).micros();
        match found.filter(|row| row.created_at > forgotten) {
            Some(row) if row.body_hash == self.body_hash => Ok(Some(row.resource)),
            Some(_) => Err(Error::Reused),
            None => Ok(None),
        }
    }

    fn row(&self, tx: &Tx, key: &[u8], resource: &str) -> row::ActiveModel {
        row::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant_id: Set(tx.tenant().uuid()),
            key_hash: Set(key.to_vec()),
            body_hash: Set(self.body_hash.clone()),
            resource: Set(resource.to_owned()),
            created_at: Set(self.now.micros()),
        }
    }

    /// Remembers what was made.
    pub async fn keep(&self, tx: &mut Tx, resource: &str) -> Result<(), Error> {
        let Some(key) = &self.key else { return Ok(()) };
        let replace = OnConflict::columns([row::Column::TenantId, row::Column::KeyHash])
            .update_columns([row::Column::BodyHash, row::Column::Resource, row::Column::CreatedAt])
            .to_owned();
        row::Entity::insert(self.row(tx, key, resource)).on_conflict(replace).exec_without_returning(tx.orm()).await?;
        Ok(())
    }

    /// Forgets keys of the transaction's tenant whose time is over, at most `count`.
    pub async fn sweep(tx: &mut Tx, now: Timestamp, count: u64) -> Result<(), thinkwork_database::Error> {
        let over: Vec<Uuid> = row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
            .filter(row::Column::CreatedAt.lte(now.minus(KEY_LIFETIME).micros()))
            .limit(count)
            .into_tuple()
            .all(tx.orm())
            .await?;
        row::Entity::delete_many()
            .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
            .filter(row::Column::Id.is_in(over))
            .exec(tx.orm())
            .await?;
        Ok(())
    }
}

mod row {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency_key")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub key_hash: Vec<u8>,
        pub body_hash: Vec<u8>,
        pub resource: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
