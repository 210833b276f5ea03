//! Rows of `message`.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;
use sea_orm::{QueryOrder as _, QuerySelect as _};
use thinkwork_database::{StoredRow, Tx, retention};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, Marks, MessageId, Requester, ThreadId, Timestamp, TurnId, UserId,
};
use uuid::Uuid;

use super::{Attributed, damaged};
use crate::threads::{Error, Message, rules};

fn active(tx: &Tx, message: &Message, source_event: Option<Uuid>) -> Result<ActiveModel, Error> {
    let data = message.data.as_ref().map(serde_json::to_string).transpose().map_err(|_| damaged("message data"))?;
    Ok(ActiveModel {
        id: Set(message.id.uuid()),
        tenant_id: Set(tx.tenant().uuid()),
        thread_id: Set(message.thread.uuid()),
        sequence: Set(message.sequence),
        role: Set(message.role.as_str().to_owned()),
        text: Set(rules::storable(&message.text)),
        data: Set(data),
        requester_kind: Set(message.requester.kind().to_owned()),
        requester_id: Set(message.requester.id()),
        client_kind: Set(message.client.kind().to_owned()),
        client_id: Set(message.client.id()),
        subject_kind: Set(message.subject.kind().to_owned()),
        subject_user_id: Set(message.subject.user().map(|id| id.uuid())),
        subject_connection_id: Set(message.subject.connection().map(|id| id.uuid())),
        turn_id: Set(message.turn.map(|id| id.uuid())),
        source_event_id: Set(source_event),
        mark_private: Set(message.marks.private),
        mark_untrusted: Set(message.marks.untrusted),
        private_to_user_id: Set(message.marks.private_to.map(|id| id.uuid())),
        created_at: Set(message.created_at.micros()),
    })
}

pub(super) fn message_of(row: Model) -> Result<Message, Error> {
    let stored = StoredRow::new("message", row.id);
    let who = attributed!(stored, row);
    Ok(Message {
        id: MessageId::from_uuid(row.id),
        thread: ThreadId::from_uuid(row.thread_id),
        sequence: row.sequence,
        role: stored.parse("role", &row.role)?,
        text: row.text,
        data: stored.json_or_null("data", row.data.as_deref())?,
        requester: who.requester,
        client: who.client,
        subject: who.subject,
        turn: row.turn_id.map(TurnId::from_uuid),
        marks: Marks {
            private: row.mark_private,
            untrusted: row.mark_untrusted,
            private_to: row.private_to_user_id.map(UserId::from_uuid),
        },
        created_at: Timestamp::from_micros(row.created_at),
    })
}

/// Stores messages, each with the event that it came with.
pub(crate) async fn messages_insert(tx: &mut Tx, messages: &[(Message, Option<Uuid>)]) -> Result<(), Error> {
    let rows = messages.iter().map(|(message, event)| active(tx, message, *event)).collect::<Result<Vec<_>, _>>()?;
    Entity::insert_many(rows).exec_without_returning(tx.orm()).await?;
    Ok(())
}

fn of_tenant(tx: &Tx) -> sea_orm::Select<Entity> {
    Entity::find().filter(Column::TenantId.eq(tx.tenant().uuid()))
}

pub(crate) async fn message_find(tx: &mut Tx, id: MessageId) -> Result<Option<Message>, Error> {
    let row = of_tenant(tx).filter(Column::Id.eq(id.uuid())).one(tx.orm()).await?;
    row.map(message_of).transpose()
}

/// Takes away that one person alone may read it.
pub(crate) async fn message_share(tx: &mut Tx, id: MessageId) -> Result<(), Error> {
    Entity::update_many()
        .filter(Column::TenantId.eq(tx.tenant().uuid()))
        .filter(Column::Id.eq(id.uuid()))
        .col_expr(Column::PrivateToUserId, Expr::value(Option::<Uuid>::None))
        .exec(tx.orm())
        .await?;
    Ok(())
}

/// The messages that came with these events, by event.
pub(crate) async fn messages_by_source(tx: &mut Tx, events: &[Uuid]) -> Result<HashMap<Uuid, Message>, Error> {
    if events.is_empty() {
        return Ok(HashMap::new());
    }
    let select = of_tenant(tx).filter(Column::SourceEventId.is_in(events.iter().copied()));
    let mut found = HashMap::new();
    for row in select.all(tx.orm()).await? {
        if let Some(event) = row.source_event_id {
            found.insert(event, message_of(row)?);
        }
    }
    Ok(found)
}

/// Messages after the place `after`, in their order.
pub(crate) async fn message_list(
    tx: &mut Tx,
    thread: ThreadId,
    limit: u64,
    after: Option<i64>,
) -> Result<Vec<Message>, Error> {
    let rows = of_tenant(tx)
        .filter(Column::ThreadId.eq(thread.uuid()))
        .filter(Column::Sequence.gt(after.unwrap_or(0)))
        .order_by_asc(Column::Sequence)
        .limit(limit)
        .all(tx.orm())
        .await?;
    rows.into_iter().map(message_of).collect()
}

/// The place of the newest message; 0 where there is none.
pub(crate) async fn message_last(tx: &mut Tx, thread: ThreadId) -> Result<i64, Error> {
    let row =
        of_tenant(tx).filter(Column::ThreadId.eq(thread.uuid())).order_by_desc(Column::Sequence).one(tx.orm()).await?;
    Ok(row.map_or(0, |row| row.sequence))
}

/// By which messages are counted.
pub(crate) const MESSAGE_COLUMNS: retention::Columns<Entity> =
    retention::Columns { tenant: Column::TenantId, id: Column::Id };

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub thread_id: Uuid,
    pub sequence: i64,
    pub role: String,
    pub text: String,
    pub data: Option<String>,
    pub requester_kind: String,
    pub requester_id: String,
    pub client_kind: String,
    pub client_id: Option<String>,
    pub subject_kind: String,
    pub subject_user_id: Option<Uuid>,
    pub subject_connection_id: Option<Uuid>,
    pub turn_id: Option<Uuid>,
    pub source_event_id: Option<Uuid>,
    pub mark_private: bool,
    pub mark_untrusted: bool,
    pub private_to_user_id: Option<Uuid>,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
