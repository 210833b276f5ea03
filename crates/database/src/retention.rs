//! Deletes a tenant's rows that are older than the retention period, oldest first.
//!
//! Invariant: a transaction deletes a bounded number of rows, since on SQLite every other writer waits for it.

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use thinkwork_primitives::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{Db, Error, Tx};

const ROWS_PER_TRANSACTION: u64 = 1_000;

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
