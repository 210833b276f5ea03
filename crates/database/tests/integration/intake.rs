//! The log of accepted events.

use std::time::Duration;

use thinkwork_database::Error;
use thinkwork_database::intake_log::{self, Accepted, Event};
use thinkwork_primitives::{Clock, TenantId, crypto::sha256};
use uuid::Uuid;

use crate::harness::fresh;

pub fn event(tenant: TenantId, key: &str, body: &str, clock: &Clock) -> Event {
    Event {
        id: Uuid::now_v7(),
        tenant,
        source: "webhook:x".to_owned(),
        dedupe_key: key.as_bytes().to_vec(),
        order_key: String::new(),
        body: body.as_bytes().to_vec(),
        body_hash: sha256(body.as_bytes()),
        received_at: clock.now(),
    }
}

#[tokio::test]
async fn one_commit_stores_many_and_tells_duplicates_from_conflicts() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    let events = vec![
        event(tenant, "a", "one", &clock),
        event(tenant, "b", "two", &clock),
        event(tenant, "a", "one", &clock),
        event(tenant, "a", "other", &clock),
        event(TenantId::new(), "a", "one", &clock),
    ];
    let id = events[0].id;
    let outcome = intake_log::append(&db, events).await.unwrap();
    let expected = [
        Accepted::Stored,
        Accepted::Stored,
        Accepted::Duplicate { id, same_body: true },
        Accepted::Duplicate { id, same_body: false },
        Accepted::Stored,
    ];
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn a_large_batch_is_stored_whole_and_a_larger_one_not_at_all() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    let events: Vec<Event> = (0..513).map(|number| event(tenant, &number.to_string(), "body", &clock)).collect();
    let refused = intake_log::append(&db, events.clone()).await;
    assert!(matches!(refused, Err(Error::TooManyRows { most: 512 })), "{refused:?}");
    let outcome = intake_log::append(&db, events[..512].to_vec()).await.unwrap();
    assert_eq!(outcome, [Accepted::Stored; 512]);
    assert_eq!(intake_log::counts(&mut db.read_shared().await.unwrap()).await.unwrap(), (512, 0));
}

#[tokio::test]
async fn an_event_is_applied_once_and_its_key_outlives_it() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    let first = event(tenant, "a", "one", &clock);
    intake_log::append(&db, vec![first.clone()]).await.unwrap();
    let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap();
    assert_eq!(claimed.iter().map(|(event, tries)| (event.id, *tries)).collect::<Vec<_>>(), [(first.id, 0)]);
    assert!(intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap().is_empty());
    for expected in [true, false] {
        let mut tx = db.write(tenant).await.unwrap();
        assert_eq!(intake_log::applied(&mut tx, first.id).await.unwrap(), expected);
        tx.commit().await.unwrap();
    }
    let again = intake_log::append(&db, vec![event(tenant, "a", "one", &clock)]).await.unwrap();
    assert_eq!(again, [Accepted::Duplicate { id: first.id, same_body: true }]);
    clock.advance(Duration::from_secs(3_600));
    for (source, forgotten) in [("webhook:y", 0), ("webhook:x", 1), ("webhook:x", 0)] {
        assert_eq!(intake_log::forget(&db, tenant, source, clock.now(), 100).await.unwrap(), forgotten, "{source}");
    }
}

#[tokio::test]
async fn l70_what_a_dead_process_claimed_is_claimed_again_after_its_lease() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    intake_log::append(&db, vec![event(tenant, "a", "one", &clock)]).await.unwrap();
    assert_eq!(intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap().len(), 1);
    clock.advance(Duration::from_secs(31));
    let again = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap();
    assert_eq!(again.first().map(|(_, tries)| *tries), Some(1));
}

#[tokio::test]
async fn events_of_one_order_are_claimed_one_after_another_and_a_parked_one_holds_up_nobody() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    let lease = Duration::from_secs(30);
    let of = |key: &str, order: &str| Event { order_key: order.to_owned(), ..event(tenant, key, key, &clock) };
    let events = vec![of("a1", "a"), of("b1", "b"), of("a2", "a"), of("n1", ""), of("a3", "a"), of("n2", "")];
    let names = |claimed: Vec<(Event, i64)>| -> Vec<String> {
        claimed.into_iter().map(|(row, _)| String::from_utf8(row.body).unwrap()).collect()
    };
    let claim = async || names(intake_log::claim(&db, clock.now(), lease, 10).await.unwrap());
    intake_log::append(&db, events.clone()).await.unwrap();
    assert_eq!(claim().await, ["a1", "b1", "n1", "n2"]);
    assert!(claim().await.is_empty(), "the first of its order is still being applied");
    let due_again = clock.now().plus(Duration::from_secs(600));
    intake_log::failed(&db, events[0].id, intake_log::Again::At(due_again), "not now").await.unwrap();
    assert!(claim().await.is_empty(), "one that pauses holds its order up");
    intake_log::failed(&db, events[0].id, intake_log::Again::Park(clock.now()), "no more").await.unwrap();
    assert_eq!(claim().await, ["a2"], "one that was put aside does not");
    let mut tx = db.write(tenant).await.unwrap();
    assert!(intake_log::applied(&mut tx, events[2].id).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(claim().await, ["a3"]);
}

/// In one order they wait for each other, in two they would wait in a ring.
#[tokio::test]
async fn two_processes_that_store_the_same_events_in_opposite_order_both_succeed() {
    let (db, _folder) = fresh().await;
    let (clock, tenant) = (Clock::system(), TenantId::new());
    for round in 0..10 {
        let events: Vec<Event> =
            (0..200).map(|number| event(tenant, &format!("{round} {number}"), "body", &clock)).collect();
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (db, mut events) = (db.clone(), events.clone());
            events.iter_mut().for_each(|row| row.id = Uuid::now_v7());
            if number % 2 == 0 {
                events.reverse();
            }
            writers.spawn(async move { intake_log::append(&db, events).await.unwrap() });
        }
        let outcomes = writers.join_all().await.concat();
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Accepted::Stored).count(), 200);
    }
}
