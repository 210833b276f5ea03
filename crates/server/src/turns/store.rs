//! The row of `agent`: one a tenant.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use thinkwork_database::Tx;
use thinkwork_primitives::{CredentialId, Timestamp};
use uuid::Uuid;

use super::Error;
use super::agent::{Agent, Model as AgentModel};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

/// The settings; empty ones where none were stored.
pub(super) async fn agent_find(tx: &mut Tx) -> Result<Agent, Error> {
    let row = Entity::find().filter(Column::TenantId.eq(tx.tenant().uuid())).one(tx.orm()).await?;
    let Some(row) = row else { return Ok(Agent::default()) };
    Ok(Agent {
        model: row.model_base_url.zip(row.model).map(|(base_url, name)| AgentModel { base_url, name }),
        instructions: row.instructions,
        credential: row.credential_id.map(CredentialId::from_uuid),
        updated_at: Some(Timestamp::from_micros(row.updated_at)),
        version: row.version,
    })
}

/// Stores the settings in place of those before.
pub(super) async fn agent_set(tx: &mut Tx, agent: &Agent, now: Timestamp) -> Result<(), Error> {
    let (model_base_url, model) = agent.model.clone().map(|model| (model.base_url, model.name)).unzip();
    let row = ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        model_base_url: Set(model_base_url),
        model: Set(model),
        instructions: Set(agent.instructions.clone()),
        credential_id: Set(agent.credential.map(CredentialId::uuid)),
        updated_at: Set(now.micros()),
        version: Set(agent.version),
    };
    let replace = OnConflict::column(Column::TenantId)
        .update_columns([
            Column::ModelBaseUrl,
            Column::Model,
            Column::Instructions,
            Column::CredentialId,
            Column::UpdatedAt,
            Column::Version,
        ])
        .to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(tx.orm()).await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub model_base_url: Option<String>,
    pub model: Option<String>,
    pub instructions: String,
    pub credential_id: Option<Uuid>,
    pub updated_at: i64,
    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
