//! The log over both engines: what is stored once, what shares a commit, what parks.

use std::time::Duration;

use thinkwork_database::schema::migrate;
use thinkwork_database::{Db, Options, intake_log};
use thinkwork_primitives::{Clock, TenantId, crypto};
use uuid::Uuid;

use super::*;

#[expect(clippy::disallowed_methods, reason = "the run says on which engine it is")]
/// A fresh database of the engine that this run is on, and the folder that holds it.
async fn database() -> (Db, Option<std::path::PathBuf>) {
    let name = format!("thinkwork_intake_{}", Uuid::now_v7().simple());
    let (url, folder) = if std::env::var("THINKWORK_TEST_DATABASE").as_deref() == Ok("postgres") {
        let url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap();
        let (server, _) = url.rsplit_once('/').unwrap();
        create_database(&url, &name).await;
        (format!("{server}/{name}"), None)
    } else {
        let folder = std::env::temp_dir().join(&name);
        (format!("sqlite:{}", folder.join("t.db").display()), Some(folder))
    };
    let db = Db::open(&Options { url, connections_max: 4 }).await.unwrap();
    migrate(&db, &[]).await.unwrap();
    (db, folder)
}

async fn create_database(url: &str, name: &str) {
    let made = tokio::process::Command::new("psql").args([url, "-qc", &format!("CREATE DATABASE {name}")]).status();
    assert!(made.await.unwrap().success());
}

fn event(tenant: TenantId, key: &str, body: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        tenant,
        source: "webhook:test".to_owned(),
        dedupe_key: key.as_bytes().to_vec(),
        order_key: String::new(),
        body: body.as_bytes().to_vec(),
        body_hash: crypto::sha256(body.as_bytes()),
        received_at: Clock::system().now(),
    }
}

#[tokio::test]
async fn many_who_wait_are_stored_and_each_key_once() {
    let (db, folder) = database().await;
    let intake = Intake::on_database(db.clone(), Clock::system());
    let tenant = TenantId::new();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (intake, event) = (intake.clone(), event(tenant, &format!("key {}", number % 50), "same"));
        tasks.spawn(async move { intake.append(event).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    let stored = outcomes.iter().filter(|outcome| **outcome == Accepted::Stored).count();
    assert_eq!((stored, outcomes.len()), (50, 200));
    assert!(outcomes.iter().all(|outcome| !matches!(outcome, Accepted::Duplicate { same_body: false, .. })));
    assert_eq!(intake_log::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), (50, 0));
    end(db, folder).await;
}

#[tokio::test]
async fn another_body_under_a_known_key_is_told_apart_and_another_tenant_has_its_own_keys() {
    let (db, folder) = database().await;
    let intake = Intake::on_database(db.clone(), Clock::system());
    let tenant = TenantId::new();
    let first = event(tenant, "key", "one");
    assert_eq!(intake.append(first.clone()).await.unwrap(), Accepted::Stored);
    let again = intake.append(event(tenant, "key", "two")).await.unwrap();
    assert_eq!(again, Accepted::Duplicate { id: first.id, same_body: false });
    assert_eq!(intake.append(event(TenantId::new(), "key", "one")).await.unwrap(), Accepted::Stored);
    end(db, folder).await;
}

#[tokio::test]
async fn a_failing_event_waits_longer_each_time_and_is_parked_after_twelve_tries() {
    let (db, folder) = database().await;
    let clock = Clock::system();
    let intake = Intake::on_database(db.clone(), clock.clone());
    intake.append(event(TenantId::new(), "key", "body")).await.unwrap();
    for attempt in 0..ATTEMPTS_MAX {
        let claimed = intake.claim(10).await.unwrap();
        let [(event, attempts)] = claimed.as_slice() else { panic!("not claimed at attempt {attempt}") };
        assert_eq!(*attempts, attempt);
        assert!(intake.claim(10).await.unwrap().is_empty(), "a claimed event is leased");
        intake.failed(event, *attempts, "no\0 luck").await.unwrap();
        assert!(intake.claim(10).await.unwrap().is_empty(), "a failed event pauses");
        clock.advance(PAUSE_MAX + Duration::from_secs(1));
    }
    assert!(intake.claim(10).await.unwrap().is_empty());
    assert_eq!(intake_log::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), (0, 1));
    end(db, folder).await;
}

#[tokio::test]
async fn what_is_not_applied_within_the_lease_can_be_claimed_again() {
    let (db, folder) = database().await;
    let clock = Clock::system();
    let intake = Intake::on_database(db.clone(), clock.clone());
    let stored = event(TenantId::new(), "key", "body");
    intake.append(stored.clone()).await.unwrap();
    assert_eq!(intake.claim(10).await.unwrap().len(), 1);
    clock.advance(LEASE + Duration::from_secs(1));
    let again = intake.claim(10).await.unwrap();
    assert_eq!(
        again.first().map(|(event, attempts)| (event.id, event.body.clone(), *attempts)),
        Some((stored.id, stored.body, 1))
    );
    end(db, folder).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_everyones_answer_and_a_flood_of_large_bodies_is_refused() {
    let (db, folder) = database().await;
    let intake = Intake::on_database(db.clone(), Clock::system());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let intake = intake.clone();
        let mut event = event(TenantId::new(), &format!("key {number}"), "");
        event.body = vec![0; 1_048_576];
        tasks.spawn(async move { intake.append(event).await });
    }
    let refused =
        tasks.join_all().await.into_iter().filter(|outcome| matches!(outcome, Err(Error::NotStored(_)))).count();
    assert!(refused >= 36, "64 MiB wait at most, and {refused} of 100 were refused");
    db.close().await;
    let outcome = intake.append(event(TenantId::new(), "late", "body")).await;
    assert!(matches!(outcome, Err(Error::NotStored(_))), "{outcome:?}");
    drop(folder.map(std::fs::remove_dir_all));
}

#[tokio::test]
async fn the_task_ends_with_the_last_handle() {
    let (db, folder) = database().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let intake = Intake::on_database(db.clone(), Clock::system());
    let other = intake.clone();
    drop(intake);
    assert_eq!(other.append(event(TenantId::new(), "key", "body")).await.unwrap(), Accepted::Stored);
    drop(other);
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
        tokio::task::yield_now().await;
    }
    end(db, folder).await;
}

async fn end(db: Db, folder: Option<std::path::PathBuf>) {
    db.close().await;
    if let Some(folder) = folder {
        std::fs::remove_dir_all(folder).unwrap();
    }
}
