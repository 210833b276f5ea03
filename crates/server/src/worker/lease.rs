//! Work under a lease that is kept alive as long as the work lasts.
//!
//! Invariant: the lease is written from a task of its own: in the work's, either write would be nested in the other.

use std::time::Duration;

use thinkwork_database::Db;
use thinkwork_database::jobs::{self, Job};
use thinkwork_primitives::{Chain, Clock};
use tokio::task::JoinSet;

/// How long a job is ours; kept alive at a third of it.
pub(super) const JOB_LEASE: Duration = Duration::from_secs(60);

/// Waits until the lease is to be extended.
pub(super) async fn tick() {
    tokio::time::sleep(JOB_LEASE / 3).await;
}

/// What the work came to; nothing where the lease was lost, and then the work was dropped at once.
pub(super) async fn with_lease<T, W: Future<Output = ()> + Send + 'static>(
    db: &Db,
    clock: &Clock,
    job: &Job,
    tick: impl Fn() -> W + Send + Sync + 'static,
    work: impl Future<Output = T>,
) -> Option<T> {
    let db = db.clone();
    let clock = clock.clone();
    let job = job.clone();
    let mut keeper = JoinSet::new();
    keeper.spawn(async move {
        loop {
            tick().await;
            match jobs::extend_lease(&db, &job, clock.steady(), JOB_LEASE).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(error = %Chain(&error), "a lease could not be extended; trying again"),
            }
        }
    });
    tokio::select! {
        outcome = work => Some(outcome),
        _ = keeper.join_next() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use thinkwork_database::Options;
    use thinkwork_database::schema::migrate;
    use thinkwork_vault::Vault;

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
        let job = jobs::claim(&db, clock.now(), JOB_LEASE, 1).await.unwrap().remove(0);
        (db, job)
    }

    /// The end of this task, which must come: a test that hangs says nothing.
    async fn ended<T: 'static>(mut running: JoinSet<T>) -> T {
        let end = tokio::time::timeout(Duration::from_secs(20), running.join_next()).await;
        end.expect("the work goes on for ever").unwrap().unwrap()
    }

    #[tokio::test]
    async fn l83_work_writes_while_its_lease_is_extended() {
        const TICKS: usize = 3;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (db, job) = job(&folder, &clock).await;
        // In a task, as the worker's; its lease is due three times, one right after the other.
        let mut running = JoinSet::new();
        running.spawn(async move {
            let ticks = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&ticks);
            let tick = move || {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                async move { if number < TICKS { tokio::task::yield_now().await } else { std::future::pending().await } }
            };
            let work = async {
                clock.advance(JOB_LEASE * 3 / 4);
                while ticks.load(Ordering::SeqCst) <= TICKS {
                    let mut tx = db.write(job.tenant).await?;
                    jobs::enqueue::<Test>(&mut tx, "b".to_owned(), clock.now().plus(JOB_LEASE * 9));
                    tx.commit().await?;
                }
                // The lease that it was claimed with would be over by then.
                jobs::claim(&db, clock.now().plus(JOB_LEASE / 2), JOB_LEASE, 1).await
            };
            with_lease(&db, &clock, &job, tick, work).await
        });
        let done = ended(running).await;
        assert!(matches!(&done, Some(Ok(taken)) if taken.is_empty()), "{done:?}");
    }

    #[tokio::test]
    async fn l83_a_lost_lease_ends_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (db, job) = job(&folder, &clock).await;
        clock.advance(JOB_LEASE * 2);
        assert_eq!(jobs::claim(&db, clock.now(), JOB_LEASE, 1).await.unwrap().len(), 1);
        let mut running = JoinSet::new();
        running.spawn(async move {
            with_lease(&db, &clock, &job, tokio::task::yield_now, std::future::pending::<()>()).await
        });
        assert_eq!(ended(running).await, None);
    }
}
