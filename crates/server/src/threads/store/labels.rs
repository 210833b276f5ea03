//! Names of what slices below own, for the attribution line: read here because nothing above may ask them.

use sea_orm::QuerySelect as _;
use sea_orm::entity::prelude::*;
use thinkwork_database::Tx;
use thinkwork_primitives::{ConnectionId, McpServerId, WebhookId};
use uuid::Uuid;

use super::db;
use crate::threads::Error;

/// A webhook's name, also of a deleted one: history stays readable.
pub(in crate::threads) async fn webhook_name(tx: &mut Tx, id: WebhookId) -> Result<Option<String>, Error> {
    webhook::Entity::find()
        .filter(webhook::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(webhook::Column::Id.eq(id.uuid()))
        .select_only()
        .column(webhook::Column::Name)
        .into_tuple()
        .one(tx.orm())
        .await
        .map_err(db)
}

/// An MCP server's name, also of a deleted one.
pub(in crate::threads) async fn server_name(tx: &mut Tx, id: McpServerId) -> Result<Option<String>, Error> {
    mcp_server::Entity::find()
        .filter(mcp_server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(mcp_server::Column::Id.eq(id.uuid()))
        .select_only()
        .column(mcp_server::Column::Name)
        .into_tuple()
        .one(tx.orm())
        .await
        .map_err(db)
}

/// A connection's account, as its owner knows it.
pub(in crate::threads) async fn account(tx: &mut Tx, id: ConnectionId) -> Result<Option<String>, Error> {
    connection::Entity::find()
        .filter(connection::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(connection::Column::Id.eq(id.uuid()))
        .select_only()
        .column(connection::Column::Account)
        .into_tuple()
        .one(tx.orm())
        .await
        .map_err(db)
}

mod webhook {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhook")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod mcp_server {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mcp_server")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod connection {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "connection")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub account: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
