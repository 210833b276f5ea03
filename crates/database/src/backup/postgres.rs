//! Backups of PostgreSQL: `pg_dump` and `pg_restore` as the owner of the database.
//!
//! Invariants: the dump and what the manifest says of it are one snapshot; the owner must see every row, since a dump of
//! what row-level security leaves would look like a backup and be none; a restore is one transaction.

use std::path::Path;
use std::str::FromStr as _;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::programs::{Login, Program};
use super::{Error, Manifest, OnProgress, Origin, Progress, copy, failed};
use crate::schema::APPLIED;
use crate::{Engine, Options, roles};

/// The name that the processes of a server go by.
const SERVER_NAME: &str = "thinkwork";

pub(super) async fn create(
    options: &Options,
    file: &Path,
    origin: Origin,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, Error> {
    let url = options.migration_url.as_deref().ok_or(Error::NoOwner)?;
    let login = Login::new(url)?;
    let mut owner = connect(url).await?;
    check_sees_all(&mut owner).await?;
    let server = server_version(&mut owner).await?;
    let pg_dump = Program::find("pg_dump", &login, server).await?;
    let pg_restore = Program::find("pg_restore", &login, server).await?;
    let mut snapshot = owner.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let sql = format!(
        "SELECT pg_export_snapshot() AS id, (SELECT count(*) FROM tenant) AS tenants,
                (SELECT max(version) FROM {APPLIED}) AS version"
    );
    let row = snapshot.fetch_one(AssertSqlSafe(sql)).await?;
    let manifest = origin.manifest(Engine::Postgres, row.try_get("version")?, row.try_get("tenants")?);
    let id: String = row.try_get("id")?;
    let mut to = tokio::fs::File::create(file).await.map_err(failed(file, "written"))?;
    let line = format!("{}\n", serde_json::json!(manifest));
    to.write_all(line.as_bytes()).await.map_err(failed(file, "written"))?;
    // A migration that runs is waited for, and no longer than this.
    let snapshot_id = format!("--snapshot={id}");
    let arguments = ["--format=custom", "--no-password", "--lock-wait-timeout=10s", &snapshot_id];
    let mut running = pg_dump.start(&arguments)?;
    let copied = copy(running.output()?, to, None, on_progress).await;
    running.end().await?;
    copied.map_err(failed(file, "written"))?;
    snapshot.rollback().await?;
    owner.close().await?;
    on_progress(Progress::Checking);
    read_back(&pg_restore, file).await.map_err(|error| Error::DamagedCopy(error.to_string()))?;
    Ok(manifest)
}

pub(super) async fn verify(options: &Options, file: &Path) -> Result<(), Error> {
    let url = options.migration_url.as_deref().ok_or(Error::NoOwner)?;
    let login = Login::new(url)?;
    let mut owner = connect(url).await?;
    let server = server_version(&mut owner).await?;
    owner.close().await?;
    let pg_restore = Program::find("pg_restore", &login, server).await?;
    read_back(&pg_restore, file).await.map_err(|error| Error::Damaged(error.to_string()))
}

pub(super) async fn restore(options: &Options, file: &Path, on_progress: OnProgress<'_>) -> Result<(), Error> {
    let url = options.migration_url.as_deref().ok_or(Error::NoOwner)?;
    let login = Login::new(url)?;
    let mut owner = connect(url).await?;
    let server = server_version(&mut owner).await?;
    let pg_restore = Program::find("pg_restore", &login, server).await?;
    check_unused(&mut owner).await?;
    on_progress(Progress::Checking);
    read_back(&pg_restore, file).await.map_err(|error| Error::Damaged(error.to_string()))?;
    // The dump grants to a role that belongs to the whole server and is in no dump.
    let serving = PgConnectOptions::from_str(&options.url)?;
    roles::prepare(&mut owner, serving.get_username()).await?;
    let into = login.database_argument();
    let arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-password", &into];
    feed(&pg_restore, &arguments, file, on_progress).await?;
    // What the planner knows of the tables is in no dump.
    owner.execute("ANALYZE").await?;
    owner.close().await?;
    Ok(())
}

/// Has the whole dump read and decompressed.
async fn read_back(pg_restore: &Program<'_>, file: &Path) -> Result<(), Error> {
    feed(pg_restore, &["--file=/dev/null"], file, &mut |_| {}).await
}

/// Runs `pg_restore` over the dump behind the line of the manifest.
async fn feed(
    pg_restore: &Program<'_>,
    arguments: &[&str],
    file: &Path,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let opened = tokio::fs::File::open(file).await.map_err(failed(file, "read"))?;
    let bytes = opened.metadata().await.map_err(failed(file, "read"))?.len();
    let mut dump = BufReader::new(opened);
    let mut line = Vec::new();
    dump.read_until(b'\n', &mut line).await.map_err(failed(file, "read"))?;
    let mut running = pg_restore.start(arguments)?;
    // It may end before it has read all, and then says why.
    let copied = copy(dump, running.input()?, Some(bytes), on_progress).await;
    running.end().await?;
    copied.map_err(failed(file, "read"))
}

async fn connect(url: &str) -> Result<PgConnection, Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("thinkwork backup").disable_statement_logging();
    Ok(PgConnection::connect_with(&options).await?)
}

/// The major version.
async fn server_version(owner: &mut PgConnection) -> Result<u32, Error> {
    let row = owner.fetch_one("SELECT current_setting('server_version_num')::bigint / 10000 AS major").await?;
    Ok(u32::try_from(row.try_get::<i64, _>("major")?).unwrap_or(u32::MAX))
}

/// Refuses a role from which row-level security hides rows.
async fn check_sees_all(owner: &mut PgConnection) -> Result<(), Error> {
    let sql =
        "SELECT rolname::text AS role, rolsuper OR rolbypassrls AS sees_all FROM pg_roles WHERE rolname = current_user";
    let row = owner.fetch_one(sql).await?;
    if row.try_get("sees_all")? { Ok(()) } else { Err(Error::RowsHidden { role: row.try_get("role")? }) }
}

/// Refuses a database with tables, or that a server uses.
async fn check_unused(owner: &mut PgConnection) -> Result<(), Error> {
    let sql = format!(
        "SELECT current_database()::text AS name,
                EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace) AS has_tables,
                (SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = '{SERVER_NAME}') AS sessions"
    );
    let row = owner.fetch_one(AssertSqlSafe(sql)).await?;
    let database: String = row.try_get("name")?;
    match row.try_get("sessions")? {
        0 if row.try_get("has_tables")? => Err(Error::NotEmpty(format!("the database {database}"))),
        0 => Ok(()),
        sessions => Err(Error::InUse { database, sessions }),
    }
}
