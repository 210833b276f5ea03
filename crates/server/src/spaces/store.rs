//! Rows of `space`, `space_member` and `space_mcp_server`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, Query};
use sea_orm::{JoinType, QueryOrder as _, QuerySelect as _};
use thinkwork_database::Tx;
use thinkwork_primitives::{McpServerId, Requester, SpaceId, Timestamp, UserId};
use uuid::Uuid;

use super::{Error, Space, SpaceMember, SpaceServer, rules};

fn db(error: DbErr) -> Error {
    Error::Database(error.into())
}

fn named(requester: &Requester) -> String {
    format!("{}:{}", requester.kind(), requester.id())
}

pub(super) async fn space_insert(tx: &mut Tx, space: &Space, by: &Requester) -> Result<(), Error> {
    let row = space::ActiveModel {
        id: Set(space.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        slug: Set(space.slug.clone()),
        name: Set(space.name.clone()),
        access: Set(rules::access_word(space.access).to_owned()),
        prompt: Set(space.prompt.clone()),
        reopen: Set(space.reopen),
        created_by: Set(named(by)),
        created_at: Set(space.created_at.micros()),
        version: Set(space.version),
    };
    let taken = OnConflict::columns([space::Column::TenantId, space::Column::Slug]).do_nothing().to_owned();
    let insert = space::Entity::insert(row).on_conflict(taken);
    if insert.exec_without_returning(tx.orm()).await.map_err(db)? == 1 { Ok(()) } else { Err(Error::SlugTaken) }
}

/// False when the row has another version by now.
pub(super) async fn space_update(tx: &mut Tx, space: &Space) -> Result<bool, Error> {
    let done = space::Entity::update_many()
        .col_expr(space::Column::Name, Expr::value(space.name.clone()))
        .col_expr(space::Column::Access, Expr::value(rules::access_word(space.access)))
        .col_expr(space::Column::Prompt, Expr::value(space.prompt.clone()))
        .col_expr(space::Column::Reopen, Expr::value(space.reopen))
        .col_expr(space::Column::Version, Expr::value(space.version.saturating_add(1)))
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(space.id.uuid()))
        .filter(space::Column::Version.eq(space.version))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(done.rows_affected == 1)
}

fn space_of(row: space::Model) -> Space {
    Space {
        id: SpaceId::from_uuid(row.id),
        slug: row.slug,
        name: row.name,
        access: rules::access_from_word(&row.access),
        prompt: row.prompt,
        reopen: row.reopen,
        created_at: Timestamp::from_micros(row.created_at),
        version: row.version,
    }
}

pub(super) async fn space_find(tx: &mut Tx, id: SpaceId) -> Result<Option<Space>, Error> {
    let row = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await
        .map_err(db)?;
    Ok(row.map(space_of))
}

/// A Space and the servers that serve it, by one statement: every look for tools asks this.
pub(super) async fn space_with_servers(tx: &mut Tx, id: SpaceId) -> Result<Option<(Space, Vec<SpaceServer>)>, Error> {
    let of = space::Entity::belongs_to(server::Entity)
        .from((space::Column::TenantId, space::Column::Id))
        .to((server::Column::TenantId, server::Column::SpaceId));
    let rows = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .join(JoinType::LeftJoin, of.into())
        .select_also(server::Entity)
        .order_by_asc(server::Column::Id)
        .all(tx.orm())
        .await
        .map_err(db)?;
    let (spaces, servers): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let servers = servers.into_iter().flatten().map(server_of).collect();
    Ok(spaces.into_iter().next().map(|space| (space_of(space), servers)))
}

/// Holds the Space's row until this transaction ends: what is decided by its access and by how many its members are
/// must still hold when it is written. Before the first look at either.
pub(super) async fn space_lock(tx: &mut Tx, id: SpaceId) -> Result<(), Error> {
    space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .lock_exclusive()
        .one(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

/// Spaces that this person, or nobody in particular, may see.
fn seen_by(tx: &Tx, user: Option<UserId>) -> sea_orm::Select<space::Entity> {
    let tenant = tx.tenant().uuid();
    let public = space::Column::Access.eq("public");
    let seen = match user {
        None => public,
        Some(user) => {
            let own = Query::select()
                .column(member::Column::SpaceId)
                .from(member::Entity)
                .and_where(member::Column::TenantId.eq(tenant))
                .and_where(member::Column::UserId.eq(user.uuid()))
                .to_owned();
            public.or(space::Column::Id.in_subquery(own))
        }
    };
    space::Entity::find().filter(space::Column::TenantId.eq(tenant)).filter(seen)
}

pub(super) async fn space_ids(tx: &mut Tx, user: Option<UserId>) -> Result<Vec<SpaceId>, Error> {
    let ids: Vec<Uuid> =
        seen_by(tx, user).select_only().column(space::Column::Id).into_tuple().all(tx.orm()).await.map_err(db)?;
    Ok(ids.into_iter().map(SpaceId::from_uuid).collect())
}

pub(super) async fn space_list(
    tx: &mut Tx,
    user: Option<UserId>,
    limit: u64,
    after: Option<SpaceId>,
) -> Result<Vec<Space>, Error> {
    let mut select = seen_by(tx, user).order_by_asc(space::Column::Id).limit(limit);
    if let Some(after) = after {
        select = select.filter(space::Column::Id.gt(after.uuid()));
    }
    Ok(select.all(tx.orm()).await.map_err(db)?.into_iter().map(space_of).collect())
}

fn members(tx: &Tx, space: SpaceId) -> sea_orm::Select<member::Entity> {
    member::Entity::find()
        .filter(member::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(member::Column::SpaceId.eq(space.uuid()))
}

fn member_of(row: &member::Model) -> SpaceMember {
    let user = UserId::from_uuid(row.user_id);
    SpaceMember {
        user,
        joined_at: Timestamp::from_micros(row.joined_at),
        by_themselves: row.added_by == named(&Requester::User(user)),
    }
}

pub(super) async fn is_member(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<bool, Error> {
    Ok(member_find(tx, space, user).await?.is_some())
}

pub(super) async fn member_find(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<Option<SpaceMember>, Error> {
    let row = members(tx, space).filter(member::Column::UserId.eq(user.uuid())).one(tx.orm()).await.map_err(db)?;
    Ok(row.as_ref().map(member_of))
}

pub(super) async fn member_count(tx: &mut Tx, space: SpaceId) -> Result<u64, Error> {
    members(tx, space).count(tx.orm()).await.map_err(db)
}

pub(super) async fn member_list(
    tx: &mut Tx,
    space: SpaceId,
    limit: u64,
    after: Option<UserId>,
) -> Result<Vec<SpaceMember>, Error> {
    let mut select = members(tx, space).order_by_asc(member::Column::UserId).limit(limit);
    if let Some(after) = after {
        select = select.filter(member::Column::UserId.gt(after.uuid()));
    }
    Ok(select.all(tx.orm()).await.map_err(db)?.iter().map(member_of).collect())
}

/// False when they were a member before.
pub(super) async fn member_insert(
    tx: &mut Tx,
    space: SpaceId,
    user: UserId,
    by: &Requester,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = member::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(space.uuid()),
        user_id: Set(user.uuid()),
        added_by: Set(named(by)),
        joined_at: Set(now.micros()),
    };
    let columns = [member::Column::TenantId, member::Column::SpaceId, member::Column::UserId];
    let insert = member::Entity::insert(row).on_conflict(OnConflict::columns(columns).do_nothing().to_owned());
    Ok(insert.exec_without_returning(tx.orm()).await.map_err(db)? == 1)
}

pub(super) async fn member_delete(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<(), Error> {
    member::Entity::delete_many()
        .filter(member::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(member::Column::SpaceId.eq(space.uuid()))
        .filter(member::Column::UserId.eq(user.uuid()))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

/// Whether a live registration of this tenant has this id. The `mcp` slice is below, so its table is read here.
pub(super) async fn mcp_server_exists(tx: &mut Tx, id: McpServerId) -> Result<bool, Error> {
    let found = mcp_server::Entity::find()
        .filter(mcp_server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(mcp_server::Column::Id.eq(id.uuid()))
        .filter(mcp_server::Column::DeletedAt.is_null())
        .one(tx.orm())
        .await
        .map_err(db)?;
    Ok(found.is_some())
}

fn server_of(row: server::Model) -> SpaceServer {
    // What was written by us reads back; a damaged list allows nothing rather than everything.
    let allowlist = row.tool_allowlist.map(|text| serde_json::from_str(&text).unwrap_or_default());
    SpaceServer {
        server: McpServerId::from_uuid(row.mcp_server_id),
        tool_allowlist: allowlist,
        approvals: serde_json::from_str(&row.approvals).unwrap_or_default(),
    }
}

pub(super) async fn server_list(tx: &mut Tx, space: SpaceId) -> Result<Vec<SpaceServer>, Error> {
    let rows = server::Entity::find()
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::SpaceId.eq(space.uuid()))
        .order_by_asc(server::Column::Id)
        .all(tx.orm())
        .await
        .map_err(db)?;
    Ok(rows.into_iter().map(server_of).collect())
}

pub(super) async fn server_put(
    tx: &mut Tx,
    space: SpaceId,
    policy: &SpaceServer,
    by: &Requester,
    now: Timestamp,
) -> Result<(), Error> {
    let allowlist = policy.tool_allowlist.as_ref().map(|tools| serde_json::json!(tools).to_string());
    let row = server::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(space.uuid()),
        mcp_server_id: Set(policy.server.uuid()),
        tool_allowlist: Set(allowlist),
        approvals: Set(serde_json::Value::Object(policy.approvals.clone()).to_string()),
        added_by: Set(named(by)),
        added_at: Set(now.micros()),
    };
    let columns = [server::Column::TenantId, server::Column::SpaceId, server::Column::McpServerId];
    let replace = OnConflict::columns(columns)
        .update_columns([server::Column::ToolAllowlist, server::Column::Approvals])
        .to_owned();
    server::Entity::insert(row).on_conflict(replace).exec_without_returning(tx.orm()).await.map_err(db)?;
    Ok(())
}

/// False when it did not serve.
pub(super) async fn server_delete(tx: &mut Tx, space: SpaceId, id: McpServerId) -> Result<bool, Error> {
    let done = server::Entity::delete_many()
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::SpaceId.eq(space.uuid()))
        .filter(server::Column::McpServerId.eq(id.uuid()))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(done.rows_affected > 0)
}

pub(super) async fn spaces_of_server(tx: &mut Tx, id: McpServerId) -> Result<Vec<SpaceId>, Error> {
    let rows = server::Entity::find()
        .filter(server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(server::Column::McpServerId.eq(id.uuid()))
        .order_by_asc(server::Column::Id)
        .all(tx.orm())
        .await
        .map_err(db)?;
    Ok(rows.into_iter().map(|row| SpaceId::from_uuid(row.space_id)).collect())
}

/// What these servers are called.
pub(super) async fn server_names(tx: &mut Tx, ids: &[McpServerId]) -> Result<Vec<(McpServerId, String)>, Error> {
    let found: Vec<(Uuid, String)> = mcp_server::Entity::find()
        .filter(mcp_server::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(mcp_server::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .columns([mcp_server::Column::Id, mcp_server::Column::Name])
        .order_by_asc(mcp_server::Column::Name)
        .into_tuple()
        .all(tx.orm())
        .await
        .map_err(db)?;
    Ok(found.into_iter().map(|(id, name)| (McpServerId::from_uuid(id), name)).collect())
}

mod space {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "space")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub slug: String,
        pub name: String,
        pub access: String,
        pub prompt: Option<String>,
        pub reopen: bool,
        pub created_by: String,
        pub created_at: i64,
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod member {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "space_member")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub user_id: Uuid,
        pub added_by: String,
        pub joined_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod server {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "space_mcp_server")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub mcp_server_id: Uuid,
        pub tool_allowlist: Option<String>,
        pub approvals: String,
        pub added_by: String,
        pub added_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The columns of `mcp_server` that are read here; the `mcp` slice owns the table.
mod mcp_server {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mcp_server")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub name: String,
        pub deleted_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
