//! One transaction of one tenant.
//!
//! Invariant: dropped without [`Tx::commit`] it leaves nothing; wake-ups go out only with the commit.

use sea_orm::{ConnectionTrait as _, QueryResult, Statement, Value};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::connect::Writing;
use crate::statements::{Guarded, Statements};
use crate::wake::{Topic, WakeUp, WakeUps};
use crate::{Engine, Error};

/// A transaction. Slice functions take `&mut Tx`; stores reach SeaORM through [`Tx::orm`].
#[must_use = "a transaction that is not committed leaves nothing"]
pub struct Tx {
    guarded: Guarded,
    engine: Engine,
    wake_ups: WakeUps,
    pending: Vec<WakeUp>,
    last: Vec<Statement>,
    _writing: Option<Writing>,
}

impl Tx {
    pub(crate) async fn begun(
        statements: Statements,
        engine: Engine,
        tenant: Option<TenantId>,
        wake_ups: WakeUps,
        writing: Option<Writing>,
    ) -> Result<Self, Error> {
        let guarded = Guarded { statements, tenant: None };
        let tx = Self { guarded, engine, wake_ups, pending: Vec::new(), last: Vec::new(), _writing: writing };
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
        self.guarded.tenant = Some(tenant);
        Ok(self)
    }

    /// The connection for SeaORM statements, which keep to the tenant.
    pub const fn orm(&self) -> &Guarded {
        &self.guarded
    }

    /// The tenant whose rows this transaction sees; the nil tenant in a shared one, which owns no rows.
    pub fn tenant(&self) -> TenantId {
        self.guarded.tenant.unwrap_or_else(|| TenantId::from_uuid(Uuid::nil()))
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
        for statement in &last {
            self.guarded.check(statement)?;
        }
        if let Statements::Sqlite(held) = self.guarded.statements {
            held.commit(last).await?;
            pending.into_iter().for_each(|wake_up| self.wake_ups.send(wake_up));
            return Ok(());
        }
        for statement in last {
            self.guarded.statements.execute_raw(statement).await?;
        }
        for wake_up in &pending {
            self.execute("SELECT pg_notify($1, $2)", vec![crate::wake::CHANNEL.into(), wake_up.to_string().into()])
                .await?;
        }
        if let Statements::Postgres(transaction) = self.guarded.statements {
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
        let statement = Statement::from_sql_and_values(self.guarded.get_database_backend(), sql, values);
        Ok(self.guarded.statements.execute_raw(statement).await?.rows_affected())
    }

    /// How many rows that fulfil `condition` wait and how many are parked, of this tenant where the transaction has one.
    pub(crate) async fn waiting_and_parked(&mut self, table: &str, condition: &str) -> Result<(i64, i64), Error> {
        let (of_tenant, values) = match self.guarded.tenant {
            Some(tenant) => (" AND tenant_id = $1", vec![tenant.uuid().into()]),
            None => ("", Vec::new()),
        };
        let sql =
            format!("SELECT count(*) AS every, count(parked_at) AS parked FROM {table} WHERE {condition}{of_tenant}");
        let counted = self.query(&sql, values).await?;
        let Some(row) = counted.first() else { return Ok((0, 0)) };
        let (every, parked): (i64, i64) = (row.try_get("", "every")?, row.try_get("", "parked")?);
        Ok((every.saturating_sub(parked), parked))
    }

    /// Raw SQL that returns rows. This crate only.
    pub(crate) async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Error> {
        let statement = Statement::from_sql_and_values(self.guarded.get_database_backend(), sql, values);
        Ok(self.guarded.statements.query_all_raw(statement).await?)
    }
}
