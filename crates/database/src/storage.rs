//! What the database takes on disk, by table.
//!
//! Used by the command `retention`. On SQLite it reads the whole file, on PostgreSQL it asks what the server keeps count of.

use sea_orm::{ConnectionTrait as _, Statement};

use crate::{Db, Engine, Error};

/// One table with its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// How many rows it has; on PostgreSQL as last counted by the server.
    pub rows: i64,
    /// What it and its indexes take on disk.
    pub bytes: i64,
}

/// The size of every table, the largest first.
pub async fn table_sizes(db: &Db) -> Result<Vec<TableSize>, Error> {
    let sql = match db.engine() {
        Engine::Sqlite => {
            "SELECT m.tbl_name AS name, sum(s.pgsize) AS bytes, 0 AS row_count
             FROM dbstat AS s JOIN sqlite_master AS m ON m.name = s.name
             WHERE s.aggregate = TRUE GROUP BY m.tbl_name ORDER BY bytes DESC"
        }
        Engine::Postgres => {
            "SELECT relname::text AS name, pg_total_relation_size(oid) AS bytes,
                    greatest(reltuples, 0)::bigint AS row_count
             FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY bytes DESC"
        }
    };
    let statements = db.statements().await?;
    let backend = statements.get_database_backend();
    let mut sizes = Vec::new();
    for row in statements.query_all_raw(Statement::from_string(backend, sql)).await? {
        let table: String = row.try_get("", "name")?;
        let mut rows: i64 = row.try_get("", "row_count")?;
        if db.engine() == Engine::Sqlite {
            let count = format!("SELECT count(*) AS row_count FROM \"{table}\"");
            let counted = statements.query_one_raw(Statement::from_string(backend, count)).await?;
            rows = counted.map(|row| row.try_get("", "row_count")).transpose()?.unwrap_or(0);
        }
        sizes.push(TableSize { table, rows, bytes: row.try_get("", "bytes")? });
    }
    Ok(sizes)
}
