//! Rows of `audit_event` and of `audit_unsealed`, the list of those that wait to be sealed.

pub(super) mod chain;
pub(super) mod list;
pub mod uses;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};
use serde_json::Value;
use std::collections::HashMap;
use thinkwork_database::Tx;
use thinkwork_primitives::{
    ActingClient, AuditId, CredentialSubject, Requester, TenantId, ThreadId, Timestamp, TurnId,
};
use uuid::Uuid;

use super::{AuditEvent, Error, Event, rules};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

pub(super) fn event_insert(tx: &mut Tx, now: Timestamp, event: Event) -> Result<AuditId, Error> {
    let id = AuditId::new();
    let tenant = tx.tenant();
    let mut recorded = AuditEvent {
        id,
        at: now,
        action: event.action.to_owned(),
        requester: event.actor.requester,
        client: event.actor.client,
        subject: event.subject,
        surface: event.surface.map(|surface| surface.as_str().to_owned()),
        target: event.target.map(|(kind, id)| (kind.to_owned(), id)),
        thread: event.thread,
        turn: event.turn,
        detail: Value::Object(event.detail),
        payload: String::new(),
    };
    recorded.payload = rules::payload(tenant, &recorded);
    let mac = rules::event_mac(tx.record_key()?, tenant, id, &recorded.payload);
    let (target_kind, target_id) = recorded.target.unzip();
    let row = event::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tenant.uuid()),
        at: Set(now.micros()),
        action: Set(recorded.action),
        requester_kind: Set(recorded.requester.kind().to_owned()),
        requester_id: Set(recorded.requester.id()),
        client_kind: Set(recorded.client.kind().to_owned()),
        client_id: Set(recorded.client.id()),
        subject_kind: Set(recorded.subject.kind().to_owned()),
        subject_user_id: Set(recorded.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(recorded.subject.connection().map(|id| id.uuid())),
        surface: Set(recorded.surface),
        target_kind: Set(target_kind),
        target_id: Set(target_id),
        thread_id: Set(recorded.thread.map(|id| id.uuid())),
        turn_id: Set(recorded.turn.map(|id| id.uuid())),
        payload: Set(recorded.payload),
        mac: Set(mac.to_vec()),
    };
    let waiting =
        unsealed::ActiveModel { tenant_id: Set(tenant.uuid()), event_id: Set(id.uuid()), ..Default::default() };
    tx.insert_deferred(&row);
    tx.insert_deferred(&waiting);
    Ok(id)
}

/// An event as it is stored, for whoever holds it against its MAC.
pub(super) struct StoredEvent {
    pub id: AuditId,
    pub payload: String,
    pub mac: Vec<u8>,
    /// What the columns say; `None` where that is nothing that this code writes.
    pub event: Option<AuditEvent>,
}

impl From<event::Model> for StoredEvent {
    fn from(mut row: event::Model) -> Self {
        let mac = std::mem::take(&mut row.mac);
        let payload = row.payload.clone();
        Self { id: AuditId::from_uuid(row.id), payload, mac, event: recorded(row) }
    }
}

/// An event read back; `None` for one that this code did not write.
fn recorded(row: event::Model) -> Option<AuditEvent> {
    let mut payload: Value = serde_json::from_str(&row.payload).unwrap_or(Value::Null);
    Some(AuditEvent {
        id: AuditId::from_uuid(row.id),
        at: Timestamp::from_micros(row.at),
        action: row.action,
        requester: Requester::from_columns(&row.requester_kind, &row.requester_id)?,
        client: ActingClient::from_columns(&row.client_kind, row.client_id.as_deref())?,
        subject: CredentialSubject::from_columns(&row.subject_kind, row.subject_user_id, row.subject_connection_id)?,
        surface: row.surface,
        target: row.target_kind.zip(row.target_id),
        thread: row.thread_id.map(ThreadId::from_uuid),
        turn: row.turn_id.map(TurnId::from_uuid),
        detail: payload.get_mut("detail").map(Value::take).unwrap_or_default(),
        payload: row.payload,
    })
}

/// These events of the transaction's tenant, by id; those that are gone are not in it.
async fn events_by_id(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, StoredEvent>, Error> {
    let rows = event::Entity::find()
        .filter(event::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(event::Column::Id.is_in(ids.iter().copied()))
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.into())).collect())
}

/// Ids of events behind this one, in their order.
pub(super) async fn event_ids(tx: &mut Tx, after: Uuid, count: u64) -> Result<Vec<Uuid>, Error> {
    Ok(event::Entity::find()
        .select_only()
        .column(event::Column::Id)
        .filter(event::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(event::Column::Id.gt(after))
        .order_by_asc(event::Column::Id)
        .limit(count)
        .into_tuple()
        .all(tx.orm())
        .await?)
}

pub(super) async fn unsealed_tenants(tx: &mut Tx) -> Result<Vec<TenantId>, Error> {
    let tenants: Vec<Uuid> = unsealed::Entity::find()
        .select_only()
        .column(unsealed::Column::TenantId)
        .distinct()
        .filter(unsealed::Column::RefusedAt.is_null())
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// How many wait to be sealed.
pub(super) async fn unsealed_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(unsealed::Entity::find().filter(unsealed::Column::RefusedAt.is_null()).count(tx.orm()).await?)
}

/// How many the sealer refuses.
pub(super) async fn refused_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(unsealed::Entity::find().filter(unsealed::Column::RefusedAt.is_not_null()).count(tx.orm()).await?)
}

/// When the oldest event that waits was made, of this tenant or of all, to the millisecond: its id holds the time.
pub(super) async fn unsealed_oldest(tx: &mut Tx, of: Option<TenantId>) -> Result<Option<Timestamp>, Error> {
    let mut waiting = unsealed::Entity::find().filter(unsealed::Column::RefusedAt.is_null());
    if let Some(tenant) = of {
        waiting = waiting.filter(unsealed::Column::TenantId.eq(tenant.uuid()));
    }
    let oldest: Option<Uuid> = waiting
        .select_only()
        .column(unsealed::Column::EventId)
        .order_by_asc(unsealed::Column::EventId)
        .into_tuple()
        .one(tx.orm())
        .await?;
    Ok(oldest.and_then(|id| id.get_timestamp()).map(|made| {
        let (seconds, nanos) = made.to_unix();
        let micros = i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000);
        Timestamp::from_micros(micros.saturating_add(i64::from(nanos / 1_000)))
    }))
}

/// An event on the list of those that wait.
pub(super) struct Waiting {
    pub id: AuditId,
    /// Whether the sealer refused it.
    pub is_refused: bool,
    /// The event, if it is still there.
    pub event: Option<StoredEvent>,
}

/// Events that the sealer has still to look at, oldest first.
pub(super) async fn unsealed_list(tx: &mut Tx, count: u64) -> Result<Vec<Waiting>, Error> {
    waiting(tx, unsealed::Entity::find().filter(unsealed::Column::RefusedAt.is_null()), count).await
}

/// Events of the list behind this one, in their order, also those that the sealer refused.
pub(super) async fn unsealed_list_after(tx: &mut Tx, after: Uuid, count: u64) -> Result<Vec<Waiting>, Error> {
    waiting(tx, unsealed::Entity::find().filter(unsealed::Column::EventId.gt(after)), count).await
}

async fn waiting(tx: &mut Tx, which: Select<unsealed::Entity>, count: u64) -> Result<Vec<Waiting>, Error> {
    let rows = which
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_asc(unsealed::Column::EventId)
        .limit(count)
        .all(tx.orm())
        .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.event_id).collect();
    let mut events = events_by_id(tx, &ids).await?;
    let with_event = |row: unsealed::Model| Waiting {
        id: AuditId::from_uuid(row.event_id),
        is_refused: row.refused_at.is_some(),
        event: events.remove(&row.event_id),
    };
    Ok(rows.into_iter().map(with_event).collect())
}

/// Ids on the list, behind the first and up to the last.
pub(super) async fn unsealed_ids(tx: &mut Tx, after: Uuid, last: Uuid) -> Result<Vec<Uuid>, Error> {
    Ok(unsealed::Entity::find()
        .select_only()
        .column(unsealed::Column::EventId)
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(unsealed::Column::EventId.gt(after))
        .filter(unsealed::Column::EventId.lte(last))
        .into_tuple()
        .all(tx.orm())
        .await?)
}

/// Keeps these events from being looked at again (with a time), or lets the sealer look once more.
pub(super) async fn unsealed_update(tx: &mut Tx, ids: &[AuditId], refused_at: Option<Timestamp>) -> Result<(), Error> {
    unsealed::Entity::update_many()
        .col_expr(unsealed::Column::RefusedAt, Expr::value(refused_at.map(Timestamp::micros)))
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(unsealed::Column::EventId.is_in(ids.iter().map(|id| id.uuid())))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Takes these events off the list.
pub(super) async fn unsealed_delete(tx: &mut Tx, ids: &[AuditId]) -> Result<(), Error> {
    unsealed::Entity::delete_many()
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(unsealed::Column::EventId.is_in(ids.iter().map(|id| id.uuid())))
        .exec(tx.orm())
        .await?;
    Ok(())
}

mod event {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_event")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub at: i64,
        pub action: String,
        pub requester_kind: String,
        pub requester_id: String,
        pub client_kind: String,
        pub client_id: Option<String>,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub surface: Option<String>,
        pub target_kind: Option<String>,
        pub target_id: Option<String>,
        pub thread_id: Option<Uuid>,
        pub turn_id: Option<Uuid>,
        pub payload: String,
        pub mac: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod unsealed {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_unsealed")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub event_id: Uuid,
        pub refused_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
