//! Rows of `webhook`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use serde_json::{Value, json};
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{CredentialId, Network, SpaceId, Timestamp, WebhookId};

use crate::webhooks::schemes::Scheme;
use crate::webhooks::{Error, Locator, Webhook};

pub(crate) async fn webhook_insert(tx: &mut Tx, webhook: &Webhook, created_by: &str) -> Result<(), Error> {
    let row = row::ActiveModel {
        id: Set(webhook.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(webhook.space.uuid()),
        name: Set(webhook.name.clone()),
        verification: Set(json!(webhook.scheme).to_string()),
        credential_id: Set(webhook.credential.uuid()),
        event_id: Set(webhook.event_id.as_ref().map(|place| place.text().to_owned())),
        correlation: Set(webhook.correlation.as_ref().map(|place| place.text().to_owned())),
        prompt: Set(webhook.prompt.clone()),
        rate_limit_per_minute: Set(webhook.rate_limit_per_minute),
        allowed_cidrs: Set(networks_text(&webhook.allowed_cidrs)),
        default_priority: Set(webhook.default_priority.map(|priority| priority.as_str().to_owned())),
        enabled: Set(webhook.enabled),
        created_by: Set(created_by.to_owned()),
        created_at: Set(webhook.created_at.micros()),
        deleted_at: Set(None),
        version: Set(webhook.version),
    };
    row::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn live(tx: &Tx) -> Select<row::Entity> {
    row::Entity::find().filter(row::Column::TenantId.eq(tx.tenant().uuid())).filter(row::Column::DeletedAt.is_null())
}

/// Names of these webhooks and their Spaces, deleted ones included.
pub(crate) async fn webhook_names(
    tx: &mut Tx,
    ids: &[WebhookId],
) -> Result<Vec<(WebhookId, SpaceId, String)>, thinkwork_database::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, Uuid, String)> = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .columns([row::Column::Id, row::Column::SpaceId, row::Column::Name])
        .into_tuple()
        .all(tx.orm())
        .await?;
    let read = |(id, space, name)| (WebhookId::from_uuid(id), SpaceId::from_uuid(space), name);
    Ok(rows.into_iter().map(read).collect())
}

/// A webhook that was not deleted.
pub(crate) async fn webhook_find(tx: &mut Tx, id: WebhookId) -> Result<Option<Webhook>, Error> {
    let found = live(tx).filter(row::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    found.map(webhook).transpose()
}

/// Those of these webhooks that are there.
pub(crate) async fn webhooks_find(tx: &mut Tx, ids: &[WebhookId]) -> Result<Vec<Webhook>, Error> {
    let select = live(tx).filter(row::Column::Id.is_in(ids.iter().map(|id| id.uuid())));
    select.all(tx.orm()).await?.into_iter().map(webhook).collect()
}

/// Every webhook there ever was, deleted ones included: whose keys may be forgotten.
pub(crate) async fn webhooks_ever(tx: &mut Tx) -> Result<Vec<(WebhookId, Scheme, CredentialId)>, Error> {
    let all = row::Entity::find().filter(row::Column::TenantId.eq(tx.tenant().uuid()));
    let rows = all.all(tx.orm()).await?;
    rows.into_iter()
        .map(|row| {
            let scheme = StoredRow::new("webhook", row.id).json("verification", &row.verification)?;
            Ok((WebhookId::from_uuid(row.id), scheme, CredentialId::from_uuid(row.credential_id)))
        })
        .collect()
}

/// The Space of a webhook, a deleted one included.
pub(crate) async fn webhook_space(tx: &mut Tx, id: WebhookId) -> Result<Option<SpaceId>, Error> {
    let one =
        row::Entity::find().filter(row::Column::TenantId.eq(tx.tenant().uuid())).filter(row::Column::Id.eq(id.uuid()));
    Ok(one.one(tx.orm()).await?.map(|row| SpaceId::from_uuid(row.space_id)))
}

/// Every webhook there ever was in these Spaces.
pub(crate) async fn webhooks_of_spaces(tx: &mut Tx, spaces: &[SpaceId]) -> Result<Vec<WebhookId>, Error> {
    let all = row::Entity::find()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::SpaceId.is_in(spaces.iter().map(|id| id.uuid())));
    Ok(all.all(tx.orm()).await?.into_iter().map(|row| WebhookId::from_uuid(row.id)).collect())
}

/// Those of these Spaces, newest first.
pub(crate) async fn webhook_list(
    tx: &mut Tx,
    spaces: &[SpaceId],
    limit: u64,
    after: Option<WebhookId>,
) -> Result<Vec<Webhook>, Error> {
    let mut query = live(tx).filter(row::Column::SpaceId.is_in(spaces.iter().map(|id| id.uuid())));
    if let Some(after) = after {
        query = query.filter(row::Column::Id.lt(after.uuid()));
    }
    let rows = query.order_by_desc(row::Column::Id).limit(limit).all(tx.orm()).await?;
    rows.into_iter().map(webhook).collect()
}

/// Writes every value that a change may touch over the version before; `webhook.version` is the new one. False where the
/// webhook has another one by now.
pub(crate) async fn webhook_update(tx: &mut Tx, webhook: &Webhook) -> Result<bool, Error> {
    let text = |place: &Option<Locator>| place.as_ref().map(|place| place.text().to_owned());
    let priority = webhook.default_priority.map(|priority| priority.as_str().to_owned());
    let done = row::Entity::update_many()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(webhook.id.uuid()))
        .filter(row::Column::Version.eq(webhook.version.saturating_sub(1)))
        .filter(row::Column::DeletedAt.is_null())
        .col_expr(row::Column::Name, Expr::value(webhook.name.clone()))
        .col_expr(row::Column::EventId, Expr::value(text(&webhook.event_id)))
        .col_expr(row::Column::Correlation, Expr::value(text(&webhook.correlation)))
        .col_expr(row::Column::Prompt, Expr::value(webhook.prompt.clone()))
        .col_expr(row::Column::RateLimitPerMinute, Expr::value(webhook.rate_limit_per_minute))
        .col_expr(row::Column::AllowedCidrs, Expr::value(networks_text(&webhook.allowed_cidrs)))
        .col_expr(row::Column::DefaultPriority, Expr::value(priority))
        .col_expr(row::Column::Enabled, Expr::value(webhook.enabled))
        .col_expr(row::Column::Version, Expr::value(webhook.version))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Ends a webhook. Its row stays, so that its deliveries stay readable.
pub(crate) async fn webhook_delete(tx: &mut Tx, id: WebhookId, now: Timestamp) -> Result<(), Error> {
    row::Entity::update_many()
        .filter(row::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(row::Column::Id.eq(id.uuid()))
        .col_expr(row::Column::Enabled, Expr::value(false))
        .col_expr(row::Column::DeletedAt, Expr::value(now.micros()))
        .col_expr(row::Column::Version, Expr::col(row::Column::Version).add(1))
        .exec(tx.orm())
        .await?;
    Ok(())
}

fn networks_text(networks: &[Network]) -> Option<String> {
    let texts: Vec<Value> = networks.iter().map(|network| network.to_string().into()).collect();
    (!texts.is_empty()).then(|| Value::Array(texts).to_string())
}

/// The networks as stored. A list that cannot be read must not mean "from everywhere", so it is no webhook at all.
fn networks(stored: StoredRow, text: Option<&str>) -> Result<Vec<Network>, Error> {
    let texts: Vec<String> = stored.json_or_null("allowed_cidrs", text)?.unwrap_or_default();
    texts.iter().map(|text| Ok(stored.parse("allowed_cidrs", text)?)).collect()
}

fn webhook(row: row::Model) -> Result<Webhook, Error> {
    let stored = StoredRow::new("webhook", row.id);
    Ok(Webhook {
        id: WebhookId::from_uuid(row.id),
        space: SpaceId::from_uuid(row.space_id),
        name: row.name,
        scheme: stored.json("verification", &row.verification)?,
        credential: CredentialId::from_uuid(row.credential_id),
        event_id: row.event_id.as_deref().map(Locator::parse),
        correlation: row.correlation.as_deref().map(Locator::parse),
        prompt: row.prompt,
        rate_limit_per_minute: row.rate_limit_per_minute,
        allowed_cidrs: networks(stored, row.allowed_cidrs.as_deref())?,
        default_priority: stored.parse_or_null("default_priority", row.default_priority.as_deref())?,
        enabled: row.enabled,
        created_at: Timestamp::from_micros(row.created_at),
        version: row.version,
    })
}

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhook")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub name: String,
        pub verification: String,
        pub credential_id: Uuid,
        pub event_id: Option<String>,
        pub correlation: Option<String>,
        pub prompt: Option<String>,
        pub rate_limit_per_minute: i64,
        pub allowed_cidrs: Option<String>,
        pub default_priority: Option<String>,
        pub enabled: bool,
        pub created_by: String,
        pub created_at: i64,
        pub deleted_at: Option<i64>,
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
