//! Backups of SQLite: `VACUUM INTO` writes one snapshot into a new file.
//!
//! A copy page by page (SQLite's online backup) begins anew whenever another process writes, so beside a busy server it
//! would not end; and it takes along what free pages still hold of deleted rows. `VACUUM INTO` reads one snapshot, holds up
//! no writer and leaves a compact file. Its price: as long as it reads, SQLite cannot reset its write-ahead log, which then
//! holds everything that is written meanwhile. So the backup is given up when the log has grown too far
//! (<https://www.sqlite.org/lang_vacuum.html#vacuuminto>,
//! <https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files>).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, query};
use tempfile::NamedTempFile;

use super::{Error, Manifest, OnProgress, Origin, Progress, copy, failed};
use crate::Engine;
use crate::connect::BUSY_TIMEOUT;
use crate::schema::APPLIED;

/// The table of a backup that says what it is.
const MANIFEST_TABLE: &str = "backup_manifest";
/// How far the write-ahead log may grow in any case: some minutes of a busy server.
const LOG_GROWTH_BYTES: u64 = 1_073_741_824;
/// How far it may grow beside a large database: this part of the database's size.
const LOG_GROWTH_PART: u64 = 4;
/// How often the copy and the log are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Steps of SQLite's machine after which it asks whether to go on: about a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;
/// The cache of the copy in kibibytes (negative by SQLite's convention).
const CACHE: &str = "-16384";

pub(super) async fn create(
    database: &Path,
    file: &Path,
    origin: Origin,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, Error> {
    copy_snapshot(database, file, log_bytes_max, on_progress).await?;
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Off)
        .disable_statement_logging()
        .connect()
        .await?;
    let sql =
        format!("SELECT (SELECT count(*) FROM tenant) AS tenants, (SELECT max(version) FROM {APPLIED}) AS version");
    let row = connection.fetch_one(AssertSqlSafe(sql)).await?;
    let manifest = origin.manifest(Engine::Sqlite, row.try_get("version")?, row.try_get("tenants")?);
    connection.execute(AssertSqlSafe(format!("CREATE TABLE {MANIFEST_TABLE} (manifest TEXT NOT NULL)"))).await?;
    query(AssertSqlSafe(format!("INSERT INTO {MANIFEST_TABLE} VALUES (?)")))
        .bind(serde_json::json!(manifest).to_string())
        .execute(&mut connection)
        .await?;
    on_progress(Progress::Checking);
    let problem = problem_of(&mut connection).await?;
    connection.close().await?;
    problem.map_or(Ok(manifest), |problem| Err(Error::DamagedCopy(problem)))
}

/// How far the write-ahead log may grow beside a database of this size.
fn log_bytes_max(log_bytes: u64, database_bytes: u64) -> u64 {
    let part = database_bytes.checked_div(LOG_GROWTH_PART).unwrap_or(0);
    log_bytes.saturating_add(LOG_GROWTH_BYTES.max(part))
}

/// Copies the database as it is now. `log_bytes_max` says of the sizes of its log and of itself how large the log may get.
async fn copy_snapshot(
    database: &Path,
    file: &Path,
    log_bytes_max: impl Fn(u64, u64) -> u64,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", CACHE)
        // It takes as long as it takes, and the log has nothing to say of that.
        .disable_statement_logging()
        .connect()
        .await?;
    let expected = used_bytes(&mut connection).await?;
    let log = beside(database, "-wal");
    let log_max = log_bytes_max(bytes_of(&log), expected);
    let is_given_up = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_given_up);
    let goes_on = move || !asked.load(Ordering::Relaxed);
    connection.lock_handle().await?.set_progress_handler(STEPS_PER_LOOK, goes_on);
    let path = file.to_str().ok_or_else(|| failed(file, "named")(std::io::ErrorKind::InvalidFilename.into()))?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let copied = {
        let mut copying = std::pin::pin!(query("VACUUM INTO ?").bind(path).execute(&mut connection));
        loop {
            tokio::select! {
                copied = &mut copying => break copied,
                _ = looks.tick() => {
                    on_progress(Progress::Writing { bytes: bytes_of(file), expected: Some(expected) });
                    if bytes_of(&log) > log_max {
                        is_given_up.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    if is_given_up.load(Ordering::Relaxed) {
        return Err(Error::LogTooLarge { megabytes: bytes_of(&log).checked_div(1_000_000).unwrap_or(0) });
    }
    copied?;
    connection.close().await?;
    Ok(())
}

/// The bytes of the database without its free pages.
async fn used_bytes(connection: &mut SqliteConnection) -> Result<u64, Error> {
    let sql = "SELECT (SELECT page_count FROM pragma_page_count) AS pages,
                      (SELECT freelist_count FROM pragma_freelist_count) AS free,
                      (SELECT page_size FROM pragma_page_size) AS size";
    let row = connection.fetch_one(sql).await?;
    let pages: i64 = row.try_get("pages")?;
    let used = pages.saturating_sub(row.try_get("free")?).saturating_mul(row.try_get("size")?);
    Ok(u64::try_from(used).unwrap_or(0))
}

/// The manifest of a file of SQLite, where it has one.
///
/// # Errors
/// [`Error::Damaged`] where it does not read.
pub(super) async fn manifest_line(file: &Path) -> Result<Option<String>, Error> {
    let mut connection = read_only(file).await?;
    let known = query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").bind(MANIFEST_TABLE);
    // A file that was cut begins like a database and does not read.
    let damaged = |error: sea_orm::sqlx::Error| Error::Damaged(error.to_string());
    if known.fetch_optional(&mut connection).await.map_err(damaged)?.is_none() {
        return Ok(None);
    }
    let line = connection.fetch_optional(AssertSqlSafe(format!("SELECT manifest FROM {MANIFEST_TABLE}"))).await;
    let line = line.map_err(damaged)?.map(|row| row.try_get("manifest")).transpose()?;
    connection.close().await?;
    Ok(line)
}

pub(super) async fn verify(file: &Path) -> Result<(), Error> {
    let mut connection = read_only(file).await?;
    let problem = problem_of(&mut connection).await?;
    connection.close().await?;
    problem.map_or(Ok(()), |problem| Err(Error::Damaged(problem)))
}

pub(super) async fn restore(file: &Path, database: &Path, on_progress: OnProgress<'_>) -> Result<(), Error> {
    let log = beside(database, "-wal");
    if bytes_of(database) > 0 || bytes_of(&log) > 0 {
        return Err(Error::NotEmpty(database.display().to_string()));
    }
    // What an empty database left says nothing of the one that takes its place, and would damage it.
    for left in [log, beside(database, "-shm")] {
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&left, "removed")(error)),
            _ => {}
        }
    }
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made with mode 0600, and gone when dropped.
    let temporary =
        NamedTempFile::with_prefix_in(".thinkwork-restore-", folder).map_err(failed(database, "written"))?;
    let from = tokio::fs::File::open(file).await.map_err(failed(file, "read"))?;
    let expected = Some(bytes_of(file));
    let to = temporary.reopen().map_err(failed(database, "written"))?;
    let copied = copy(from, tokio::fs::File::from_std(to), expected, on_progress).await;
    copied.map_err(failed(database, "written"))?;
    on_progress(Progress::Checking);
    verify(temporary.path()).await?;
    let mut connection = SqliteConnectOptions::new()
        .filename(temporary.path())
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Off)
        .disable_statement_logging()
        .connect()
        .await?;
    connection.execute(AssertSqlSafe(format!("DROP TABLE {MANIFEST_TABLE}"))).await?;
    connection.close().await?;
    temporary.as_file().sync_all().map_err(failed(database, "written"))?;
    temporary.persist(database).map_err(|error| failed(database, "written")(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(database, "written"))
}

/// The first thing that is wrong with a database: its pages and rows, and the index of words.
async fn problem_of(connection: &mut SqliteConnection) -> Result<Option<String>, Error> {
    let found: String = match connection.fetch_one("PRAGMA quick_check(1)").await {
        Ok(row) => row.try_get(0)?,
        Err(error) => error.to_string(),
    };
    Ok((found != "ok").then_some(found))
}

/// A file that nobody writes.
async fn read_only(file: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).immutable(true);
    Ok(options.disable_statement_logging().connect().await?)
}

fn bytes_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// A file of SQLite beside the database.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn database(folder: &Path) -> (PathBuf, SqliteConnection) {
        let path = folder.join("t.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
        let rows = "CREATE TABLE t (x TEXT);
                    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
                    INSERT INTO t SELECT hex(zeroblob(50)) FROM n";
        connection.execute(rows).await.unwrap();
        (path, connection)
    }

    #[tokio::test]
    async fn l126_a_copy_is_given_up_when_the_log_grows_too_far() {
        let folder = tempfile::tempdir().unwrap();
        let opened = database(folder.path()).await;
        let copied = copy_snapshot(&opened.0, &folder.path().join("small"), |_, _| 1, &mut |_| {}).await;
        assert!(matches!(copied, Err(Error::LogTooLarge { .. })), "{copied:?}");
        let mut bytes = 0;
        let mut note = |progress| {
            if let Progress::Writing { expected, .. } = progress {
                bytes = expected.unwrap();
            }
        };
        copy_snapshot(&opened.0, &folder.path().join("large"), log_bytes_max, &mut note).await.unwrap();
        assert_eq!(bytes_of(&folder.path().join("large")), bytes);
    }

    #[test]
    fn the_log_may_grow_with_the_database() {
        assert_eq!(log_bytes_max(5, 1_000), 5 + LOG_GROWTH_BYTES);
        assert_eq!(log_bytes_max(5, LOG_GROWTH_BYTES * 40), 5 + LOG_GROWTH_BYTES * 10);
    }
}
