//! Opening the database: one writer and a few readers on SQLite, one pool on PostgreSQL.
//!
//! Invariant: every PostgreSQL connection runs as the role `thinkwork_app`, which neither owns tables nor bypasses
//! row-level security. Used by `app` and by the short commands.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection as _, Executor as _};
use sea_orm::{AccessMode, DatabaseConnection, SqlxPostgresConnector, TransactionOptions, TransactionTrait as _};
use thinkwork_primitives::TenantId;

use crate::sqlite::Lane;
use crate::statements::Statements;
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
    connections: Connections,
    wake_ups: WakeUps,
    writing: Arc<Mutex<HashSet<tokio::task::Id>>>,
}

#[derive(Clone)]
pub(crate) enum Connections {
    Sqlite { writer: Lane, readers: Lane },
    Postgres(DatabaseConnection),
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
        let writing = base.clone().pragma("wal_autocheckpoint", CHECKPOINT_PAGES).pragma("cache_size", WRITER_CACHE);
        let writer = Lane::new(writing, 1, ACQUIRE_TIMEOUT);
        // A file that cannot be opened is told at once.
        drop(writer.take().await?);
        let readers = Lane::new(base.pragma("query_only", "true"), SQLITE_READERS, ACQUIRE_TIMEOUT);
        Ok(Self {
            connections: Connections::Sqlite { writer, readers },
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
        let connections = Connections::Postgres(SqlxPostgresConnector::from_sqlx_postgres_pool(pool));
        Ok(Self { connections, wake_ups, writing: Arc::default() })
    }

    /// Which engine runs; for this crate, `check` and the log only.
    pub const fn engine(&self) -> Engine {
        match &self.connections {
            Connections::Sqlite { .. } => Engine::Sqlite,
            Connections::Postgres(_) => Engine::Postgres,
        }
    }

    /// Hints that something changed. They may be lost; a sweep finds what they missed.
    pub const fn wake_ups(&self) -> &WakeUps {
        &self.wake_ups
    }

    /// One tenant's rows, to read: each statement sees what is committed by then. Drop it when done.
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

    /// The few tables that belong to no tenant, to read: `tenant`, `route`, `job`, `intake_event`.
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
        let inner = match (&self.connections, access) {
            (Connections::Sqlite { readers, .. }, Access::Read) => Statements::Sqlite(readers.take().await?),
            (Connections::Sqlite { writer, .. }, Access::Write) => Statements::Sqlite(writer.take().await?.begin()),
            (Connections::Postgres(pool), _) => {
                let access_mode = (access == Access::Read).then_some(AccessMode::ReadOnly);
                let options = TransactionOptions { access_mode, ..TransactionOptions::default() };
                Statements::Postgres(pool.begin_with_options(options).await?)
            }
        };
        Tx::begun(inner, self.engine(), tenant, self.wake_ups.clone(), task).await
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
        match &self.connections {
            Connections::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Connections::Postgres(pool) => pool.get_postgres_connection_pool().close().await,
        }
    }

    /// For statements that need no transaction around them; they write as well, before everybody who stands in line.
    pub(crate) async fn statements(&self) -> Result<Statements, Error> {
        Ok(match &self.connections {
            Connections::Sqlite { writer, .. } => Statements::Sqlite(writer.take_first().await?),
            Connections::Postgres(pool) => Statements::Pool(pool.clone()),
        })
    }

    pub(crate) const fn connections(&self) -> &Connections {
        &self.connections
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
