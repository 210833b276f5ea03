//! Claiming jobs: in turn where somebody asked for them, else oldest first.

use std::time::Duration;

use sea_orm::QueryResult;
use thinkwork_primitives::{JobId, TenantId, Timestamp};
use uuid::Uuid;

use super::{Job, Lane};
use crate::rota::{Line, Party, ROUNDS_MAX, Rota};
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

const PEOPLE: Line = Line {
    table: "job",
    index: "job_by_party",
    party: "party",
    order: "run_at",
    condition: "parked_at IS NULL AND lane <> 'background' AND lane = 'people'",
};

const SENDERS: Line = Line { condition: "parked_at IS NULL AND lane <> 'background' AND lane = 'senders'", ..PEOPLE };

/// Claims up to `count` due jobs of a lane; see [`claim_within`].
pub async fn claim(db: &Db, lane: Lane, now: Timestamp, lease_for: Duration, count: u64) -> Result<Vec<Job>, Error> {
    claim_within(db, lane, now, lease_for, count, |_, _| u64::MAX).await
}

/// Claims up to `count` due jobs of a lane for `lease_for`, those whose lease ran out included: shared among tenants and
/// those who ask, of each the oldest first and no more than `room` says that there is for them.
pub async fn claim_within(
    db: &Db,
    lane: Lane,
    now: Timestamp,
    lease_for: Duration,
    count: u64,
    room: impl Fn(TenantId, &str) -> u64 + Send,
) -> Result<Vec<Job>, Error> {
    // Mostly nothing is due: then nobody's write waits for this one.
    let due = format!("SELECT id FROM job WHERE {} LIMIT 1", claimable(lane, "$1"));
    if db.read_shared().await?.query(&due, vec![now.micros().into()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = db.write_shared().await?;
    tx.keep_to_indexes().await?;
    let lease = Lease { id: Uuid::now_v7(), until: now.plus(lease_for) };
    let claimed = match lane {
        Lane::People => claim_in_turn(&mut tx, &db.rotas().people, &PEOPLE, lane, lease, now, count, room).await?,
        Lane::Senders => claim_in_turn(&mut tx, &db.rotas().senders, &SENDERS, lane, lease, now, count, room).await?,
        Lane::Background => claim_oldest(&mut tx, lane, None, lease, now, count).await?,
    };
    tx.commit().await?;
    Ok(claimed)
}

/// A lease of the jobs of one claim.
#[derive(Clone, Copy)]
struct Lease {
    id: Uuid,
    until: Timestamp,
}

#[expect(clippy::too_many_arguments, reason = "what a claim is told, and the line that it is made in")]
async fn claim_in_turn(
    tx: &mut Tx,
    rota: &Rota,
    line: &Line,
    lane: Lane,
    lease: Lease,
    now: Timestamp,
    count: u64,
    room: impl Fn(TenantId, &str) -> u64 + Send,
) -> Result<Vec<Job>, Error> {
    let mut claimed = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut round = rota.round(tx, line, count).await?;
        while let Some((party, share)) = round.next() {
            let so_far = claimed.iter().filter(|job: &&Job| party.is(job.tenant, &job.party)).count();
            let so_far = u64::try_from(so_far).unwrap_or(u64::MAX);
            let share = share.min(room(party.tenant(), party.name()).saturating_sub(so_far));
            let of_party = claim_oldest(tx, lane, Some(&party), lease, now, share).await?;
            round.took(of_party.len());
            claimed.extend(of_party);
        }
        if round.is_last() || !claimed.is_empty() {
            break;
        }
    }
    Ok(claimed)
}

/// Claims the oldest due jobs of a lane, or of one party of it.
async fn claim_oldest(
    tx: &mut Tx,
    lane: Lane,
    party: Option<&Party>,
    lease: Lease,
    now: Timestamp,
    count: u64,
) -> Result<Vec<Job>, Error> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let engine = tx.engine();
    let (source, of_party) = match party {
        Some(_) => (PEOPLE.source(engine, "due"), "AND tenant_id = $5 AND party = $6"),
        None => ("job".to_owned(), ""),
    };
    let claimable = claimable(lane, "$3");
    let first = format!("SELECT id FROM {source} WHERE {claimable} {of_party} ORDER BY run_at LIMIT $4");
    let chosen = match engine {
        Engine::Sqlite => format!("IN ({first})"),
        // An array is computed once: as the inner side of a join, the limited query would run again for every row where
        // statistics say that the table is small, and lock other jobs each time.
        Engine::Postgres => format!("= ANY (ARRAY({first} FOR UPDATE SKIP LOCKED))"),
    };
    let sql = format!(
        "UPDATE job SET lease = $1, lease_until = $2, attempts = attempts + 1 WHERE id {chosen}
         RETURNING id, tenant_id, kind, key, attempts, party, generation"
    );
    let mut values = vec![
        lease.id.into(),
        lease.until.micros().into(),
        now.micros().into(),
        i64::try_from(count).unwrap_or(i64::MAX).into(),
    ];
    if let Some(party) = party {
        values.push(party.tenant().uuid().into());
        values.push(party.name().to_owned().into());
    }
    tx.query(&sql, values).await?.iter().map(|row| job(row, lease.id)).collect()
}

fn job(row: &QueryResult, lease: Uuid) -> Result<Job, Error> {
    Ok(Job {
        id: JobId::from_uuid(row.try_get("", "id")?),
        tenant: TenantId::from_uuid(row.try_get("", "tenant_id")?),
        kind: row.try_get("", "kind")?,
        key: row.try_get("", "key")?,
        attempts: row.try_get::<i64>("", "attempts")?.saturating_sub(1),
        party: row.try_get("", "party")?,
        generation: row.try_get("", "generation")?,
        lease,
    })
}
