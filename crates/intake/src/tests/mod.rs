//! The log in the database passes the suite on the engine that this run is on; beyond it, what its commits share.

mod conformance;

use thinkwork_database::schema::migrate;
use thinkwork_database::{Db, Options};
use thinkwork_primitives::{Clock, Loops, TenantId};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;
use conformance::{Subject, conforms};

/// A log over a fresh database of the engine that this run is on.
async fn fresh() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let (url, migration_url) = match url.strip_prefix("postgres://") {
        Some(rest) => (format!("postgres://thinkwork_serving@{}", rest.split_once('@').unwrap().1), Some(url)),
        None => (url, None),
    };
    let options = Options { url, migration_url, connections_max: 6, subscribers: |_| Vec::new() };
    let db = Db::open(&options).await.unwrap();
    migrate(&db).await.unwrap();
    let clock = Clock::system();
    let heartbeat = Loops::new(clock.clone()).heartbeat("intake");
    Subject { intake: Intake::on_database(db.clone(), clock.clone(), heartbeat), db, clock, _folder: folder }
}

#[expect(clippy::disallowed_methods, reason = "the run says on which engine it is")]
async fn fresh_url(folder: &tempfile::TempDir) -> String {
    if std::env::var("THINKWORK_TEST_DATABASE").as_deref() != Ok("postgres") {
        return format!("sqlite:{}", folder.path().join("t.db").display());
    }
    let url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let name = format!("thinkwork_intake_{}", Uuid::now_v7().simple());
    let make_role = "DO $$ BEGIN CREATE ROLE thinkwork_serving LOGIN;
                     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    let make_database = format!("CREATE DATABASE {name}");
    let made = tokio::process::Command::new("psql").args([&url, "-qc", make_role, "-c", &make_database]).status();
    assert!(made.await.unwrap().success());
    format!("{server}/{name}")
}

#[tokio::test]
async fn the_log_in_the_database_conforms() {
    conforms(fresh).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_everyones_answer_and_a_flood_of_large_bodies_is_refused() {
    let subject = fresh().await;
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let intake = subject.intake.clone();
        let body = vec![0; 1_048_576];
        let event = Event { body, ..subject.event(TenantId::new(), &format!("key {number}")) };
        tasks.spawn(async move { intake.append(event).await });
    }
    let refused =
        tasks.join_all().await.into_iter().filter(|outcome| matches!(outcome, Err(Error::NotStored(_)))).count();
    assert!(refused >= 36, "64 MiB wait at most, and {refused} of 100 were refused");
    subject.db.close().await;
    let outcome = subject.intake.append(subject.event(TenantId::new(), "late")).await;
    assert!(matches!(outcome, Err(Error::NotStored(_))), "{outcome:?}");
}

#[tokio::test]
async fn the_task_ends_with_the_last_handle() {
    let Subject { intake: own, db, clock, _folder } = fresh().await;
    drop(own);
    tokio::task::yield_now().await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let heartbeat = Loops::new(clock.clone()).heartbeat("intake");
    let intake = Intake::on_database(db, clock, heartbeat);
    let other = intake.clone();
    drop(intake);
    assert!(other.oldest().await.unwrap().is_none());
    assert!(alive() > before);
    drop(other);
    while alive() > before {
        tokio::task::yield_now().await;
    }
}
