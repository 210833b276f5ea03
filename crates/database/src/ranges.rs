//! The newest rows of several ranges of one index, merged: how a list reads a page, whatever it is filtered by.
//!
//! Invariant: a page costs a step into the index for each range and a few for each of its rows, however many rows there
//! are; a range without rows costs one step. Only names that the code has in it become SQL. Used by the stores of slices,
//! which read the rows of what is found here themselves.

use sea_orm::{QueryResult, Value};
use thinkwork_primitives::Timestamp;
use uuid::Uuid;

use crate::{Engine, Error, Tx};

/// What one statement merges: SQLite takes 500 parts of a compound, and a plan of more ranges takes long to make.
const RANGES_MAX: usize = 100;

/// Ranges of an index (tenant, columns, time, id) of one table.
pub struct Ranges<'a> {
    /// The table.
    pub table: &'static str,
    /// The columns between the tenant and the time.
    pub columns: &'a [&'static str],
    /// What they are compared with, one after the other: a range each.
    pub keys: Vec<Vec<Value>>,
    /// The column of the time.
    pub time: &'static str,
    /// Only rows of then or later.
    pub since: Option<Timestamp>,
    /// Only rows from before then.
    pub until: Option<Timestamp>,
    /// Only rows behind this place, where a page ended.
    pub after: Option<(Timestamp, Uuid)>,
}

/// The newest `count` rows of these ranges in the transaction's tenant, as time and id, newest first.
pub async fn newest(tx: &mut Tx, ranges: &Ranges<'_>, count: u64) -> Result<Vec<(Timestamp, Uuid)>, Error> {
    let mut found = Vec::new();
    for keys in ranges.keys.chunks(RANGES_MAX) {
        let (sql, values) = statement(tx, ranges, keys, count);
        for row in tx.query(&sql, values).await? {
            found.push((Timestamp::from_micros(row.try_get("", "at")?), row.try_get("", "id")?));
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    Ok(found)
}

fn statement(tx: &Tx, ranges: &Ranges<'_>, keys: &[Vec<Value>], count: u64) -> (String, Vec<Value>) {
    let count = Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let mut values = Bound { engine: tx.engine(), values: Vec::new() };
    let sql = match tx.engine() {
        // Merges the parts, each read as far as it is needed.
        Engine::Sqlite => {
            let mut parts = Vec::with_capacity(keys.len());
            for key in keys {
                let key = key.iter().map(|value| values.bind(value.clone())).collect();
                parts.push(part(tx, ranges, "id", key, &mut values));
            }
            format!("{} ORDER BY at DESC, id DESC LIMIT {}", parts.join(" UNION ALL "), values.bind(count))
        }
        // Would sort the whole of a union; of each range it reads no more than a page.
        Engine::Postgres => {
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys {
                let places: Vec<String> = key.iter().map(|value| values.bind_typed(value)).collect();
                rows.push(format!("({})", places.join(", ")));
            }
            let names: Vec<String> = (0..ranges.columns.len()).map(|place| format!("key_{place}")).collect();
            let key = names.iter().map(|name| format!("range.{name}")).collect();
            let part = part(tx, ranges, "id", key, &mut values);
            let count = values.bind(count);
            format!(
                "SELECT newest.at, newest.id FROM (VALUES {}) AS range ({}) CROSS JOIN LATERAL
                   ({part} ORDER BY {} DESC, id DESC LIMIT {count}) AS newest
                 ORDER BY at DESC, id DESC LIMIT {count}",
                rows.join(", "),
                names.join(", "),
                ranges.time
            )
        }
    };
    (sql, values.values)
}

/// One range, whose columns are compared with these expressions: the time and what else is read of it.
fn part(tx: &Tx, ranges: &Ranges<'_>, read: &str, key: Vec<String>, values: &mut Bound) -> String {
    let Ranges { table, columns, time, since, until, after, .. } = ranges;
    // In the order of the text, in which SQLite counts them.
    let mut conditions = Vec::new();
    for (column, expression) in columns.iter().zip(key) {
        conditions.push(format!("{column} = {expression}"));
    }
    conditions.push(format!("tenant_id = {}", values.bind(tx.tenant().uuid().into())));
    if let Some(since) = since {
        conditions.push(format!("{time} >= {}", values.bind(since.micros().into())));
    }
    if let Some(until) = until {
        conditions.push(format!("{time} < {}", values.bind(until.micros().into())));
    }
    if let Some((at, id)) = after {
        let at = values.bind(at.micros().into());
        conditions.push(format!("({time}, id) < ({at}, {})", values.bind((*id).into())));
    }
    format!("SELECT {time} AS at, {read} FROM {table} WHERE {}", conditions.join(" AND "))
}

/// The parameters of a statement as it is written.
struct Bound {
    engine: Engine,
    values: Vec<Value>,
}

impl Bound {
    /// The place of one more.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        match self.engine {
            // The driver looks a numbered parameter up among all others, one by one; a plain one it does not.
            Engine::Sqlite => "?".to_owned(),
            Engine::Postgres => format!("${}", self.values.len()),
        }
    }

    /// The same, with its type: PostgreSQL does not see it in a list of values.
    fn bind_typed(&mut self, value: &Value) -> String {
        let kind = if matches!(value, Value::Uuid(_)) { "uuid" } else { "text" };
        format!("{}::{kind}", self.bind(value.clone()))
    }
}

/// What one range sums up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The sum of the rows that were counted.
    pub total: i64,
    /// Whether there are more rows than were counted.
    pub is_more: bool,
}

/// What `summed` sums up to in each of these ranges with one of these values in a further column: of at most `rows_max`
/// rows of each range.
pub async fn sums(
    tx: &mut Tx,
    ranges: &Ranges<'_>,
    (column, any_of): (&'static str, &[Value]),
    summed: &'static str,
    rows_max: u64,
) -> Result<Vec<Sum>, Error> {
    if any_of.is_empty() || ranges.keys.is_empty() {
        return Ok(vec![Sum { total: 0, is_more: false }; ranges.keys.len()]);
    }
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let mut values = Bound { engine: tx.engine(), values: Vec::new() };
    let mut parts = Vec::with_capacity(ranges.keys.len());
    for (place, key) in ranges.keys.iter().enumerate() {
        let key = key.iter().map(|value| values.bind(value.clone())).collect();
        let part = part(tx, ranges, &format!("{summed} AS summed"), key, &mut values);
        let any_of: Vec<String> = any_of.iter().map(|value| values.bind(value.clone())).collect();
        let limit = values.bind(rows_max.saturating_add(1).into());
        parts.push(format!(
            "SELECT CAST({place} AS BIGINT) AS place, CAST(coalesce(sum(summed), 0) AS BIGINT) AS total, count(*) AS counted
             FROM ({part} AND {column} IN ({}) LIMIT {limit}) AS found",
            any_of.join(", ")
        ));
    }
    let mut sums = Vec::with_capacity(parts.len());
    for row in tx.query(&parts.join(" UNION ALL "), values.values).await? {
        let place: i64 = row.try_get("", "place")?;
        let counted: i64 = row.try_get("", "counted")?;
        sums.push((place, Sum { total: row.try_get("", "total")?, is_more: counted > rows_max }));
    }
    // The parts of a union come in no order.
    sums.sort_unstable_by_key(|(place, _)| *place);
    Ok(sums.into_iter().map(|(_, sum)| sum).collect())
}

/// The words that a text column has in the transaction's tenant and that begin like this, by steps through an index
/// (tenant, columns of `key`, column): for columns with few words in however many rows.
pub async fn words(
    tx: &mut Tx,
    table: &'static str,
    key: &[(&'static str, Value)],
    column: &'static str,
    beginning: &str,
) -> Result<Vec<String>, Error> {
    let mut values: Vec<Value> = vec![
        tx.tenant().uuid().into(),
        beginning.into(),
        // Behind all that begin like this.
        format!("{beginning}\u{10FFFF}").into(),
    ];
    let mut condition = "tenant_id = $1".to_owned();
    for (column, value) in key {
        values.push(value.clone());
        condition.push_str(&format!(" AND {column} = ${}", values.len()));
    }
    let sql = format!(
        "WITH RECURSIVE found (word) AS (
           SELECT (SELECT min({column}) FROM {table} WHERE {condition} AND {column} >= $2 AND {column} < $3)
           UNION ALL
           SELECT (SELECT min({column}) FROM {table} WHERE {condition} AND {column} > found.word AND {column} < $3)
           FROM found WHERE found.word IS NOT NULL)
         SELECT word FROM found WHERE word IS NOT NULL"
    );
    let rows = tx.query(&sql, values).await?;
    rows.iter().map(|row: &QueryResult| Ok(row.try_get("", "word")?)).collect()
}
