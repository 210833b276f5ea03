//! Rows of `audit_seal`, the chain, and of `audit_checkpoint`, its signed heads.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::Tx;
use thinkwork_primitives::{AuditId, TenantId, Timestamp};
use uuid::Uuid;

use super::{StoredEvent, events_by_id};
use crate::audit::Error;
use crate::audit::chain::Position;
use crate::audit::checkpoint::Checkpoint;

/// One link to add to the chain.
pub(crate) struct NewSeal {
    pub sequence: i64,
    pub event: AuditId,
    pub previous: Vec<u8>,
    pub hash: Vec<u8>,
}

/// Where the chain ends.
pub(crate) async fn seal_head(tx: &mut Tx) -> Result<Position, Error> {
    let head = seal::Entity::find()
        .filter(seal::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_desc(seal::Column::Sequence)
        .one(tx.orm())
        .await?;
    Ok(head.map_or_else(Position::beginning, |row| Position { sequence: row.sequence, hash: row.hash }))
}

/// Adds the links.
pub(crate) async fn seals_insert(tx: &mut Tx, seals: Vec<NewSeal>, now: Timestamp) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = seals.into_iter().map(|new| seal::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tenant),
        sequence: Set(new.sequence),
        event_id: Set(new.event.uuid()),
        previous_hash: Set(new.previous),
        hash: Set(new.hash),
        sealed_at: Set(now.micros()),
    });
    seal::Entity::insert_many(rows).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// One link of the chain with its event, if that is still there.
pub(crate) struct Link {
    pub sequence: i64,
    pub event_id: AuditId,
    pub previous: Vec<u8>,
    pub hash: Vec<u8>,
    pub event: Option<StoredEvent>,
}

/// Links from this sequence on, in order.
pub(crate) async fn seal_list(tx: &mut Tx, from: i64, count: u64) -> Result<Vec<Link>, Error> {
    let seals = seal::Entity::find()
        .filter(seal::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(seal::Column::Sequence.gte(from))
        .order_by_asc(seal::Column::Sequence)
        .limit(count)
        .all(tx.orm())
        .await?;
    let ids: Vec<Uuid> = seals.iter().map(|seal| seal.event_id).collect();
    let mut events = events_by_id(tx, &ids).await?;
    let with_event = |seal: seal::Model| Link {
        sequence: seal.sequence,
        event_id: AuditId::from_uuid(seal.event_id),
        previous: seal.previous_hash,
        hash: seal.hash,
        event: events.remove(&seal.event_id),
    };
    Ok(seals.into_iter().map(with_event).collect())
}

/// Ids of sealed events, behind the first and up to the last.
pub(crate) async fn sealed_ids(tx: &mut Tx, after: Uuid, last: Uuid) -> Result<Vec<Uuid>, Error> {
    Ok(seal::Entity::find()
        .select_only()
        .column(seal::Column::EventId)
        .filter(seal::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(seal::Column::EventId.gt(after))
        .filter(seal::Column::EventId.lte(last))
        .into_tuple()
        .all(tx.orm())
        .await?)
}

/// The last checkpoint.
pub(crate) async fn checkpoint_last(tx: &mut Tx) -> Result<Option<Checkpoint>, Error> {
    let last = checkpoint::Entity::find()
        .filter(checkpoint::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_desc(checkpoint::Column::Sequence)
        .one(tx.orm())
        .await?;
    Ok(last.map(Checkpoint::from))
}

/// The checkpoint over this link.
pub(crate) async fn checkpoint_find(tx: &mut Tx, sequence: i64) -> Result<Option<Checkpoint>, Error> {
    let found = checkpoint::Entity::find()
        .filter(checkpoint::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(checkpoint::Column::Sequence.eq(sequence))
        .one(tx.orm())
        .await?;
    Ok(found.map(Checkpoint::from))
}

/// Checkpoints from this sequence on, in order.
pub(crate) async fn checkpoint_list(tx: &mut Tx, from: i64, count: u64) -> Result<Vec<Checkpoint>, Error> {
    let found = checkpoint::Entity::find()
        .filter(checkpoint::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(checkpoint::Column::Sequence.gte(from))
        .order_by_asc(checkpoint::Column::Sequence)
        .limit(count)
        .all(tx.orm())
        .await?;
    Ok(found.into_iter().map(Checkpoint::from).collect())
}

pub(crate) fn checkpoint_insert(tx: &mut Tx, checkpoint: &Checkpoint) {
    tx.insert_deferred(&checkpoint::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(checkpoint.tenant.uuid()),
        sequence: Set(checkpoint.sequence),
        previous_sequence: Set(checkpoint.previous),
        head: Set(checkpoint.head.clone()),
        at: Set(checkpoint.at.micros()),
        signature: Set(checkpoint.signature.clone()),
    });
}

impl From<checkpoint::Model> for Checkpoint {
    fn from(row: checkpoint::Model) -> Self {
        Self {
            tenant: TenantId::from_uuid(row.tenant_id),
            sequence: row.sequence,
            previous: row.previous_sequence,
            head: row.head,
            at: Timestamp::from_micros(row.at),
            signature: row.signature,
        }
    }
}

mod seal {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_seal")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub sequence: i64,
        pub event_id: Uuid,
        pub previous_hash: Vec<u8>,
        pub hash: Vec<u8>,
        pub sealed_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod checkpoint {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_checkpoint")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub sequence: i64,
        pub previous_sequence: Option<i64>,
        pub head: Vec<u8>,
        pub at: i64,
        pub signature: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
