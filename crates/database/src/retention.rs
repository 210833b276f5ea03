//! Deletes a tenant's rows that are older than the retention period, oldest first.
//!
//! Invariant: a transaction deletes a bounded number of rows, since on SQLite every other writer waits for it.

use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use thinkwork_primitives::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{Db, Error};

const ROWS_PER_TRANSACTION: u64 = 1_000;

/// The columns of a table by which old rows of a tenant are found. The id is a UUIDv7, so it orders rows by time.
pub struct Columns<E: EntityTrait> {
    /// `tenant_id`.
    pub tenant: E::Column,
    /// `id`.
    pub id: E::Column,
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
    let mut left = count;
    while left > 0 {
        let limit = left.min(ROWS_PER_TRANSACTION);
        let tx = db.write(tenant).await?;
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
        let found = u64::try_from(ids.len()).unwrap_or(limit);
        if found > 0 {
            E::delete_many()
                .filter(columns.tenant.eq(tenant.uuid()))
                .filter(columns.id.is_in(ids))
                .exec(tx.orm())
                .await?;
        }
        tx.commit().await?;
        left = if found < limit { 0 } else { left.saturating_sub(found) };
    }
    Ok(())
}
