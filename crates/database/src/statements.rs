//! Where statements go, and that a tenant's transaction keeps to its tenant.
//!
//! Invariant: on SQLite, which has no row-level security, a statement of a slice in a tenant's transaction binds that
//! tenant, and one that looks for rows compares their tenant with it: a filter that somebody forgets is an error there,
//! and never another tenant's row.

use prometheus::IntCounter;
use sea_orm::entity::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    Value,
};
use thinkwork_primitives::TenantId;

use crate::sqlite::PooledConnection;

/// What a statement is refused for.
pub(crate) const OTHER_TENANT: &str = "a statement does not keep to its tenant";

/// What slices run statements on.
pub struct TenantConnection {
    pub(crate) statements: Statements,
    /// Whose rows; nobody's in a shared transaction.
    pub(crate) tenant: Option<TenantId>,
    /// Counts them.
    pub(crate) counter: IntCounter,
}

impl TenantConnection {
    /// Refuses a statement that does not keep to the tenant.
    pub(crate) fn check(&self, statement: &Statement) -> Result<(), DbErr> {
        match (&self.statements, self.tenant) {
            (Statements::Sqlite(_), Some(tenant)) if !keeps_to(tenant, statement) => {
                Err(DbErr::Custom(format!("{OTHER_TENANT}: {}", statement.sql)))
            }
            _ => Ok(()),
        }
    }
}

fn keeps_to(tenant: TenantId, statement: &Statement) -> bool {
    let values = statement.values.iter().flat_map(|values| &values.0);
    let binds = values.into_iter().any(|value| matches!(value, Value::Uuid(Some(id)) if *id == tenant.uuid()));
    let compares = |condition: &str| condition.contains(r#""tenant_id" = ?"#) || condition.contains(OWN_ROW);
    let sql = &statement.sql;
    binds && (sql.starts_with("INSERT ") || sql.split_once(" WHERE ").is_some_and(|(_, condition)| compares(condition)))
}

/// The tenant's own row has its id, as SeaORM writes it.
const OWN_ROW: &str = r#""tenant"."id" = ?"#;

#[async_trait]
impl ConnectionTrait for TenantConnection {
    fn get_database_backend(&self) -> DbBackend {
        self.statements.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.check(&statement)?;
        self.counter.inc();
        self.statements.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_raw(Statement::from_string(self.get_database_backend(), sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.check(&statement)?;
        self.counter.inc();
        self.statements.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.check(&statement)?;
        self.counter.inc();
        self.statements.query_all_raw(statement).await
    }
}

/// Where statements go.
pub enum Statements {
    /// To a connection of SQLite. A reader needs no transaction there: each statement sees what is committed, as on
    /// PostgreSQL, and BEGIN and ROLLBACK would cross to the connection's thread and back for nothing.
    Sqlite(PooledConnection),
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
        log_statement(&statement.sql);
        match self {
            Self::Sqlite(held) => held.execute_raw(statement).await,
            Self::Postgres(transaction) => transaction.execute_raw(statement).await,
            Self::Pool(pool) => pool.execute_raw(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        log_statement(sql);
        match self {
            Self::Sqlite(held) => held.execute_unprepared(sql).await,
            Self::Postgres(transaction) => transaction.execute_unprepared(sql).await,
            Self::Pool(pool) => pool.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        log_statement(&statement.sql);
        match self {
            Self::Sqlite(held) => held.query_one_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_one_raw(statement).await,
            Self::Pool(pool) => pool.query_one_raw(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        log_statement(&statement.sql);
        match self {
            Self::Sqlite(held) => held.query_all_raw(statement).await,
            Self::Postgres(transaction) => transaction.query_all_raw(statement).await,
            Self::Pool(pool) => pool.query_all_raw(statement).await,
        }
    }
}

/// Statements are logged without what is bound to them, on both engines where they are asked for.
fn log_statement(sql: &str) {
    tracing::trace!(sql, "statement");
}
