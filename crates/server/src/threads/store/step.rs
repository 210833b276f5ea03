//! Rows of `step`.

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{Iterable as _, JoinType, QueryOrder as _, QuerySelect as _, QueryTrait as _};
use thinkwork_database::{StoredRow, Tx, retention};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, Requester, StepId, ThreadId, Timestamp, ToolSourceId, TurnId, UserId,
};
use uuid::Uuid;

use super::{Attributed, turn};
use crate::credentials::CredentialUse;
use crate::threads::{Error, NewStep, Step, StepEnd, StepStatus, Turn, rules};

fn step_of(row: entity::Model) -> Result<Step, Error> {
    let stored = StoredRow::new("step", row.id);
    let who = attributed!(stored, row);
    Ok(Step {
        id: StepId::from_uuid(row.id),
        turn: TurnId::from_uuid(row.turn_id),
        thread: ThreadId::from_uuid(row.thread_id),
        position: row.position,
        kind: stored.parse("kind", &row.kind)?,
        name: row.name,
        status: stored.parse("status", &row.status)?,
        effect: stored.parse_or_null("effect", row.effect.as_deref())?,
        idempotent: row.idempotent,
        requester: who.requester,
        client: who.client,
        subject: who.subject,
        source: source(stored, row.source_kind.as_deref(), row.source_id)?,
        input: row.input,
        output: row.output,
        input_preview: row.input_preview,
        output_preview: row.output_preview,
        failure: row.failure,
        started_at: Timestamp::from_micros(row.started_at),
        finished_at: row.finished_at.map(Timestamp::from_micros),
    })
}

/// The two columns of a tool's source, read back.
fn source(stored: StoredRow, kind: Option<&str>, id: Option<Uuid>) -> Result<Option<ToolSourceId>, Error> {
    match (kind, id) {
        (None, None) => Ok(None),
        (Some(kind), Some(id)) => Ok(Some(stored.require("source_kind", ToolSourceId::from_columns(kind, id))?)),
        _ => Err(stored.unreadable("source_kind").into()),
    }
}

fn steps_of(tx: &Tx) -> sea_orm::Select<entity::Entity> {
    entity::Entity::find().filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
}

/// A step's thread, requester (kind, id), credential subject (kind, user, connection) and source (kind, id).
type OpenedRow = (Uuid, String, Option<Uuid>, Option<Uuid>, Option<String>, Option<Uuid>);

/// Whose credentials the steps of these threads opened, and for tools of which source.
pub(crate) async fn subjects_of_threads(
    tx: &mut Tx,
    threads: &[ThreadId],
) -> Result<Vec<(ThreadId, (CredentialSubject, Option<ToolSourceId>))>, Error> {
    // Written out, since an index has these steps alone, and what is bound says nothing of an index.
    let nobody = Expr::Constant(CredentialSubject::None.kind().into());
    let rows: Vec<OpenedRow> = steps_of(tx)
        .filter(entity::Column::ThreadId.is_in(threads.iter().map(|id| id.uuid())))
        .filter(Expr::col((entity::Entity, entity::Column::SubjectKind)).ne(nobody))
        .select_only()
        .column(entity::Column::ThreadId)
        .column(entity::Column::SubjectKind)
        .column(entity::Column::SubjectUserId)
        .column(entity::Column::SubjectConnectionId)
        .column(entity::Column::SourceKind)
        .column(entity::Column::SourceId)
        .distinct()
        .into_tuple()
        .all(tx.orm())
        .await?;
    rows.into_iter()
        .map(|(thread, subject, user, connection, source_kind, source_id)| {
            let stored = StoredRow::new("step", thread);
            let subject = CredentialSubject::from_columns(&subject, user, connection);
            let subject = stored.require("subject_kind", subject)?;
            Ok((ThreadId::from_uuid(thread), (subject, source(stored, source_kind.as_deref(), source_id)?)))
        })
        .collect()
}

/// Notes on a step what was opened for it; a person's credential only where the turn is that person's. False where there
/// is no such step.
pub(crate) async fn step_record_use(
    tx: &mut Tx,
    id: StepId,
    used: CredentialUse,
) -> Result<bool, thinkwork_database::Error> {
    let tenant = tx.tenant().uuid();
    let mut update = entity::Entity::update_many();
    if let Some(user) = used.subject.user() {
        let turns = turn::entity::Entity::find()
            .filter(turn::entity::Column::TenantId.eq(tenant))
            .filter(turn::entity::Column::SubjectUserId.eq(user.uuid()))
            .select_only()
            .column(turn::entity::Column::Id)
            .into_query();
        update = update.filter(entity::Column::TurnId.in_subquery(turns));
    }
    let connection = used.subject.connection().map(|id| id.uuid());
    let noted = update
        .col_expr(entity::Column::SubjectKind, Expr::value(used.subject.kind()))
        .col_expr(entity::Column::SubjectUserId, Expr::value(used.subject.user().map(|user| user.uuid())))
        .col_expr(entity::Column::SubjectConnectionId, Expr::value(connection))
        .col_expr(entity::Column::CredentialId, Expr::value(used.credential.uuid()))
        .col_expr(entity::Column::CredentialVersion, Expr::value(used.version))
        .filter(entity::Column::TenantId.eq(tenant))
        .filter(entity::Column::Id.eq(id.uuid()))
        .exec(tx.orm())
        .await?;
    Ok(noted.rows_affected == 1)
}

/// Inserts a running step behind the turn's others.
pub(crate) async fn step_insert(tx: &mut Tx, turn: &Turn, new: NewStep, now: Timestamp) -> Result<StepId, Error> {
    let id = StepId::new();
    let last = steps_of(tx)
        .filter(entity::Column::TurnId.eq(turn.id.uuid()))
        .order_by_desc(entity::Column::Position)
        .one(tx.orm())
        .await?;
    let text = |text: Option<String>| text.map(|text| rules::storable(&text));
    let row = entity::ActiveModel {
        id: Set(id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        turn_id: Set(turn.id.uuid()),
        thread_id: Set(turn.thread.uuid()),
        position: Set(last.map_or(1, |row| row.position.saturating_add(1))),
        kind: Set(new.kind.as_str().to_owned()),
        name: Set(rules::storable(&new.name)),
        status: Set(StepStatus::Running.as_str().to_owned()),
        effect: Set(new.effect.map(|effect| effect.as_str().to_owned())),
        idempotent: Set(new.idempotent),
        requester_kind: Set(turn.requester.kind().to_owned()),
        requester_id: Set(turn.requester.id()),
        client_kind: Set(new.client.kind().to_owned()),
        client_id: Set(new.client.id()),
        subject_kind: Set(new.subject.kind().to_owned()),
        subject_user_id: Set(new.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(new.subject.connection().map(|id| id.uuid())),
        source_kind: Set(new.source.map(|source| source.kind().to_owned())),
        source_id: Set(new.source.map(ToolSourceId::uuid)),
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
    entity::Entity::insert(row).exec_without_returning(tx.orm()).await?;
    Ok(id)
}

pub(crate) async fn step_find(tx: &mut Tx, id: StepId) -> Result<Option<Step>, Error> {
    let row = steps_of(tx).filter(entity::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(step_of).transpose()
}

pub(crate) async fn step_list(tx: &mut Tx, turns: &[TurnId]) -> Result<Vec<Step>, Error> {
    let rows = steps_of(tx)
        .filter(entity::Column::TurnId.is_in(turns.iter().map(|id| id.uuid())))
        .order_by_asc(entity::Column::TurnId)
        .order_by_asc(entity::Column::Position)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(step_of).collect()
}

/// A turn's steps without their whole inputs and outputs, which may be megabytes and which nobody is shown.
pub(crate) async fn step_previews(tx: &mut Tx, turn: TurnId) -> Result<Vec<Step>, Error> {
    let shown =
        entity::Column::iter().filter(|column| !matches!(column, entity::Column::Input | entity::Column::Output));
    let rows = steps_of(tx)
        .filter(entity::Column::TurnId.eq(turn.uuid()))
        .order_by_asc(entity::Column::Position)
        .select_only()
        .columns(shown)
        .column_as(Expr::value(Option::<String>::None), entity::Column::Input)
        .column_as(Expr::value(Option::<String>::None), entity::Column::Output)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(step_of).collect()
}

/// Steps that opened this person's credentials, newest first, before `after`.
pub(crate) async fn steps_using(
    tx: &mut Tx,
    user: UserId,
    limit: u64,
    after: Option<StepId>,
) -> Result<Vec<Step>, Error> {
    let mut select = steps_of(tx)
        .filter(entity::Column::SubjectUserId.eq(user.uuid()))
        .filter(entity::Column::CredentialId.is_not_null());
    if let Some(after) = after {
        select = select.filter(entity::Column::Id.lt(after.uuid()));
    }
    let rows = select.order_by_desc(entity::Column::Id).limit(limit).all(tx.orm()).await?;
    rows.into_iter().map(step_of).collect()
}

fn step_update(tx: &Tx, id: StepId) -> sea_orm::UpdateMany<entity::Entity> {
    entity::Entity::update_many()
        .filter(entity::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(entity::Column::Id.eq(id.uuid()))
}

pub(crate) async fn step_finish(tx: &mut Tx, id: StepId, end: StepEnd, now: Timestamp) -> Result<(), Error> {
    let text = |text: Option<String>| Expr::value(text.map(|text| rules::storable(&text)));
    step_update(tx, id)
        .col_expr(entity::Column::Status, Expr::value(end.status.as_str()))
        .col_expr(entity::Column::Output, text(end.output))
        .col_expr(entity::Column::OutputPreview, text(end.output_preview))
        .col_expr(entity::Column::Failure, text(end.failure))
        .col_expr(entity::Column::FinishedAt, Expr::value(now.micros()))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// Deletes steps of turns that ended before then, oldest first, at most `limit`, and notes that on the turns. Returns how
/// many there were.
pub(crate) async fn steps_delete(tx: &mut Tx, before: Timestamp, limit: u64, now: Timestamp) -> Result<u64, Error> {
    let of_turn = entity::Entity::belongs_to(turn::entity::Entity)
        .from((entity::Column::TenantId, entity::Column::TurnId))
        .to((turn::entity::Column::TenantId, turn::entity::Column::Id));
    // A step begins before its turn ends, so the oldest ids are the ones to look at: few of them are of a turn that goes on.
    let rows: Vec<(Uuid, Uuid)> = steps_of(tx)
        .filter(entity::Column::Id.lt(before.first_id()))
        .join(JoinType::InnerJoin, of_turn.into())
        .filter(turn::entity::Column::FinishedAt.lt(before.micros()))
        .order_by_asc(entity::Column::Id)
        .limit(limit)
        .select_only()
        .columns([entity::Column::Id, entity::Column::TurnId])
        .into_tuple()
        .all(tx.orm())
        .await?;
    let (ids, mut turns): (Vec<Uuid>, Vec<Uuid>) = rows.into_iter().unzip();
    turns.sort_unstable();
    turns.dedup();
    turn::turns_note_deleted_steps(tx, turns, now).await?;
    Ok(retention::delete_rows::<entity::Entity>(tx, STEP_COLUMNS.tenant, STEP_COLUMNS.id, ids).await?)
}

/// By which steps are counted.
pub(crate) const STEP_COLUMNS: retention::Columns<entity::Entity> =
    retention::Columns { tenant: entity::Column::TenantId, id: entity::Column::Id };

mod entity {
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
        pub client_kind: String,
        pub client_id: Option<String>,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub source_kind: Option<String>,
        pub source_id: Option<Uuid>,
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
