//! What used a person's credentials: their own view of the record.
//!
//! Invariant: every finder takes the person; nobody reads another's uses here.

use sea_orm::entity::prelude::*;
use serde_json::Value;
use thinkwork_database::Tx;
use thinkwork_database::ranges::{self, Ranges};
use thinkwork_primitives::{AuditId, ConnectionId, Requester, ThreadId, Timestamp, TurnId, UserId};

use super::event::Model;
use super::list::rows_at;
use crate::audit::{Error, EventCursor};

/// One opening of a person's credential.
#[derive(Clone, Debug)]
pub struct Use {
    /// The event.
    pub id: AuditId,
    pub at: Timestamp,
    /// By which part of the runtime: `tool_call`, `oauth`, ….
    pub surface: String,
    pub connection: Option<ConnectionId>,
    /// For which tool, by its full name.
    pub tool: Option<String>,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// On whose request; `None` for a row that was not written by us.
    pub requester: Option<Requester>,
}

/// The openings of this person's credentials, newest first; of one connection of theirs where one is named.
pub async fn uses_of(
    tx: &mut Tx,
    user: UserId,
    connection: Option<ConnectionId>,
    count: u64,
    after: Option<EventCursor>,
) -> Result<Vec<Use>, Error> {
    let (columns, whose): (&[&str], Uuid) = match connection {
        Some(connection) => (&["subject_connection_id", "action"], connection.uuid()),
        None => (&["subject_user_id", "action"], user.uuid()),
    };
    let ranges = Ranges {
        table: "audit_event",
        columns,
        keys: vec![vec![whose.into(), "credential.opened".into()]],
        time: "at",
        since: None,
        until: None,
        after: after.map(|(at, id)| (at, id.uuid())),
    };
    let places = ranges::newest(tx, &ranges, count).await?;
    let mut rows = rows_at(tx, &places).await?;
    // A connection is one person's; whoever names another's finds nothing.
    rows.retain(|row| row.subject_user_id == Some(user.uuid()));
    Ok(rows.into_iter().map(shown).collect())
}

fn shown(row: Model) -> Use {
    let payload: Value = serde_json::from_str(&row.payload).unwrap_or_default();
    Use {
        id: AuditId::from_uuid(row.id),
        at: Timestamp::from_micros(row.at),
        surface: row.surface.unwrap_or_default(),
        connection: row.subject_connection_id.map(ConnectionId::from_uuid),
        tool: payload.pointer("/detail/tool").and_then(Value::as_str).map(str::to_owned),
        thread: row.thread_id.map(ThreadId::from_uuid),
        turn: row.turn_id.map(TurnId::from_uuid),
        requester: Requester::from_columns(&row.requester_kind, &row.requester_id),
    }
}
