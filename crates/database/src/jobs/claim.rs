//! Claiming jobs: round robin where somebody asked for them, else oldest first.

use std::time::Duration;

use sea_orm::QueryResult;
use thinkwork_primitives::{JobId, TenantId, Timestamp};
use uuid::Uuid;

use super::{Job, Lane};
use crate::round_robin::{FairnessKey, Queue, ROUNDS_MAX, RoundRobin};
use crate::{Db, Engine, Error, Tx};

/// What can be claimed of the table `job` at the time of parameter `now`.
fn claimable(lane: Lane, now: &str) -> String {
    let due = format!("run_at <= {now} AND parked_at IS NULL AND (lease_until IS NULL OR lease_until < {now})");
    // The indexes hold one kind of lane each, which the engines find out only where it is said.
    let lane = match lane {
        Lane::People => PEOPLE.condition,
        Lane::Senders => SENDERS.condition,
        Lane::Background => "parked_at IS NULL AND lane = 'background'",
    };
    format!("{due} AND {lane}")
}

const PEOPLE: Queue = Queue {
    table: "job",
    index: "job_by_fairness_key",
    key_column: "fairness_key",
    order: "run_at",
    condition: "parked_at IS NULL AND lane <> 'background' AND lane = 'people'",
};

const SENDERS: Queue = Queue { condition: "parked_at IS NULL AND lane <> 'background' AND lane = 'senders'", ..PEOPLE };

/// Claims up to `count` due jobs of a lane; see [`claim_within`].
pub async fn claim(db: &Db, lane: Lane, now: Timestamp, lease_for: Duration, count: u64) -> Result<Vec<Job>, Error> {
    claim_within(db, lane, now, lease_for, count, |_, _| u64::MAX).await
}

/// Claims up to `count` due jobs of a lane for `lease_for`, those whose lease ran out included: shared among tenants and
/// requesters, of each the oldest first and no more than `available` allows for the tenant and fairness key.
pub async fn claim_within(
    db: &Db,
    lane: Lane,
    now: Timestamp,
    lease_for: Duration,
    count: u64,
    available: impl Fn(TenantId, &str) -> u64 + Send,
) -> Result<Vec<Job>, Error> {
    // Mostly nothing is due: then nobody's write waits for this one.
    let due = format!("SELECT id FROM job WHERE {} LIMIT 1", claimable(lane, "$1"));
    if db.read_shared().await?.query(&due, vec![now.micros().into()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.write_shared().await?;
    tx.keep_to_indexes().await?;
    let claim = Claim { lane, lease: Uuid::now_v7(), lease_until: now.plus(lease_for), now };
    let round_robins = db.round_robins();
    let claimed = match lane {
        Lane::People => claim.round_robin(&mut tx, &round_robins.people, &PEOPLE, count, available).await?,
        Lane::Senders => claim.round_robin(&mut tx, &round_robins.senders, &SENDERS, count, available).await?,
        Lane::Background => claim.oldest(&mut tx, None, count).await?,
    };
    tx.commit().await?;
    Ok(claimed)
}

/// What one claim takes, and the lease that it gives.
struct Claim {
    lane: Lane,
    lease: Uuid,
    lease_until: Timestamp,
    now: Timestamp,
}

impl Claim {
    async fn round_robin(
        &self,
        tx: &mut Tx,
        round_robin: &RoundRobin,
        queue: &Queue,
        count: u64,
        available: impl Fn(TenantId, &str) -> u64 + Send,
    ) -> Result<Vec<Job>, Error> {
        let mut claimed = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut round = round_robin.round(tx, queue, count).await?;
            while let Some((key, share)) = round.next() {
                let so_far = claimed.iter().filter(|job: &&Job| key.is(job.tenant, &job.fairness_key)).count();
                let so_far = u64::try_from(so_far).unwrap_or(u64::MAX);
                let share = share.min(available(key.tenant(), key.name()).saturating_sub(so_far));
                let of_key = self.oldest(tx, Some(&key), share).await?;
                round.took(of_key.len());
                claimed.extend(of_key);
            }
            if round.is_last() || !claimed.is_empty() {
                break;
            }
        }
        Ok(claimed)
    }

    /// Claims the oldest due jobs of the lane, or of one key of it.
    async fn oldest(&self, tx: &mut Tx, key: Option<&FairnessKey>, count: u64) -> Result<Vec<Job>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let engine = tx.engine();
        let (source, of_key) = match key {
            Some(_) => (PEOPLE.source(engine, "due"), "AND tenant_id = $5 AND fairness_key = $6"),
            None => ("job".to_owned(), ""),
        };
        let claimable = claimable(self.lane, "$3");
        let first = format!("SELECT id FROM {source} WHERE {claimable} {of_key} ORDER BY run_at LIMIT $4");
        let chosen = match engine {
            Engine::Sqlite => format!("IN ({first})"),
            // An array is computed once: as the inner side of a join, the limited query would run again for every row
            // where statistics say that the table is small, and lock other jobs each time.
            Engine::Postgres => format!("= ANY (ARRAY({first} FOR UPDATE SKIP LOCKED))"),
        };
        let sql = format!(
            "UPDATE job SET lease = $1, lease_until = $2, attempts = attempts + 1 WHERE id {chosen}
             RETURNING id, tenant_id, kind, key, attempts, fairness_key, generation"
        );
        let mut values = vec![
            self.lease.into(),
            self.lease_until.micros().into(),
            self.now.micros().into(),
            i64::try_from(count).unwrap_or(i64::MAX).into(),
        ];
        if let Some(key) = key {
            values.push(key.tenant().uuid().into());
            values.push(key.name().to_owned().into());
        }
        tx.query(&sql, values).await?.iter().map(|row| job(row, self.lease)).collect()
    }
}

fn job(row: &QueryResult, lease: Uuid) -> Result<Job, Error> {
    Ok(Job {
        id: JobId::from_uuid(row.try_get("", "id")?),
        tenant: TenantId::from_uuid(row.try_get("", "tenant_id")?),
        kind: row.try_get("", "kind")?,
        key: row.try_get("", "key")?,
        attempts: row.try_get::<i64>("", "attempts")?.saturating_sub(1),
        fairness_key: row.try_get("", "fairness_key")?,
        generation: row.try_get("", "generation")?,
        lease,
    })
}
