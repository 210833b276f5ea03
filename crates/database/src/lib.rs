//! SQLite or PostgreSQL behind two doors: [`Db::read`] and [`Db::write`].
//!
//! Invariants: this crate alone enables SQL drivers and writes raw SQL; a transaction names its tenant, and on
//! PostgreSQL row-level security holds the tenant below the code; no slice asks which engine runs.

pub mod backup;
mod connect;
mod deferred_inserts;
pub mod intake_log;
pub mod jobs;
mod metrics;
pub mod quota;
pub mod ranges;
pub mod retention;
mod roles;
mod round_robin;
pub mod schema;
pub mod search;
mod sqlite;
mod statements;
pub mod storage;
mod stored;
pub mod tenant_lookup;
mod tx;
mod unavailable;
mod wake;

use sea_orm::sqlx::migrate::MigrateError;

pub use connect::{Db, Engine, Options, Subscribers};
pub use stored::StoredRow;
pub use tx::Tx;
pub use unavailable::is_unavailable;
pub use wake::{Heard, Subscription, Topic, WakeUp, WakeUps, Watch};

/// Rows of a queue that are counted for one tenant: whoever reads the number of more acts no differently.
pub const COUNTED_MAX: i64 = 10_000;

/// How much of a queue is not done; of one tenant no more than [`COUNTED_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// It is tried, or will be.
    pub waiting: i64,
    /// It was tried too often and waits for an operator.
    pub parked: i64,
}

/// What can go wrong below the slices.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no engine this build has.
    #[error("the database URL must begin with sqlite: or postgres:, like sqlite:thinkwork-data/thinkwork.db")]
    UnknownEngine,
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}: {source}; create it or choose another with --data-dir")]
    DataDir {
        /// The folder.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A task that holds a write transaction asked for another one.
    #[error("a write transaction was opened inside another one of the same task")]
    NestedWrite,
    /// Something was to be recorded over a database that was opened without the key file.
    #[error("the audit record has no key in this process; open the key file before anything is recorded")]
    NoRecordKey,
    /// More events at once than one statement takes.
    #[error("at most {most} events are stored at once; store them in parts")]
    TooManyRows {
        /// How many it takes.
        most: usize,
    },
    /// A migration was applied that this binary does not know.
    #[error(
        "the database was migrated by a newer thinkwork (migration {version}); start that version or restore a backup"
    )]
    SchemaTooNew {
        /// The first one that it does not know.
        version: i64,
    },
    /// A migration that was applied has another text in this binary.
    #[error(
        "migration {version} is another one than was applied to this database; start the thinkwork that applied it or \
         restore a backup"
    )]
    MigrationChanged {
        /// Which one.
        version: i64,
    },
    /// A migration would leave rows that refer to none. Nothing was changed.
    #[error("a migration leaves rows of {table} without the row of {parent} that they refer to; nothing was changed")]
    MissingParent {
        /// The first such table.
        table: String,
        /// What it refers to.
        parent: String,
    },
    /// A migration could not be applied. Nothing was changed.
    #[error("the database could not be migrated, and nothing was changed: {0}")]
    Migration(#[from] MigrateError),
    /// The role that is to serve is not bound by row-level security, or can become one that is not.
    #[error(
        "the role {role} of database_url {problem}, so row-level security would not keep tenants apart. Make a role to \
         serve with, CREATE ROLE thinkwork_serving LOGIN PASSWORD '…', name it in database_url, and use the present URL \
         as database_migration_url"
    )]
    UnboundRole {
        /// The role that logged in.
        role: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The role that is to serve is not there.
    #[error(
        "there is no role {role}, which database_url names. Make it as a superuser, with the password of database_url: \
         CREATE ROLE {role} LOGIN PASSWORD '…'"
    )]
    MissingRole {
        /// Its name.
        role: String,
    },
    /// The role that is to serve has no rights, and nobody who could give them was named.
    #[error(
        "the role {role} of database_url may not use the tables. Set database_migration_url, with which a start grants \
         it, or run as a superuser: GRANT thinkwork_app TO {role}"
    )]
    NoRights {
        /// Its name.
        role: String,
    },
    /// The owner could not give the role that is to serve its rights.
    #[error(
        "the role of database_migration_url may not set up the roles ({source}). Run as a superuser, where they are \
         missing: CREATE ROLE thinkwork_app NOLOGIN; GRANT thinkwork_app TO {role}"
    )]
    RoleRights {
        /// The role that is to serve.
        role: String,
        /// What PostgreSQL said.
        source: Box<sea_orm::sqlx::Error>,
    },
    /// The database is to be migrated, and nobody who owns it was named.
    #[error(
        "{pending} migrations are to be applied to the database, and the role of database_url owns nothing. Set \
         database_migration_url to a URL of its owner, or run `thinkwork migrate` with it"
    )]
    NoOwner {
        /// How many.
        pending: usize,
    },
    /// The migrations were applied, and not to the database that is served from.
    #[error("database_migration_url leads to another database than database_url; correct one of them")]
    OtherDatabase,
    /// Row-level security is not active although the engine has it.
    #[error(
        "row-level security is not active on {table}; turn it on with ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
    )]
    NoRowSecurity {
        /// The first such table.
        table: String,
    },
    /// What is measured cannot be set up.
    #[error("cannot set up database metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A stored value is none that this version writes.
    #[error("{table}.{column} of row {row} does not read back; restore it from a backup")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: uuid::Uuid,
    },
    /// The driver's own error.
    #[error("the database refused: {0}")]
    Orm(#[from] sea_orm::DbErr),
}

impl From<sea_orm::sqlx::Error> for Error {
    fn from(error: sea_orm::sqlx::Error) -> Self {
        Self::Orm(sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(std::sync::Arc::new(error))))
    }
}

impl Error {
    /// Whether a unique constraint refused the row.
    pub fn is_unique_violation(&self) -> bool {
        matches!(
            self,
            Self::Orm(error) if matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
        )
    }
}
