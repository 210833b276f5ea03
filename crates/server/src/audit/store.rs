//! Rows of `audit_event`, of `audit_unsealed`, the list of those that wait to be sealed, and of `audit_refused`, those that
//! the sealer does not seal.

pub(super) mod chain;
pub(super) mod list;
pub mod uses;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{QueryOrder as _, QuerySelect as _};
use serde_json::Value;
use std::collections::HashMap;
use thinkwork_database::Tx;
use thinkwork_database::retention::Columns;
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
    let waiting = unsealed::ActiveModel { tenant_id: Set(tenant.uuid()), event_id: Set(id.uuid()) };
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
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// How many wait to be sealed.
pub(super) async fn unsealed_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(unsealed::Entity::find().count(tx.orm()).await?)
}

/// How many the sealer refuses.
pub(super) async fn refused_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(refused::Entity::find().count(tx.orm()).await?)
}

/// The newest event that waits to be sealed, of any tenant.
pub(super) async fn unsealed_newest(tx: &mut Tx) -> Result<Option<(TenantId, AuditId)>, Error> {
    let newest: Option<(Uuid, Uuid)> = unsealed::Entity::find()
        .select_only()
        .column(unsealed::Column::TenantId)
        .column(unsealed::Column::EventId)
        .order_by_desc(unsealed::Column::EventId)
        .into_tuple()
        .one(tx.orm())
        .await?;
    Ok(newest.map(|(tenant, event)| (TenantId::from_uuid(tenant), AuditId::from_uuid(event))))
}

/// Whether this event still waits.
pub(super) async fn is_unsealed(tx: &mut Tx, (tenant, event): (TenantId, AuditId)) -> Result<bool, Error> {
    let found = unsealed::Entity::find()
        .filter(unsealed::Column::TenantId.eq(tenant.uuid()))
        .filter(unsealed::Column::EventId.eq(event.uuid()));
    Ok(found.one(tx.orm()).await?.is_some())
}

/// By which columns events are counted.
pub(super) const EVENT_COLUMNS: Columns<event::Entity> =
    Columns { tenant: event::Column::TenantId, id: event::Column::Id };

/// An event that waits to be sealed, or was refused.
pub(super) struct Waiting {
    pub id: AuditId,
    /// The event, if it is still there.
    pub event: Option<StoredEvent>,
}

/// Events that wait, behind this one, oldest first.
pub(super) async fn unsealed_list(tx: &mut Tx, after: Uuid, count: u64) -> Result<Vec<Waiting>, Error> {
    let ids = unsealed_ids(tx, after, Uuid::max(), count).await?;
    with_events(tx, ids).await
}

/// Ids of events that wait, behind the first and up to the last, in their order.
pub(super) async fn unsealed_ids(tx: &mut Tx, after: Uuid, last: Uuid, count: u64) -> Result<Vec<Uuid>, Error> {
    Ok(unsealed::Entity::find()
        .select_only()
        .column(unsealed::Column::EventId)
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(unsealed::Column::EventId.gt(after))
        .filter(unsealed::Column::EventId.lte(last))
        .order_by_asc(unsealed::Column::EventId)
        .limit(count)
        .into_tuple()
        .all(tx.orm())
        .await?)
}

/// Takes these events off the list of those that wait.
pub(super) async fn unsealed_delete(tx: &mut Tx, ids: &[AuditId]) -> Result<(), Error> {
    unsealed::Entity::delete_many()
        .filter(unsealed::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(unsealed::Column::EventId.is_in(ids.iter().map(|id| id.uuid())))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Puts an event that was refused back on the list of those that wait.
pub(super) fn unsealed_insert(tx: &mut Tx, id: AuditId) {
    let waiting = unsealed::ActiveModel { tenant_id: Set(tx.tenant().uuid()), event_id: Set(id.uuid()) };
    tx.insert_deferred(&waiting);
}

/// Events that were refused, behind this one, oldest first.
pub(super) async fn refused_list(tx: &mut Tx, after: Uuid, count: u64) -> Result<Vec<Waiting>, Error> {
    let ids = refused_ids(tx, after, Uuid::max(), count).await?;
    with_events(tx, ids).await
}

/// Ids of events that were refused, behind the first and up to the last, in their order.
pub(super) async fn refused_ids(tx: &mut Tx, after: Uuid, last: Uuid, count: u64) -> Result<Vec<Uuid>, Error> {
    Ok(refused::Entity::find()
        .select_only()
        .column(refused::Column::EventId)
        .filter(refused::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(refused::Column::EventId.gt(after))
        .filter(refused::Column::EventId.lte(last))
        .order_by_asc(refused::Column::EventId)
        .limit(count)
        .into_tuple()
        .all(tx.orm())
        .await?)
}

/// Notes that these events are refused.
pub(super) async fn refused_insert(tx: &mut Tx, ids: &[AuditId], now: Timestamp) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = ids.iter().map(|id| refused::ActiveModel {
        tenant_id: Set(tenant),
        event_id: Set(id.uuid()),
        refused_at: Set(now.micros()),
    });
    // Whoever put one on the list again is told so once.
    let noted = OnConflict::columns([refused::Column::TenantId, refused::Column::EventId]).do_nothing().to_owned();
    refused::Entity::insert_many(rows).on_conflict(noted).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// Forgets that these events were refused.
pub(super) async fn refused_delete(tx: &mut Tx, ids: &[AuditId]) -> Result<(), Error> {
    refused::Entity::delete_many()
        .filter(refused::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(refused::Column::EventId.is_in(ids.iter().map(|id| id.uuid())))
        .exec(tx.orm())
        .await?;
    Ok(())
}

async fn with_events(tx: &mut Tx, ids: Vec<Uuid>) -> Result<Vec<Waiting>, Error> {
    let mut events = events_by_id(tx, &ids).await?;
    Ok(ids.into_iter().map(|id| Waiting { id: AuditId::from_uuid(id), event: events.remove(&id) }).collect())
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
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod refused {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_refused")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub event_id: Uuid,
        pub refused_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
