//! Opening the database: one writer and a few readers on SQLite, one pool on PostgreSQL.
//!
//! Invariant: every PostgreSQL connection that serves is a login of a role that neither owns tables nor bypasses row-level
//! security, nor can become one that does (`roles`). The owner's connections are closed before any request is served.
//! Used by `app` and by the short commands.

use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::HistogramTimer;
use prometheus::core::Collector;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection as _, Executor as _, Row as _};
use sea_orm::{
    AccessMode, DatabaseConnection, DbBackend, SqlxPostgresConnector, TransactionOptions, TransactionTrait as _,
};
use thinkwork_primitives::{DomainEvent, RecordKey, TenantId};

use crate::jobs::{self, NewJob};
use crate::metrics::{Access, Metrics};
use crate::roles;
use crate::round_robin::RoundRobin;
use crate::sqlite::SqlitePool;
use crate::statements::Statements;
use crate::tenant_lookup::{self, RouteCache};
use crate::wake::WakeUps;
use crate::{Error, Tx, intake_log};

/// How long a writer waits for another process's write on SQLite.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages in the log before they are written back into the file: 32 MiB, so that many small commits share one copy of
/// the pages that all of them change.
const CHECKPOINT_PAGES: &str = "8192";
/// The writer's cache in kibibytes (negative by SQLite's convention): the inner pages of the tables that it appends to.
const WRITER_CACHE: &str = "-16384";
/// Readers on SQLite: more than the cores help nothing, fewer starve slow pages.
const SQLITE_READERS: u32 = 4;

/// Of each connection to PostgreSQL. Our statements take milliseconds; where statistics are missing or old, PostgreSQL
/// expects more of them and compiles each one anew, which takes the better part of a second.
const SETTINGS: [(&str, &str); 1] = [("jit", "off")];

/// Which engine runs. No slice asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// One file, one process.
    Sqlite,
    /// One server, many processes.
    Postgres,
}

impl Engine {
    pub(crate) const fn backend(self) -> DbBackend {
        match self {
            Self::Sqlite => DbBackend::Sqlite,
            Self::Postgres => DbBackend::Postgres,
        }
    }

    /// How a statement names its parameter of this place, from 0. SQLite's driver looks a numbered parameter up among
    /// all others, one by one; a plain one it does not.
    pub(crate) fn parameter(self, place: usize) -> String {
        match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => format!("${}", place.saturating_add(1)),
        }
    }

    /// The places of `count` parameters from `first` on, as a list.
    pub(crate) fn parameters(self, first: usize, count: usize) -> String {
        let places: Vec<String> = (0..count).map(|place| self.parameter(first.saturating_add(place))).collect();
        places.join(", ")
    }
}

/// How to open the database.
pub struct Options {
    /// `sqlite:PATH` or `postgres://…`, on PostgreSQL of the role that serves.
    pub url: String,
    /// `postgres://…` of the role that owns the tables, for migrations. Without it a database that is up to date can be
    /// served.
    pub migration_url: Option<String>,
    /// Connections to PostgreSQL.
    pub connections_max: u32,
    /// What each domain event leads to.
    pub subscribers: Subscribers,
}

impl Options {
    /// The file of an SQLite database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.url.strip_prefix("sqlite:").map(|path| Path::new(path.trim_start_matches("//")))
    }
}

/// The jobs that a domain event leads to, enqueued in the transaction that publishes it.
pub type Subscribers = fn(&DomainEvent) -> Vec<NewJob>;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    connections: Connections,
    wake_ups: WakeUps,
    metrics: Metrics,
    subscribers: Subscribers,
    writing: Arc<Mutex<HashSet<tokio::task::Id>>>,
    routes: RouteCache,
    round_robins: RoundRobins,
    /// How the owner of a PostgreSQL database logs in, where that was said.
    owner: Option<Arc<PgConnectOptions>>,
    /// With what events of the record are authenticated; none until the key file was opened.
    record_key: Option<RecordKey>,
}

/// Whose work this process claims next, in each line.
#[derive(Clone, Default)]
pub(crate) struct RoundRobins {
    pub(crate) events: RoundRobin,
    pub(crate) people: RoundRobin,
    pub(crate) senders: RoundRobin,
}

#[derive(Clone)]
pub(crate) enum Connections {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres(DatabaseConnection),
}

impl Db {
    /// Opens the database and makes the SQLite file if there is none. Migrates nothing.
    ///
    /// # Errors
    /// [`Error::UnknownEngine`], [`Error::DataDir`]; on PostgreSQL what is wrong with the roles, as
    /// [`Error::UnboundRole`]; the driver's error.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        if let Some(path) = options.sqlite_path() {
            Self::open_sqlite(path, options.subscribers).await
        } else if options.url.starts_with("postgres:") || options.url.starts_with("postgresql:") {
            Self::open_postgres(options).await
        } else {
            Err(Error::UnknownEngine)
        }
    }

    async fn open_sqlite(path: &Path, subscribers: Subscribers) -> Result<Self, Error> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|source| Error::DataDir { path: folder.display().to_string(), source })?;
        }
        make_private(path).map_err(|source| Error::DataDir { path: path.display().to_string(), source })?;
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
        let writer = SqlitePool::new(writing, 1, ACQUIRE_TIMEOUT);
        // A file that cannot be opened is reported at once.
        drop(writer.acquire().await?);
        let readers = SqlitePool::new(base.pragma("query_only", "true"), SQLITE_READERS, ACQUIRE_TIMEOUT);
        Ok(Self {
            connections: Connections::Sqlite { writer, readers },
            wake_ups: WakeUps::in_process(),
            metrics: Metrics::new()?,
            subscribers,
            writing: Arc::default(),
            routes: tenant_lookup::route_cache(),
            round_robins: RoundRobins::default(),
            owner: None,
            record_key: None,
        })
    }

    async fn open_postgres(options: &Options) -> Result<Self, Error> {
        let connect = PgConnectOptions::from_str(&options.url)?.application_name("thinkwork").options(SETTINGS);
        let owner = match &options.migration_url {
            Some(url) => Some(Arc::new(PgConnectOptions::from_str(url)?.application_name("thinkwork migrations"))),
            None => None,
        };
        if let Some(owner) = &owner {
            let mut owner = PgConnection::connect_with(owner).await?;
            roles::prepare(&mut owner, connect.get_username()).await?;
            owner.close().await?;
        }
        // A pool would try for half a minute where nobody listens; one connection says so at once.
        let mut login = PgConnection::connect_with(&connect).await?;
        roles::check_bound(&mut login).await?;
        roles::check_rights(&mut login).await?;
        login.close().await?;
        let pool = pool(options).connect_with(connect).await?;
        let wake_ups = WakeUps::listening(pool.clone()).await?;
        let connections = Connections::Postgres(SqlxPostgresConnector::from_sqlx_postgres_pool(pool));
        let subscribers = options.subscribers;
        let metrics = Metrics::new()?;
        let writing = Arc::default();
        let routes = tenant_lookup::route_cache();
        let round_robins = RoundRobins::default();
        Ok(Self { connections, wake_ups, metrics, subscribers, writing, routes, round_robins, owner, record_key: None })
    }

    /// Opens a database that is there, to look at it: nothing is made, migrated or written. None where there is none,
    /// or an empty one.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_read_only(options: &Options) -> Result<Option<Self>, Error> {
        let connections = if let Some(path) = options.sqlite_path() {
            open_sqlite_read_only(path).await?
        } else {
            open_postgres_read_only(options).await?
        };
        let Some(connections) = connections else { return Ok(None) };
        Ok(Some(Self {
            connections,
            wake_ups: WakeUps::in_process(),
            metrics: Metrics::new()?,
            subscribers: options.subscribers,
            writing: Arc::default(),
            routes: tenant_lookup::route_cache(),
            round_robins: RoundRobins::default(),
            owner: None,
            record_key: None,
        }))
    }

    /// The same database, whose transactions can record events.
    #[must_use]
    pub fn with_record_key(mut self, key: RecordKey) -> Self {
        self.record_key = Some(key);
        self
    }

    /// Which engine runs; for this crate, `check` and the log only.
    pub const fn engine(&self) -> Engine {
        match &self.connections {
            Connections::Sqlite { .. } => Engine::Sqlite,
            Connections::Postgres(_) => Engine::Postgres,
        }
    }

    /// The measurements of this database, to be registered once.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.metrics.collectors()
    }

    /// Hints that something changed. They may be lost; a sweep finds what they missed.
    pub const fn wake_ups(&self) -> &WakeUps {
        &self.wake_ups
    }

    /// One tenant's rows, to read: each statement sees what is committed by then. Drop it when done.
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
        let wait = self.metrics.time_wait(access);
        let inner = match (&self.connections, access) {
            (Connections::Sqlite { readers, .. }, Access::Read) => Statements::Sqlite(readers.acquire().await?),
            (Connections::Sqlite { writer, .. }, Access::Write) => Statements::Sqlite(writer.acquire().await?.begin()),
            (Connections::Postgres(pool), _) => {
                let access_mode = (access == Access::Read).then_some(AccessMode::ReadOnly);
                let options = TransactionOptions { access_mode, ..TransactionOptions::default() };
                Statements::Postgres(pool.begin_with_options(options).await?)
            }
        };
        drop(wait);
        let scope = TxScope { _timer: self.metrics.time_transaction(access), _writing: task };
        let counter = self.metrics.statements(access);
        let mut tx = Tx::begun(inner, self.engine(), self.wake_ups.clone(), self.subscribers, counter, scope);
        tx.record_key.clone_from(&self.record_key);
        match tenant {
            Some(tenant) => tx.enter(tenant).await,
            None => Ok(tx),
        }
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

    /// Gives back what a former process had claimed, at the start of one that nobody else runs beside: on SQLite, whose lock
    /// its caller holds. On PostgreSQL others may be at work, and leases end with their time.
    pub async fn release_former_leases(&self) -> Result<(), Error> {
        if self.engine() == Engine::Postgres {
            return Ok(());
        }
        let mut tx = self.write_shared().await?;
        jobs::release_all(&mut tx).await?;
        intake_log::release_all(&mut tx).await?;
        tx.commit().await
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
        let _wait = self.metrics.time_wait(Access::Write);
        Ok(match &self.connections {
            Connections::Sqlite { writer, .. } => Statements::Sqlite(writer.acquire_priority().await?),
            Connections::Postgres(pool) => Statements::Pool(pool.clone()),
        })
    }

    /// A connection of the owner, if it was said how they log in.
    pub(crate) async fn owner(&self) -> Result<Option<PgConnection>, Error> {
        match &self.owner {
            Some(owner) => Ok(Some(PgConnection::connect_with(owner).await?)),
            None => Ok(None),
        }
    }

    pub(crate) const fn routes(&self) -> &RouteCache {
        &self.routes
    }

    pub(crate) const fn round_robins(&self) -> &RoundRobins {
        &self.round_robins
    }

    pub(crate) const fn connections(&self) -> &Connections {
        &self.connections
    }
}

/// What ends with a transaction.
pub(crate) struct TxScope {
    _timer: HistogramTimer,
    _writing: Option<Writing>,
}

/// Held by a write transaction; its end lets the task write again.
struct Writing {
    task: tokio::task::Id,
    all: Arc<Mutex<HashSet<tokio::task::Id>>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.task);
    }
}

/// Makes the file, if there is none, for its owner alone; SQLite gives the files beside it the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

async fn open_sqlite_read_only(path: &Path) -> Result<Option<Connections>, Error> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    if length(path) == 0 {
        return Ok(None);
    }
    let base = SqliteConnectOptions::new().read_only(true).busy_timeout(BUSY_TIMEOUT).pragma("temp_store", "memory");
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let options = if length(Path::new(&log)) == 0 {
        // Everything is in the file. Without this, reading would make a log and its index beside it.
        base.filename(path).immutable(true)
    } else {
        // It is in use, or was not closed: the log counts, and its index is not written either
        // (https://www.sqlite.org/wal.html#read_only_databases).
        let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        base.filename(format!("file:{escaped}?readonly_shm=1"))
    };
    let readers = SqlitePool::new(options, SQLITE_READERS, ACQUIRE_TIMEOUT);
    // A file that cannot be opened is reported at once.
    drop(readers.acquire().await?);
    Ok(Some(Connections::Sqlite { writer: readers.clone(), readers }))
}

async fn open_postgres_read_only(options: &Options) -> Result<Option<Connections>, Error> {
    let connect = PgConnectOptions::from_str(&options.url)?.application_name("thinkwork");
    let connect = connect.options([("default_transaction_read_only", "on")]);
    let mut login = PgConnection::connect_with(&connect).await?;
    roles::check_bound(&mut login).await?;
    let is_there = login.fetch_one("SELECT to_regclass('public.tenant') IS NOT NULL AS is_there").await?;
    if !is_there.try_get::<bool, _>("is_there")? {
        login.close().await?;
        return Ok(None);
    }
    roles::check_rights(&mut login).await?;
    login.close().await?;
    let pool = pool(options).connect_with(connect).await?;
    Ok(Some(Connections::Postgres(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))))
}

fn pool(options: &Options) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(options.connections_max.max(2)).acquire_timeout(ACQUIRE_TIMEOUT)
}
