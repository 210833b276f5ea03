//! Jobs: claimed once, leased, run again when asked again, parked in the end.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use thinkwork_database::jobs::{JobType, Kinds};
use thinkwork_database::{Counts, Db, jobs, schema};
use thinkwork_primitives::{Clock, TenantId};

use crate::harness::{self, fresh, open};

struct TestRun;

impl JobType for TestRun {
    const NAME: &'static str = "test.run";
    type Payload = String;
}

const LEASE: Duration = Duration::from_secs(60);

async fn enqueue(db: &Db, tenant: TenantId, key: &str, clock: &Clock) {
    let mut tx = db.write(tenant).await.unwrap();
    jobs::enqueue::<TestRun>(&mut tx, key.to_owned(), clock.now());
    tx.commit().await.unwrap();
}

/// Statistics of a queue that was empty make a join look cheap that would lock and claim all there is.
#[tokio::test]
async fn l122_a_claim_of_jobs_keeps_its_limit_whatever_the_statistics_say() {
    let folder = tempfile::tempdir().unwrap();
    let url = harness::fresh_url(&folder).await;
    let db = open(&url).await;
    schema::migrate(&db).await.unwrap();
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    let burst = async || {
        let mut tx = db.write(tenant).await.unwrap();
        for number in 0..3_000 {
            jobs::enqueue::<TestRun>(&mut tx, number.to_string(), clock.now());
        }
        tx.commit().await.unwrap();
    };
    burst().await;
    let owner = harness::connect(&url).await;
    for sql in ["DELETE FROM job", "ANALYZE job"] {
        owner.execute_unprepared(sql).await.unwrap();
    }
    owner.close().await.unwrap();
    burst().await;
    for kinds in [Kinds::All, Kinds::Only(TestRun::NAME), Kinds::AllBut("other")] {
        assert_eq!(jobs::claim_of(&db, kinds, clock.now(), LEASE, 64).await.unwrap().len(), 64);
    }
}

#[tokio::test]
async fn l83_of_many_claimers_in_several_processes_one_gets_each_job() {
    let folder = tempfile::tempdir().unwrap();
    let url = harness::fresh_url(&folder).await;
    let first = open(&url).await;
    let clock = Clock::system();
    schema::migrate(&first).await.unwrap();
    let tenant = harness::tenant(&first).await;
    let second = open(&url).await;
    // Claimers that do not look out for each other meet in most rounds, and not in every one.
    for round in 0..8 {
        for number in 0..40 {
            enqueue(&first, tenant, &format!("{round} {number}"), &clock).await;
        }
        let mut claims = tokio::task::JoinSet::new();
        for number in 0..16 {
            let db = if number % 2 == 0 { first.clone() } else { second.clone() };
            let now = clock.now();
            claims.spawn(async move { jobs::claim(&db, now, LEASE, 5).await.unwrap() });
        }
        let keys: Vec<String> = claims.join_all().await.into_iter().flatten().map(|job| job.key).collect();
        assert_eq!(keys.len(), 40);
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 40);
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_is_claimed_by_another_and_the_first_is_told() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    let first = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
    assert!(jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().is_empty());
    assert!(jobs::extend_lease(&db, &first, clock.now(), LEASE).await.unwrap());
    clock.advance(LEASE * 2);
    let second = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(second.attempts, 1);
    assert!(!jobs::extend_lease(&db, &first, clock.now(), LEASE).await.unwrap());
    // The late end of the first changes nothing for the second.
    jobs::complete(&db, &first).await.unwrap();
    assert!(jobs::extend_lease(&db, &second, clock.now(), LEASE).await.unwrap());
    jobs::complete(&db, &second).await.unwrap();
    assert_eq!(jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), Counts { waiting: 0, parked: 0 });
}

#[tokio::test]
async fn a_job_that_is_asked_for_while_it_runs_runs_once_more() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    let job = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
    enqueue(&db, tenant, "a", &clock).await;
    enqueue(&db, tenant, "a", &clock).await;
    jobs::complete(&db, &job).await.unwrap();
    let again = jobs::claim(&db, clock.now(), LEASE, 9).await.unwrap();
    assert_eq!(again.len(), 1);
    jobs::complete(&db, again.first().unwrap()).await.unwrap();
    assert_eq!(jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), Counts { waiting: 0, parked: 0 });
}

#[tokio::test]
async fn a_job_that_keeps_failing_is_parked_and_enqueueing_it_frees_it() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    for _ in 0..jobs::ATTEMPTS_MAX {
        let job = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
        jobs::mark_as_failed(&db, &job, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
        assert!(jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().is_empty());
        clock.advance(Duration::from_secs(3_601));
    }
    assert_eq!(jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), Counts { waiting: 0, parked: 1 });
    enqueue(&db, tenant, "a", &clock).await;
    assert_eq!(jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_is_asked_for_during_its_last_failing_try_begins_anew() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    for _ in 1..jobs::ATTEMPTS_MAX {
        let job = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
        jobs::mark_as_failed(&db, &job, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
        clock.advance(Duration::from_secs(3_601));
    }
    let last = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap().remove(0);
    enqueue(&db, tenant, "a", &clock).await;
    jobs::mark_as_failed(&db, &last, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
    assert_eq!(
        jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(),
        Counts { waiting: 1, parked: 0 },
        "it is not parked"
    );
    let anew = jobs::claim(&db, clock.now(), LEASE, 1).await.unwrap();
    assert_eq!(anew.iter().map(|job| job.attempts).collect::<Vec<_>>(), [0], "and due at once");
}

#[tokio::test]
async fn a_claimer_of_some_kinds_leaves_the_others() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    let claim = async |kinds| jobs::claim_of(&db, kinds, clock.now(), LEASE, 9).await.unwrap().len();
    assert_eq!(claim(Kinds::AllBut("test.run")).await, 0);
    assert_eq!(claim(Kinds::Only("test.walk")).await, 0);
    assert_eq!(claim(Kinds::Only("test.run")).await, 1);
}
