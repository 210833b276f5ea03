//! Connections to the SQLite file: one that writes, a few that read.
//!
//! Invariants: a lane has at most its number of connections, made when first needed, and hands out the one that was used
//! last; one whose transaction did not end well goes back only after its rollback, or is closed and another one takes its
//! place. The driver's own pool asks a connection after each use whether it still answers, which costs as much as a small
//! query and tells nothing of a file. Used by `connect` and [`crate::Tx`] alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{self, AssertSqlSafe, ConnectOptions as _, Connection as _, Sqlite};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Values,
};
use sea_query_sqlx::SqlxValues;
use thinkwork_primitives::Chain;
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// Waits for whoever writes in another process, and then keeps others from writing.
const BEGIN: &str = "BEGIN IMMEDIATE;";

/// Up to so many connections of one kind. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SqlitePool(Arc<Inner>);

struct Inner {
    options: SqliteConnectOptions,
    idle: Mutex<Vec<SqliteConnection>>,
    /// Where all but the first ones of [`SqlitePool::acquire_priority`] stand in line, so that at most one of them is before those.
    queue: Semaphore,
    permits: Arc<Semaphore>,
    size: u32,
    wait: Duration,
}

impl SqlitePool {
    /// At most `size` connections; whoever finds none free waits no longer than `wait`.
    pub(crate) fn new(options: SqliteConnectOptions, size: u32, wait: Duration) -> Self {
        let permits = Semaphore::new(usize::try_from(size).unwrap_or(1));
        Self(Arc::new(Inner {
            options,
            idle: Mutex::default(),
            queue: Semaphore::new(1),
            permits: Arc::new(permits),
            size,
            wait,
        }))
    }

    /// A connection, for as long as it is held.
    pub(crate) async fn acquire(&self) -> Result<PooledConnection, Error> {
        self.hold(async {
            let _first_in_line = self.0.queue.acquire().await?;
            Arc::clone(&self.0.permits).acquire_owned().await
        })
        .await
    }

    /// A connection before everybody who stands in line: for what somebody outside waits for, and briefly.
    pub(crate) async fn acquire_priority(&self) -> Result<PooledConnection, Error> {
        self.hold(Arc::clone(&self.0.permits).acquire_owned()).await
    }

    /// A connection beside the lane's, which does not check foreign keys: for migrations.
    pub(crate) async fn connect_without_foreign_keys(&self) -> Result<SqliteConnection, Error> {
        Ok(self.0.options.clone().foreign_keys(false).connect().await?)
    }

    async fn hold(
        &self,
        permits: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<PooledConnection, Error> {
        let permits = tokio::time::timeout(self.0.wait, permits).await;
        let permits = permits
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.0.options.connect().await?,
        };
        let session = tokio::sync::Mutex::new((Some(connection), Transaction::None));
        Ok(PooledConnection { session, pool: self.clone(), permits: Some(permits) })
    }

    /// Waits for what is held, closes everything and hands out nothing more.
    pub(crate) async fn close(&self) {
        // Whoever still holds one now was told to end long before; its connection ends with the process.
        let _all = tokio::time::timeout(self.0.wait, self.0.permits.acquire_many(self.0.size)).await;
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::warn!(error = %Chain(&error), "a connection to the database file did not close well");
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a [`SqlitePool`].
pub struct PooledConnection {
    /// The connection is there until this is dropped.
    session: tokio::sync::Mutex<(Option<SqliteConnection>, Transaction)>,
    pool: SqlitePool,
    permits: Option<OwnedSemaphorePermit>,
}

/// Where a connection stands with its transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    /// There is none and none is wanted: each statement stands for itself.
    None,
    /// It begins with the next statement: one way to the connection's thread less.
    Due,
    /// It was begun and not committed.
    Open,
}

impl PooledConnection {
    /// From the next statement on everything is one transaction, which alone writes.
    pub(crate) fn begin(mut self) -> Self {
        self.session.get_mut().1 = Transaction::Due;
        self
    }

    /// Makes what was written since [`PooledConnection::begin`] last, and these statements with it.
    pub(crate) async fn commit(mut self, last: Vec<Statement>) -> Result<(), Error> {
        let (Some(connection), state) = self.session.get_mut() else { return Err(gone().into()) };
        if last.is_empty() && *state != Transaction::Open {
            return Ok(());
        }
        let mut sql = String::new();
        let mut values = Vec::new();
        if *state == Transaction::Due {
            sql.push_str(BEGIN);
        }
        for statement in last {
            sql.push_str(&statement.sql);
            sql.push(';');
            values.extend(statement.values.map(|values| values.0).unwrap_or_default());
        }
        sql.push_str("COMMIT");
        *state = Transaction::Open;
        let all = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        prepared(all).execute(connection).await?;
        *state = Transaction::None;
        Ok(())
    }

    /// Runs a query, which begins the transaction where that is due.
    async fn query(&self, mut statement: Statement) -> Result<Vec<SqliteRow>, DbErr> {
        let mut session = self.session.lock().await;
        let (connection, state) = &mut *session;
        if *state == Transaction::Due {
            *state = Transaction::Open;
            statement.sql.insert_str(0, BEGIN);
        }
        let rows = prepared(statement).fetch_all(connection.as_mut().ok_or_else(gone)?).await;
        rows.map_err(|error| DbErr::Query(refused(error)))
    }
}

impl Drop for PooledConnection {
    #[expect(clippy::disallowed_methods, reason = "a rollback begins with the drop and ends by itself, at once")]
    fn drop(&mut self) {
        let (connection, state) = self.session.get_mut();
        let Some(mut connection) = connection.take() else { return };
        let pool = self.pool.clone();
        let permits = self.permits.take();
        if *state != Transaction::Open {
            pool.idle().push(connection);
        } else if Handle::try_current().is_ok() {
            tokio::spawn(async move {
                // SQLite rolls back by itself when the disk is full or fails; then this is refused, and what state the
                // connection is in need not be found out (https://www.sqlite.org/lang_transaction.html).
                if sqlx::query("ROLLBACK").execute(&mut connection).await.is_ok() {
                    pool.idle().push(connection);
                }
                drop(permits);
            });
        }
    }
}

fn prepared(statement: Statement) -> Query<'static, Sqlite, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn refused(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(error))
}

const fn gone() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

#[async_trait]
impl ConnectionTrait for PooledConnection {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut session = self.session.lock().await;
        let (connection, state) = &mut *session;
        let connection = connection.as_mut().ok_or_else(gone)?;
        if *state == Transaction::Due {
            // By itself: with it the count of changed rows would be that of the statement before.
            *state = Transaction::Open;
            sqlx::query(BEGIN).execute(&mut *connection).await.map_err(|error| DbErr::Exec(refused(error)))?;
        }
        let done = prepared(statement).execute(connection).await.map_err(|error| DbErr::Exec(refused(error)))?;
        Ok(done.into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_raw(Statement::from_string(DbBackend::Sqlite, sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query(statement).await?.into_iter().next().map(QueryResult::from))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Ok(self.query(statement).await?.into_iter().map(QueryResult::from).collect())
    }
}
