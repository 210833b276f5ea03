//! Deletes a tenant's rows that are older than the retention period, oldest first, and counts what is kept.
//!
//! Invariants: a transaction deletes a bounded number of rows, since on SQLite every other writer waits for it; what is
//! counted is counted up to a limit and by an index.

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, EntityTrait, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};
use thinkwork_primitives::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{Db, Error, Tx};

const ROWS_PER_TRANSACTION: u64 = 1_000;

/// Rows that are counted of one kind: whoever reads how much is kept acts no differently with more, and it takes
/// milliseconds.
pub const COUNTED_ROWS_MAX: u64 = 100_000;

/// The columns of a table by which old rows of a tenant are found. The id is a UUIDv7, so it orders rows by time.
pub struct Columns<E: EntityTrait> {
    /// `tenant_id`.
    pub tenant: E::Column,
    /// `id`.
    pub id: E::Column,
}

/// The columns of a table by which rows of a tenant are found that ended. An index (tenant, end, id) serves them.
pub struct EndedColumns<E: EntityTrait> {
    /// `tenant_id`.
    pub tenant: E::Column,
    /// `id`.
    pub id: E::Column,
    /// When the row ended, in microseconds; null while it has not.
    pub ended_at: E::Column,
}

/// A column that refers to rows of another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table that it is in, which has a `tenant_id`, too.
    pub table: &'static str,
    /// Its name.
    pub column: &'static str,
}

/// What refers to connections. Each has an index that leaves out nulls.
pub const CONNECTION_REFERENCES: &[Reference] = &[
    Reference { table: "delivery", column: "subject_connection_id" },
    Reference { table: "message", column: "subject_connection_id" },
    Reference { table: "step", column: "subject_connection_id" },
    Reference { table: "thread", column: "subject_connection_id" },
    Reference { table: "turn", column: "subject_connection_id" },
];

/// How many rows are left to delete, a transaction at a time.
pub struct Batches {
    left: u64,
}

impl Batches {
    /// At most so many rows altogether.
    pub const fn of(count: u64) -> Self {
        Self { left: count }
    }

    /// How many rows the next transaction may delete; `None` when there is nothing left to do.
    pub fn next_limit(&self) -> Option<u64> {
        (self.left > 0).then(|| std::cmp::min(self.left, ROWS_PER_TRANSACTION))
    }

    /// Notes how many rows a transaction with this limit deleted. One that deleted fewer was the last.
    pub fn deleted(&mut self, limit: u64, rows: u64) {
        self.left = if rows < limit { 0 } else { self.left.saturating_sub(rows) };
    }
}

/// Deletes rows of the tenant that were created before then, at most `count`.
///
/// # Errors
/// The database's; what was deleted in earlier transactions stays deleted.
pub async fn delete_before<E: EntityTrait>(
    db: &Db,
    tenant: TenantId,
    columns: Columns<E>,
    before: Timestamp,
    count: u64,
) -> Result<(), Error> {
    let mut batches = Batches::of(count);
    while let Some(limit) = batches.next_limit() {
        let mut tx = db.write(tenant).await?;
        let ids: Vec<Uuid> = E::find()
            .filter(columns.tenant.eq(tenant.uuid()))
            .filter(columns.id.lt(before.first_id()))
            .order_by_asc(columns.id)
            .limit(limit)
            .select_only()
            .column(columns.id)
            .into_tuple()
            .all(tx.orm())
            .await?;
        let deleted = delete_rows::<E>(&mut tx, columns.tenant, columns.id, ids).await?;
        tx.commit().await?;
        batches.deleted(limit, deleted);
    }
    Ok(())
}

/// Deletes rows of the tenant that ended before then, at most `count`.
///
/// # Errors
/// The database's; what was deleted in earlier transactions stays deleted.
pub async fn delete_ended_before<E: EntityTrait>(
    db: &Db,
    tenant: TenantId,
    columns: &EndedColumns<E>,
    before: Timestamp,
    count: u64,
) -> Result<(), Error> {
    let mut batches = Batches::of(count);
    while let Some(limit) = batches.next_limit() {
        let mut tx = db.write(tenant).await?;
        let ids = ended_before(&mut tx, columns, &[], before, limit).await?;
        let deleted = delete_rows::<E>(&mut tx, columns.tenant, columns.id, ids).await?;
        tx.commit().await?;
        batches.deleted(limit, deleted);
    }
    Ok(())
}

/// Ids of rows of the transaction's tenant that ended before then and to which none of these columns refers, those that
/// ended first before others, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn ended_before<E: EntityTrait>(
    tx: &mut Tx,
    columns: &EndedColumns<E>,
    references: &[Reference],
    before: Timestamp,
    limit: u64,
) -> Result<Vec<Uuid>, Error> {
    let tenant = tx.tenant();
    let mut select = E::find()
        .filter(columns.tenant.eq(tenant.uuid()))
        .filter(columns.ended_at.is_not_null())
        .filter(columns.ended_at.lt(before.micros()));
    for reference in references {
        select = select.filter(is_referred_to::<E>(tenant, columns.id, *reference).not());
    }
    Ok(select
        .order_by_asc(columns.ended_at)
        .order_by_asc(columns.id)
        .limit(limit)
        .select_only()
        .column(columns.id)
        .into_tuple()
        .all(tx.orm())
        .await?)
}

fn is_referred_to<E: EntityTrait>(tenant: TenantId, id: E::Column, reference: Reference) -> SimpleExpr {
    let table = Alias::new(reference.table);
    let rows = Query::select()
        .expr(Expr::value(1))
        .from(table.clone())
        .and_where(Expr::col((table.clone(), Alias::new("tenant_id"))).eq(tenant.uuid()))
        .and_where(Expr::col((table, Alias::new(reference.column))).equals((E::default(), id)))
        .to_owned();
    Expr::exists(rows)
}

/// Deletes these rows of the transaction's tenant and returns how many there were.
///
/// # Errors
/// The database's.
pub async fn delete_rows<E: EntityTrait>(
    tx: &mut Tx,
    tenant: E::Column,
    id: E::Column,
    ids: Vec<Uuid>,
) -> Result<u64, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let deleted = E::delete_many().filter(tenant.eq(tx.tenant().uuid())).filter(id.is_in(ids)).exec(tx.orm()).await?;
    Ok(deleted.rows_affected)
}

/// How much of one kind is kept of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredRows {
    /// How many rows, at most [`COUNTED_ROWS_MAX`].
    pub rows: u64,
    /// Whether there are more.
    pub is_more: bool,
    /// When the oldest was created or, where that is what counts, ended; `None` where that is not known.
    pub oldest: Option<Timestamp>,
}

impl StoredRows {
    /// `counted` may be one more than [`COUNTED_ROWS_MAX`].
    pub(crate) fn new(counted: u64, oldest: Option<Timestamp>) -> Self {
        Self { rows: std::cmp::min(counted, COUNTED_ROWS_MAX), is_more: counted > COUNTED_ROWS_MAX, oldest }
    }

    /// Of both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let oldest = self.oldest.into_iter().chain(other.oldest).min();
        let both = Self::new(self.rows.saturating_add(other.rows), oldest);
        Self { is_more: both.is_more || self.is_more || other.is_more, ..both }
    }
}

/// How many rows of the transaction's tenant were created before then, and when the oldest was.
///
/// # Errors
/// The database's.
pub async fn stored<E: EntityTrait>(tx: &mut Tx, columns: &Columns<E>, before: Timestamp) -> Result<StoredRows, Error>
where
    E::Model: Send + Sync,
{
    let rows = E::find()
        .filter(columns.tenant.eq(tx.tenant().uuid()))
        .filter(columns.id.lt(before.first_id()))
        .select_only()
        .column(columns.id);
    let counted = rows.clone().limit(COUNTED_ROWS_MAX.saturating_add(1)).count(tx.orm()).await?;
    let first: Option<Uuid> = rows.order_by_asc(columns.id).into_tuple().one(tx.orm()).await?;
    Ok(StoredRows::new(counted, first.and_then(Timestamp::of_id)))
}

/// How many of these rows there are, which ended at `ended_at`, and when the first of them did. An index in the order of
/// `ended_at` serves them.
///
/// # Errors
/// The database's.
pub async fn stored_ended<E: EntityTrait>(
    tx: &mut Tx,
    rows: Select<E>,
    ended_at: E::Column,
) -> Result<StoredRows, Error>
where
    E::Model: Send + Sync,
{
    let rows = rows.select_only().column(ended_at);
    let counted = rows.clone().limit(COUNTED_ROWS_MAX.saturating_add(1)).count(tx.orm()).await?;
    let first: Option<i64> = rows.order_by_asc(ended_at).into_tuple().one(tx.orm()).await?;
    Ok(StoredRows::new(counted, first.map(Timestamp::from_micros)))
}

/// How many events of the log the transaction's tenant has, applied or not. When the oldest arrived is not known.
///
/// # Errors
/// The database's.
pub async fn stored_intake_events(tx: &mut Tx) -> Result<StoredRows, Error> {
    // Every source has a name; with it this is a part of the index and not the whole table.
    let sql = "SELECT count(*) AS counted FROM
                 (SELECT 1 AS one FROM intake_event WHERE tenant_id = $1 AND source > '' LIMIT $2) AS found";
    let most = i64::try_from(COUNTED_ROWS_MAX.saturating_add(1)).unwrap_or(i64::MAX);
    let rows = tx.query(sql, vec![tx.tenant().uuid().into(), most.into()]).await?;
    let counted: i64 = rows.first().map(|row| row.try_get("", "counted")).transpose()?.unwrap_or(0);
    Ok(StoredRows::new(u64::try_from(counted).unwrap_or(0), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of all tables that refer to connections, from the tables in words.
    fn columns_that_refer_to_connections() -> Vec<(String, String)> {
        let mut table = String::new();
        let mut found = Vec::new();
        for line in include_str!("../migrations/schema.txt").lines() {
            if let Some(name) = line.strip_prefix("table ") {
                table = name.split(' ').next().unwrap_or_default().to_owned();
            }
            let key = line.trim().strip_prefix("foreign key (tenant_id, ");
            if let Some((column, _)) = key.and_then(|key| key.split_once(") references connection ")) {
                found.push((table.clone(), column.to_owned()));
            }
        }
        found
    }

    #[test]
    fn all_that_refers_to_connections_is_named() {
        let named: Vec<(String, String)> = CONNECTION_REFERENCES
            .iter()
            .map(|reference| (reference.table.to_owned(), reference.column.to_owned()))
            .collect();
        assert_eq!(named, columns_that_refer_to_connections());
    }

    #[test]
    fn rows_together_are_counted_up_to_the_limit() {
        let at = |micros| Some(Timestamp::from_micros(micros));
        let many = StoredRows::new(COUNTED_ROWS_MAX + 1, at(5));
        assert_eq!((many.rows, many.is_more), (COUNTED_ROWS_MAX, true));
        let few = StoredRows::new(2, at(3));
        assert_eq!(few.and(StoredRows::new(3, None)), StoredRows { rows: 5, is_more: false, oldest: at(3) });
        assert_eq!(many.and(few), StoredRows { rows: COUNTED_ROWS_MAX, is_more: true, oldest: at(3) });
        assert_eq!(few.and(many), many.and(few));
    }

    #[test]
    fn batches_are_bounded_and_end_with_a_short_one() {
        let mut batches = Batches::of(2_500);
        for limit in [1_000, 1_000, 500] {
            assert_eq!(batches.next_limit(), Some(limit));
            batches.deleted(limit, limit);
        }
        assert_eq!(batches.next_limit(), None);
        let mut batches = Batches::of(2_500);
        batches.deleted(1_000, 999);
        assert_eq!(batches.next_limit(), None);
    }
}
