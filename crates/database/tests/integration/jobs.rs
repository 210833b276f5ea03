//! Jobs: claimed once, leased, run again when asked again, parked in the end.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use thinkwork_database::jobs::{JobType, Lane, NewJob};
use thinkwork_database::{Counts, Db, intake_log, jobs, schema};
use thinkwork_primitives::{Clock, Requester, TenantId, UserId, WebhookId};

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
        let sender = Requester::server();
        for part in 0..2 {
            let mut tx = db.write(tenant).await.unwrap();
            for number in 0..1_500 {
                jobs::enqueue::<TestRun>(&mut tx, format!("{part} {number}"), clock.now());
                let of_sender = NewJob::new::<TestRun>(format!("of a sender {part} {number}"));
                jobs::add(&mut tx, of_sender.asked_by(&sender), clock.now());
            }
            tx.commit().await.unwrap();
        }
    };
    burst().await;
    let owner = harness::connect(&url).await;
    for sql in ["DELETE FROM job", "ANALYZE job"] {
        owner.execute_unprepared(sql).await.unwrap();
    }
    owner.close().await.unwrap();
    burst().await;
    for lane in [Lane::Background, Lane::Senders, Lane::Background, Lane::Senders] {
        assert_eq!(jobs::claim(&db, lane, clock.now(), LEASE, 64).await.unwrap().len(), 64);
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
            claims.spawn(async move { jobs::claim(&db, Lane::Background, now, LEASE, 5).await.unwrap() });
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
    let first = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
    assert!(jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().is_empty());
    assert!(jobs::extend_leases(&db, std::slice::from_ref(&first), clock.now(), LEASE).await.unwrap().is_empty());
    clock.advance(LEASE * 2);
    let second = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(second.attempts, 1);
    let lost = jobs::extend_leases(&db, &[first.clone(), second.clone()], clock.now(), LEASE).await.unwrap();
    assert_eq!(lost, [first.claim_id()], "and the other's stays its own");
    // The late end of the first changes nothing for the second.
    jobs::complete(&db, &first).await.unwrap();
    assert!(jobs::extend_leases(&db, std::slice::from_ref(&second), clock.now(), LEASE).await.unwrap().is_empty());
    jobs::complete(&db, &second).await.unwrap();
    assert_eq!(jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), Counts { waiting: 0, parked: 0 });
}

#[tokio::test]
async fn a_job_that_is_asked_for_while_it_runs_runs_once_more() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    let job = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
    enqueue(&db, tenant, "a", &clock).await;
    enqueue(&db, tenant, "a", &clock).await;
    jobs::complete(&db, &job).await.unwrap();
    let again = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 9).await.unwrap();
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
        let job = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
        jobs::mark_as_failed(&db, &job, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
        assert!(jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().is_empty());
        clock.advance(Duration::from_secs(3_601));
    }
    assert_eq!(jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), Counts { waiting: 0, parked: 1 });
    enqueue(&db, tenant, "a", &clock).await;
    assert_eq!(jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_is_asked_for_during_its_last_failing_try_begins_anew() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    for _ in 1..jobs::ATTEMPTS_MAX {
        let job = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
        jobs::mark_as_failed(&db, &job, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
        clock.advance(Duration::from_secs(3_601));
    }
    let last = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap().remove(0);
    enqueue(&db, tenant, "a", &clock).await;
    jobs::mark_as_failed(&db, &last, TestRun::RETRY, clock.now(), "it does not work").await.unwrap();
    assert_eq!(
        jobs::counts(&mut db.read_shared().await.unwrap()).await.unwrap(),
        Counts { waiting: 1, parked: 0 },
        "it is not parked"
    );
    let anew = jobs::claim(&db, Lane::Background, clock.now(), LEASE, 1).await.unwrap();
    assert_eq!(anew.iter().map(|job| job.attempts).collect::<Vec<_>>(), [0], "and due at once");
}

async fn enqueue_turns(db: &Db, tenant: TenantId, requester: &Requester, count: usize, clock: &Clock) {
    let mut tx = db.write(tenant).await.unwrap();
    for number in 0..count {
        let key = format!("{} {number}", requester.id());
        jobs::add(&mut tx, NewJob::new::<TestRun>(key).asked_by(requester), clock.now());
    }
    tx.commit().await.unwrap();
    clock.advance(Duration::from_millis(1));
}

/// How many of these jobs each of the requesters asked for.
fn of_each(claimed: &[jobs::Job], requesters: &[&Requester]) -> Vec<usize> {
    let of = |requester: &Requester| claimed.iter().filter(|job| job.fairness_key.ends_with(&requester.id())).count();
    requesters.iter().map(|requester| of(requester)).collect()
}

#[tokio::test]
async fn l124_a_claim_of_turns_is_shared_among_tenants_and_requesters() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenants = [harness::tenant(&db).await, harness::tenant(&db).await];
    let senders = [(); 3].map(|()| Requester::Webhook(WebhookId::new()));
    enqueue_turns(&db, tenants[0], &senders[0], 1_000, &clock).await;
    enqueue_turns(&db, tenants[0], &senders[1], 3, &clock).await;
    enqueue_turns(&db, tenants[1], &senders[2], 2, &clock).await;
    let claimed = jobs::claim(&db, Lane::Senders, clock.now(), LEASE, 64).await.unwrap();
    let of = of_each(&claimed, &[&senders[0], &senders[1], &senders[2]]);
    assert_eq!(of[1..], [3, 2], "nobody waits for a thousand others: {of:?}");
    assert!(of[0] >= 13, "{of:?}");
    let rest = jobs::claim(&db, Lane::Senders, clock.now(), LEASE, 64).await.unwrap();
    assert_eq!(of_each(&rest, &[&senders[0]]), [64], "and where nobody else waits, nothing is kept for others");
}

#[tokio::test]
async fn l124_people_stand_in_a_line_of_their_own() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    let webhook = Requester::Webhook(WebhookId::new());
    let ana = Requester::User(UserId::new());
    enqueue_turns(&db, tenant, &webhook, 200, &clock).await;
    enqueue_turns(&db, tenant, &ana, 1, &clock).await;
    let claimed = jobs::claim(&db, Lane::People, clock.now(), LEASE, 64).await.unwrap();
    assert_eq!((claimed.len(), of_each(&claimed, &[&ana])), (1, vec![1]));
    // A person writes in a thread that waits for its turn as a webhook's.
    let mut tx = db.write(tenant).await.unwrap();
    let key = format!("{} 199", webhook.id());
    jobs::add(&mut tx, NewJob::new::<TestRun>(key.clone()).asked_by(&ana), clock.now());
    jobs::add(&mut tx, NewJob::new::<TestRun>(key.clone()).asked_by(&webhook), clock.now());
    tx.commit().await.unwrap();
    let claimed = jobs::claim(&db, Lane::People, clock.now(), LEASE, 64).await.unwrap();
    assert_eq!(claimed.iter().map(|job| &job.key).collect::<Vec<_>>(), [&key]);
    assert_eq!(jobs::claim(&db, Lane::Senders, clock.now(), LEASE, 300).await.unwrap().len(), 199);
    assert!(jobs::claim(&db, Lane::Background, clock.now(), LEASE, 300).await.unwrap().is_empty());
}

#[tokio::test]
async fn l124_a_claim_leaves_those_who_have_no_room_and_finds_those_behind() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let full = Requester::Webhook(WebhookId::new());
    // More tenants than one round meets.
    let mut tenants = Vec::new();
    for _ in 0..40 {
        let tenant = harness::tenant(&db).await;
        enqueue_turns(&db, tenant, &full, 2, &clock).await;
        tenants.push(tenant);
    }
    let free = tenants[39];
    let room = |tenant, _: &str| if tenant == free { 1 } else { 0 };
    let claimed = jobs::claim_within(&db, Lane::Senders, clock.now(), LEASE, 64, room).await.unwrap();
    assert_eq!(claimed.iter().map(|job| job.tenant).collect::<Vec<_>>(), [free]);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let claimed = jobs::claim_within(&db, Lane::Senders, clock.now(), LEASE, 64, |_, _| 1).await.unwrap();
        assert_eq!(claimed.len(), 16, "each in its turn");
        seen.extend(claimed.into_iter().map(|job| job.tenant));
    }
    assert_eq!(seen.len(), 40);
}

#[tokio::test]
async fn l124_a_requester_beyond_the_limit_of_a_round_has_its_turn_in_the_next() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    let senders = [(); 10].map(|()| Requester::Webhook(WebhookId::new()));
    for sender in &senders {
        enqueue_turns(&db, tenant, sender, 100, &clock).await;
    }
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let claimed = jobs::claim(&db, Lane::Senders, clock.now(), LEASE, 8).await.unwrap();
        seen.extend(claimed.into_iter().map(|job| job.fairness_key));
    }
    assert_eq!(seen.len(), 10);
}

/// On SQLite nobody else runs beside a process that starts; on PostgreSQL others do.
#[tokio::test]
async fn l70_a_start_gives_back_what_a_former_process_held() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = harness::tenant(&db).await;
    enqueue(&db, tenant, "a", &clock).await;
    let event = crate::intake::event(tenant, "a", "one", &clock);
    intake_log::append(&db, vec![event]).await.unwrap();
    let claim = async || {
        let events = intake_log::claim(&db, clock.now(), LEASE, 9).await.unwrap().len();
        (jobs::claim(&db, Lane::Background, clock.now(), LEASE, 9).await.unwrap().len(), events)
    };
    assert_eq!(claim().await, (1, 1));
    assert_eq!(claim().await, (0, 0));
    db.release_former_leases().await.unwrap();
    assert_eq!(claim().await, if harness::on_postgres() { (0, 0) } else { (1, 1) });
    clock.advance(LEASE * 2);
    assert_eq!(claim().await, (1, 1));
}
