//! Durable jobs: enqueued in the change's own transaction, claimed under a lease, retried with a limit, then parked
//! where an operator sees them.
//!
//! Invariant: one row per (kind, key); enqueueing a key that is there makes it run once more. A job holds ids only.
//! Jobs are stored with the commit, all of a transaction by one statement. What somebody asked for is claimed in turn
//! (`round_robin`), people's apart from what software sends; what the server owes itself oldest first.

mod claim;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use sea_orm::Statement;
use strum::{EnumString, IntoStaticStr};
use thinkwork_primitives::{JobId, Requester, TenantId, Timestamp};
use uuid::Uuid;

use crate::wake::Topic;
use crate::{Counts, Db, Engine, Error, StoredRow, Tx};

pub use claim::{claim, claim_within};

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The tenant it works for.
    pub tenant: TenantId,
    /// The name of its type.
    pub kind: String,
    /// Its payload; see [`Job::payload`].
    pub key: String,
    /// How often it was tried before.
    pub attempts: i64,
    /// Who asked for it; nobody in the background.
    pub fairness_key: String,
    generation: i64,
    lease: Uuid,
}

/// Tries before a job is parked, where its type says nothing else.
pub const ATTEMPTS_MAX: i64 = 12;

/// Leases that one statement extends.
const EXTENDED_MAX: usize = 256;

/// How often a failing job is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// This often; then it is parked where an operator sees it.
    AtMost(i64),
    /// Until it succeeds or ends itself.
    Unlimited,
}

/// A type of durable work.
pub trait JobType {
    /// The stored name.
    const NAME: &'static str;
    /// How often it is tried.
    const RETRY: RetryPolicy = RetryPolicy::AtMost(ATTEMPTS_MAX);
    /// What it is about: ids only, stored as they print. Two jobs of one type and payload are one job.
    type Payload: Display + FromStr;
}

/// Which jobs wait in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Lane {
    /// What a person asked for and may be waiting for.
    People,
    /// What webhooks, services and the like asked for.
    Senders,
    /// What the server owes itself.
    Background,
}

impl Lane {
    /// The stored word.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A job to be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    kind: &'static str,
    key: String,
    lane: Lane,
    fairness_key: String,
}

impl NewJob {
    /// A job of type `J` in the background.
    pub fn new<J: JobType>(payload: J::Payload) -> Self {
        Self { kind: J::NAME, key: payload.to_string(), lane: Lane::Background, fairness_key: String::new() }
    }

    /// The same as somebody's, who takes turns with others.
    #[must_use]
    pub fn asked_by(self, requester: &Requester) -> Self {
        let lane = if requester.user().is_some() { Lane::People } else { Lane::Senders };
        Self { lane, fairness_key: format!("{}:{}", requester.kind(), requester.id()), ..self }
    }
}

/// What tells one claim of a job from every other.
pub type ClaimId = (JobId, Uuid);

impl Job {
    /// This claim of it.
    pub fn claim_id(&self) -> ClaimId {
        (self.id, self.lease)
    }

    /// What the job is about.
    pub fn payload<J: JobType>(&self) -> Result<J::Payload, Error> {
        StoredRow::new("job", self.id.uuid()).parse("key", &self.key)
    }
}

/// Enqueues a job, due at `run_at`. If it is there, it becomes due at the earlier of both times, and if it is running
/// it runs once more afterwards.
pub fn enqueue<J: JobType>(tx: &mut Tx, payload: J::Payload, run_at: Timestamp) {
    add(tx, NewJob::new::<J>(payload), run_at);
}

/// Enqueues this job; see [`enqueue`].
pub fn add(tx: &mut Tx, job: NewJob, run_at: Timestamp) {
    let NewJob { kind, key, lane, fairness_key } = job;
    let tenant = tx.tenant();
    let new = PendingJob { run_at, lane, fairness_key };
    let pending = tx.jobs.0.entry((tenant.uuid(), kind, key)).or_insert_with(|| new.clone());
    pending.run_at = run_at.min(pending.run_at);
    if lane == Lane::People {
        *pending = PendingJob { run_at: pending.run_at, ..new };
    }
    tx.wake(Topic::Job, Uuid::nil());
}

#[derive(Clone)]
struct PendingJob {
    run_at: Timestamp,
    lane: Lane,
    fairness_key: String,
}

/// Jobs that a transaction enqueues with its commit, by tenant, kind and key. In order, so that two transactions that
/// enqueue the same jobs do not wait for each other in a ring.
#[derive(Default)]
pub(crate) struct PendingJobs(BTreeMap<(Uuid, &'static str, String), PendingJob>);

impl PendingJobs {
    /// The statement that stores them; `None` where there are none. A job that is there goes to a person who asks for it,
    /// too.
    pub(crate) fn into_statement(self, engine: Engine) -> Option<Statement> {
        if self.0.is_empty() {
            return None;
        }
        let mut values: Vec<sea_orm::Value> = Vec::with_capacity(self.0.len().saturating_mul(7));
        let mut rows = Vec::with_capacity(self.0.len());
        for ((tenant, kind, key), PendingJob { run_at, lane, fairness_key }) in self.0 {
            rows.push(format!("({}, 0, 0)", engine.parameters(values.len(), 7)));
            let row: [sea_orm::Value; 7] = [
                JobId::new().uuid().into(),
                tenant.into(),
                kind.into(),
                key.into(),
                run_at.micros().into(),
                lane.as_str().into(),
                fairness_key.into(),
            ];
            values.extend(row);
        }
        let sql = format!(
            "INSERT INTO job (id, tenant_id, kind, key, run_at, lane, fairness_key, attempts, generation) VALUES {}
             ON CONFLICT (tenant_id, kind, key) DO UPDATE SET
               generation = job.generation + 1, attempts = 0, parked_at = NULL, last_error = NULL,
               run_at = CASE WHEN job.run_at < excluded.run_at THEN job.run_at ELSE excluded.run_at END,
               lane = CASE WHEN excluded.lane = 'people' THEN excluded.lane ELSE job.lane END,
               fairness_key = CASE WHEN excluded.lane = 'people' THEN excluded.fairness_key ELSE job.fairness_key END",
            rows.join(", ")
        );
        Some(Statement::from_sql_and_values(engine.backend(), sql, values))
    }
}

/// Takes back a job that has become needless. One that runs already goes on.
pub async fn cancel<J: JobType>(tx: &mut Tx, payload: J::Payload) -> Result<(), Error> {
    let NewJob { kind, key, .. } = NewJob::new::<J>(payload);
    let tenant = tx.tenant().uuid();
    tx.jobs.0.remove(&(tenant, kind, key.clone()));
    tx.execute(
        "DELETE FROM job WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND lease IS NULL",
        vec![tenant.into(), kind.into(), key.into()],
    )
    .await?;
    Ok(())
}

/// Keeps the leases of running jobs alive, by one statement for each few hundred. Returns those that were lost: stop them.
pub async fn extend_leases(db: &Db, jobs: &[Job], now: Timestamp, lease_for: Duration) -> Result<Vec<ClaimId>, Error> {
    let mut lost = Vec::new();
    for chunk in jobs.chunks(EXTENDED_MAX) {
        let mut tx = db.write_shared().await?;
        let engine = tx.engine();
        let until = engine.parameter(0);
        let places: Vec<String> = (0..chunk.len())
            .map(|number| format!("({})", engine.parameters(number.saturating_mul(2).saturating_add(1), 2)))
            .collect();
        let sql = format!(
            "UPDATE job SET lease_until = {until} WHERE (id, lease) IN (VALUES {}) RETURNING id, lease",
            places.join(", ")
        );
        let mut values: Vec<sea_orm::Value> = vec![now.plus(lease_for).micros().into()];
        values.extend(chunk.iter().flat_map(|job| [job.id.uuid().into(), job.lease.into()]));
        let rows = tx.query(&sql, values).await?;
        tx.commit().await?;
        let kept = rows.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "lease")?)));
        let kept = kept.collect::<Result<HashSet<(Uuid, Uuid)>, Error>>()?;
        lost.extend(chunk.iter().map(Job::claim_id).filter(|(id, lease)| !kept.contains(&(id.uuid(), *lease))));
    }
    Ok(lost)
}

/// Gives back everything that is claimed: nobody else runs, so whoever claimed it is gone.
pub(crate) async fn release_all(tx: &mut Tx) -> Result<(), Error> {
    tx.execute("UPDATE job SET lease = NULL, lease_until = NULL WHERE lease IS NOT NULL", Vec::new()).await?;
    Ok(())
}

/// Whether a running job is still ours, and keeps it so until this transaction ends: a process that was paused past
/// its lease learns here that another one has taken over. Ask it last, after the rows that the work itself changes.
pub async fn holds_lease(tx: &mut Tx, job: &Job) -> Result<bool, Error> {
    let lock = if tx.engine() == Engine::Postgres { "FOR UPDATE" } else { "" };
    let sql = format!("SELECT id FROM job WHERE id = $1 AND lease = $2 {lock}");
    Ok(!tx.query(&sql, vec![job.id.uuid().into(), job.lease.into()]).await?.is_empty())
}

/// Ends `done` within the transaction that did their work, if these and `held` are all still ours; else false: then
/// another process has taken over, and nothing of it may last. Ask it last, as [`holds_lease`].
pub async fn finish(tx: &mut Tx, done: &[&Job], held: &[&Job]) -> Result<bool, Error> {
    let engine = tx.engine();
    if let ([job], []) = (done, held) {
        return end(tx, job).await;
    }
    let every: Vec<&Job> = done.iter().chain(held).copied().collect();
    if every.is_empty() {
        return Ok(true);
    }
    let lock = if engine == Engine::Postgres { "FOR UPDATE" } else { "" };
    let places = engine.parameters(0, every.len());
    let sql = format!("SELECT id, lease, generation FROM job WHERE id IN ({places}) ORDER BY id {lock}");
    let mut generations: BTreeMap<Uuid, (Option<Uuid>, i64)> = BTreeMap::new();
    for row in tx.query(&sql, every.iter().map(|job| job.id.uuid().into()).collect()).await? {
        generations.insert(row.try_get("", "id")?, (row.try_get("", "lease")?, row.try_get("", "generation")?));
    }
    let generation = |job: &Job| {
        let (lease, generation) = generations.get(&job.id.uuid())?;
        (*lease == Some(job.lease)).then_some(*generation)
    };
    if every.iter().any(|job| generation(job).is_none()) {
        return Ok(false);
    }
    let (ended, again): (Vec<&Job>, Vec<&Job>) = done.iter().partition(|job| generation(job) == Some(job.generation));
    if !ended.is_empty() {
        let sql = format!("DELETE FROM job WHERE id IN ({})", engine.parameters(0, ended.len()));
        tx.execute(&sql, ended.iter().map(|job| job.id.uuid().into()).collect()).await?;
    }
    for job in again {
        release(tx, job).await?;
    }
    Ok(true)
}

/// Ends a job; one that was enqueued again meanwhile stays and is due.
pub async fn complete(db: &Db, job: &Job) -> Result<(), Error> {
    let mut tx = db.write_shared().await?;
    end(&mut tx, job).await?;
    tx.commit().await
}

/// Ends a job, or lets go of one that was enqueued again while it ran; false where it is no longer ours.
async fn end(tx: &mut Tx, job: &Job) -> Result<bool, Error> {
    let key = vec![job.id.uuid().into(), job.lease.into(), job.generation.into()];
    let deleted = tx.execute("DELETE FROM job WHERE id = $1 AND lease = $2 AND generation = $3", key).await?;
    if deleted == 1 { Ok(true) } else { release(tx, job).await }
}

/// Lets go of a job that was enqueued again while it ran; false where it is no longer ours.
async fn release(tx: &mut Tx, job: &Job) -> Result<bool, Error> {
    let released = tx
        .execute(
            "UPDATE job SET lease = NULL, lease_until = NULL, attempts = 0 WHERE id = $1 AND lease = $2",
            vec![job.id.uuid().into(), job.lease.into()],
        )
        .await?;
    tx.wake(Topic::Job, Uuid::nil());
    Ok(released == 1)
}

/// Gives a job back that was stopped with its process: it is due, and the try does not count.
pub async fn give_back(db: &Db, job: &Job) -> Result<(), Error> {
    let mut tx = db.write_shared().await?;
    tx.execute(
        "UPDATE job SET lease = NULL, lease_until = NULL, attempts = attempts - 1 WHERE id = $1 AND lease = $2",
        vec![job.id.uuid().into(), job.lease.into()],
    )
    .await?;
    tx.wake(Topic::Job, Uuid::nil());
    tx.commit().await
}

/// Puts a failed job back with growing pauses, or parks it after its last try; one that was enqueued again meanwhile is
/// due and begins anew.
///
/// `error` is for the operator: a sentence without secrets.
pub async fn mark_as_failed(db: &Db, job: &Job, policy: RetryPolicy, now: Timestamp, error: &str) -> Result<(), Error> {
    let park = match policy {
        RetryPolicy::AtMost(most) => job.attempts.saturating_add(1) >= most,
        RetryPolicy::Unlimited => false,
    };
    let mut tx = db.write_shared().await?;
    let attempts = job.attempts.saturating_add(1);
    let exponent = u32::try_from(attempts.clamp(0, 11)).unwrap_or(11);
    let pause = Duration::from_secs(2_u64.saturating_pow(exponent).min(3_600));
    let parked = park.then_some(now.micros());
    let changed = tx
        .execute(
            "UPDATE job SET lease = NULL, lease_until = NULL, run_at = $4, parked_at = $5, last_error = $6
             WHERE id = $1 AND lease = $2 AND generation = $3",
            vec![
                job.id.uuid().into(),
                job.lease.into(),
                job.generation.into(),
                now.plus(pause).micros().into(),
                parked.into(),
                error.to_owned().into(),
            ],
        )
        .await?;
    if changed == 0 {
        release(&mut tx, job).await?;
    }
    tx.commit().await
}

/// How many jobs are due and not parked, those that run included.
pub async fn due(db: &Db, now: Timestamp) -> Result<i64, Error> {
    let mut tx = db.read_shared().await?;
    let sql = "SELECT count(*) AS due FROM job WHERE parked_at IS NULL AND run_at <= $1";
    let rows = tx.query(sql, vec![now.micros().into()]).await?;
    Ok(rows.first().map(|row| row.try_get("", "due")).transpose()?.unwrap_or(0))
}

/// Jobs that are not done: of the transaction's tenant, or in a shared one of all.
pub async fn counts(tx: &mut Tx) -> Result<Counts, Error> {
    tx.counts("job", "TRUE").await
}
