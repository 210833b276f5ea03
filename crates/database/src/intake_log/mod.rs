//! The statements of the log of accepted inbound events that lies in the database. Used by the `intake` crate only.
//!
//! Invariants: an event that [`append()`] returned as stored is on disk; (tenant, source, dedupe key) exists once. The
//! database numbers the events of a source as they are stored: one that was stored before another was appended has the
//! lower number, whatever the clocks of their processes say. Of the events that share an order key, a claim takes the
//! lowest ones without a gap, and nobody else claims one of them until these are applied, given back or parked. A claim is
//! shared among tenants and their sources (`round_robin`).

mod append;

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{QueryResult, Value};
use thinkwork_primitives::{TenantId, Timestamp};
use uuid::Uuid;

use crate::round_robin::{FairnessKey, Queue, ROUNDS_MAX};
use crate::{Counts, Db, Engine, Error, Tx};

pub use append::{ROWS_MAX, append};

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
    /// Events that share it are applied in the order in which they were stored.
    pub order_key: String,
    /// The source's own encoding of what arrived, sealed or not.
    pub body: Vec<u8>,
    /// SHA-256 of what the sender sent, to tell a retry from a conflict.
    pub body_hash: [u8; 32],
    /// When it arrived.
    pub received_at: Timestamp,
}

impl Event {
    /// Whether the two are applied one after the other.
    pub fn shares_order_with(&self, other: &Self) -> bool {
        !self.order_key.is_empty()
            && (self.tenant, &self.source, &self.order_key) == (other.tenant, &other.source, &other.order_key)
    }
}

/// An event that was claimed to be applied.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The event.
    pub event: Event,
    /// Its place among what waits of its source.
    number: i64,
    /// How often it was tried before.
    pub attempts: i64,
    /// Until when nobody else claims it.
    pub leased_until: Timestamp,
}

/// What became of one event of [`append()`].
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

/// An unapplied event that precedes `event`. A parked one precedes nothing, or one bad event would stop its order.
///
/// It is found by the index that begins with the order key. With `=` on tenant and source PostgreSQL takes the primary key
/// where it has no statistics yet, and reads everything that waits of the source for each event that it looks at.
const PRECEDES: &str = "older.body IS NOT NULL AND older.order_key <> '' AND older.order_key = event.order_key
    AND older.tenant_id IS NOT DISTINCT FROM event.tenant_id AND older.source IS NOT DISTINCT FROM event.source
    AND older.number < event.number AND older.parked_at IS NULL";

/// What of `event` can be claimed at this time: what nobody holds, unless an event that precedes it is held. One that
/// pauses before its next try is held too.
fn claimable(now: &str) -> String {
    format!(
        "event.body IS NOT NULL AND event.parked_at IS NULL
           AND (event.lease_until IS NULL OR event.lease_until < {now})
           AND (event.order_key = '' OR NOT EXISTS (
             SELECT 1 FROM intake_event AS older WHERE {PRECEDES} AND older.lease_until >= {now}))"
    )
}

const QUEUE: Queue = Queue {
    table: "intake_event",
    index: "intake_event_by_source",
    key_column: "source",
    order: "number",
    condition: "body IS NOT NULL",
};

/// Claims what is claimable of one source. Parameters: the lease's end, now, tenant, source, how many.
fn claim_sql(engine: Engine) -> String {
    let set = "SET lease_until = $1, attempts = attempts + 1";
    let source = QUEUE.source(engine, "event");
    let claimable = claimable("$2");
    let first = format!(
        "SELECT id FROM {source} WHERE tenant_id = $3 AND source = $4 AND {claimable} ORDER BY number LIMIT $5"
    );
    let columns = "id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at, number, attempts";
    match engine {
        // There is one writer, so what is looked at cannot change before it is updated.
        Engine::Sqlite => format!(
            "UPDATE intake_event {set} WHERE body IS NOT NULL AND id IN ({first}) RETURNING {columns}"
        ),
        // An array is computed once: as the inner side of a join, the limited query would run again for every row
        // where statistics say that the table is small, and lock other events each time. Whoever claims at the same
        // time may have locked, or hold since this statement began, what precedes one of these: that one is left out.
        Engine::Postgres => format!(
            "WITH locked AS MATERIALIZED ({first} FOR UPDATE SKIP LOCKED)
             UPDATE intake_event AS event {set} WHERE body IS NOT NULL AND id = ANY (ARRAY(SELECT id FROM locked))
               AND (order_key = '' OR NOT EXISTS (
                 SELECT 1 FROM intake_event AS older WHERE {PRECEDES} AND older.id <> ALL (ARRAY(SELECT id FROM locked))))
             RETURNING {columns}"
        ),
    }
}

/// Claims up to `count` events for `lease_for`, shared among tenants and their sources, of each the oldest first. Of
/// those that share an order key it takes the oldest ones without a gap, and none while an older one is held.
pub async fn claim(db: &Db, now: Timestamp, lease_for: Duration, count: u64) -> Result<Vec<Claimed>, Error> {
    // Mostly nothing waits: then nobody's write waits for this one.
    let waiting = format!("SELECT id FROM intake_event AS event WHERE {} LIMIT 1", claimable("$1"));
    if db.read_shared().await?.query(&waiting, vec![now.micros().into()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let leased_until = now.plus(lease_for);
    let mut tx = db.write_shared().await?;
    tx.keep_to_indexes().await?;
    let mut claimed = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut round = db.round_robins().events.round(&mut tx, &QUEUE, count).await?;
        while let Some((source, share)) = round.next() {
            let of_source = claim_of(&mut tx, &source, now, leased_until, share).await?;
            round.took(of_source.len());
            claimed.extend(of_source);
        }
        if round.is_last() || !claimed.is_empty() {
            break;
        }
    }
    tx.commit().await?;
    Ok(claimed)
}

async fn claim_of(
    tx: &mut Tx,
    source: &FairnessKey,
    now: Timestamp,
    leased_until: Timestamp,
    count: u64,
) -> Result<Vec<Claimed>, Error> {
    let values = vec![
        leased_until.micros().into(),
        now.micros().into(),
        source.tenant().uuid().into(),
        source.name().to_owned().into(),
        i64::try_from(count).unwrap_or(i64::MAX).into(),
    ];
    let rows = tx.query(&claim_sql(tx.engine()), values).await?;
    let mut claimed = rows.iter().map(|row| claimed(row, leased_until)).collect::<Result<Vec<_>, _>>()?;
    claimed.sort_by_key(|claimed| claimed.number);
    Ok(claimed)
}

fn digest(row: &QueryResult, column: &str) -> Result<[u8; 32], Error> {
    let bytes: Vec<u8> = row.try_get("", column)?;
    Ok(<[u8; 32]>::try_from(bytes).unwrap_or_default())
}

fn claimed(row: &QueryResult, leased_until: Timestamp) -> Result<Claimed, Error> {
    let attempts: i64 = row.try_get("", "attempts")?;
    let number = row.try_get("", "number")?;
    Ok(Claimed { event: event(row)?, number, attempts: attempts.saturating_sub(1), leased_until })
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

/// Takes the content from events that still have it. PostgreSQL's vacuum uses the place again. SQLite would keep a page
/// for what is left of each event, so the row is written anew, at the end of the table.
fn applied_sql(engine: Engine, count: usize) -> String {
    let ids = engine.parameters(0, count);
    let waiting = format!("id IN ({ids}) AND body IS NOT NULL");
    match engine {
        Engine::Sqlite => format!(
            "REPLACE INTO intake_event (id, tenant_id, source, dedupe_key, order_key, body_hash, received_at, attempts)
             SELECT id, tenant_id, source, dedupe_key, order_key, body_hash, received_at, attempts
             FROM intake_event WHERE {waiting} RETURNING id"
        ),
        Engine::Postgres => {
            format!("UPDATE intake_event SET body = NULL, lease_until = NULL WHERE {waiting} RETURNING id")
        }
    }
}

/// Marks events applied in the transaction that applies them: their content goes, their keys stay against duplicates.
/// Returns those that were not applied before; apply no others.
pub async fn applied(tx: &mut Tx, ids: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = applied_sql(tx.engine(), ids.len());
    let rows = tx.query(&sql, ids.iter().map(|id| (*id).into()).collect()).await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Gives back everything that is claimed or pauses: nobody else runs, so whoever claimed it is gone.
pub(crate) async fn release_all(tx: &mut Tx) -> Result<(), Error> {
    let sql = "UPDATE intake_event SET lease_until = NULL WHERE body IS NOT NULL AND lease_until IS NOT NULL";
    tx.execute(sql, Vec::new()).await?;
    Ok(())
}

/// What happens next with an event that could not be applied.
#[derive(Clone, Copy, Debug)]
pub enum Again {
    /// It is due again then.
    At(Timestamp),
    /// It was tried often enough: parked at this time, for the operator.
    Park(Timestamp),
}

/// Puts an event back that could not be applied; those of its order that were claimed with it are given back untried.
/// Changes nothing where the lease was lost.
pub async fn failed(db: &Db, claimed: &Claimed, again: Again, error: &str) -> Result<(), Error> {
    let Claimed { event, number, leased_until, .. } = claimed;
    let (due_at, parked_at) = match again {
        Again::At(at) => (Some(at.micros()), None),
        Again::Park(at) => (None, Some(at.micros())),
    };
    let mut tx = db.write_shared().await?;
    // The lease's end is also when it is due: nobody claims it before.
    let changed = tx
        .execute(
            "UPDATE intake_event SET lease_until = $3, parked_at = $4, last_error = $5
             WHERE id = $1 AND lease_until = $2 AND body IS NOT NULL",
            vec![
                event.id.into(),
                leased_until.micros().into(),
                due_at.into(),
                parked_at.into(),
                error.to_owned().into(),
            ],
        )
        .await?;
    if changed == 1 && !event.order_key.is_empty() {
        tx.execute(
            "UPDATE intake_event SET lease_until = NULL, attempts = attempts - 1
             WHERE tenant_id = $1 AND source = $2 AND order_key = $3 AND order_key <> '' AND number > $4
               AND lease_until = $5 AND body IS NOT NULL",
            vec![
                event.tenant.uuid().into(),
                event.source.clone().into(),
                event.order_key.clone().into(),
                (*number).into(),
                leased_until.micros().into(),
            ],
        )
        .await?;
    }
    tx.commit().await
}

/// One accepted event of a tenant that is not applied yet.
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
    /// Only events that arrived before this place, where a page ended.
    pub before: Option<(Timestamp, Uuid)>,
    /// Only events that arrived then or later.
    pub since: Option<Timestamp>,
    /// Only events that arrived before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub count: u64,
}

/// Accepted events of one source of the transaction's tenant that are not applied yet, newest first.
pub async fn list_pending(tx: &mut Tx, source: &str, which: Pending) -> Result<Vec<Event>, Error> {
    let tenant = tx.tenant().uuid();
    let (at, id) = which.before.unwrap_or((Timestamp::from_micros(i64::MAX), Uuid::max()));
    // By the index of what waits: ids are made when events arrive. SQLite would take that of all events of the source;
    // with the sign it cannot.
    let sign = if tx.engine() == Engine::Sqlite { "+" } else { "" };
    let sql = format!(
        "SELECT id, tenant_id, source, dedupe_key, order_key, body, body_hash, received_at FROM intake_event
         WHERE {sign}tenant_id = $1 AND {sign}source = $2 AND body IS NOT NULL AND received_at >= $4
           AND received_at < $5 AND (received_at, id) < ($7, $3) ORDER BY id DESC LIMIT $6"
    );
    let values = vec![
        tenant.into(),
        source.to_owned().into(),
        id.into(),
        which.since.map_or(i64::MIN, Timestamp::micros).into(),
        which.until.map_or(i64::MAX, Timestamp::micros).into(),
        i64::try_from(which.count).unwrap_or(i64::MAX).into(),
        at.micros().into(),
    ];
    let rows = tx.query(&sql, values).await?;
    rows.iter().map(event).collect()
}

/// Forgets keys of one source's applied events that arrived before `before`, at most `count` of them, and returns how
/// many it were. The keys are looked for outside the writing transaction: looking takes long, and nothing else changes
/// the keys of applied events.
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
pub async fn oldest(db: &Db) -> Result<Option<Timestamp>, Error> {
    let mut tx = db.read_shared().await?;
    // Ids are made when events arrive.
    let sql = "SELECT received_at FROM intake_event WHERE body IS NOT NULL ORDER BY id LIMIT 1";
    let rows = tx.query(sql, Vec::new()).await?;
    rows.first().map(|row| Ok(Timestamp::from_micros(row.try_get("", "received_at")?))).transpose()
}

/// Accepted events that are not applied yet: of the transaction's tenant, or in a shared one of all.
pub async fn counts(tx: &mut Tx) -> Result<Counts, Error> {
    tx.counts("intake_event", "body IS NOT NULL").await
}
