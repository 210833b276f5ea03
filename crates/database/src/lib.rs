//! SQLite or PostgreSQL behind two doors: [`Db::read`] and [`Db::write`].
//!
//! Invariants: this crate alone enables SQL drivers and writes raw SQL; a transaction names its tenant, and on
//! PostgreSQL row-level security holds the tenant below the code; no slice asks which engine runs.

mod connect;
pub mod intake_log;
pub mod jobs;
pub mod quota;
pub mod routes;
pub mod schema;
mod sqlite;
mod statements;
mod tx;
mod wake;

pub use connect::{Db, Engine, Options};
pub use schema::{Migration, Steps};
pub use tx::Tx;
pub use wake::{Topic, WakeUp, WakeUps};

/// What can go wrong below the slices.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no engine this build has.
    #[error("the database URL must begin with sqlite: or postgres:, like sqlite:thinkwork-data/thinkwork.db")]
    UnknownEngine,
    /// The data folder cannot be used.
    #[error("the data folder {path} cannot be used: {source}; make it or choose another with --data-dir")]
    DataDir {
        /// The folder.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A task that holds a write transaction asked for another one.
    #[error("a write transaction was opened inside another one of the same task")]
    NestedWrite,
    /// More events at once than one statement takes.
    #[error("at most {most} events are stored at once; store them in parts")]
    TooManyRows {
        /// How many it takes.
        most: usize,
    },
    /// The database holds migrations that this binary does not know.
    #[error("the database was migrated by a newer thinkwork ({name}); start that version or restore a backup")]
    FromTheFuture {
        /// The unknown migration.
        name: String,
    },
    /// Row-level security is not active although the engine has it.
    #[error("row-level security is not active on {table}; the login role must own the tables and run the migrations")]
    NoRowSecurity {
        /// The first such table.
        table: String,
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
