//! Rows of `delivery`. An accepted request has none before it is applied: until then the intake log holds it.

use std::collections::{HashMap, HashSet};

use sea_orm::ActiveValue::Set;
use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use strum::VariantArray as _;
use thinkwork_database::ranges::{self, Ranges};
use thinkwork_database::{StoredRow, Tx, retention};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, DeliveryId, Requester, ThreadId, Timestamp, TurnId, WebhookId,
};

use crate::webhooks::{Delivery, DeliveryCount, DeliveryCursor, DeliveryFilter, DeliveryResult, Error};

/// In place of the kind of requester, for a request that nobody's was proved to be.
const UNVERIFIED: &str = "none";

/// Stores deliveries. Requester is the webhook, once verified; credential nobody's.
pub(crate) async fn deliveries_insert(tx: &mut Tx, deliveries: &[Delivery]) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = deliveries.iter().map(|delivery| {
        let requester = delivery.requester();
        row::ActiveModel {
            id: Set(delivery.id.uuid()),
            tenant_id: Set(tenant),
            webhook_id: Set(delivery.webhook.uuid()),
            received_at: Set(delivery.received_at.micros()),
            result: Set(delivery.result.as_str().to_owned()),
            reason: Set(delivery.reason.clone()),
            thread_id: Set(delivery.thread.map(ThreadId::uuid)),
            turn_id: Set(delivery.turn.map(TurnId::uuid)),
            duplicate_of: Set(delivery.duplicate_of.map(DeliveryId::uuid)),
            headers: Set(serde_json::to_string(&delivery.headers).unwrap_or_default()),
            body_preview: Set(delivery.body_preview.clone()),
            body_bytes: Set(delivery.body_bytes),
            body_hash: Set(delivery.body_hash.clone()),
            event_id: Set(delivery.event_id.clone()),
            requester_kind: Set(requester.as_ref().map_or(UNVERIFIED, Requester::kind).to_owned()),
            requester_id: Set(requester.map(|requester| requester.id()).unwrap_or_default()),
            client_kind: Set(ActingClient::System.kind().to_owned()),
            client_id: Set(None),
            subject_kind: Set(CredentialSubject::None.kind().to_owned()),
            subject_user_id: Set(None),
            subject_connection_id: Set(None),
            applied_at: Set(delivery.applied_at.map(Timestamp::micros)),
            count: Set(delivery.count),
        }
    });
    row::Entity::insert_many(rows).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// Keeps what replays of these deliveries need.
pub(crate) async fn envelopes_insert(tx: &mut Tx, envelopes: Vec<(DeliveryId, Vec<u8>)>) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = envelopes.into_iter().map(|(id, envelope)| envelope::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tenant),
        envelope: Set(envelope),
    });
    envelope::Entity::insert_many(rows).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// By which old deliveries are found.
pub(crate) const DELIVERY_COLUMNS: retention::Columns<row::Entity> =
    retention::Columns { tenant: row::Column::TenantId, id: row::Column::Id };

/// By which the contents of old deliveries are found: the id is the delivery's.
pub(crate) const CONTENT_COLUMNS: retention::Columns<envelope::Entity> =
    retention::Columns { tenant: envelope::Column::TenantId, id: envelope::Column::Id };

/// Which of these deliveries are there.
pub(crate) async fn deliveries_known(tx: &mut Tx, ids: &[DeliveryId]) -> Result<HashSet<DeliveryId>, Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let known: Vec<Uuid> = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .column(row::Column::Id)
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(known.into_iter().map(DeliveryId::from_uuid).collect())
}

/// What a replay needs of a delivery that was accepted and applied.
pub(crate) async fn envelope_find(tx: &mut Tx, id: DeliveryId) -> Result<Option<Vec<u8>>, Error> {
    let found = envelope::Entity::find()
        .filter(envelope::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(envelope::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await?;
    Ok(found.map(|row| row.envelope))
}

/// Lets a counted row stand for `more` requests more.
pub(crate) async fn delivery_count_add(tx: &mut Tx, id: DeliveryId, more: i64) -> Result<(), Error> {
    row::Entity::update_many()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(id.uuid()))
        .col_expr(row::Column::Count, Expr::col(row::Column::Count).add(more))
        .exec(tx.orm())
        .await?;
    Ok(())
}

pub(crate) async fn delivery_find(tx: &mut Tx, id: DeliveryId) -> Result<Option<Delivery>, Error> {
    let found = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await?;
    found.map(delivery).transpose()
}

/// Deliveries of one result that are counted; of more it is said that there are more.
const COUNTED_MAX: u64 = 5_000;

/// Newest first, only those behind `after`.
pub(crate) async fn delivery_list(
    tx: &mut Tx,
    webhook: WebhookId,
    filter: DeliveryFilter,
    limit: u64,
    after: Option<DeliveryCursor>,
) -> Result<Vec<Delivery>, Error> {
    let results = filter.result.as_ref().map_or(DeliveryResult::VARIANTS, std::slice::from_ref);
    let ranges = Ranges {
        table: "delivery",
        columns: &["webhook_id", "result"],
        keys: results.iter().map(|result| vec![webhook.uuid().into(), result.as_str().into()]).collect(),
        time: "received_at",
        since: filter.since,
        until: filter.until,
        after: after.map(|(at, id)| (at, id.uuid())),
    };
    let places = ranges::newest(tx, &ranges, limit).await?;
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let rows = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.is_in(places.iter().map(|(_, id)| *id)))
        .all(tx.orm())
        .await?;
    let mut rows: HashMap<Uuid, row::Model> = rows.into_iter().map(|row| (row.id, row)).collect();
    places.iter().filter_map(|(_, id)| rows.remove(id)).map(delivery).collect()
}

/// Requests by result since then, of these webhooks: of each result at most [`COUNTED_MAX`] deliveries.
pub(crate) async fn delivery_counts(
    tx: &mut Tx,
    webhooks: &[WebhookId],
    since: Timestamp,
) -> Result<Vec<DeliveryCount>, Error> {
    let ranges = Ranges {
        table: "delivery",
        columns: &["result"],
        keys: DeliveryResult::VARIANTS.iter().map(|result| vec![result.as_str().into()]).collect(),
        time: "received_at",
        since: Some(since),
        until: None,
        after: None,
    };
    let webhooks: Vec<_> = webhooks.iter().map(|id| id.uuid().into()).collect();
    let sums = ranges::sums(tx, &ranges, ("webhook_id", &webhooks), "count", COUNTED_MAX).await?;
    let counts = DeliveryResult::VARIANTS.iter().zip(sums);
    Ok(counts.map(|(result, sum)| DeliveryCount { result: *result, count: sum.total, is_more: sum.is_more }).collect())
}

fn delivery(row: row::Model) -> Result<Delivery, Error> {
    let stored = StoredRow::new("delivery", row.id);
    Ok(Delivery {
        id: DeliveryId::from_uuid(row.id),
        webhook: WebhookId::from_uuid(row.webhook_id),
        received_at: Timestamp::from_micros(row.received_at),
        is_verified: row.requester_kind != UNVERIFIED,
        result: stored.parse("result", &row.result)?,
        reason: row.reason,
        thread: row.thread_id.map(ThreadId::from_uuid),
        turn: row.turn_id.map(TurnId::from_uuid),
        duplicate_of: row.duplicate_of.map(DeliveryId::from_uuid),
        headers: stored.json("headers", &row.headers)?,
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
        pub body_preview: Option<String>,
        pub body_bytes: i64,
        pub body_hash: Vec<u8>,
        pub event_id: Option<String>,
        pub requester_kind: String,
        pub requester_id: String,
        pub client_kind: String,
        pub client_id: Option<String>,
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
