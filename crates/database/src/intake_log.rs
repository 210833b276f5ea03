//! The durable log of accepted inbound events, in the database. Used by the `intake` crate only.
//!
//! Invariant: an event that [`append`] returned as stored is on disk; (tenant, source, dedupe key) exists once.
//! Events that share an order are claimed one after another, in the order of their ids.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, QueryResult, Statement, Value};
use thinkwork_primitives::{TenantId, Timestamp};
use uuid::Uuid;

use crate::statements::Statements;
use crate::wake::{Topic, WakeUp};
use crate::{Db, Engine, Error, Tx};

/// One accepted inbound event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id, UUIDv7; also the id of its delivery.
    pub id: Uuid,
    /// The tenant it is for.
    pub tenant: TenantId,
    /// Where it came from, like `webhook:whk_…`.
    pub source: String,
    /// What makes it the same event; (tenant, source, key) is stored once. Keys that grow with time are stored fastest.
    pub dedupe_key: Vec<u8>,
    /// Events that share it are applied in the order of their ids.
    pub order_key: String,
    /// The source's own encoding of what arrived, sealed or not.
    pub body: Vec<u8>,
    /// SHA-256 of what the sender sent, to tell a retry from a conflict.
    pub body_hash: [u8; 32],
    /// When it arrived.
    pub received_at: Timestamp,
}

/// What became of one event of [`append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored and on disk.
    Stored,
    /// This event was there; its id and whether the body is the same.
    Duplicate {
        /// The first one's id.
        id: Uuid,
        /// Whether both bodies are the same.
        same_body: bool,
    },
}

/// The most rows of one [`append`]: SQLite takes 32,766 parameters a statement, and nine a row leave room.
pub const ROWS_MAX: usize = 512;

fn insert_sql(engine: Engine, rows: usize) -> String {
    let mut sql = String::from(
        "INSERT INTO intake_event (id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at, \
         attempts) VALUES ",
    );
    for row in 0..rows {
        if row > 0 {
            sql.push(',');
        }
        match engine {
            // The driver looks a numbered parameter up among all others, one by one; a plain one it does not.
            Engine::Sqlite => sql.push_str("(?,?,?,?,?,?,?,?,0)"),
            Engine::Postgres => {
                let first = row.saturating_mul(8);
                let places: Vec<String> =
                    (1..=8).map(|place: usize| format!("${}", first.saturating_add(place))).collect();
                sql.push_str(&format!("({},0)", places.join(",")));
            }
        }
    }
    sql.push_str(" ON CONFLICT (tenant_id, source, dedupe_key) DO NOTHING");
    sql
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
    // In one order everywhere: two processes that insert the same keys at once must not wait for each other in a ring.
    let mut events: Vec<(usize, Event)> = events.into_iter().enumerate().collect();
    events.sort_by(|(_, one), (_, other)| place(one).cmp(&place(other)));
    let mut keys = Vec::with_capacity(events.len());
    let mut values: Vec<Value> = Vec::with_capacity(events.len().saturating_mul(8));
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
        keys.push((asked, Key { id, tenant, source, dedupe_key, body_hash }));
    }
    let connection = db.statements().await?;
    let sql = insert_sql(db.engine(), keys.len());
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

/// What of `event` can be claimed at this time: what nobody holds and what no older one of its order must precede. An
/// older one that is leased or pauses holds the later ones up; a parked one does not, or one bad event would stop all.
fn claimable(now: &str) -> String {
    format!(
        "event.body IS NOT NULL AND event.parked_at IS NULL
           AND (event.lease_until IS NULL OR event.lease_until < {now})
           AND (event.order_key = '' OR NOT EXISTS (
             SELECT 1 FROM intake_event AS older WHERE older.body IS NOT NULL AND older.order_key <> ''
               AND older.tenant_id = event.tenant_id AND older.source = event.source
               AND older.order_key = event.order_key AND older.id < event.id AND older.parked_at IS NULL))"
    )
}

/// Claims up to `count` events for `lease_for`, oldest first, of those that share an order only the oldest, and returns
/// them with their number of earlier tries.
///
/// # Errors
/// The driver's error.
pub async fn claim(db: &Db, now: Timestamp, lease_for: Duration, count: u64) -> Result<Vec<(Event, i64)>, Error> {
    // Mostly nothing waits: then nobody's write waits for this one.
    let waiting = format!("SELECT id FROM intake_event AS event WHERE {} LIMIT 1", claimable("$1"));
    if db.read_shared().await?.query(&waiting, vec![now.micros().into()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.write_shared().await?;
    let skip = if tx.engine() == Engine::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "UPDATE intake_event SET lease_until = $1, attempts = attempts + 1 WHERE body IS NOT NULL AND id IN (
           SELECT id FROM intake_event AS event WHERE {} ORDER BY id LIMIT $3 {skip})
         RETURNING id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at, attempts",
        claimable("$2")
    );
    let values =
        vec![now.plus(lease_for).micros().into(), now.micros().into(), i64::try_from(count).unwrap_or(i64::MAX).into()];
    let mut rows = tx.query(&sql, values).await?.iter().map(claimed).collect::<Result<Vec<_>, _>>()?;
    tx.commit().await?;
    rows.sort_by_key(|(event, _)| event.id);
    Ok(rows)
}

fn digest(row: &QueryResult, column: &str) -> Result<[u8; 32], Error> {
    let bytes: Vec<u8> = row.try_get("", column)?;
    Ok(<[u8; 32]>::try_from(bytes).unwrap_or_default())
}

fn claimed(row: &QueryResult) -> Result<(Event, i64), Error> {
    let attempts: i64 = row.try_get("", "attempts")?;
    Ok((event(row)?, attempts.saturating_sub(1)))
}

fn event(row: &QueryResult) -> Result<Event, Error> {
    Ok(Event {
        id: row.try_get("", "id")?,
        tenant: TenantId::from_uuid(row.try_get("", "tenant_id")?),
        source: row.try_get("", "source")?,
        dedupe_key: row.try_get("", "dedupe_key")?,
        order_key: row.try_get("", "order_key")?,
        body: row.try_get("", "body")?,
        body_hash: digest(row, "body_hash")?,
        received_at: Timestamp::from_micros(row.try_get("", "received_at")?),
    })
}

/// Marks an event applied in the transaction that applied it: its content goes, its key stays against duplicates.
/// False when it was applied before: then undo.
///
/// # Errors
/// The driver's error.
pub async fn applied(tx: &mut Tx, id: Uuid) -> Result<bool, Error> {
    let changed = tx
        .execute(
            "UPDATE intake_event SET body = NULL, lease_until = NULL WHERE id = $1 AND body IS NOT NULL",
            vec![id.into()],
        )
        .await?;
    Ok(changed == 1)
}

/// What happens next with an event that could not be applied.
#[derive(Clone, Copy, Debug)]
pub enum Again {
    /// It is due again then.
    At(Timestamp),
    /// It was tried often enough: parked at this time, for the operator.
    Park(Timestamp),
}

/// Puts an event back that could not be applied.
///
/// # Errors
/// The driver's error.
pub async fn failed(db: &Db, id: Uuid, again: Again, error: &str) -> Result<(), Error> {
    let (due_at, parked_at) = match again {
        Again::At(at) => (Some(at.micros()), None),
        Again::Park(at) => (None, Some(at.micros())),
    };
    let mut tx = db.write_shared().await?;
    // The lease's end is also when it is due: nobody claims it before.
    tx.execute(
        "UPDATE intake_event SET lease_until = $2, parked_at = $3, last_error = $4 WHERE id = $1 AND body IS NOT NULL",
        vec![id.into(), due_at.into(), parked_at.into(), error.to_owned().into()],
    )
    .await?;
    tx.commit().await
}

/// One accepted event of a tenant that is not applied yet.
///
/// # Errors
/// The driver's error.
pub async fn find_pending(tx: &mut Tx, id: Uuid) -> Result<Option<Event>, Error> {
    let tenant = tx.tenant().uuid();
    let sql = "SELECT id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at FROM intake_event
               WHERE id = $1 AND tenant_id = $2 AND body IS NOT NULL";
    let rows = tx.query(sql, vec![id.into(), tenant.into()]).await?;
    rows.first().map(event).transpose()
}

/// Which accepted events [`list_pending`] returns.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Only events before this id, where a page ended.
    pub before: Option<Uuid>,
    /// Only events that arrived then or later.
    pub since: Option<Timestamp>,
    /// Only events that arrived before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub count: u64,
}

/// Accepted events of one source of the transaction's tenant that are not applied yet, newest first.
///
/// # Errors
/// The driver's error.
pub async fn list_pending(tx: &mut Tx, source: &str, which: Pending) -> Result<Vec<Event>, Error> {
    let tenant = tx.tenant().uuid();
    let sql = "SELECT id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at FROM intake_event
               WHERE tenant_id = $1 AND source = $2 AND body IS NOT NULL AND id < $3 AND received_at >= $4
                 AND received_at < $5 ORDER BY id DESC LIMIT $6";
    let values = vec![
        tenant.into(),
        source.to_owned().into(),
        which.before.unwrap_or(Uuid::max()).into(),
        which.since.map_or(i64::MIN, Timestamp::micros).into(),
        which.until.map_or(i64::MAX, Timestamp::micros).into(),
        i64::try_from(which.count).unwrap_or(i64::MAX).into(),
    ];
    let rows = tx.query(sql, values).await?;
    rows.iter().map(event).collect()
}

/// Forgets keys of one source's applied events that arrived before `before`, at most `count` of them, and returns how
/// many it were. The keys are looked for outside the writing transaction: looking takes long, and nothing else changes
/// the keys of applied events.
///
/// # Errors
/// The driver's error.
pub async fn forget(db: &Db, tenant: TenantId, source: &str, before: Timestamp, count: u64) -> Result<usize, Error> {
    let mut tx = db.read(tenant).await?;
    let sql = "SELECT dedupe_key FROM intake_event WHERE tenant_id = $1 AND source = $2 AND body IS NULL
               AND received_at < $3 LIMIT $4";
    let values = vec![
        tenant.uuid().into(),
        source.to_owned().into(),
        before.micros().into(),
        i64::try_from(count).unwrap_or(i64::MAX).into(),
    ];
    let rows = tx.query(sql, values).await?;
    drop(tx);
    let keys: Vec<Vec<u8>> = rows.iter().map(|row| row.try_get("", "dedupe_key")).collect::<Result<_, _>>()?;
    for chunk in keys.chunks(ROWS_MAX) {
        let places: Vec<String> = (1..=chunk.len()).map(|place| format!("${}", place.saturating_add(2))).collect();
        let sql = format!(
            "DELETE FROM intake_event WHERE tenant_id = $1 AND source = $2 AND dedupe_key IN ({}) AND body IS NULL",
            places.join(",")
        );
        let mut values: Vec<Value> = vec![tenant.uuid().into(), source.to_owned().into()];
        values.extend(chunk.iter().map(|key| key.clone().into()));
        let mut tx = db.write(tenant).await?;
        tx.execute(&sql, values).await?;
        tx.commit().await?;
    }
    Ok(keys.len())
}

/// When the oldest event arrived that is not applied yet.
///
/// # Errors
/// The driver's error.
pub async fn oldest(db: &Db) -> Result<Option<Timestamp>, Error> {
    let mut tx = db.read_shared().await?;
    let sql = "SELECT received_at FROM intake_event WHERE body IS NOT NULL ORDER BY id LIMIT 1";
    let rows = tx.query(sql, Vec::new()).await?;
    rows.first().map(|row| Ok(Timestamp::from_micros(row.try_get("", "received_at")?))).transpose()
}

/// How many accepted events wait, and how many are parked: of the transaction's tenant, or in a shared one of all.
///
/// # Errors
/// The driver's error.
pub async fn counts(tx: &mut Tx) -> Result<(i64, i64), Error> {
    tx.waiting_and_parked("intake_event", "body IS NOT NULL").await
}
