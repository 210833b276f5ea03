//! Brings a database up to date: the migrations of each engine, and how they are run.
//!
//! Invariants: a migration that was published never changes, which its checksum holds; both lists make the same tables,
//! which a test compares. Used by `app`, `check` and tests.

#[cfg(test)]
mod tests;

use sea_orm::sqlx::migrate::{AppliedMigration, Migrate, Migration, MigrationType, Migrator};
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::sqlite::SqliteConnection;
use sea_orm::sqlx::{Connection as _, Executor as _, Row as _, SqlStr};
use sea_orm::{ConnectionTrait as _, Statement};

use crate::connect::Connections;
use crate::{Db, Engine, Error, roles};

/// One file of the folder `migrations`.
struct MigrationFile {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// Oldest first. Only added to.
const SQLITE: &[MigrationFile] =
    &[MigrationFile { version: 1, name: "initial", sql: include_str!("../../migrations/sqlite/0001_initial.sql") }];

/// Oldest first. Only added to.
const POSTGRES: &[MigrationFile] =
    &[MigrationFile { version: 1, name: "initial", sql: include_str!("../../migrations/postgres/0001_initial.sql") }];

/// Where the driver keeps what was applied.
pub(crate) const APPLIED: &str = "_sqlx_migrations";

/// Brings the database up to date, in one transaction and one process at a time. Returns how many migrations that took.
///
/// # Errors
/// [`Error::SchemaTooNew`] and [`Error::MigrationChanged`] where other migrations than this binary's were applied;
/// [`Error::MissingParent`] where one leaves a row without the row that it refers to; on PostgreSQL [`Error::NoOwner`] and
/// [`Error::OtherDatabase`]; the driver's error.
pub async fn migrate(db: &Db) -> Result<usize, Error> {
    apply(db, sources(db.engine())).await
}

/// How many migrations [`migrate`] would apply now. Writes nothing.
///
/// # Errors
/// [`Error::SchemaTooNew`] and [`Error::MigrationChanged`] as [`migrate`]; the driver's error.
pub async fn migrations_pending(db: &Db) -> Result<usize, Error> {
    count_pending(db, sources(db.engine())).await
}

/// The last migration of this version.
pub fn latest_version(engine: Engine) -> i64 {
    sources(engine).last().map_or(0, |last| last.version)
}

async fn count_pending(db: &Db, sources: &[MigrationFile]) -> Result<usize, Error> {
    let mut applied = Vec::new();
    if table_names(db).await?.iter().any(|name| name == APPLIED) {
        let statements = db.statements().await?;
        let sql = format!("SELECT version, checksum FROM {APPLIED}");
        for row in statements.query_all_raw(Statement::from_string(statements.get_database_backend(), sql)).await? {
            let checksum: Vec<u8> = row.try_get("", "checksum")?;
            applied.push(AppliedMigration { version: row.try_get("", "version")?, checksum: checksum.into() });
        }
    }
    pending(&migrator(sources), &applied)
}

const fn sources(engine: Engine) -> &'static [MigrationFile] {
    match engine {
        Engine::Sqlite => SQLITE,
        Engine::Postgres => POSTGRES,
    }
}

async fn apply(db: &Db, sources: &[MigrationFile]) -> Result<usize, Error> {
    let migrator = migrator(sources);
    // Most starts find nothing to apply, and need no connection of the owner.
    let to_apply = count_pending(db, sources).await?;
    if to_apply == 0 {
        return Ok(0);
    }
    match db.connections() {
        Connections::Sqlite { writer, .. } => {
            // A table that others refer to is rebuilt with foreign keys off, which must be said before the transaction
            // (https://www.sqlite.org/lang_altertable.html#otheralter).
            let mut connection = writer.connect_without_foreign_keys().await?;
            let applied = apply_on_sqlite(&mut connection, &migrator).await?;
            connection.close().await?;
            Ok(applied)
        }
        Connections::Postgres(_) => {
            let mut connection = db.owner().await?.ok_or(Error::NoOwner { pending: to_apply })?;
            let applied = apply_on_postgres(&mut connection, &migrator).await?;
            connection.close().await?;
            if count_pending(db, sources).await? > 0 { Err(Error::OtherDatabase) } else { Ok(applied) }
        }
    }
}

fn migrator(sources: &[MigrationFile]) -> Migrator {
    let migrations = sources.iter().map(|source| {
        let sql = SqlStr::from_static(source.sql);
        Migration::new(source.version, source.name.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // Taken here, before what is pending is counted.
    migrator.set_locking(false);
    migrator
}

async fn apply_on_sqlite(connection: &mut SqliteConnection, migrator: &Migrator) -> Result<usize, Error> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let pending = pending(migrator, &applied(&mut *tx).await?)?;
    migrator.run(&mut *tx).await?;
    if pending > 0
        && let Some(row) = tx.fetch_optional("PRAGMA foreign_key_check").await?
    {
        return Err(Error::MissingParent { table: row.try_get("table")?, parent: row.try_get("parent")? });
    }
    tx.commit().await?;
    Ok(pending)
}

async fn apply_on_postgres(connection: &mut PgConnection, migrator: &Migrator) -> Result<usize, Error> {
    // Until the connection is closed.
    connection.lock().await?;
    let mut tx = connection.begin().await?;
    let pending = pending(migrator, &applied(&mut *tx).await?)?;
    migrator.run(&mut *tx).await?;
    tx.commit().await?;
    Ok(pending)
}

async fn applied(connection: &mut impl Migrate) -> Result<Vec<AppliedMigration>, Error> {
    connection.ensure_migrations_table(APPLIED).await?;
    Ok(connection.list_applied_migrations(APPLIED).await?)
}

/// How many are still to be applied, if those that were are this binary's.
fn pending(migrator: &Migrator, applied: &[AppliedMigration]) -> Result<usize, Error> {
    for AppliedMigration { version, checksum } in applied {
        match migrator.iter().find(|migration| migration.version == *version) {
            None => return Err(Error::SchemaTooNew { version: *version }),
            Some(own) if own.checksum != *checksum => return Err(Error::MigrationChanged { version: *version }),
            Some(_) => {}
        }
    }
    Ok(migrator.iter().count().saturating_sub(applied.len()))
}

/// Fails where a table with a tenant column has no active row-level security, the shared ones apart, or where it does not
/// bind the role that serves. SQLite has none to check.
///
/// # Errors
/// [`Error::NoRowSecurity`], [`Error::UnboundRole`]; the driver's error.
pub async fn check_row_security(db: &Db) -> Result<(), Error> {
    if db.engine() == Engine::Sqlite {
        return Ok(());
    }
    let sql = "SELECT c.relname AS name FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                 AND c.relname NOT IN ('route', 'job', 'intake_event', 'audit_unsealed', 'audit_refused')
                 AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
    let statements = db.statements().await?;
    let first = async |sql| {
        let statement = Statement::from_string(statements.get_database_backend(), sql);
        statements.query_one_raw(statement).await
    };
    if let Some(row) = first(sql).await? {
        return Err(Error::NoRowSecurity { table: row.try_get("", "name")? });
    }
    match first(roles::PROBLEM).await? {
        Some(row) => Err(Error::UnboundRole { role: row.try_get("", "role")?, problem: row.try_get("", "problem")? }),
        None => Ok(()),
    }
}

/// The names of all tables.
pub async fn table_names(db: &Db) -> Result<Vec<String>, Error> {
    let sql = match db.engine() {
        Engine::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        Engine::Postgres => {
            "SELECT relname AS name FROM pg_class WHERE relkind = 'r'
             AND relnamespace = 'public'::regnamespace ORDER BY relname"
        }
    };
    let statements = db.statements().await?;
    let statement = Statement::from_string(statements.get_database_backend(), sql);
    let rows = statements.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get("", "name").map_err(Error::from)).collect()
}
