//! Rows of `turn`.

use std::collections::HashSet;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, SimpleExpr};
use sea_orm::{JoinType, QueryOrder as _, QuerySelect as _, QueryTrait as _};
use serde_json::json;
use thinkwork_database::{StoredRow, Tx, retention};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, Marks, MessageId, Requester, SpaceId, ThreadId, Timestamp, TurnId, UserId,
};
use uuid::Uuid;

use super::{Attributed, message, thread};
use crate::threads::{Error, Message, Turn, TurnStatus, rules};

fn turn_of(row: entity::Model) -> Result<Turn, Error> {
    let stored = StoredRow::new("turn", row.id);
    let who = attributed!(stored, row);
    Ok(Turn {
        id: TurnId::from_uuid(row.id),
        thread: ThreadId::from_uuid(row.thread_id),
        space: SpaceId::from_uuid(row.space_id),
        message: MessageId::from_uuid(row.message_id),
        message_sequence: row.message_sequence,
        status: stored.parse("status", &row.status)?,
        requester: who.requester,
        client: who.client,
        subject: who.subject,
        marks: Marks {
            private: row.mark_private,
            untrusted: row.mark_untrusted,
            private_to: row.private_to_user_id.map(UserId::from_uuid),
        },
        tools_offered: stored.json_or_null("tools_offered", row.tools_offered.as_deref())?,
        tools_left_out: stored.json_or_null("tools_left_out", row.tools_left_out.as_deref())?,
        failure: row.failure,
        created_at: Timestamp::from_micros(row.created_at),
        started_at: row.started_at.map(Timestamp::from_micros),
        finished_at: row.finished_at.map(Timestamp::from_micros),
        steps_deleted_at: row.steps_deleted_at.map(Timestamp::from_micros),
    })
}

/// Stores new turns whole, and of the others where they stand. Their threads are locked.
pub(crate) async fn turns_save(tx: &mut Tx, turns: &[&Turn]) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = turns.iter().map(|turn| entity::ActiveModel {
        id: Set(turn.id.uuid()),
        tenant_id: Set(tenant),
        thread_id: Set(turn.thread.uuid()),
        space_id: Set(turn.space.uuid()),
        message_id: Set(turn.message.uuid()),
        message_sequence: Set(turn.message_sequence),
        status: Set(turn.status.as_str().to_owned()),
        requester_kind: Set(turn.requester.kind().to_owned()),
        requester_id: Set(turn.requester.id()),
        client_kind: Set(turn.client.kind().to_owned()),
        client_id: Set(turn.client.id()),
        subject_kind: Set(turn.subject.kind().to_owned()),
        subject_user_id: Set(turn.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(turn.subject.connection().map(|id| id.uuid())),
        mark_private: Set(turn.marks.private),
        mark_untrusted: Set(turn.marks.untrusted),
        private_to_user_id: Set(turn.marks.private_to.map(|id| id.uuid())),
        tools_offered: Set(turn.tools_offered.as_ref().map(|offered| json!(offered).to_string())),
        tools_left_out: Set(turn.tools_left_out.as_ref().map(|left_out| json!(left_out).to_string())),
        failure: Set(turn.failure.as_deref().map(rules::storable)),
        created_at: Set(turn.created_at.micros()),
        started_at: Set(turn.started_at.map(Timestamp::micros)),
        finished_at: Set(turn.finished_at.map(Timestamp::micros)),
        steps_deleted_at: Set(turn.steps_deleted_at.map(Timestamp::micros)),
    });
    let changed = OnConflict::columns([entity::Column::TenantId, entity::Column::Id])
        .update_columns([
            entity::Column::Status,
            entity::Column::ToolsOffered,
            entity::Column::ToolsLeftOut,
            entity::Column::Failure,
            entity::Column::StartedAt,
            entity::Column::FinishedAt,
        ])
        .to_owned();
    entity::Entity::insert_many(rows).on_conflict(changed).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn turns_of(tx: &Tx) -> sea_orm::Select<entity::Entity> {
    entity::Entity::find().filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
}

pub(crate) async fn turn_find(tx: &mut Tx, id: TurnId) -> Result<Option<Turn>, Error> {
    let row = turns_of(tx).filter(entity::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(turn_of).transpose()
}

pub(crate) async fn turn_by_message(tx: &mut Tx, message: MessageId) -> Result<Option<Turn>, Error> {
    let select = turns_of(tx).filter(entity::Column::MessageId.eq(message.uuid()));
    select.one(tx.orm()).await?.map(turn_of).transpose()
}

/// Turns of a thread in the order they were queued.
pub(crate) async fn turn_list(
    tx: &mut Tx,
    thread: ThreadId,
    limit: u64,
    after: Option<TurnId>,
) -> Result<Vec<Turn>, Error> {
    let mut select = turns_of(tx).filter(entity::Column::ThreadId.eq(thread.uuid()));
    if let Some(after) = after {
        select = select.filter(entity::Column::Id.gt(after.uuid()));
    }
    let rows = select.order_by_asc(entity::Column::Id).limit(limit).all(tx.orm()).await?;
    rows.into_iter().map(turn_of).collect()
}

/// The turns that answer these messages.
pub(crate) async fn turns_of_messages(tx: &mut Tx, messages: &[MessageId]) -> Result<Vec<Turn>, Error> {
    let rows =
        turns_of(tx).filter(entity::Column::MessageId.is_in(messages.iter().map(|id| id.uuid()))).all(tx.orm()).await?;
    // Sorted here: in the order of ids SQLite would look through all turns there are.
    let mut turns = rows.into_iter().map(turn_of).collect::<Result<Vec<_>, _>>()?;
    turns.sort_unstable_by_key(|turn| turn.id);
    Ok(turns)
}

/// What a thread has to do.
pub(crate) struct ThreadQueue {
    pub thread: ThreadId,
    /// The turn that runs or waits for an approval.
    pub active: Option<TurnId>,
    /// The first one that is queued.
    pub first: Option<TurnId>,
    /// Whether more are queued behind it.
    pub has_more: bool,
}

/// The queues of these threads.
pub(crate) async fn queues_of(tx: &mut Tx, threads: &[ThreadId]) -> Result<Vec<ThreadQueue>, Error> {
    type Row = (Uuid, Option<Uuid>, Option<Uuid>, Option<Uuid>);
    let rows: Vec<Row> = thread::Entity::find()
        .filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(thread::Column::Id.is_in(threads.iter().map(|id| id.uuid())))
        .select_only()
        .column(thread::Column::Id)
        .expr_as(turn_at(entity::Column::StartedAt.is_not_null(), 0), "active")
        .expr_as(turn_at(entity::Column::StartedAt.is_null(), 0), "first")
        .expr_as(turn_at(entity::Column::StartedAt.is_null(), 1), "second")
        .into_tuple()
        .all(tx.orm())
        .await?;
    let queue = |(thread, active, first, second): Row| ThreadQueue {
        thread: ThreadId::from_uuid(thread),
        active: active.map(TurnId::from_uuid),
        first: first.map(TurnId::from_uuid),
        has_more: second.is_some(),
    };
    Ok(rows.into_iter().map(queue).collect())
}

/// The id of the thread's turn at this place of its unfinished ones that fulfil the condition. The conditions are those
/// of the indexes `turn_unique_active` and `turn_queue`; a planner could not compare a parameter with them.
fn turn_at(started: SimpleExpr, place: u64) -> SimpleExpr {
    use entity::Column;
    let select = of_outer_thread()
        .filter(started)
        .filter(Column::FinishedAt.is_null())
        .order_by_asc(Column::MessageSequence)
        .limit(1)
        .offset(place);
    SimpleExpr::SubQuery(None, Box::new(select.into_query().into()))
}

/// Ids of turns of the thread that the statement around it looks at.
fn of_outer_thread() -> sea_orm::Select<entity::Entity> {
    use entity::Column;
    entity::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Expr::col((entity::Entity, Column::TenantId)).equals((thread::Entity, thread::Column::TenantId)))
        .filter(Expr::col((entity::Entity, Column::ThreadId)).equals((thread::Entity, thread::Column::Id)))
}

/// These turns and the message that each answers, in no order.
pub(crate) async fn turns_with_messages(tx: &mut Tx, ids: &[TurnId]) -> Result<Vec<(Turn, Option<Message>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let answered = entity::Entity::belongs_to(message::Entity)
        .from((entity::Column::TenantId, entity::Column::MessageId))
        .to((message::Column::TenantId, message::Column::Id));
    let rows = turns_of(tx)
        .filter(entity::Column::Id.is_in(ids.iter().map(|id| id.uuid())))
        .join(JoinType::LeftJoin, answered.into())
        .select_also(message::Entity)
        .all(tx.orm())
        .await?;
    let found = |(turn, message): (_, Option<_>)| Ok((turn_of(turn)?, message.map(message::message_of).transpose()?));
    rows.into_iter().map(found).collect()
}

fn turn_update(tx: &Tx, id: TurnId) -> sea_orm::UpdateMany<entity::Entity> {
    entity::Entity::update_many()
        .filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(entity::Column::Id.eq(id.uuid()))
}

/// Cancels a turn that has not ended; false when it had.
pub(crate) async fn turn_cancel(tx: &mut Tx, id: TurnId, now: Timestamp) -> Result<bool, Error> {
    let done = turn_update(tx, id)
        .col_expr(entity::Column::Status, Expr::value(TurnStatus::Cancelled.as_str()))
        .col_expr(entity::Column::FinishedAt, Expr::value(now.micros()))
        .filter(entity::Column::FinishedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

pub(crate) async fn turn_tools(tx: &mut Tx, id: TurnId, offered: String, left_out: String) -> Result<(), Error> {
    turn_update(tx, id)
        .col_expr(entity::Column::ToolsOffered, Expr::value(offered))
        .col_expr(entity::Column::ToolsLeftOut, Expr::value(left_out))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Notes that steps of these turns are deleted. Nobody else writes to a turn that has ended.
pub(crate) async fn turns_note_deleted_steps(tx: &mut Tx, ids: Vec<Uuid>, now: Timestamp) -> Result<(), Error> {
    entity::Entity::update_many()
        .col_expr(entity::Column::StepsDeletedAt, Expr::value(now.micros()))
        .filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(entity::Column::Id.is_in(ids))
        .filter(entity::Column::StepsDeletedAt.is_null())
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Those of these threads that have a turn whose steps were deleted.
pub(crate) async fn threads_with_deleted_steps(tx: &mut Tx, threads: &[ThreadId]) -> Result<HashSet<ThreadId>, Error> {
    // One look into the index for each thread, however many turns it has.
    let turn = of_outer_thread().filter(entity::Column::StepsDeletedAt.is_not_null()).limit(1);
    let rows: Vec<(Uuid, Option<Uuid>)> = thread::Entity::find()
        .filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(thread::Column::Id.is_in(threads.iter().map(|id| id.uuid())))
        .select_only()
        .column(thread::Column::Id)
        .expr_as(SimpleExpr::SubQuery(None, Box::new(turn.into_query().into())), "turn")
        .into_tuple()
        .all(tx.orm())
        .await?;
    Ok(rows.into_iter().filter(|(_, turn)| turn.is_some()).map(|(id, _)| ThreadId::from_uuid(id)).collect())
}

/// Adds marks; none is ever taken away.
pub(crate) async fn turn_mark(tx: &mut Tx, id: TurnId, marks: Marks) -> Result<(), Error> {
    let mut update = turn_update(tx, id);
    if marks.private {
        update = update.col_expr(entity::Column::MarkPrivate, Expr::value(true));
    }
    if marks.untrusted {
        update = update.col_expr(entity::Column::MarkUntrusted, Expr::value(true));
    }
    if let Some(user) = marks.private_to {
        update = update.col_expr(entity::Column::PrivateToUserId, Expr::value(user.uuid()));
    }
    if marks != Marks::default() {
        update.exec(tx.orm()).await?;
    }
    Ok(())
}

/// By which turns are counted.
pub(crate) const TURN_COLUMNS: retention::Columns<entity::Entity> =
    retention::Columns { tenant: entity::Column::TenantId, id: entity::Column::Id };

pub(super) mod entity {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "turn")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub thread_id: Uuid,
        pub space_id: Uuid,
        pub message_id: Uuid,
        pub message_sequence: i64,
        pub status: String,
        pub requester_kind: String,
        pub requester_id: String,
        pub client_kind: String,
        pub client_id: Option<String>,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub mark_private: bool,
        pub mark_untrusted: bool,
        pub private_to_user_id: Option<Uuid>,
        pub tools_offered: Option<String>,
        pub tools_left_out: Option<String>,
        pub failure: Option<String>,
        pub created_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
        pub steps_deleted_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
