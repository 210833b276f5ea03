//! Rows of `turn` and `step`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{Iterable as _, QueryOrder as _, QuerySelect as _, QueryTrait as _};
use serde_json::Value;
use thinkwork_database::Tx;
use thinkwork_primitives::{
    CredentialSubject, Effect, Marks, McpServerId, MessageId, SpaceId, StepId, ThreadId, Timestamp, TurnId, UserId,
};
use uuid::Uuid;

use super::{attribution, damaged, db};
use crate::threads::{Error, NewStep, Step, StepEnd, StepStatus, Turn, TurnStatus, rules};

fn turn_of(row: entity::Model) -> Result<Turn, Error> {
    let (requester, subject) = attribution(
        &row.requester_kind,
        &row.requester_id,
        &row.subject_kind,
        row.subject_user_id,
        row.subject_connection_id,
    )?;
    let read = |text: String| serde_json::from_str::<Value>(&text).map_err(|_| damaged("turn tools"));
    let offered = row.tools_offered.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Turn {
        id: TurnId::from_uuid(row.id),
        thread: ThreadId::from_uuid(row.thread_id),
        space: SpaceId::from_uuid(row.space_id),
        message: MessageId::from_uuid(row.message_id),
        status: rules::turn_status_parse(&row.status).ok_or_else(|| damaged("turn status"))?,
        requester,
        subject,
        marks: Marks { private: row.mark_private, untrusted: row.mark_untrusted },
        tools_offered: offered.map_err(|_| damaged("turn tools"))?,
        tools_left_out: row.tools_left_out.map(read).transpose()?,
        failure: row.failure,
        created_at: Timestamp::from_micros(row.created_at),
        started_at: row.started_at.map(Timestamp::from_micros),
        finished_at: row.finished_at.map(Timestamp::from_micros),
    })
}

pub(in crate::threads) async fn turn_insert(tx: &mut Tx, turn: &Turn) -> Result<(), Error> {
    let row = entity::ActiveModel {
        id: Set(turn.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        thread_id: Set(turn.thread.uuid()),
        space_id: Set(turn.space.uuid()),
        message_id: Set(turn.message.uuid()),
        status: Set(rules::turn_status_word(turn.status).to_owned()),
        requester_kind: Set(turn.requester.kind().to_owned()),
        requester_id: Set(turn.requester.id()),
        subject_kind: Set(turn.subject.kind().to_owned()),
        subject_user_id: Set(turn.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(turn.subject.connection().map(|id| id.uuid())),
        mark_private: Set(turn.marks.private),
        mark_untrusted: Set(turn.marks.untrusted),
        tools_offered: Set(None),
        tools_left_out: Set(None),
        failure: Set(None),
        created_at: Set(turn.created_at.micros()),
        started_at: Set(None),
        finished_at: Set(None),
    };
    entity::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(db)?;
    Ok(())
}

fn turns_of(tx: &Tx) -> sea_orm::Select<entity::Entity> {
    entity::Entity::find().filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
}

pub(in crate::threads) async fn turn_find(tx: &mut Tx, id: TurnId) -> Result<Option<Turn>, Error> {
    let row = turns_of(tx).filter(entity::Column::Id.eq(id.uuid())).one(tx.orm()).await.map_err(db)?;
    row.map(turn_of).transpose()
}

pub(in crate::threads) async fn turn_by_message(
    tx: &mut Tx,
    thread: ThreadId,
    message: MessageId,
) -> Result<Option<Turn>, Error> {
    let row = turns_of(tx)
        .filter(entity::Column::ThreadId.eq(thread.uuid()))
        .filter(entity::Column::MessageId.eq(message.uuid()))
        .one(tx.orm())
        .await
        .map_err(db)?;
    row.map(turn_of).transpose()
}

/// Turns of a thread in the order they were queued.
pub(in crate::threads) async fn turn_list(
    tx: &mut Tx,
    thread: ThreadId,
    limit: u64,
    after: Option<TurnId>,
) -> Result<Vec<Turn>, Error> {
    let mut select = turns_of(tx).filter(entity::Column::ThreadId.eq(thread.uuid()));
    if let Some(after) = after {
        select = select.filter(entity::Column::Id.gt(after.uuid()));
    }
    let rows = select.order_by_asc(entity::Column::Id).limit(limit).all(tx.orm()).await.map_err(db)?;
    rows.into_iter().map(turn_of).collect()
}

/// The turns that answer these messages of a thread.
pub(in crate::threads) async fn turns_of_messages(
    tx: &mut Tx,
    thread: ThreadId,
    messages: &[MessageId],
) -> Result<Vec<Turn>, Error> {
    let rows = turns_of(tx)
        .filter(entity::Column::ThreadId.eq(thread.uuid()))
        .filter(entity::Column::MessageId.is_in(messages.iter().map(|id| id.uuid())))
        .order_by_asc(entity::Column::Id)
        .all(tx.orm())
        .await
        .map_err(db)?;
    rows.into_iter().map(turn_of).collect()
}

/// The first turn of a thread with this status, none of those that have ended: an index holds the others alone.
pub(in crate::threads) async fn turn_first(
    tx: &mut Tx,
    thread: ThreadId,
    status: TurnStatus,
) -> Result<Option<Turn>, Error> {
    let row = turns_of(tx)
        .filter(entity::Column::ThreadId.eq(thread.uuid()))
        .filter(entity::Column::FinishedAt.is_null())
        .filter(entity::Column::Status.eq(rules::turn_status_word(status)))
        .order_by_asc(entity::Column::Id)
        .one(tx.orm())
        .await
        .map_err(db)?;
    row.map(turn_of).transpose()
}

fn turn_update(tx: &Tx, id: TurnId) -> sea_orm::UpdateMany<entity::Entity> {
    entity::Entity::update_many()
        .filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(entity::Column::Id.eq(id.uuid()))
}

/// Makes a queued turn the running one.
pub(in crate::threads) async fn turn_start(tx: &mut Tx, id: TurnId, now: Timestamp) -> Result<(), Error> {
    turn_update(tx, id)
        .col_expr(entity::Column::Status, Expr::value(rules::turn_status_word(TurnStatus::Running)))
        .col_expr(entity::Column::StartedAt, Expr::value(now.micros()))
        .filter(entity::Column::Status.eq(rules::turn_status_word(TurnStatus::Queued)))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

/// Ends a turn that has not ended; false when it had.
pub(in crate::threads) async fn turn_end(
    tx: &mut Tx,
    id: TurnId,
    status: TurnStatus,
    failure: Option<&str>,
    now: Timestamp,
) -> Result<bool, Error> {
    let open = [TurnStatus::Queued, TurnStatus::Running, TurnStatus::WaitingApproval];
    let ended = if rules::is_over(status) { Some(now.micros()) } else { None };
    let done = turn_update(tx, id)
        .col_expr(entity::Column::Status, Expr::value(rules::turn_status_word(status)))
        .col_expr(entity::Column::Failure, Expr::value(failure.map(rules::storable)))
        .col_expr(entity::Column::FinishedAt, Expr::value(ended))
        .filter(entity::Column::Status.is_in(open.map(rules::turn_status_word)))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(done.rows_affected == 1)
}

pub(in crate::threads) async fn turn_tools(
    tx: &mut Tx,
    id: TurnId,
    offered: String,
    left_out: String,
) -> Result<(), Error> {
    turn_update(tx, id)
        .col_expr(entity::Column::ToolsOffered, Expr::value(offered))
        .col_expr(entity::Column::ToolsLeftOut, Expr::value(left_out))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

/// Adds marks; none is ever taken away.
pub(in crate::threads) async fn turn_mark(tx: &mut Tx, id: TurnId, marks: Marks) -> Result<(), Error> {
    let mut update = turn_update(tx, id);
    if marks.private {
        update = update.col_expr(entity::Column::MarkPrivate, Expr::value(true));
    }
    if marks.untrusted {
        update = update.col_expr(entity::Column::MarkUntrusted, Expr::value(true));
    }
    if marks.private || marks.untrusted {
        update.exec(tx.orm()).await.map_err(db)?;
    }
    Ok(())
}

fn step_of(row: step::Model) -> Result<Step, Error> {
    let (requester, subject) = attribution(
        &row.requester_kind,
        &row.requester_id,
        &row.subject_kind,
        row.subject_user_id,
        row.subject_connection_id,
    )?;
    Ok(Step {
        id: StepId::from_uuid(row.id),
        turn: TurnId::from_uuid(row.turn_id),
        thread: ThreadId::from_uuid(row.thread_id),
        position: row.position,
        kind: rules::step_kind_parse(&row.kind).ok_or_else(|| damaged("step kind"))?,
        name: row.name,
        status: rules::step_status_parse(&row.status).ok_or_else(|| damaged("step status"))?,
        effect: row.effect.as_deref().map(|word| Effect::from_column(Some(word))),
        idempotent: row.idempotent,
        requester,
        subject,
        server: row.mcp_server_id.map(McpServerId::from_uuid),
        input: row.input,
        output: row.output,
        input_preview: row.input_preview,
        output_preview: row.output_preview,
        failure: row.failure,
        started_at: Timestamp::from_micros(row.started_at),
        finished_at: row.finished_at.map(Timestamp::from_micros),
    })
}

fn steps_of(tx: &Tx) -> sea_orm::Select<step::Entity> {
    step::Entity::find().filter(step::Column::TenantId.eq(tx.tenant().uuid()))
}

/// A step's thread, requester (kind, id), credential subject (kind, user, connection) and server.
type OpenedRow = (Uuid, String, String, String, Option<Uuid>, Option<Uuid>, Option<Uuid>);

/// Whose credentials the steps of these threads opened, and at which server.
pub(in crate::threads) async fn subjects_of_threads(
    tx: &mut Tx,
    threads: &[ThreadId],
) -> Result<Vec<(ThreadId, (CredentialSubject, Option<McpServerId>))>, Error> {
    let turns = entity::Entity::find()
        .filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(entity::Column::ThreadId.is_in(threads.iter().map(|id| id.uuid())))
        .select_only()
        .column(entity::Column::Id)
        .into_query();
    let rows: Vec<OpenedRow> = steps_of(tx)
        .filter(step::Column::TurnId.in_subquery(turns))
        .filter(step::Column::SubjectKind.ne(CredentialSubject::None.kind()))
        .select_only()
        .column(step::Column::ThreadId)
        .column(step::Column::RequesterKind)
        .column(step::Column::RequesterId)
        .column(step::Column::SubjectKind)
        .column(step::Column::SubjectUserId)
        .column(step::Column::SubjectConnectionId)
        .column(step::Column::McpServerId)
        .distinct()
        .into_tuple()
        .all(tx.orm())
        .await
        .map_err(db)?;
    rows.into_iter()
        .map(|(thread, kind, id, subject, user, connection, server)| {
            let (_, subject) = attribution(&kind, &id, &subject, user, connection)?;
            Ok((ThreadId::from_uuid(thread), (subject, server.map(McpServerId::from_uuid))))
        })
        .collect()
}

/// Inserts a running step behind the turn's others.
pub(in crate::threads) async fn step_insert(
    tx: &mut Tx,
    turn: &Turn,
    new: NewStep,
    now: Timestamp,
) -> Result<StepId, Error> {
    let id = StepId::new();
    let last = steps_of(tx)
        .filter(step::Column::TurnId.eq(turn.id.uuid()))
        .order_by_desc(step::Column::Position)
        .one(tx.orm())
        .await
        .map_err(db)?;
    let text = |text: Option<String>| text.map(|text| rules::storable(&text));
    let row = step::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        turn_id: Set(turn.id.uuid()),
        thread_id: Set(turn.thread.uuid()),
        position: Set(last.map_or(1, |row| row.position.saturating_add(1))),
        kind: Set(rules::step_kind_word(new.kind).to_owned()),
        name: Set(rules::storable(&new.name)),
        status: Set(rules::step_status_word(StepStatus::Running).to_owned()),
        effect: Set(new.effect.map(|effect| effect.word().to_owned())),
        idempotent: Set(new.idempotent),
        requester_kind: Set(turn.requester.kind().to_owned()),
        requester_id: Set(turn.requester.id()),
        subject_kind: Set(new.subject.kind().to_owned()),
        subject_user_id: Set(new.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(new.subject.connection().map(|id| id.uuid())),
        mcp_server_id: Set(new.server.map(|id| id.uuid())),
        credential_id: Set(None),
        credential_version: Set(None),
        definition_hash: Set(new.definition_hash),
        call_hash: Set(new.call_hash),
        input: Set(text(new.input)),
        output: Set(None),
        input_preview: Set(text(new.input_preview)),
        output_preview: Set(None),
        failure: Set(None),
        started_at: Set(now.micros()),
        finished_at: Set(None),
    };
    step::Entity::insert(row).exec_without_returning(tx.orm()).await.map_err(db)?;
    Ok(id)
}

pub(in crate::threads) async fn step_find(tx: &mut Tx, id: StepId) -> Result<Option<Step>, Error> {
    let row = steps_of(tx).filter(step::Column::Id.eq(id.uuid())).one(tx.orm()).await.map_err(db)?;
    row.map(step_of).transpose()
}

pub(in crate::threads) async fn step_list(tx: &mut Tx, turns: &[TurnId]) -> Result<Vec<Step>, Error> {
    let rows = steps_of(tx)
        .filter(step::Column::TurnId.is_in(turns.iter().map(|id| id.uuid())))
        .order_by_asc(step::Column::TurnId)
        .order_by_asc(step::Column::Position)
        .all(tx.orm())
        .await
        .map_err(db)?;
    rows.into_iter().map(step_of).collect()
}

/// A turn's steps without their whole inputs and outputs, which may be megabytes and which nobody is shown.
pub(in crate::threads) async fn step_previews(tx: &mut Tx, turn: TurnId) -> Result<Vec<Step>, Error> {
    let shown = step::Column::iter().filter(|column| !matches!(column, step::Column::Input | step::Column::Output));
    let rows = steps_of(tx)
        .filter(step::Column::TurnId.eq(turn.uuid()))
        .order_by_asc(step::Column::Position)
        .select_only()
        .columns(shown)
        .column_as(Expr::value(Option::<String>::None), step::Column::Input)
        .column_as(Expr::value(Option::<String>::None), step::Column::Output)
        .all(tx.orm())
        .await
        .map_err(db)?;
    rows.into_iter().map(step_of).collect()
}

/// Steps that opened this person's credentials, newest first, before `after`.
pub(in crate::threads) async fn steps_using(
    tx: &mut Tx,
    user: UserId,
    limit: u64,
    after: Option<StepId>,
) -> Result<Vec<Step>, Error> {
    let mut select = steps_of(tx)
        .filter(step::Column::SubjectUserId.eq(user.uuid()))
        .filter(step::Column::CredentialId.is_not_null());
    if let Some(after) = after {
        select = select.filter(step::Column::Id.lt(after.uuid()));
    }
    let rows = select.order_by_desc(step::Column::Id).limit(limit).all(tx.orm()).await.map_err(db)?;
    rows.into_iter().map(step_of).collect()
}

fn step_update(tx: &Tx, id: StepId) -> sea_orm::UpdateMany<step::Entity> {
    step::Entity::update_many()
        .filter(step::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(step::Column::Id.eq(id.uuid()))
}

pub(in crate::threads) async fn step_finish(
    tx: &mut Tx,
    id: StepId,
    end: StepEnd,
    now: Timestamp,
) -> Result<(), Error> {
    let text = |text: Option<String>| Expr::value(text.map(|text| rules::storable(&text)));
    step_update(tx, id)
        .col_expr(step::Column::Status, Expr::value(rules::step_status_word(end.status)))
        .col_expr(step::Column::Output, text(end.output))
        .col_expr(step::Column::OutputPreview, text(end.output_preview))
        .col_expr(step::Column::Failure, text(end.failure))
        .col_expr(step::Column::FinishedAt, Expr::value(now.micros()))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

mod entity {
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
        pub status: String,
        pub requester_kind: String,
        pub requester_id: String,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub mark_private: bool,
        pub mark_untrusted: bool,
        pub tools_offered: Option<String>,
        pub tools_left_out: Option<String>,
        pub failure: Option<String>,
        pub created_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod step {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "step")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub turn_id: Uuid,
        pub thread_id: Uuid,
        pub position: i64,
        pub kind: String,
        pub name: String,
        pub status: String,
        pub effect: Option<String>,
        pub idempotent: bool,
        pub requester_kind: String,
        pub requester_id: String,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub mcp_server_id: Option<Uuid>,
        pub credential_id: Option<Uuid>,
        pub credential_version: Option<i64>,
        pub definition_hash: Option<String>,
        pub call_hash: Option<String>,
        pub input: Option<String>,
        pub output: Option<String>,
        pub input_preview: Option<String>,
        pub output_preview: Option<String>,
        pub failure: Option<String>,
        pub started_at: i64,
        pub finished_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
