//! Rows of `audit_event`, `audit_unsealed`, `audit_seal` and `audit_checkpoint`.

pub(super) mod list;
pub mod uses;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use serde_json::{Map, Value, json};
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
    let row = event::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        at: Set(now.micros()),
        action: Set(event.action.to_owned()),
        requester_kind: Set(event.actor.requester.kind().to_owned()),
        requester_id: Set(event.actor.requester.id()),
        client_kind: Set(event.actor.client.kind().to_owned()),
        client_id: Set(event.actor.client.id()),
        subject_kind: Set(event.subject.kind().to_owned()),
        subject_user_id: Set(event.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(event.subject.connection().map(|id| id.uuid())),
        surface: Set(event.surface.map(|surface| surface.as_str().to_owned())),
        target_kind: Set(event.target.as_ref().map(|(kind, _)| (*kind).to_owned())),
        target_id: Set(event.target.as_ref().map(|(_, id)| id.clone())),
        thread_id: Set(event.thread.map(|id| id.uuid())),
        turn_id: Set(event.turn.map(|id| id.uuid())),
        payload: Set(canonical(tx, id, now, event)?),
    };
    let waiting = unsealed::ActiveModel { tenant_id: Set(tx.tenant().uuid()), event_id: Set(id.uuid()) };
    tx.insert_deferred(&row);
    tx.insert_deferred(&waiting);
    Ok(id)
}

/// The event as canonical JSON (RFC 8785): keys sorted, which serde_json's map does, and whole numbers only.
fn canonical(tx: &Tx, id: AuditId, now: Timestamp, event: Event) -> Result<String, Error> {
    let mut payload = Map::new();
    let mut put = |key: &str, value: Value| payload.insert(key.to_owned(), value);
    put("id", json!(id));
    put("tenant", json!(tx.tenant()));
    put("at", json!(now));
    put("action", json!(event.action));
    put("requester", json!({ "kind": event.actor.requester.kind(), "id": event.actor.requester.id() }));
    put("acting_client", json!({ "kind": event.actor.client.kind(), "id": event.actor.client.id() }));
    put("credential_subject", rules::subject(&event.subject));
    put("surface", json!(event.surface.map(|surface| surface.as_str())));
    put("target", json!(event.target.map(|(kind, id)| json!({ "kind": kind, "id": id }))));
    put("thread_id", json!(event.thread));
    put("turn_id", json!(event.turn));
    put("detail", Value::Object(event.detail));
    Ok(serde_json::to_string(&Value::Object(payload))?)
}

/// An event read back; `None` for one that this code did not write.
fn recorded(row: event::Model) -> Option<AuditEvent> {
    let payload: Value = serde_json::from_str(&row.payload).unwrap_or(Value::Null);
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
        detail: payload.get("detail").cloned().unwrap_or(Value::Null),
        payload: row.payload,
    })
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

pub(super) async fn unsealed_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(unsealed::Entity::find().count(tx.orm()).await?)
}

/// When the oldest event that waits was made, of this tenant or of all, to the millisecond: its id holds the time.
pub(super) async fn unsealed_oldest(tx: &mut Tx, of: Option<TenantId>) -> Result<Option<Timestamp>, Error> {
    let mut waiting = unsealed::Entity::find();
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

/// Events that wait, oldest first, as id and payload.
pub(super) async fn unsealed_list(tx: &mut Tx, count: u64) -> Result<Vec<(AuditId, String)>, Error> {
    let tenant = tx.tenant().uuid();
    let waiting: Vec<Uuid> = unsealed::Entity::find()
        .select_only()
        .column(unsealed::Column::EventId)
        .filter(unsealed::Column::TenantId.eq(tenant))
        .order_by_asc(unsealed::Column::EventId)
        .limit(count)
        .into_tuple()
        .all(tx.orm())
        .await?;
    let rows: Vec<(Uuid, String)> = event::Entity::find()
        .select_only()
        .columns([event::Column::Id, event::Column::Payload])
        .filter(event::Column::TenantId.eq(tenant))
        .filter(event::Column::Id.is_in(waiting))
        .order_by_asc(event::Column::Id)
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|(id, payload)| (AuditId::from_uuid(id), payload)).collect())
}

/// One link to add to the chain.
pub(super) struct NewSeal {
    pub sequence: i64,
    pub event: AuditId,
    pub previous: Vec<u8>,
    pub hash: Vec<u8>,
}

pub(super) async fn seal_head(tx: &mut Tx) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let head = seal::Entity::find()
        .filter(seal::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_desc(seal::Column::Sequence)
        .one(tx.orm())
        .await?;
    Ok(head.map(|row| (row.sequence, row.hash)))
}

/// Adds the links and takes their events off the list of those that wait.
pub(super) async fn seals_insert(tx: &mut Tx, seals: Vec<NewSeal>, now: Timestamp) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let events: Vec<Uuid> = seals.iter().map(|new| new.event.uuid()).collect();
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
    unsealed::Entity::delete_many()
        .filter(unsealed::Column::TenantId.eq(tenant))
        .filter(unsealed::Column::EventId.is_in(events))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// One link of the chain with its event, if that is still there.
pub(super) struct Link {
    pub sequence: i64,
    pub event_id: AuditId,
    pub previous: Vec<u8>,
    pub hash: Vec<u8>,
    pub event: Option<AuditEvent>,
}

/// Links after `after`, in order.
pub(super) async fn seal_list(tx: &mut Tx, after: i64, count: u64) -> Result<Vec<Link>, Error> {
    let tenant = tx.tenant().uuid();
    let seals = seal::Entity::find()
        .filter(seal::Column::TenantId.eq(tenant))
        .filter(seal::Column::Sequence.gt(after))
        .order_by_asc(seal::Column::Sequence)
        .limit(count)
        .all(tx.orm())
        .await?;
    let ids: Vec<Uuid> = seals.iter().map(|seal| seal.event_id).collect();
    let events = event::Entity::find()
        .filter(event::Column::TenantId.eq(tenant))
        .filter(event::Column::Id.is_in(ids))
        .all(tx.orm())
        .await?;
    let mut events: std::collections::HashMap<Uuid, event::Model> =
        events.into_iter().map(|event| (event.id, event)).collect();
    Ok(seals
        .into_iter()
        .map(|seal| Link {
            sequence: seal.sequence,
            event_id: AuditId::from_uuid(seal.event_id),
            previous: seal.previous_hash,
            hash: seal.hash,
            event: events.remove(&seal.event_id).and_then(recorded),
        })
        .collect())
}

/// Events that are neither sealed nor waiting, at most 100.
pub(super) async fn event_list_unsealed(tx: &mut Tx) -> Result<Vec<AuditId>, Error> {
    let tenant = tx.tenant().uuid();
    let sealed = Query::select().column(seal::Column::EventId).from(seal::Entity).to_owned();
    let waiting = Query::select().column(unsealed::Column::EventId).from(unsealed::Entity).to_owned();
    let ids: Vec<Uuid> = event::Entity::find()
        .select_only()
        .column(event::Column::Id)
        .filter(event::Column::TenantId.eq(tenant))
        .filter(event::Column::Id.not_in_subquery(sealed))
        .filter(event::Column::Id.not_in_subquery(waiting))
        .order_by_asc(event::Column::Id)
        .limit(100)
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(ids.into_iter().map(AuditId::from_uuid).collect())
}

/// Up to where the last checkpoint goes.
pub(super) async fn checkpoint_last(tx: &mut Tx) -> Result<Option<i64>, Error> {
    Ok(checkpoint::Entity::find()
        .select_only()
        .column(checkpoint::Column::Sequence)
        .filter(checkpoint::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_desc(checkpoint::Column::Sequence)
        .into_tuple()
        .one(tx.orm())
        .await?)
}

/// False where this sequence has a checkpoint already.
pub(super) async fn checkpoint_insert(
    tx: &mut Tx,
    sequence: i64,
    head: &[u8],
    now: Timestamp,
    signature: &[u8],
) -> Result<bool, Error> {
    let row = checkpoint::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        sequence: Set(sequence),
        head: Set(head.to_vec()),
        at: Set(now.micros()),
        signature: Set(signature.to_vec()),
    };
    let kept =
        OnConflict::columns([checkpoint::Column::TenantId, checkpoint::Column::Sequence]).do_nothing().to_owned();
    let insert = checkpoint::Entity::insert(row).on_conflict(kept);
    Ok(insert.exec_without_returning(tx.orm()).await? == 1)
}

pub(super) async fn checkpoint_list(tx: &mut Tx) -> Result<Vec<checkpoint::Model>, Error> {
    Ok(checkpoint::Entity::find()
        .filter(checkpoint::Column::TenantId.eq(tx.tenant().uuid()))
        .order_by_asc(checkpoint::Column::Sequence)
        .all(tx.orm())
        .await?)
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

pub(super) mod checkpoint {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_checkpoint")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub sequence: i64,
        pub head: Vec<u8>,
        pub at: i64,
        pub signature: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
