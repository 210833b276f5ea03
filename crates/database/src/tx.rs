//! One transaction of one tenant.
//!
//! Invariant: dropped without [`Tx::commit`] it leaves nothing; wake-ups go out only with the commit.

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, Statement, Value};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::connect::Writing;
use crate::wake::{Topic, WakeUp, WakeUps};
use crate::{Engine, Error};

/// A transaction. Slice functions take `&mut Tx`; stores reach SeaORM through [`Tx::orm`].
#[must_use = "a transaction that is not committed leaves nothing"]
pub struct Tx {
    inner: DatabaseTransaction,
    engine: Engine,
    tenant: Option<TenantId>,
    wake_ups: WakeUps,
    pending: Vec<WakeUp>,
    _writing: Option<Writing>,
}

impl Tx {
    pub(crate) async fn begun(
        inner: DatabaseTransaction,
        engine: Engine,
        tenant: Option<TenantId>,
        wake_ups: WakeUps,
        writing: Option<Writing>,
    ) -> Result<Self, Error> {
        let tx = Self { inner, engine, tenant: None, wake_ups, pending: Vec::new(), _writing: writing };
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
    pub const fn orm(&self) -> &DatabaseTransaction {
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
        let pending = std::mem::take(&mut self.pending);
        if self.engine == Engine::Postgres {
            for wake_up in &pending {
                self.execute("SELECT pg_notify($1, $2)", vec![crate::wake::CHANNEL.into(), wake_up.to_string().into()])
                    .await?;
            }
        }
        self.inner.commit().await?;
        if self.engine == Engine::Sqlite {
            pending.into_iter().for_each(|wake_up| self.wake_ups.send(wake_up));
        }
        Ok(())
    }

    /// Runs `f` so that its failure leaves this transaction usable: a savepoint around one item of a batch.
    ///
    /// # Errors
    /// The driver's error of the savepoint itself.
    pub async fn savepoint(&mut self) -> Result<(), Error> {
        self.execute("SAVEPOINT item", Vec::new()).await.map(|_| ())
    }

    /// Keeps what happened since [`Tx::savepoint`].
    ///
    /// # Errors
    /// The driver's error.
    pub async fn savepoint_keep(&mut self) -> Result<(), Error> {
        self.execute("RELEASE SAVEPOINT item", Vec::new()).await.map(|_| ())
    }

    /// Undoes what happened since [`Tx::savepoint`].
    ///
    /// # Errors
    /// The driver's error.
    pub async fn savepoint_undo(&mut self) -> Result<(), Error> {
        self.execute("ROLLBACK TO SAVEPOINT item", Vec::new()).await?;
        self.execute("RELEASE SAVEPOINT item", Vec::new()).await.map(|_| ())
    }

    /// Raw SQL with `$1`-style parameters, which both engines read. This crate only.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(self.inner.get_database_backend(), sql, values);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
    }

    /// Raw SQL that returns rows. This crate only.
    pub(crate) async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<sea_orm::QueryResult>, Error> {
        let statement = Statement::from_sql_and_values(self.inner.get_database_backend(), sql, values);
        Ok(self.inner.query_all_raw(statement).await?)
    }
}
