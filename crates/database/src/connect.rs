//! Opening the database: one writer and a pool of readers on SQLite, one pool on PostgreSQL.
//!
//! Invariant: every PostgreSQL connection runs as the role `thinkwork_app`, which neither owns tables nor bypasses
//! row-level security. Used by `app` and by the short commands.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::sqlx::{Connection as _, Executor as _};
use sea_orm::{
    AccessMode, DatabaseConnection, SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector,
    TransactionOptions, TransactionTrait as _,
};
use thinkwork_primitives::TenantId;

use crate::wake::WakeUps;
use crate::{Error, Tx};

/// How long a writer waits for another process's write on SQLite.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages in the log before they are written back into the file: 32 MiB, so that many small commits share one copy of
/// the pages that all of them change.
const CHECKPOINT_PAGES: &str = "8192";
/// The writer's cache in kibibytes (negative by SQLite's convention): the inner pages of the tables that it appends to.
const WRITER_CACHE: &str = "-16384";
/// Readers on SQLite: more than the cores help nothing, fewer starve slow pages.
const SQLITE_READERS: u32 = 4;

/// Which engine runs. No slice asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file, one process.
    Sqlite,
    /// One server, many processes.
    Postgres,
}

/// How to open the database.
pub struct Options {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// Connections to PostgreSQL.
    pub connections_max: u32,
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    wake_ups: WakeUps,
    writing: Arc<Mutex<HashSet<tokio::task::Id>>>,
}

impl Db {
    /// Opens the database and makes the SQLite file if there is none. Migrates nothing.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`], [`Error::DataDir`] or the driver's error.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        if let Some(path) = options.url.strip_prefix("sqlite:") {
            Self::open_sqlite(Path::new(path.trim_start_matches("//"))).await
        } else if options.url.starts_with("postgres:") || options.url.starts_with("postgresql:") {
            Self::open_postgres(options).await
        } else {
            Err(Error::UnknownEngine)
        }
    }

    async fn open_sqlite(path: &Path) -> Result<Self, Error> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| Error::DataDir { path: folder.display().to_string(), source })?;
        }
        let base = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "67108864");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(is_whole(connection)))
            .connect_with(
                base.clone().pragma("wal_autocheckpoint", CHECKPOINT_PAGES).pragma("cache_size", WRITER_CACHE),
            )
            .await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(is_whole(connection)))
            .connect_with(base.pragma("query_only", "true"))
            .await?;
        Ok(Self {
            engine: Engine::Sqlite,
            writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
            reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
            wake_ups: WakeUps::in_process(),
            writing: Arc::default(),
        })
    }

    async fn open_postgres(options: &Options) -> Result<Self, Error> {
        let connect = PgConnectOptions::from_str(&options.url)?.application_name("thinkwork");
        // A pool would try for half a minute where nobody listens; one connection says so at once.
        let mut login = PgConnection::connect_with(&connect).await?;
        make_role(&mut login).await?;
        login.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max.max(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute("SET ROLE thinkwork_app").await.map(|_| ()) })
            })
            .connect_with(connect)
            .await?;
        let wake_ups = WakeUps::listening(pool.clone()).await?;
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        Ok(Self {
            engine: Engine::Postgres,
            writer: connection.clone(),
            reader: connection,
            wake_ups,
            writing: Arc::default(),
        })
    }

    /// Which engine runs; for this crate, `check` and the log only.
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// Hints that something changed. They may be lost; a sweep finds what they missed.
    pub const fn wake_ups(&self) -> &WakeUps {
        &self.wake_ups
    }

    /// A snapshot of one tenant's rows. Drop it when done.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn read(&self, tenant: TenantId) -> Result<Tx, Error> {
        self.begin(Some(tenant), Access::Read).await
    }

    /// A write transaction on one tenant's rows. Nothing lasts without [`Tx::commit`].
    ///
    /// # Errors
    /// [`Error::NestedWrite`] where the same task already holds one; the driver's error.
    pub async fn write(&self, tenant: TenantId) -> Result<Tx, Error> {
        self.begin(Some(tenant), Access::Write).await
    }

    /// A snapshot of the few tables that belong to no tenant: `tenant`, `route`, `job`, `intake_event`.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn read_shared(&self) -> Result<Tx, Error> {
        self.begin(None, Access::Read).await
    }

    /// A write transaction on the few tables that belong to no tenant.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_shared(&self) -> Result<Tx, Error> {
        self.begin(None, Access::Write).await
    }

    async fn begin(&self, tenant: Option<TenantId>, access: Access) -> Result<Tx, Error> {
        let task = match access {
            Access::Write => self.enter_write()?,
            Access::Read => None,
        };
        let connection = if access == Access::Write { &self.writer } else { &self.reader };
        let options = TransactionOptions {
            isolation_level: None,
            access_mode: match (self.engine, access) {
                (Engine::Postgres, Access::Read) => Some(AccessMode::ReadOnly),
                _ => None,
            },
            sqlite_transaction_mode: match (self.engine, access) {
                (Engine::Sqlite, Access::Write) => Some(SqliteTransactionMode::Immediate),
                (Engine::Sqlite, Access::Read) => Some(SqliteTransactionMode::Deferred),
                (Engine::Postgres, _) => None,
            },
        };
        let inner = connection.begin_with_options(options).await?;
        Tx::begun(inner, self.engine, tenant, self.wake_ups.clone(), task).await
    }

    /// Notes that this task writes, so that a second write in it is an error at once and not a wait for ourselves.
    fn enter_write(&self) -> Result<Option<Writing>, Error> {
        let Some(task) = tokio::task::try_id() else { return Ok(None) };
        let mut writing = self.writing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if writing.insert(task) {
            Ok(Some(Writing { task, all: Arc::clone(&self.writing) }))
        } else {
            Err(Error::NestedWrite)
        }
    }

    /// Writes the SQLite log back into the file and ends all connections.
    pub async fn close(&self) {
        self.wake_ups.close();
        match self.engine {
            Engine::Sqlite => {
                self.reader.get_sqlite_connection_pool().close().await;
                self.writer.get_sqlite_connection_pool().close().await;
            }
            Engine::Postgres => self.writer.get_postgres_connection_pool().close().await,
        }
    }

    pub(crate) const fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Held by a write transaction; its end lets the task write again.
pub(crate) struct Writing {
    task: tokio::task::Id,
    all: Arc<Mutex<HashSet<tokio::task::Id>>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.task);
    }
}

/// Whether the last transaction on this connection has ended; where it has not, the connection is closed and a new one
/// takes its place.
///
/// SQLite rolls a transaction back by itself when the disk is full or fails
/// (<https://www.sqlite.org/lang_transaction.html>, "Response To Errors Within A Transaction"). The driver's own
/// rollback then fails, and from there on it takes each BEGIN for a savepoint: what such a "transaction" commits is on
/// no disk. Where one seems open, its rollback may still be on its way: a ping comes back behind it. Where none is, the
/// ping is spared, which costs as much as a small query.
async fn is_whole(connection: &mut SqliteConnection) -> Result<bool, sea_orm::sqlx::Error> {
    if connection.is_in_transaction() {
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Makes the role that serves requests. The login role may use it; it may not log in, own or bypass anything.
async fn make_role(login: &mut PgConnection) -> Result<(), Error> {
    login
        .execute(
            "DO $$ BEGIN
               IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'thinkwork_app') THEN
                 CREATE ROLE thinkwork_app NOLOGIN NOBYPASSRLS;
               END IF;
               EXECUTE format('GRANT thinkwork_app TO %I', current_user);
               GRANT USAGE ON SCHEMA public TO thinkwork_app;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
             END $$",
        )
        .await?;
    Ok(())
}
