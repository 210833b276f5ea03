//! Rows of `thread` and `thread_event`; the other tables are in the files beside.

pub(super) mod labels;
pub(super) mod message;
pub(super) mod turn;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, LikeExpr, OnConflict};
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _};
use thinkwork_database::{Topic, Tx};
use thinkwork_primitives::{
    Channel, CredentialSubject, MessageId, Requester, SpaceId, StepId, ThreadId, Timestamp, TurnId,
};
use uuid::Uuid;

use super::{Changed, Error, Priority, Thread, ThreadEvent, ThreadFilter, ThreadStatus, rules};

pub(super) fn db(error: DbErr) -> Error {
    Error::Database(error.into())
}

/// A stored word or id that we never wrote.
pub(super) fn damaged(what: &'static str) -> Error {
    Error::Damaged(what)
}

/// The six columns of attribution, read back.
pub(super) fn attribution(
    kind: &str,
    id: &str,
    subject: &str,
    user: Option<Uuid>,
    connection: Option<Uuid>,
) -> Result<(Requester, CredentialSubject), Error> {
    let requester = Requester::from_columns(kind, id).ok_or(Error::Damaged("requester"))?;
    let subject =
        CredentialSubject::from_columns(subject, user, connection).ok_or(Error::Damaged("credential subject"))?;
    Ok((requester, subject))
}

fn thread_of(row: thread::Model) -> Result<Thread, Error> {
    let (requester, subject) = attribution(
        &row.requester_kind,
        &row.requester_id,
        &row.subject_kind,
        row.subject_user_id,
        row.subject_connection_id,
    )?;
    Ok(Thread {
        id: ThreadId::from_uuid(row.id),
        space: SpaceId::from_uuid(row.space_id),
        title: row.title,
        status: rules::status_parse(&row.status).ok_or_else(|| damaged("thread status"))?,
        priority: rules::priority_parse(&row.priority).ok_or_else(|| damaged("priority"))?,
        requester,
        subject,
        created_at: Timestamp::from_micros(row.created_at),
        updated_at: Timestamp::from_micros(row.updated_at),
        version: row.version,
    })
}

/// Inserts a thread; false when another one of the same source has the correlation key.
pub(super) async fn thread_insert(
    tx: &mut Tx,
    thread: &Thread,
    correlation: Option<&(String, String)>,
) -> Result<bool, Error> {
    let row = thread::ActiveModel {
        id: Set(thread.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        space_id: Set(thread.space.uuid()),
        channel: Set(thread.id.channel().word().to_owned()),
        title: Set(thread.title.clone()),
        status: Set(rules::status_word(thread.status).to_owned()),
        priority: Set(rules::priority_word(thread.priority).to_owned()),
        requester_kind: Set(thread.requester.kind().to_owned()),
        requester_id: Set(thread.requester.id()),
        subject_kind: Set(thread.subject.kind().to_owned()),
        subject_user_id: Set(thread.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(thread.subject.connection().map(|id| id.uuid())),
        correlation_source: Set(correlation.map(|(source, _)| source.clone())),
        correlation_key: Set(correlation.map(|(_, key)| key.clone())),
        message_sequence: Set(0),
        event_sequence: Set(0),
        created_at: Set(thread.created_at.micros()),
        updated_at: Set(thread.updated_at.micros()),
        version: Set(thread.version),
    };
    let insert = thread::Entity::insert(row).on_conflict(OnConflict::new().do_nothing().to_owned());
    Ok(insert.exec_without_returning(tx.orm()).await.map_err(db)? == 1)
}

fn of_tenant(tx: &Tx) -> sea_orm::Select<thread::Entity> {
    thread::Entity::find().filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
}

pub(super) async fn thread_find(tx: &mut Tx, id: ThreadId) -> Result<Option<Thread>, Error> {
    let row = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).one(tx.orm()).await.map_err(db)?;
    row.map(thread_of).transpose()
}

/// The same, and nobody else writes to the thread until this transaction ends.
pub(super) async fn thread_lock(tx: &mut Tx, id: ThreadId) -> Result<Option<Thread>, Error> {
    let select = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).lock_exclusive();
    select.one(tx.orm()).await.map_err(db)?.map(thread_of).transpose()
}

pub(super) async fn thread_by_correlation(tx: &mut Tx, source: &str, key: &str) -> Result<Option<Thread>, Error> {
    let row = of_tenant(tx)
        .filter(thread::Column::CorrelationSource.eq(source))
        .filter(thread::Column::CorrelationKey.eq(key))
        .lock_exclusive()
        .one(tx.orm())
        .await
        .map_err(db)?;
    row.map(thread_of).transpose()
}

fn update(tx: &Tx, id: ThreadId) -> sea_orm::UpdateMany<thread::Entity> {
    thread::Entity::update_many()
        .filter(thread::Column::TenantId.eq(tx.tenant().uuid()))
        .filter(thread::Column::Id.eq(id.uuid()))
}

/// Takes the correlation key from a thread that no longer answers to it.
pub(super) async fn thread_release(tx: &mut Tx, id: ThreadId) -> Result<(), Error> {
    update(tx, id)
        .col_expr(thread::Column::CorrelationSource, Expr::value(Option::<String>::None))
        .col_expr(thread::Column::CorrelationKey, Expr::value(Option::<String>::None))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(())
}

/// Writes title, status and priority. False when the thread has another version by now.
pub(super) async fn thread_update(tx: &mut Tx, thread: &Thread, now: Timestamp) -> Result<bool, Error> {
    let done = update(tx, thread.id)
        .col_expr(thread::Column::Title, Expr::value(thread.title.clone()))
        .col_expr(thread::Column::Status, Expr::value(rules::status_word(thread.status)))
        .col_expr(thread::Column::Priority, Expr::value(rules::priority_word(thread.priority)))
        .col_expr(thread::Column::UpdatedAt, Expr::value(now.micros()))
        .col_expr(thread::Column::Version, Expr::value(thread.version.saturating_add(1)))
        .filter(thread::Column::Version.eq(thread.version))
        .exec(tx.orm())
        .await
        .map_err(db)?;
    Ok(done.rows_affected == 1)
}

/// The next message sequence of a thread; the row stays locked, so sequences are committed in order.
pub(super) async fn message_sequence_next(tx: &mut Tx, id: ThreadId) -> Result<i64, Error> {
    let rows = update(tx, id)
        .col_expr(thread::Column::MessageSequence, Expr::col(thread::Column::MessageSequence).add(1))
        .exec_with_returning(tx.orm())
        .await
        .map_err(db)?;
    rows.first().map(|row| row.message_sequence).ok_or(Error::NotFound)
}

/// Records what happened in a thread, for its stream, and wakes those who watch it.
pub(super) async fn events_insert(tx: &mut Tx, id: ThreadId, all: &[Changed], now: Timestamp) -> Result<(), Error> {
    let count = i64::try_from(all.len()).map_err(|_| damaged("thread event"))?;
    let rows = update(tx, id)
        .col_expr(thread::Column::EventSequence, Expr::col(thread::Column::EventSequence).add(count))
        .col_expr(thread::Column::UpdatedAt, Expr::value(now.micros()))
        .exec_with_returning(tx.orm())
        .await
        .map_err(db)?;
    let last = rows.first().map(|row| row.event_sequence).ok_or(Error::NotFound)?;
    let first = last.saturating_sub(count).saturating_add(1);
    let tenant = tx.tenant().uuid();
    let rows = (first..).zip(all).map(|(sequence, what)| {
        let (kind, reference) = changed_words(*what);
        event::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant_id: Set(tenant),
            thread_id: Set(id.uuid()),
            sequence: Set(sequence),
            kind: Set(kind.to_owned()),
            ref_id: Set(reference),
            at: Set(now.micros()),
        }
    });
    event::Entity::insert_many(rows).exec_without_returning(tx.orm()).await.map_err(db)?;
    tx.wake(Topic::Thread, id.uuid());
    Ok(())
}

fn changed_words(what: Changed) -> (&'static str, Uuid) {
    match what {
        Changed::Thread(id) => ("thread", id.uuid()),
        Changed::Message(id) => ("message", id.uuid()),
        Changed::Turn(id) => ("turn", id.uuid()),
        Changed::Step(id) => ("step", id.uuid()),
    }
}

fn event_of(row: event::Model) -> Result<ThreadEvent, Error> {
    let what = match row.kind.as_str() {
        "thread" => Changed::Thread(ThreadId::from_uuid(row.ref_id)),
        "message" => Changed::Message(MessageId::from_uuid(row.ref_id)),
        "turn" => Changed::Turn(TurnId::from_uuid(row.ref_id)),
        "step" => Changed::Step(StepId::from_uuid(row.ref_id)),
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
        .await
        .map_err(db)?;
    rows.into_iter().map(event_of).collect()
}

/// The place of the newest event.
pub(super) async fn event_sequence(tx: &mut Tx, id: ThreadId) -> Result<i64, Error> {
    let row = of_tenant(tx).filter(thread::Column::Id.eq(id.uuid())).one(tx.orm()).await.map_err(db)?;
    row.map(|row| row.event_sequence).ok_or(Error::NotFound)
}

/// Threads of these Spaces, the latest first, after the place `after`.
pub(super) async fn thread_list(
    tx: &mut Tx,
    spaces: &[SpaceId],
    filter: &ThreadFilter,
    limit: u64,
    after: Option<(Timestamp, ThreadId)>,
) -> Result<Vec<Thread>, Error> {
    let spaces: Vec<Uuid> =
        spaces.iter().filter(|id| filter.space.is_none_or(|space| space == **id)).map(|id| id.uuid()).collect();
    let mut select = of_tenant(tx).filter(thread::Column::SpaceId.is_in(spaces));
    if let Some(status) = filter.status {
        select = select.filter(thread::Column::Status.eq(rules::status_word(status)));
    }
    if let Some(channel) = filter.channel {
        select = select.filter(thread::Column::Channel.eq(channel.word()));
    }
    if let Some(requester) = &filter.requester {
        select = select.filter(thread::Column::RequesterId.eq(requester.as_str()));
    }
    if let Some(words) = &filter.words {
        let escaped = words.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let like = LikeExpr::new(format!("%{escaped}%")).escape('\\');
        select = select.filter(Expr::expr(Func::lower(Expr::col(thread::Column::Title))).like(like));
    }
    if let Some((at, id)) = after {
        let earlier = Condition::any()
            .add(thread::Column::UpdatedAt.lt(at.micros()))
            .add(Condition::all().add(thread::Column::UpdatedAt.eq(at.micros())).add(thread::Column::Id.lt(id.uuid())));
        select = select.filter(earlier);
    }
    let rows = select
        .order_by_desc(thread::Column::UpdatedAt)
        .order_by_desc(thread::Column::Id)
        .limit(limit)
        .all(tx.orm())
        .await
        .map_err(db)?;
    rows.into_iter().map(thread_of).collect()
}

/// A new thread as it will be stored.
pub(super) fn new_thread(inbound: &super::Inbound, now: Timestamp) -> Thread {
    let channel: Channel = inbound.channel;
    Thread {
        id: ThreadId::new(channel),
        space: inbound.space,
        title: rules::title_of(inbound.title.as_deref(), &inbound.text),
        status: ThreadStatus::Todo,
        priority: inbound.priority.unwrap_or(Priority::Medium),
        requester: inbound.requester.clone(),
        subject: inbound.subject,
        created_at: now,
        updated_at: now,
        version: 1,
    }
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
