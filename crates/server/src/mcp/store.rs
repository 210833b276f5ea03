//! Rows of `mcp_server` and `mcp_tool`.

use std::sync::Arc;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict};
use sea_orm::{JoinType, NotSet, QueryOrder as _, QuerySelect as _, QueryTrait as _};
use serde_json::Value;
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{CredentialId, McpServerId, Timestamp};
use uuid::Uuid;

use super::{Error, McpServer, McpServerStatus, ServerTool, rules};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

fn server_from(row: server::Model) -> Result<McpServer, Error> {
    let stored = StoredRow::new("mcp_server", row.id);
    let mut server = McpServer {
        id: McpServerId::from_uuid(row.id),
        name: row.name,
        slug: row.slug,
        url: row.url,
        auth: stored.json("auth", &row.auth)?,
        discovered: stored.json_or_null("discovered", row.discovered.as_deref())?,
        tool_allowlist: stored.json_or_null("tool_allowlist", row.tool_allowlist.as_deref())?,
        credential: row.credential_id.map(CredentialId::from_uuid),
        status: stored.parse("status", &row.status)?,
        definition_hash: String::new(),
        approved_hash: row.approved_hash,
        decided_by: row.decided_by,
        decided_at: row.decided_at.map(Timestamp::from_micros),
        reason: row.reason,
        issuer: row.issuer,
        outside_spaces: row.outside_spaces,
        last_error: row.last_error,
        checked_at: row.checked_at.map(Timestamp::from_micros),
        created_by: row.created_by,
        created_at: Timestamp::from_micros(row.created_at),
        version: row.version,
        tools_version: row.tools_version,
    };
    // Of what the row says now: what it was when it was written decides nothing.
    server.definition_hash = rules::definition_hash(&server);
    Ok(server)
}

fn server_row(tx: &Tx, server: &McpServer) -> server::ActiveModel {
    server::ActiveModel {
        id: Set(server.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        name: Set(server.name.clone()),
        slug: Set(server.slug.clone()),
        url: Set(server.url.clone()),
        transport: Set("streamable_http".to_owned()),
        auth: Set(Value::from(server.auth.to_json()).to_string()),
        discovered: Set(server.discovered.as_ref().and_then(|found| serde_json::to_string(found).ok())),
        tool_allowlist: Set(server.tool_allowlist.as_ref().and_then(|list| serde_json::to_string(list).ok())),
        credential_id: Set(server.credential.map(|id| id.uuid())),
        status: Set(server.status.as_str().to_owned()),
        definition_hash: Set(server.definition_hash.clone()),
        approved_hash: Set(server.approved_hash.clone()),
        decided_by: Set(server.decided_by.clone()),
        decided_at: Set(server.decided_at.map(Timestamp::micros)),
        reason: Set(server.reason.clone()),
        issuer: Set(server.issuer.clone()),
        outside_spaces: Set(server.outside_spaces),
        last_error: Set(server.last_error.clone()),
        checked_at: Set(server.checked_at.map(Timestamp::micros)),
        created_by: Set(server.created_by.clone()),
        created_at: Set(server.created_at.micros()),
        deleted_at: Set(None),
        version: Set(server.version),
        tools_version: Set(server.tools_version),
    }
}

fn taken(server: &McpServer, error: DbErr) -> Error {
    let error = thinkwork_database::Error::from(error);
    if error.is_unique_violation() { Error::SlugTaken(server.slug.clone()) } else { Error::Database(error) }
}

pub(super) async fn server_insert(tx: &mut Tx, server: &McpServer) -> Result<(), Error> {
    let row = server_row(tx, server);
    server::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(|error| taken(server, error))?;
    Ok(())
}

/// Writes the whole registration over the version it was read at, and counts the version up.
pub(super) async fn server_update(tx: &mut Tx, server: &McpServer) -> Result<(), Error> {
    let mut row = server_row(tx, server);
    row.version = Set(server.version.saturating_add(1));
    row.tools_version = NotSet;
    let changed = server::Entity::update_many()
        .set(row)
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::Id.eq(server.id.uuid()))
        .filter(server::Column::Version.eq(server.version))
        .filter(server::Column::DeletedAt.is_null())
        .exec(tx.orm())
        .await
        .map_err(|error| taken(server, error))?;
    if changed.rows_affected == 1 { Ok(()) } else { Err(Error::VersionConflict { current: server.version }) }
}

/// Notes how the last look at a server ended; no change of the registration.
pub(super) async fn server_checked(
    tx: &mut Tx,
    id: McpServerId,
    now: Timestamp,
    last_error: Option<String>,
) -> Result<(), Error> {
    server::Entity::update_many()
        .col_expr(server::Column::CheckedAt, Expr::value(now.micros()))
        .col_expr(server::Column::LastError, Expr::value(last_error))
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::Id.eq(id.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

pub(super) async fn server_delete(tx: &mut Tx, id: McpServerId, now: Timestamp) -> Result<(), Error> {
    server::Entity::update_many()
        .col_expr(server::Column::DeletedAt, Expr::value(now.micros()))
        .col_expr(server::Column::CredentialId, Expr::value(Option::<Uuid>::None))
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::Id.eq(id.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

fn servers(tx: &Tx) -> sea_orm::Select<server::Entity> {
    server::Entity::find()
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::DeletedAt.is_null())
}

pub(super) async fn server_find(tx: &mut Tx, id: McpServerId) -> Result<Option<McpServer>, Error> {
    let row = servers(tx).filter(server::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(server_from).transpose()
}

/// The same, and it stays as it is until this transaction ends.
pub(super) async fn server_lock(tx: &mut Tx, id: McpServerId) -> Result<Option<McpServer>, Error> {
    let row = servers(tx).filter(server::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate).one(tx.orm()).await?;
    row.map(server_from).transpose()
}

pub(super) async fn server_slug_used(tx: &mut Tx, slug: &str) -> Result<bool, Error> {
    Ok(servers(tx).filter(server::Column::Slug.eq(slug)).count(tx.orm()).await? > 0)
}

pub(super) async fn server_list(tx: &mut Tx, limit: u64, after: Option<McpServerId>) -> Result<Vec<McpServer>, Error> {
    let mut query = servers(tx).order_by_asc(server::Column::Id).limit(limit);
    if let Some(after) = after {
        query = query.filter(server::Column::Id.gt(after.uuid()));
    }
    query.all(tx.orm()).await?.into_iter().map(server_from).collect()
}

/// The servers that are marked for outside of Spaces.
pub(super) async fn servers_outside_spaces(tx: &mut Tx, limit: u64) -> Result<Vec<McpServerId>, Error> {
    let marked = servers(tx).filter(server::Column::OutsideSpaces.eq(true));
    let rows = marked.order_by_asc(server::Column::Id).limit(limit).all(tx.orm()).await?;
    Ok(rows.into_iter().map(|row| McpServerId::from_uuid(row.id)).collect())
}

/// The approved servers, by id.
pub(super) async fn servers_approved(tx: &mut Tx, limit: u64) -> Result<Vec<McpServer>, Error> {
    let approved = servers(tx).filter(server::Column::Status.eq(McpServerStatus::Approved.as_str()));
    let rows = approved.order_by_asc(server::Column::Id).limit(limit).all(tx.orm()).await?;
    rows.into_iter().map(server_from).collect()
}

/// These servers, by id; `only` the one with this slug.
pub(super) async fn server_list_of(
    tx: &mut Tx,
    ids: &[McpServerId],
    only: Option<&str>,
) -> Result<Vec<McpServer>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = servers(tx)
        .filter(server::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .apply_if(only, |query, slug| query.filter(server::Column::Slug.eq(slug)))
        .order_by_asc(server::Column::Id)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(server_from).collect()
}

/// Names of servers, deleted ones included: history stays readable.
pub(super) async fn server_names(
    tx: &mut Tx,
    ids: &[McpServerId],
) -> Result<Vec<(McpServerId, String)>, thinkwork_database::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = server::Entity::find()
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|row| (McpServerId::from_uuid(row.id), row.name)).collect())
}

pub(super) async fn server_pending_count(tx: &mut Tx) -> Result<u64, Error> {
    Ok(servers(tx).filter(server::Column::Status.eq("pending")).count(tx.orm()).await?)
}

fn tool_from(row: tool::Model) -> Result<ServerTool, Error> {
    let stored = StoredRow::new("mcp_tool", row.id);
    Ok(ServerTool {
        name: row.name,
        description: row.description,
        input_schema: Arc::new(stored.json("input_schema", &row.input_schema)?),
        details: Arc::new(stored.json("details", &row.details)?),
        definition_hash: row.definition_hash,
        approved_hash: row.approved_hash,
        effect: stored.parse_or_null("effect", row.effect.as_deref())?,
        idempotent: row.idempotent,
        seen_at: Timestamp::from_micros(row.seen_at),
        gone_at: row.gone_at.map(Timestamp::from_micros),
    })
}

fn tools(tx: &Tx) -> sea_orm::Select<tool::Entity> {
    tool::Entity::find().filter(tool::Column::TenantId.eq(tx.tenant().uuid()))
}

/// Tools of these servers, by name; those that are gone included.
pub(super) async fn tool_list_of(tx: &mut Tx, ids: &[McpServerId]) -> Result<Vec<(McpServerId, ServerTool)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tools(tx)
        .filter(tool::Column::McpServerId.is_in(ids.iter().map(|id| id.uuid())))
        .order_by_asc(tool::Column::Name)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(|row| Ok((McpServerId::from_uuid(row.mcp_server_id), tool_from(row)?))).collect()
}

pub(super) async fn tool_list(tx: &mut Tx, server: McpServerId) -> Result<Vec<ServerTool>, Error> {
    Ok(tool_list_of(tx, &[server]).await?.into_iter().map(|(_, tool)| tool).collect())
}

/// A tool and its server, if it is not deleted, by one statement: every call asks this.
pub(super) async fn tool_find(
    tx: &mut Tx,
    server: McpServerId,
    name: &str,
) -> Result<Option<(McpServer, ServerTool)>, Error> {
    let of = tool::Entity::belongs_to(server::Entity)
        .from((tool::Column::TenantId, tool::Column::McpServerId))
        .to((server::Column::TenantId, server::Column::Id));
    let row = tools(tx)
        .filter(tool::Column::McpServerId.eq(server.uuid()))
        .filter(tool::Column::Name.eq(name))
        .filter(server::Column::DeletedAt.is_null())
        .join(JoinType::InnerJoin, of.into())
        .select_also(server::Entity)
        .one(tx.orm())
        .await?;
    match row {
        Some((tool, Some(server))) => Ok(Some((server_from(server)?, tool_from(tool)?))),
        _ => Ok(None),
    }
}

/// Writes tools as they now are, new or known, and counts their version up. The server's row first and then the tools in
/// the order of their names, so that two who write the same server's tools at once never wait for each other in a ring.
pub(super) async fn tools_set(tx: &mut Tx, server: McpServerId, tools: &[ServerTool]) -> Result<(), Error> {
    if tools.is_empty() {
        return Ok(());
    }
    server::Entity::update_many()
        .col_expr(server::Column::ToolsVersion, Expr::col(server::Column::ToolsVersion).add(1))
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::Id.eq(server.uuid()))
        .exec(tx.orm())
        .await?;
    let mut in_order: Vec<&ServerTool> = tools.iter().collect();
    in_order.sort_by(|one, other| one.name.cmp(&other.name));
    for tool in in_order {
        tool_set(tx, server, tool).await?;
    }
    Ok(())
}

async fn tool_set(tx: &mut Tx, server: McpServerId, tool: &ServerTool) -> Result<(), Error> {
    let row = tool::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        mcp_server_id: Set(server.uuid()),
        name: Set(tool.name.clone()),
        description: Set(tool.description.clone()),
        input_schema: Set(serde_json::to_string(&*tool.input_schema).unwrap_or_default()),
        details: Set(serde_json::to_string(&*tool.details).unwrap_or_default()),
        definition_hash: Set(tool.definition_hash.clone()),
        approved_hash: Set(tool.approved_hash.clone()),
        effect: Set(tool.effect.map(|effect| effect.as_str().to_owned())),
        idempotent: Set(tool.idempotent),
        seen_at: Set(tool.seen_at.micros()),
        gone_at: Set(tool.gone_at.map(Timestamp::micros)),
    };
    let replace = OnConflict::columns([tool::Column::TenantId, tool::Column::McpServerId, tool::Column::Name])
        .update_columns([
            tool::Column::Description,
            tool::Column::InputSchema,
            tool::Column::Details,
            tool::Column::DefinitionHash,
            tool::Column::ApprovedHash,
            tool::Column::Effect,
            tool::Column::Idempotent,
            tool::Column::SeenAt,
            tool::Column::GoneAt,
        ])
        .to_owned();
    tool::Entity::insert(row).on_conflict(replace).exec_without_returning(tx.orm()).await?;
    Ok(())
}

mod server {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mcp_server")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
        pub slug: String,
        pub url: String,
        pub transport: String,
        pub auth: String,
        pub discovered: Option<String>,
        pub tool_allowlist: Option<String>,
        pub credential_id: Option<Uuid>,
        pub status: String,
        pub definition_hash: String,
        pub approved_hash: Option<String>,
        pub decided_by: Option<String>,
        pub decided_at: Option<i64>,
        pub reason: Option<String>,
        pub issuer: Option<String>,
        pub outside_spaces: bool,
        pub last_error: Option<String>,
        pub checked_at: Option<i64>,
        pub created_by: String,
        pub created_at: i64,
        pub deleted_at: Option<i64>,
        pub version: i64,
        pub tools_version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod tool {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mcp_tool")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub mcp_server_id: Uuid,
        pub name: String,
        pub description: String,
        pub input_schema: String,
        pub details: String,
        pub definition_hash: String,
        pub approved_hash: Option<String>,
        pub effect: Option<String>,
        pub idempotent: bool,
        pub seen_at: i64,
        pub gone_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
