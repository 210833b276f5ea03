//! Rows of `space`, `space_member`, `space_announcement` and `space_tool_source`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, OnConflict, Query};
use sea_orm::{JoinType, QueryOrder as _, QuerySelect as _};
use thinkwork_database::{StoredRow, Tx};
use thinkwork_primitives::{Actor, Requester, SpaceId, Timestamp, ToolSourceId, UserId};
use uuid::Uuid;

use super::{Announcement, Error, SourcePolicy, Space, SpaceMember, SpaceSource};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

fn named(requester: &Requester) -> String {
    format!("{}:{}", requester.kind(), requester.id())
}

pub(super) async fn space_insert(tx: &mut Tx, space: &Space, by: &Actor) -> Result<(), Error> {
    let row = space::ActiveModel {
        id: Set(space.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        slug: Set(space.slug.clone()),
        name: Set(space.name.clone()),
        access: Set(space.access.as_str().to_owned()),
        prompt: Set(space.prompt.clone()),
        reopen: Set(space.reopen),
        created_by: Set(named(&by.requester)),
        created_at: Set(space.created_at.micros()),
        version: Set(space.version),
    };
    let taken = OnConflict::columns([space::Column::TenantId, space::Column::Slug]).do_nothing().to_owned();
    let insert = space::Entity::insert(row).on_conflict(taken);
    if insert.exec_without_returning(tx.orm()).await? == 1 { Ok(()) } else { Err(Error::SlugTaken) }
}

/// False when the row has another version by now.
pub(super) async fn space_update(tx: &mut Tx, space: &Space) -> Result<bool, Error> {
    let done = space::Entity::update_many()
        .col_expr(space::Column::Name, Expr::value(space.name.clone()))
        .col_expr(space::Column::Access, Expr::value(space.access.as_str()))
        .col_expr(space::Column::Prompt, Expr::value(space.prompt.clone()))
        .col_expr(space::Column::Reopen, Expr::value(space.reopen))
        .col_expr(space::Column::Version, Expr::value(space.version.saturating_add(1)))
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(space.id.uuid()))
        .filter(space::Column::Version.eq(space.version))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

fn space_of(row: space::Model) -> Result<Space, Error> {
    let stored = StoredRow::new("space", row.id);
    Ok(Space {
        id: SpaceId::from_uuid(row.id),
        slug: row.slug,
        name: row.name,
        access: stored.parse("access", &row.access)?,
        prompt: row.prompt,
        reopen: row.reopen,
        created_at: Timestamp::from_micros(row.created_at),
        version: row.version,
    })
}

pub(super) async fn space_find(tx: &mut Tx, id: SpaceId) -> Result<Option<Space>, Error> {
    let row = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .one(tx.orm())
        .await?;
    row.map(space_of).transpose()
}

/// Those of these Spaces that are there.
pub(super) async fn spaces_find(tx: &mut Tx, ids: &[SpaceId]) -> Result<Vec<Space>, Error> {
    let rows = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .all(tx.orm())
        .await?;
    rows.into_iter().map(space_of).collect()
}

/// A Space and the sources that serve it, by one statement: every look for tools asks this.
pub(super) async fn space_with_sources(tx: &mut Tx, id: SpaceId) -> Result<Option<(Space, Vec<SpaceSource>)>, Error> {
    let of = space::Entity::belongs_to(source::Entity)
        .from((space::Column::TenantId, space::Column::Id))
        .to((source::Column::TenantId, source::Column::SpaceId));
    let rows = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .join(JoinType::LeftJoin, of.into())
        .select_also(source::Entity)
        .order_by_asc(source::Column::Id)
        .all(tx.orm())
        .await?;
    let (spaces, sources): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let sources = sources.into_iter().flatten().map(source_of).collect::<Result<_, _>>()?;
    spaces.into_iter().next().map(|space| Ok((space_of(space)?, sources))).transpose()
}

/// Holds the Space's row until this transaction ends: what is decided by its access and by how many its members are
/// must still hold when it is written. Before the first look at either.
pub(super) async fn space_lock(tx: &mut Tx, id: SpaceId) -> Result<(), Error> {
    space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.eq(id.uuid()))
        .lock(LockType::NoKeyUpdate)
        .one(tx.orm())
        .await?;
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

/// Names of these Spaces.
pub(super) async fn space_names(tx: &mut Tx, ids: &[SpaceId]) -> Result<Vec<(SpaceId, String)>, Error> {
    let rows: Vec<(Uuid, String)> = space::Entity::find()
        .filter(space::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(space::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .select_only()
        .columns([space::Column::Id, space::Column::Name])
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|(id, name)| (SpaceId::from_uuid(id), name)).collect())
}

pub(super) async fn space_ids(tx: &mut Tx, user: Option<UserId>) -> Result<Vec<SpaceId>, thinkwork_database::Error> {
    let ids: Vec<Uuid> = seen_by(tx, user).select_only().column(space::Column::Id).into_tuple().all(tx.orm()).await?;
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
    select.all(tx.orm()).await?.into_iter().map(space_of).collect()
}

fn members(tx: &Tx, space: SpaceId) -> sea_orm::Select<member::Entity> {
    member::Entity::find()
        .filter(member::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(member::Column::SpaceId.eq(space.uuid()))
}

fn member_of(row: &member::Model) -> SpaceMember {
    SpaceMember { user: UserId::from_uuid(row.user_id), joined_at: Timestamp::from_micros(row.joined_at) }
}

pub(super) async fn is_member(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<bool, Error> {
    Ok(member_find(tx, space, user).await?.is_some())
}

pub(super) async fn member_find(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<Option<SpaceMember>, Error> {
    let row = members(tx, space).filter(member::Column::UserId.eq(user.uuid())).one(tx.orm()).await?;
    Ok(row.as_ref().map(member_of))
}

pub(super) async fn member_count(tx: &mut Tx, space: SpaceId) -> Result<u64, Error> {
    Ok(members(tx, space).count(tx.orm()).await?)
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
    Ok(select.all(tx.orm()).await?.iter().map(member_of).collect())
}

/// False when they were a member before.
pub(super) async fn member_insert(
    tx: &mut Tx,
    space: SpaceId,
    user: UserId,
    by: &Actor,
    now: Timestamp,
) -> Result<bool, Error> {
    let row = member::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(space.uuid()),
        user_id: Set(user.uuid()),
        added_by: Set(named(&by.requester)),
        joined_at: Set(now.micros()),
    };
    let columns = [member::Column::TenantId, member::Column::SpaceId, member::Column::UserId];
    let insert = member::Entity::insert(row).on_conflict(OnConflict::columns(columns).do_nothing().to_owned());
    Ok(insert.exec_without_returning(tx.orm()).await? == 1)
}

pub(super) async fn announcement_insert(tx: &mut Tx, space: SpaceId, joined: Announcement) -> Result<(), Error> {
    let row = announcement::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(space.uuid()),
        user_id: Set(joined.user.uuid()),
        joined_at: Set(joined.joined_at.micros()),
    };
    announcement::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// The latest announcements since then, newest first, at most `limit`.
pub(super) async fn announcement_list(
    tx: &mut Tx,
    space: SpaceId,
    since: Timestamp,
    limit: u64,
) -> Result<Vec<Announcement>, Error> {
    let rows = announcement::Entity::find()
        .filter(announcement::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(announcement::Column::SpaceId.eq(space.uuid()))
        .filter(announcement::Column::JoinedAt.gt(since.micros()))
        .order_by_desc(announcement::Column::JoinedAt)
        .limit(limit)
        .all(tx.orm())
        .await?;
    let announcement = |row: announcement::Model| Announcement {
        user: UserId::from_uuid(row.user_id),
        joined_at: Timestamp::from_micros(row.joined_at),
    };
    Ok(rows.into_iter().map(announcement).collect())
}

pub(super) async fn member_delete(tx: &mut Tx, space: SpaceId, user: UserId) -> Result<(), Error> {
    member::Entity::delete_many()
        .filter(member::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(member::Column::SpaceId.eq(space.uuid()))
        .filter(member::Column::UserId.eq(user.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

fn source_of(row: source::Model) -> Result<SpaceSource, Error> {
    let stored = StoredRow::new("space_tool_source", row.id);
    let granted_by = Requester::from_columns(&row.granted_by_kind, &row.granted_by_id);
    Ok(SpaceSource {
        source: stored.require("source_kind", ToolSourceId::from_columns(&row.source_kind, row.source_id))?,
        policy: SourcePolicy {
            tool_allowlist: stored.json_or_null("tool_allowlist", row.tool_allowlist.as_deref())?,
            approvals: stored.json("approvals", &row.approvals)?,
        },
        granted_by: stored.require("granted_by_kind", granted_by)?,
        granted_at: Timestamp::from_micros(row.granted_at),
    })
}

pub(super) async fn source_list(tx: &mut Tx, space: SpaceId) -> Result<Vec<SpaceSource>, Error> {
    let rows = source::Entity::find()
        .filter(source::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(source::Column::SpaceId.eq(space.uuid()))
        .order_by_asc(source::Column::Id)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(source_of).collect()
}

pub(super) async fn source_set(
    tx: &mut Tx,
    space: SpaceId,
    source: ToolSourceId,
    policy: &SourcePolicy,
    by: &Actor,
    now: Timestamp,
) -> Result<(), Error> {
    let allowlist = policy.tool_allowlist.as_ref().map(|tools| serde_json::json!(tools).to_string());
    let row = source::ActiveModel {
        id: Set(Uuid::now_v7()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(space.uuid()),
        source_kind: Set(source.kind().to_owned()),
        source_id: Set(source.uuid()),
        tool_allowlist: Set(allowlist),
        approvals: Set(serde_json::json!(policy.approvals).to_string()),
        granted_by_kind: Set(by.requester.kind().to_owned()),
        granted_by_id: Set(by.requester.id()),
        granted_at: Set(now.micros()),
    };
    let columns =
        [source::Column::TenantId, source::Column::SpaceId, source::Column::SourceKind, source::Column::SourceId];
    let replace = OnConflict::columns(columns)
        .update_columns([
            source::Column::ToolAllowlist,
            source::Column::Approvals,
            source::Column::GrantedByKind,
            source::Column::GrantedById,
            source::Column::GrantedAt,
        ])
        .to_owned();
    source::Entity::insert(row).on_conflict(replace).exec_without_returning(tx.orm()).await?;
    Ok(())
}

/// False when it did not serve.
pub(super) async fn source_delete(tx: &mut Tx, space: SpaceId, id: ToolSourceId) -> Result<bool, Error> {
    let done = source::Entity::delete_many()
        .filter(source::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(source::Column::SpaceId.eq(space.uuid()))
        .filter(source::Column::SourceKind.eq(id.kind()))
        .filter(source::Column::SourceId.eq(id.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected > 0)
}

pub(super) async fn spaces_of_source(tx: &mut Tx, id: ToolSourceId) -> Result<Vec<SpaceId>, Error> {
    let rows = source::Entity::find()
        .filter(source::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(source::Column::SourceKind.eq(id.kind()))
        .filter(source::Column::SourceId.eq(id.uuid()))
        .order_by_asc(source::Column::Id)
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().map(|row| SpaceId::from_uuid(row.space_id)).collect())
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

mod announcement {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "space_announcement")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub user_id: Uuid,
        pub joined_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod source {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "space_tool_source")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub source_kind: String,
        pub source_id: Uuid,
        pub tool_allowlist: Option<String>,
        pub approvals: String,
        pub granted_by_kind: String,
        pub granted_by_id: String,
        pub granted_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
