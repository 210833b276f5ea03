//! Rows of `thread` and `thread_event`; the other tables are in the files beside.

/// Reads the columns that say who acted, which have the same names in every table.
macro_rules! attributed {
    ($stored:expr, $row:expr) => {{
        let client = ActingClient::from_columns(&$row.client_kind, $row.client_id.as_deref());
        let user = $row.subject_user_id;
        let subject = CredentialSubject::from_columns(&$row.subject_kind, user, $row.subject_connection_id);
        let requester = Requester::from_columns(&$row.requester_kind, &$row.requester_id);
        Attributed {
            requester: $stored.require("requester_kind", requester)?,
            client: $stored.require("client_kind", client)?,
            subject: $stored.require("subject_kind", subject)?,
        }
    }};
}

pub(super) mod list;
pub(super) mod locked;
pub(super) mod message;
pub(super) mod step;
pub(super) mod turn;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType};
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::{StoredRow, Topic, Tx, retention};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, MessageId, Requester, SpaceId, StepId, ThreadId, Timestamp, TurnId,
};
use uuid::Uuid;

use super::{Error, Thread, ThreadEvent, ThreadEventKind};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error.into())
    }
}

/// A stored word or id that we never wrote.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::Damaged(what)
}

/// Who asked, through which software, and with whose credential.
struct Attributed {
    requester: Requester,
    client: ActingClient,
    subject: CredentialSubject,
}

fn thread_of(row: thread::Model) -> Result<Thread, Error> {
    let stored = StoredRow::new("thread", row.id);
    let who = attributed!(stored, row);
    Ok(Thread {
        id: ThreadId::from_uuid(row.id),
        space: SpaceId::from_uuid(row.space_id),
        title: row.title,
        status: stored.parse("status", &row.status)?,
        priority: stored.parse("priority", &row.priority)?,
        requester: who.requester,
        client: who.client,
        subject: who.subject,
        created_at: Timestamp::from_micros(row.created_at),
        updated_at: Timestamp::from_micros(row.updated_at),
        version: row.version,
    })
}

fn of_tenant(tx: &Tx) -> sea_orm::Select<thread::Entity> {
    thread::Entity::find().filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
}

pub(super) async fn thread_find(tx: &mut Tx, id: ThreadId) -> Result<Option<Thread>, Error> {
    let row = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(thread_of).transpose()
}

/// The same, and nobody else writes to the thread until this transaction ends.
pub(super) async fn thread_lock(tx: &mut Tx, id: ThreadId) -> Result<Option<Thread>, Error> {
    let select = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).lock(LockType::NoKeyUpdate);
    select.one(tx.orm()).await?.map(thread_of).transpose()
}

fn update(tx: &Tx, id: ThreadId) -> sea_orm::UpdateMany<thread::Entity> {
    thread::Entity::update_many()
        .filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(thread::Column::Id.eq(id.uuid()))
}

/// Writes title, status and priority. False when the thread has another version by now.
pub(super) async fn thread_update(tx: &mut Tx, thread: &Thread, now: Timestamp) -> Result<bool, Error> {
    let done = update(tx, thread.id)
        .col_expr(thread::Column::Title, Expr::value(thread.title.clone()))
        .col_expr(thread::Column::Status, Expr::value(thread.status.as_str()))
        .col_expr(thread::Column::Priority, Expr::value(thread.priority.as_str()))
        .col_expr(thread::Column::UpdatedAt, Expr::value(now.micros()))
        .col_expr(thread::Column::Version, Expr::value(thread.version.saturating_add(1)))
        .filter(thread::Column::Version.eq(thread.version))
        .exec(tx.orm())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Records what happened in a thread, for its stream, and wakes those who watch it.
pub(super) async fn events_insert(
    tx: &mut Tx,
    id: ThreadId,
    all: &[ThreadEventKind],
    now: Timestamp,
) -> Result<(), Error> {
    let count = i64::try_from(all.len()).map_err(|_| damaged("thread event"))?;
    let rows = update(tx, id)
        .col_expr(thread::Column::EventSequence, Expr::col(thread::Column::EventSequence).add(count))
        .col_expr(thread::Column::UpdatedAt, Expr::value(now.micros()))
        .exec_with_returning(tx.orm())
        .await?;
    let last = rows.first().map(|row| row.event_sequence).ok_or(Error::NotFound)?;
    let first = last.saturating_sub(count).saturating_add(1);
    let rows: Vec<(ThreadId, ThreadEvent)> =
        (first..).zip(all).map(|(sequence, what)| (id, ThreadEvent { sequence, what: *what })).collect();
    events_save(tx, &rows, now).await
}

/// Stores events whose places are known, and wakes those who watch their threads.
pub(super) async fn events_save(tx: &mut Tx, all: &[(ThreadId, ThreadEvent)], now: Timestamp) -> Result<(), Error> {
    let tenant = tx.tenant().uuid();
    let rows = all.iter().map(|(thread, happened)| {
        let (kind, reference) = event_columns(happened.what);
        event::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant_id: Set(tenant),
            thread_id: Set(thread.uuid()),
            sequence: Set(happened.sequence),
            kind: Set(kind.to_owned()),
            ref_id: Set(reference),
            at: Set(now.micros()),
        }
    });
    event::Entity::insert_many(rows).exec_without_returning(tx.orm()).await?;
    for (thread, _) in all {
        tx.wake(Topic::Thread, thread.uuid());
    }
    Ok(())
}

fn event_columns(what: ThreadEventKind) -> (&'static str, Uuid) {
    match what {
        ThreadEventKind::Thread(id) => ("thread", id.uuid()),
        ThreadEventKind::Message(id) => ("message", id.uuid()),
        ThreadEventKind::Turn(id) => ("turn", id.uuid()),
        ThreadEventKind::Step(id) => ("step", id.uuid()),
    }
}

fn event_of(row: event::Model) -> Result<ThreadEvent, Error> {
    let what = match row.kind.as_str() {
        "thread" => ThreadEventKind::Thread(ThreadId::from_uuid(row.ref_id)),
        "message" => ThreadEventKind::Message(MessageId::from_uuid(row.ref_id)),
        "turn" => ThreadEventKind::Turn(TurnId::from_uuid(row.ref_id)),
        "step" => ThreadEventKind::Step(StepId::from_uuid(row.ref_id)),
        _ => return Err(damaged("thread event")),
    };
    Ok(ThreadEvent { sequence: row.sequence, what })
}

/// Events after `after`, oldest first.
pub(super) async fn event_list(tx: &mut Tx, id: ThreadId, after: i64, limit: u64) -> Result<Vec<ThreadEvent>, Error> {
    let rows = event::Entity::find()
        .filter(event::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(event::Column::ThreadId.eq(id.uuid()))
        .filter(event::Column::Sequence.gt(after))
        .order_by_asc(event::Column::Sequence)
        .limit(limit)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(event_of).collect()
}

/// By which threads are counted.
pub(super) const THREAD_COLUMNS: retention::Columns<thread::Entity> =
    retention::Columns { tenant: thread::Column::TenantId, id: thread::Column::Id };

/// By which old events are found.
pub(super) const EVENT_COLUMNS: retention::Columns<event::Entity> =
    retention::Columns { tenant: event::Column::TenantId, id: event::Column::Id };

/// The place of the newest event.
pub(super) async fn event_sequence(tx: &mut Tx, id: ThreadId) -> Result<i64, Error> {
    let row = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(|row| row.event_sequence).ok_or(Error::NotFound)
}

pub(super) mod thread {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "thread")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub space_id: Uuid,
        pub channel: String,
        pub title: String,
        pub status: String,
        pub priority: String,
        pub requester_kind: String,
        pub requester_id: String,
        pub client_kind: String,
        pub client_id: Option<String>,
        pub subject_kind: String,
        pub subject_user_id: Option<Uuid>,
        pub subject_connection_id: Option<Uuid>,
        pub correlation_source: Option<String>,
        pub correlation_key: Option<String>,
        pub message_sequence: i64,
        pub event_sequence: i64,
        pub created_at: i64,
        pub updated_at: i64,
        pub version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod event {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "thread_event")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub thread_id: Uuid,
        pub sequence: i64,
        pub kind: String,
        pub ref_id: Uuid,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
