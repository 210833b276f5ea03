//! One transaction of one tenant.
//!
//! Invariant: dropped without [`Tx::commit`] it leaves nothing; wake-ups go out only with the commit.

use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    Value,
};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::connect::Writing;
use crate::sqlite::Held;
use crate::wake::{Topic, WakeUp, WakeUps};
use crate::{Engine, Error};

/// A transaction. Slice functions take `&mut Tx`; stores reach SeaORM through [`Tx::orm`].
#[must_use = "a transaction that is not committed leaves nothing"]
pub struct Tx {
    inner: Statements,
    engine: Engine,
    tenant: Option<TenantId>,
    wake_ups: WakeUps,
    pending: Vec<WakeUp>,
    last: Vec<Statement>,
    _writing: Option<Writing>,
}

/// Where statements go.
pub enum Statements {
    /// To a connection of SQLite. A reader needs no transaction there: each statement sees what is committed, as on
    /// PostgreSQL, and BEGIN and ROLLBACK would cross to the connection's thread and back for nothing.
    Sqlite(Held),
    /// Into a transaction of PostgreSQL.
    Postgres(DatabaseTransaction),
    /// To any connection of PostgreSQL, each statement by itself.
    Pool(DatabaseConnection),
}

#[async_trait]
impl ConnectionTrait for Statements {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Sqlite(held) => held.get_database_backend(),
            Self::Postgres(transaction) => transaction.get_database_backend(),
            Self::Pool(pool) => pool.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(held) => held.execute_raw(statement).await,
            Self::Postgres(transaction) => transaction.execute_raw(statement).await,
            Self::Pool(pool) => pool.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Sqlite(held) => held.execute_unprepared(sql).await,
            Self::Postgres(transaction) => transaction.execute_unprepared(sql).await,
            Self::Pool(pool) => pool.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(held) => held.query_one_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_one_raw(statement).await,
            Self::Pool(pool) => pool.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Sqlite(held) => held.query_all_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_all_raw(statement).await,
            Self::Pool(pool) => pool.query_all_raw(statement).await,
        }
    }
}

impl Tx {
    pub(crate) async fn begun(
        inner: Statements,
        engine: Engine,
        tenant: Option<TenantId>,
        wake_ups: WakeUps,
        writing: Option<Writing>,
    ) -> Result<Self, Error> {
        let tx =
            Self { inner, engine, tenant: None, wake_ups, pending: Vec::new(), last: Vec::new(), _writing: writing };
        match tenant {
            Some(tenant) => tx.enter(tenant).await,
            None => Ok(tx),
        }
    }

    /// The same transaction, from here on of this tenant.
    pub(crate) async fn enter(mut self, tenant: TenantId) -> Result<Self, Error> {
        if self.engine == Engine::Postgres {
            self.execute("SELECT set_config('tw.tenant', $1, true)", vec![tenant.uuid().to_string().into()]).await?;
        }
        self.tenant = Some(tenant);
        Ok(self)
    }

    /// The connection for SeaORM statements.
    pub const fn orm(&self) -> &Statements {
        &self.inner
    }

    /// The tenant whose rows this transaction sees; the nil tenant in a shared one, which owns no rows.
    pub fn tenant(&self) -> TenantId {
        self.tenant.unwrap_or_else(|| TenantId::from_uuid(Uuid::nil()))
    }

    pub(crate) const fn engine(&self) -> Engine {
        self.engine
    }

    /// Sends a hint to all processes once this transaction is committed.
    pub fn wake(&mut self, topic: Topic, id: Uuid) {
        let wake_up = WakeUp { topic, id };
        if !self.pending.contains(&wake_up) {
            self.pending.push(wake_up);
        }
    }

    /// Makes everything last.
    ///
    /// # Errors
    /// The driver's error; then nothing lasts.
    pub async fn commit(mut self) -> Result<(), Error> {
        let (pending, last) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.last));
        if let Statements::Sqlite(held) = self.inner {
            held.commit(last).await?;
            pending.into_iter().for_each(|wake_up| self.wake_ups.send(wake_up));
            return Ok(());
        }
        for statement in last {
            self.inner.execute_raw(statement).await?;
        }
        for wake_up in &pending {
            self.execute("SELECT pg_notify($1, $2)", vec![crate::wake::CHANNEL.into(), wake_up.to_string().into()])
                .await?;
        }
        if let Statements::Postgres(transaction) = self.inner {
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Keeps statements whose effect this transaction does not read again for its end, where they are written in this
    /// order before the commit: on SQLite with it, since each way to the connection's thread and back has its price. What
    /// they are refused for, [`Tx::commit`] tells, and nothing lasts.
    pub fn write_last(&mut self, statements: impl IntoIterator<Item = Statement>) {
        self.last.extend(statements);
    }

    /// Raw SQL with `$1`-style parameters, which both engines read. This crate only.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(self.inner.get_database_backend(), sql, values);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
    }

    /// Raw SQL that returns rows. This crate only.
    pub(crate) async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Error> {
        let statement = Statement::from_sql_and_values(self.inner.get_database_backend(), sql, values);
        Ok(self.inner.query_all_raw(statement).await?)
    }
}
