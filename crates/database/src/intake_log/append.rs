//! Storing events: the statement that a request waits for.

use sea_orm::{ConnectionTrait as _, Statement, Value};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use super::{Accepted, Event};
use crate::statements::Statements;
use crate::wake::{Topic, WakeUp};
use crate::{Db, Engine, Error};

/// The most rows of one [`append`]: a power of two, and the increment of PostgreSQL's sequence.
pub const ROWS_MAX: usize = 512;
/// Parameters of a row: the event, and its position in the statement, which SQLite ignores.
const PARAMETERS_PER_ROW: usize = 9;

/// The statement that stores up to `rows` events. `rows` is a power of two and unused rows are NULL, so that the driver's
/// cache of prepared statements holds the few statements there are.
fn insert_sql(engine: Engine, rows: usize) -> String {
    let mut given = String::new();
    for row in 0..rows {
        let first = row.saturating_mul(PARAMETERS_PER_ROW);
        if row > 0 {
            given.push(',');
        }
        match (engine, row) {
            // The first row fixes the types of the columns.
            (Engine::Postgres, 0) => given.push_str(
                "($1::uuid, $2::uuid, $3::text, $4::bytea, $5::text, $6::bytea, $7::bytea, $8::bigint, $9::bigint)",
            ),
            _ => given.push_str(&format!("({})", engine.parameters(first, PARAMETERS_PER_ROW))),
        }
    }
    let columns = "id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at";
    let values = "column1, column2, column3, column4, column5, column6, column7, column8";
    let insert = match engine {
        // SQLite assigns the number: one more than the highest. Numbers of deleted events are used again.
        Engine::Sqlite => {
            format!("INSERT INTO intake_event ({columns}, attempts) SELECT {values}, 0 FROM (VALUES {given})")
        }
        Engine::Postgres => format!(
            "INSERT INTO intake_event ({columns}, number, attempts) SELECT {values}, before.number + column9, 0
             FROM (VALUES {given}) AS given, (SELECT nextval('intake_event_number') AS number) AS before"
        ),
    };
    format!("{insert} WHERE column1 IS NOT NULL ON CONFLICT (tenant_id, source, dedupe_key) DO NOTHING")
}

/// What tells a row apart once its content is handed to the statement.
struct Key {
    id: Uuid,
    tenant: TenantId,
    source: String,
    dedupe_key: Vec<u8>,
    body_hash: [u8; 32],
}

/// Stores up to [`ROWS_MAX`] events by one statement, synced to disk, and says for each what became of it, in order.
///
/// # Errors
/// [`Error::TooManyRows`], or the driver's error: then none of them is stored, unless it came while duplicates were
/// looked up; who tries again finds their own event then.
pub async fn append(db: &Db, events: Vec<Event>) -> Result<Vec<Accepted>, Error> {
    if events.len() > ROWS_MAX {
        return Err(Error::TooManyRows { most: ROWS_MAX });
    }
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut events: Vec<(usize, Event)> = events.into_iter().enumerate().collect();
    if db.engine() == Engine::Postgres {
        // In one order everywhere: two processes that insert the same keys at once must not wait for each other in a ring.
        // The numbers are in the order in which they were given.
        events.sort_by(|(_, one), (_, other)| place(one).cmp(&place(other)));
    }
    let rows = events.len().next_power_of_two();
    let mut keys = Vec::with_capacity(events.len());
    let mut values: Vec<Value> = Vec::with_capacity(rows.saturating_mul(PARAMETERS_PER_ROW));
    for (asked, event) in events {
        let Event { id, tenant, source, dedupe_key, order_key, body, body_hash, received_at } = event;
        values.push(id.into());
        values.push(tenant.uuid().into());
        values.push(source.clone().into());
        values.push(dedupe_key.clone().into());
        values.push(order_key.into());
        values.push(body.into());
        values.push(body_hash.to_vec().into());
        values.push(received_at.micros().into());
        values.push(i64::try_from(asked).unwrap_or(i64::MAX).saturating_add(1).into());
        keys.push((asked, Key { id, tenant, source, dedupe_key, body_hash }));
    }
    for _ in keys.len()..rows {
        values.extend(padding_row());
    }
    let connection = db.statements().await?;
    let sql = insert_sql(db.engine(), rows);
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    let stored = connection.execute_raw(statement).await?.rows_affected();
    let all_new = usize::try_from(stored).is_ok_and(|stored| stored == keys.len());
    let mut outcome = Vec::with_capacity(keys.len());
    for (asked, key) in &keys {
        outcome.push((*asked, if all_new { Accepted::Stored } else { kept(&connection, key).await? }));
    }
    outcome.sort_by_key(|(asked, _)| *asked);
    // On PostgreSQL other processes find new events by their sweep; this one needs no round trip for the hint.
    db.wake_ups().send(WakeUp { topic: Topic::Intake, id: Uuid::nil() });
    Ok(outcome.into_iter().map(|(_, outcome)| outcome).collect())
}

/// The parameters of an unused row.
fn padding_row() -> [Value; PARAMETERS_PER_ROW] {
    let uuid = Value::Uuid(None);
    let text = Value::String(None);
    let bytes = Value::Bytes(None);
    let number = Value::BigInt(None);
    [uuid.clone(), uuid, text.clone(), bytes.clone(), text, bytes.clone(), bytes, number.clone(), number]
}

/// Where a row stands in a statement; of equal ones the first that was given stays the first.
fn place(event: &Event) -> (Uuid, &str, &[u8]) {
    (event.tenant.uuid(), &event.source, &event.dedupe_key)
}

/// Which event is there under this key: the one that was just sent, or an earlier one.
async fn kept(connection: &Statements, key: &Key) -> Result<Accepted, Error> {
    let statement = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "SELECT id, body_hash FROM intake_event WHERE tenant_id = $1 AND source = $2 AND dedupe_key = $3",
        vec![key.tenant.uuid().into(), key.source.clone().into(), key.dedupe_key.clone().into()],
    );
    let found = connection.query_one_raw(statement).await?;
    let found = found.ok_or_else(|| sea_orm::DbErr::Custom("an event vanished while it was stored".to_owned()))?;
    let id: Uuid = found.try_get("", "id")?;
    if id == key.id {
        return Ok(Accepted::Stored);
    }
    let body_hash: Vec<u8> = found.try_get("", "body_hash")?;
    Ok(Accepted::Duplicate { id, same_body: body_hash == key.body_hash })
}
