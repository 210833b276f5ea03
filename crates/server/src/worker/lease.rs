//! Leases of the jobs that run: one heartbeat of the process keeps all of them alive.
//!
//! Invariant: a process that is killed loses its leases within [`JOB_LEASE`], and work whose lease was lost is dropped at
//! once. The heartbeat is a task of its own: in the work's, either write would be nested in the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thinkwork_database::jobs::{self, ClaimId, Job};
use thinkwork_database::{Db, Error};
use thinkwork_primitives::Timestamp;
use tokio_util::sync::CancellationToken;

/// How long a job is ours without a heartbeat.
pub(super) const JOB_LEASE: Duration = Duration::from_secs(10);
/// How long from one heartbeat to the next.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// The leases that this process holds. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<ClaimId, Running>>>);

/// A job that runs, and how it is told that its lease was lost.
struct Running {
    job: Job,
    lost: CancellationToken,
}

impl Leases {
    fn running(&self) -> MutexGuard<'_, HashMap<ClaimId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the work came to; nothing where the lease was lost, and then the work was dropped at once.
    pub(super) async fn keep<T>(&self, job: &Job, work: impl Future<Output = T>) -> Option<T> {
        let lost = CancellationToken::new();
        self.running().insert(job.claim_id(), Running { job: job.clone(), lost: lost.clone() });
        let _ends = Kept { leases: self.clone(), claim: job.claim_id() };
        tokio::select! {
            outcome = work => Some(outcome),
            () = lost.cancelled() => None,
        }
    }

    /// Keeps all of them alive, and ends the work of those that were lost.
    pub(super) async fn extend(&self, db: &Db, now: Timestamp) -> Result<(), Error> {
        let jobs: Vec<Job> = self.running().values().map(|running| running.job.clone()).collect();
        for lost in jobs::extend_leases(db, &jobs, now, JOB_LEASE).await? {
            // One that has ended meanwhile is not there any more.
            if let Some(running) = self.running().get(&lost) {
                running.lost.cancel();
            }
        }
        Ok(())
    }
}

/// Ends with the work.
struct Kept {
    leases: Leases,
    claim: ClaimId,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.leases.running().remove(&self.claim);
    }
}

#[cfg(test)]
mod tests {
    use thinkwork_database::Options;
    use thinkwork_database::jobs::Lane;
    use thinkwork_database::schema::migrate;
    use thinkwork_primitives::Clock;
    use thinkwork_vault::Vault;
    use tokio::task::JoinSet;

    use super::*;
    use crate::access::Access;

    struct Test;

    impl jobs::JobType for Test {
        const NAME: &'static str = "test";
        type Payload = String;
    }

    async fn job(folder: &tempfile::TempDir, clock: &Clock) -> (Db, Job) {
        let url = format!("sqlite:{}", folder.path().join("t.db").display());
        let db = Db::open(&Options { url, migration_url: None, connections_max: 4, subscribers: |_| Vec::new() })
            .await
            .unwrap();
        migrate(&db).await.unwrap();
        let db = db.with_record_key(Vault::in_memory().unwrap().record_key());
        let access = Access::new(db.clone(), clock.clone(), "https://work.acme.test".parse().unwrap());
        let tenant = access.tenant_create("acme", "Acme", "ana@acme.test", "Ana").await.unwrap().tenant;
        let mut tx = db.write(tenant).await.unwrap();
        jobs::enqueue::<Test>(&mut tx, "a".to_owned(), clock.now());
        tx.commit().await.unwrap();
        let job = jobs::claim(&db, Lane::Background, clock.now(), JOB_LEASE, 1).await.unwrap().remove(0);
        (db, job)
    }

    /// The end of this task, which must come: a test that hangs says nothing.
    async fn ended<T: 'static>(mut running: JoinSet<T>) -> T {
        let end = tokio::time::timeout(Duration::from_secs(20), running.join_next()).await;
        end.expect("the work goes on for ever").unwrap().unwrap()
    }

    /// Runs this work under its lease in a task, and the heartbeat beside it.
    fn started<T: Send + 'static>(
        leases: &Leases,
        job: Job,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinSet<Option<T>> {
        let mut running = JoinSet::new();
        let leases = leases.clone();
        running.spawn(async move { leases.keep(&job, work).await });
        running
    }

    #[tokio::test]
    async fn l83_work_writes_while_its_lease_is_extended() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (db, job) = job(&folder, &clock).await;
        let leases = Leases::default();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = tokio::sync::oneshot::channel::<()>();
        let work = {
            let db = db.clone();
            let clock = clock.clone();
            let tenant = job.tenant;
            async move {
                let mut tx = db.write(tenant).await.unwrap();
                jobs::enqueue::<Test>(&mut tx, "b".to_owned(), clock.now().plus(JOB_LEASE * 99));
                begun.send(()).unwrap();
                tx.commit().await.unwrap();
                may_end.await.unwrap();
            }
        };
        let running = started(&leases, job, work);
        has_begun.await.unwrap();
        for _ in 0..3 {
            clock.advance(JOB_LEASE * 3 / 4);
            leases.extend(&db, clock.now()).await.unwrap();
        }
        // The lease that it was claimed with would be over by then.
        assert!(jobs::claim(&db, Lane::Background, clock.now(), JOB_LEASE, 1).await.unwrap().is_empty());
        end.send(()).unwrap();
        assert_eq!(ended(running).await, Some(()));
        assert!(leases.running().is_empty());
    }

    #[tokio::test]
    async fn l83_a_lost_lease_ends_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (db, job) = job(&folder, &clock).await;
        let leases = Leases::default();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let running = started(&leases, job, async move {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        has_begun.await.unwrap();
        clock.advance(JOB_LEASE * 2);
        assert_eq!(jobs::claim(&db, Lane::Background, clock.now(), JOB_LEASE, 1).await.unwrap().len(), 1);
        leases.extend(&db, clock.now()).await.unwrap();
        assert_eq!(ended(running).await, None);
    }
}
