//! One transaction of one tenant.
//!
//! Invariant: dropped without [`Tx::commit`] it leaves nothing; wake-ups go out only with the commit.

use std::pin::Pin;

use prometheus::IntCounter;
use sea_orm::{ActiveModelTrait, ConnectionTrait as _, QueryResult, Statement, Value};
use thinkwork_primitives::{DomainEvent, RecordKey, TenantId, Timestamp};
use uuid::Uuid;

use crate::connect::{Subscribers, TxScope};
use crate::deferred_inserts::DeferredInserts;
use crate::jobs::{self, PendingJobs};
use crate::statements::{Statements, TenantConnection};
use crate::wake::{Topic, WakeUp, WakeUps};
use crate::{COUNTED_MAX, Counts, Engine, Error};

/// A transaction. Slice functions take `&mut Tx`; stores reach SeaORM through [`Tx::orm`].
#[must_use = "a transaction that is not committed leaves nothing"]
pub struct Tx {
    guarded: TenantConnection,
    engine: Engine,
    wake_ups: WakeUps,
    pending: Vec<WakeUp>,
    pub(crate) jobs: PendingJobs,
    pub(crate) last: DeferredInserts,
    subscribers: Subscribers,
    pub(crate) record_key: Option<RecordKey>,
    after_commit: Vec<AfterCommit>,
    _scope: TxScope,
}

/// Work for after a commit.
type AfterCommit = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Tx {
    /// A shared transaction: [`Tx::enter`] makes it a tenant's.
    pub(crate) fn begun(
        statements: Statements,
        engine: Engine,
        wake_ups: WakeUps,
        subscribers: Subscribers,
        counter: IntCounter,
        scope: TxScope,
    ) -> Self {
        Self {
            guarded: TenantConnection { statements, tenant: None, counter },
            engine,
            wake_ups,
            pending: Vec::new(),
            jobs: PendingJobs::default(),
            last: DeferredInserts::default(),
            subscribers,
            record_key: None,
            after_commit: Vec::new(),
            _scope: scope,
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
    pub const fn orm(&self) -> &TenantConnection {
        &self.guarded
    }

    /// The tenant whose rows this transaction sees; the nil tenant in a shared one, which owns no rows.
    pub fn tenant(&self) -> TenantId {
        self.guarded.tenant.unwrap_or_else(|| TenantId::from_uuid(Uuid::nil()))
    }

    pub(crate) const fn engine(&self) -> Engine {
        self.engine
    }

    /// With what an event of the record is authenticated.
    ///
    /// # Errors
    /// [`Error::NoRecordKey`] where the key file was not opened.
    pub fn record_key(&self) -> Result<&RecordKey, Error> {
        self.record_key.as_ref().ok_or(Error::NoRecordKey)
    }

    /// Takes the lock of this name in the transaction's tenant until its end. False where another transaction has it. On
    /// SQLite a write transaction is alone in any case.
    pub async fn try_lock(&mut self, name: &'static str) -> Result<bool, Error> {
        if self.engine == Engine::Sqlite {
            return Ok(true);
        }
        let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS is_held";
        let held = self.query(sql, vec![format!("{name} {}", self.tenant()).into()]).await?;
        held.first().map_or(Ok(false), |row| Ok(row.try_get("", "is_held")?))
    }

    /// Tells that something happened: enqueues the jobs of the event's subscribers, due now.
    pub fn publish(&mut self, event: DomainEvent, now: Timestamp) {
        for job in (self.subscribers)(&event) {
            jobs::add(self, job, now);
        }
    }

    /// Sends a hint to all processes once this transaction is committed.
    pub fn wake(&mut self, topic: Topic, id: Uuid) {
        let wake_up = WakeUp { topic, id };
        if !self.pending.contains(&wake_up) {
            self.pending.push(wake_up);
        }
    }

    /// Calls this once the transaction is committed, and not where it is not; [`Tx::commit`] returns when what it gave has
    /// ended. Start in the call itself what must go on where whoever commits goes away meanwhile.
    pub fn after_commit(
        &mut self,
        work: impl FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) {
        self.after_commit.push(Box::new(work));
    }

    /// Makes everything last.
    ///
    /// # Errors
    /// The driver's error; then nothing lasts.
    pub async fn commit(mut self) -> Result<(), Error> {
        let after_commit = std::mem::take(&mut self.after_commit);
        self.commit_rows().await?;
        // All are called before the first is waited for.
        let started: Vec<_> = after_commit.into_iter().map(|work| work()).collect();
        for work in started {
            work.await;
        }
        Ok(())
    }

    async fn commit_rows(mut self) -> Result<(), Error> {
        let backend = self.guarded.get_database_backend();
        let mut last = std::mem::take(&mut self.last).into_statements(backend, self.guarded.tenant)?;
        last.extend(std::mem::take(&mut self.jobs).into_statement(self.engine));
        self.guarded.counter.inc_by(u64::try_from(last.len()).unwrap_or(0));
        let pending = std::mem::take(&mut self.pending);
        if let Statements::Sqlite(held) = self.guarded.statements {
            held.commit(last).await?;
            pending.into_iter().for_each(|wake_up| self.wake_ups.send(wake_up));
            return Ok(());
        }
        for statement in last {
            self.guarded.statements.execute_raw(statement).await?;
        }
        if !pending.is_empty() {
            let hints: Vec<String> = pending.iter().map(WakeUp::to_string).collect();
            // A hint is a word, a colon and an id: it holds no comma.
            let sql = "SELECT pg_notify($1, hint) FROM unnest(string_to_array($2, ',')) AS hint";
            self.execute(sql, vec![crate::wake::CHANNEL.into(), hints.join(",").into()]).await?;
        }
        if let Statements::Postgres(transaction) = self.guarded.statements {
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Inserts a row at the end of this transaction, which does not read it again. Rows of one table share a statement,
    /// and on SQLite all of them travel with the commit, since each way to the connection's thread and back has its
    /// price.
    pub fn insert_deferred<A: ActiveModelTrait>(&mut self, row: &A) {
        self.last.push(row);
    }

    /// From here on PostgreSQL reads by indexes in their order, whatever it believes of its tables: a claim has to cost as
    /// much with thousands waiting and no statistics. SQLite is told by each statement.
    pub(crate) async fn keep_to_indexes(&mut self) -> Result<(), Error> {
        if self.engine == Engine::Postgres {
            let sql = "SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_seqscan', 'enable_bitmapscan',
                         'enable_sort', 'enable_incremental_sort']) AS name";
            self.query(sql, Vec::new()).await?;
        }
        Ok(())
    }

    /// Raw SQL with `$1`-style parameters, which both engines read. This crate only.
    pub(crate) async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(self.guarded.get_database_backend(), sql, values);
        self.guarded.counter.inc();
        Ok(self.guarded.statements.execute_raw(statement).await?.rows_affected())
    }

    /// Counts the rows that fulfil `condition`: all of them, or those of this tenant, at most [`COUNTED_MAX`] of each kind.
    pub(crate) async fn counts(&mut self, table: &str, condition: &str) -> Result<Counts, Error> {
        let (waiting, of_tenant, most, values) = match (self.guarded.tenant, self.engine) {
            // SQLite would take an index of all that the tenant ever had; with the sign it cannot.
            (Some(tenant), Engine::Sqlite) => {
                ("AND +tenant_id = $1", "AND tenant_id = $1", COUNTED_MAX, vec![tenant.uuid().into()])
            }
            (Some(tenant), Engine::Postgres) => {
                ("AND tenant_id = $1", "AND tenant_id = $1", COUNTED_MAX, vec![tenant.uuid().into()])
            }
            (None, _) => ("", "", i64::MAX, Vec::new()),
        };
        let sql = format!(
            "SELECT
               (SELECT count(*) FROM (SELECT id FROM {table} WHERE {condition} AND parked_at IS NULL {waiting}
                                      LIMIT {most}) AS found) AS waiting,
               (SELECT count(*) FROM (SELECT id FROM {table} WHERE {condition} AND parked_at IS NOT NULL {of_tenant}
                                      LIMIT {most}) AS found) AS parked"
        );
        let counted = self.query(&sql, values).await?;
        let Some(row) = counted.first() else { return Ok(Counts::default()) };
        Ok(Counts { waiting: row.try_get("", "waiting")?, parked: row.try_get("", "parked")? })
    }

    /// Raw SQL that returns rows. This crate only.
    pub(crate) async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, Error> {
        let statement = Statement::from_sql_and_values(self.guarded.get_database_backend(), sql, values);
        self.guarded.counter.inc();
        Ok(self.guarded.statements.query_all_raw(statement).await?)
    }
}
