//! Rows of `delivery`. An accepted request has none before it is applied: until then the intake log holds it.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::Tx;
use thinkwork_primitives::{CredentialSubject, DeliveryId, Requester, ThreadId, Timestamp, TurnId, WebhookId};

use super::db;
use crate::webhooks::{Delivery, Error, Outcome};

/// Writes a delivery down. Requester is the webhook, credential nobody's.
pub(in super::super) async fn delivery_insert(tx: &mut Tx, delivery: &Delivery) -> Result<(), Error> {
    let requester = Requester::Webhook(delivery.webhook);
    let row = row::ActiveModel {
        id: Set(delivery.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        webhook_id: Set(delivery.webhook.uuid()),
        received_at: Set(delivery.received_at.micros()),
        result: Set(delivery.result.word().to_owned()),
        reason: Set(delivery.reason.clone()),
        thread_id: Set(delivery.thread.map(ThreadId::uuid)),
        turn_id: Set(delivery.turn.map(TurnId::uuid)),
        duplicate_of: Set(delivery.duplicate_of.map(DeliveryId::uuid)),
        headers: Set(serde_json::to_string(&delivery.headers).unwrap_or_default()),
        body_preview: Set(delivery.body_preview.clone()),
        body_bytes: Set(delivery.body_bytes),
        body_hash: Set(delivery.body_hash.clone()),
        event_id: Set(delivery.event_id.clone()),
        requester_kind: Set(requester.kind().to_owned()),
        requester_id: Set(requester.id()),
        subject_kind: Set(CredentialSubject::None.kind().to_owned()),
        subject_user_id: Set(None),
        subject_connection_id: Set(None),
        applied_at: Set(delivery.applied_at.map(Timestamp::micros)),
        count: Set(delivery.count),
    };
    row::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(db)?;
    Ok(())
}

/// Keeps what a replay of this delivery needs.
pub(in super::super) async fn envelope_insert(tx: &mut Tx, id: DeliveryId, envelope: Vec<u8>) -> Result<(), Error> {
    let row = envelope::ActiveModel { id: Set(id.uuid()), tenant_id: Set(tx.tenant().uuid()), envelope: Set(envelope) };
    envelope::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(db)?;
    Ok(())
}

/// What a replay needs of a delivery that was accepted and applied.
pub(in super::super) async fn envelope_find(tx: &mut Tx, id: DeliveryId) -> Result<Option<Vec<u8>>, Error> {
    let found = envelope::Entity::find()
        .filter(envelope::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(envelope::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await
        .map_err(db)?;
    Ok(found.map(|row| row.envelope))
}

/// Lets a counted row stand for `more` requests more.
pub(in super::super) async fn delivery_count_add(tx: &mut Tx, id: DeliveryId, more: i64) -> Result<(), Error> {
    row::Entity::update_many()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(id.uuid()))
        .col_expr(row::Column::Count, Expr::col(row::Column::Count).add(more))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

pub(in super::super) async fn delivery_find(tx: &mut Tx, id: DeliveryId) -> Result<Option<Delivery>, Error> {
    let found = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await
        .map_err(db)?;
    Ok(found.and_then(delivery))
}

/// Which deliveries a list holds.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Filter {
    pub result: Option<Outcome>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Newest first, only those before `after`.
pub(in super::super) async fn delivery_list(
    tx: &mut Tx,
    webhook: WebhookId,
    filter: Filter,
    limit: u64,
    after: Option<DeliveryId>,
) -> Result<Vec<Delivery>, Error> {
    let mut query = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::WebhookId.eq(webhook.uuid()));
    if let Some(after) = after {
        query = query.filter(row::Column::Id.lt(after.uuid()));
    }
    if let Some(result) = filter.result {
        query = query.filter(row::Column::Result.eq(result.word()));
    }
    if let Some(since) = filter.since {
        query = query.filter(row::Column::ReceivedAt.gte(since.micros()));
    }
    if let Some(until) = filter.until {
        query = query.filter(row::Column::ReceivedAt.lt(until.micros()));
    }
    let rows = query.order_by_desc(row::Column::Id).limit(limit).all(tx.orm()).await.map_err(db)?;
    Ok(rows.into_iter().filter_map(delivery).collect())
}

/// Requests by result since then, of one webhook or of all.
pub(in super::super) async fn delivery_counts(
    tx: &mut Tx,
    webhook: Option<WebhookId>,
    since: Timestamp,
) -> Result<Vec<(String, i64)>, Error> {
    let mut query = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::ReceivedAt.gte(since.micros()));
    if let Some(webhook) = webhook {
        query = query.filter(row::Column::WebhookId.eq(webhook.uuid()));
    }
    query
        .select_only()
        .column(row::Column::Result)
        .column_as(Expr::col(row::Column::Count).sum().cast_as(Alias::new("bigint")), "requests")
        .group_by(row::Column::Result)
        .order_by_asc(row::Column::Result)
        .into_tuple()
        .all(tx.orm())
        .await
        .map_err(db)
}

fn delivery(row: row::Model) -> Option<Delivery> {
    Some(Delivery {
        id: DeliveryId::from_uuid(row.id),
        webhook: WebhookId::from_uuid(row.webhook_id),
        received_at: Timestamp::from_micros(row.received_at),
        result: Outcome::parse(&row.result)?,
        reason: row.reason,
        thread: row.thread_id.map(ThreadId::from_uuid),
        turn: row.turn_id.map(TurnId::from_uuid),
        duplicate_of: row.duplicate_of.map(DeliveryId::from_uuid),
        headers: serde_json::from_str(&row.headers).unwrap_or_default(),
        body_preview: row.body_preview,
        body_bytes: row.body_bytes,
        body_hash: row.body_hash,
        event_id: row.event_id,
        applied_at: row.applied_at.map(Timestamp::from_micros),
        count: row.count,
    })
}

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "delivery")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub webhook_id: Uuid,
        pub received_at: i64,
        pub result: String,
        pub reason: Option<String>,
        pub thread_id: Option<Uuid>,
        pub turn_id: Option<Uuid>,
        pub duplicate_of: Option<Uuid>,
        pub headers: String,
        pub body_preview: String,
        pub body_bytes: i64,
        pub body_hash: Vec<u8>,
        pub event_id: Option<String>,
        pub requester_kind: String,
        pub requester_id: String,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub applied_at: Option<i64>,
        pub count: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod envelope {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "delivery_envelope")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub envelope: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
