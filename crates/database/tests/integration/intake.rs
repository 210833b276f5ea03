//! The log of accepted events.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use thinkwork_database::intake_log::{self, Accepted, Event};
use thinkwork_database::schema::migrate;
use thinkwork_database::{Counts, Db, Error};
use thinkwork_primitives::{Clock, TenantId, crypto::sha256};
use uuid::Uuid;

use crate::harness::{connect, fresh, fresh_url, on_postgres, open};

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
    let clock = Clock::system();
    let tenant = TenantId::new();
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
    let clock = Clock::system();
    let tenant = TenantId::new();
    let events: Vec<Event> = (0..513).map(|number| event(tenant, &number.to_string(), "body", &clock)).collect();
    let refused = intake_log::append(&db, events.clone()).await;
    assert!(matches!(refused, Err(Error::TooManyRows { most: 512 })), "{refused:?}");
    let outcome = intake_log::append(&db, events[..512].to_vec()).await.unwrap();
    assert_eq!(outcome, [Accepted::Stored; 512]);
    let counts = intake_log::counts(&mut db.read_shared().await.unwrap()).await.unwrap();
    assert_eq!(counts, Counts { waiting: 512, parked: 0 });
}

#[tokio::test]
async fn l70_what_a_dead_process_claimed_is_claimed_again_after_its_lease() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = TenantId::new();
    intake_log::append(&db, vec![event(tenant, "a", "one", &clock)]).await.unwrap();
    assert_eq!(intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap().len(), 1);
    clock.advance(Duration::from_secs(31));
    let again = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap();
    assert_eq!(again.first().map(|claimed| claimed.attempts), Some(1));
}

/// Statistics that say that nothing waits make a join look cheap that would lock and claim all there is.
#[tokio::test]
async fn l122_a_claim_keeps_its_limit_whatever_the_statistics_say() {
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    migrate(&db).await.unwrap();
    let clock = Clock::system();
    let tenant = TenantId::new();
    let append = async |batch: usize| {
        let events = (0..500).map(|number| event(tenant, &format!("{batch} {number}"), "body", &clock)).collect();
        intake_log::append(&db, events).await.unwrap();
    };
    for batch in 0..4 {
        append(batch).await;
    }
    let owner = connect(&url).await;
    for sql in ["UPDATE intake_event SET body = NULL", "ANALYZE intake_event"] {
        owner.execute_unprepared(sql).await.unwrap();
    }
    owner.close().await.unwrap();
    for batch in 4..8 {
        append(batch).await;
    }
    for _ in 0..3 {
        assert_eq!(intake_log::claim(&db, clock.now(), Duration::from_secs(30), 64).await.unwrap().len(), 64);
    }
}

/// Thousands of events came since PostgreSQL looked at its empty tables: a burst in the first minute of a database.
#[tokio::test]
async fn l122_a_burst_on_a_fresh_database_is_claimed_by_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    migrate(&db).await.unwrap();
    let owner = connect(&url).await;
    owner.execute_unprepared("ANALYZE").await.unwrap();
    owner.close().await.unwrap();
    let clock = Clock::system();
    let tenant = TenantId::new();
    for batch in 0..12 {
        let order_key = ["", "busy"][batch % 2].to_owned();
        let key = |number| format!("{batch} {number}");
        let events = (0..500)
            .map(|number| Event { order_key: order_key.clone(), ..event(tenant, &key(number), "body", &clock) });
        intake_log::append(&db, events.collect()).await.unwrap();
    }
    for count in [64, 700, 64] {
        let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), count).await.unwrap();
        assert_eq!(u64::try_from(claimed.len()).unwrap(), count);
    }
}

/// What precedes an event is found by its order, also where PostgreSQL has looked at no table yet.
#[tokio::test]
async fn l122_a_claim_reads_no_more_for_all_that_waits_without_statistics() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    migrate(&db).await.unwrap();
    let clock = Clock::system();
    let tenant = TenantId::new();
    let owner = connect(&url).await;
    let read = async || {
        let sql = "SELECT pg_stat_force_next_flush()";
        owner.execute_unprepared(sql).await.unwrap();
        let sql = "SELECT (idx_tup_fetch + seq_tup_read)::bigint AS rows FROM pg_stat_user_tables WHERE relname = 'intake_event'";
        let row =
            owner.query_one_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql)).await.unwrap();
        row.unwrap().try_get::<i64>("", "rows").unwrap()
    };
    for batch in 0..12 {
        let ordered = |number| Event {
            order_key: format!("{batch} {number}"),
            ..event(tenant, &format!("{batch} {number}"), "body", &clock)
        };
        intake_log::append(&db, (0..500).map(ordered).collect()).await.unwrap();
    }
    let jit = db
        .read_shared()
        .await
        .unwrap()
        .orm()
        .query_one_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SHOW jit"))
        .await
        .unwrap();
    assert_eq!(jit.unwrap().try_get::<String>("", "jit").unwrap(), "off");
    let before = read().await;
    assert_eq!(intake_log::claim(&db, clock.now(), Duration::from_secs(30), 64).await.unwrap().len(), 64);
    db.close().await;
    let rows = read().await - before;
    assert!(rows < 6_000, "{rows} rows were read for 64 events");
}

/// So many events of a tenant's source.
async fn append_of(db: &Db, tenant: TenantId, source: &str, count: usize, clock: &Clock) {
    let events = (0..count).map(|number| Event {
        source: source.to_owned(),
        ..event(tenant, &format!("{source} {number}"), "body", clock)
    });
    for chunk in events.collect::<Vec<_>>().chunks(500) {
        intake_log::append(db, chunk.to_vec()).await.unwrap();
    }
}

#[tokio::test]
async fn l124_a_claim_is_shared_among_tenants_and_their_webhooks() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenants = [TenantId::new(), TenantId::new()];
    append_of(&db, tenants[0], "webhook:busy", 8_000, &clock).await;
    append_of(&db, tenants[0], "webhook:calm", 2, &clock).await;
    append_of(&db, tenants[1], "webhook:busy", 3, &clock).await;
    let claim = async || {
        let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 64).await.unwrap();
        let of = |tenant, source: &str| {
            claimed.iter().filter(|one| one.event.tenant == tenant && one.event.source == source).count()
        };
        let busy = of(tenants[0], "webhook:busy");
        (busy, of(tenants[0], "webhook:calm"), of(tenants[1], "webhook:busy"))
    };
    let (busy, calm, other) = claim().await;
    assert_eq!((calm, other), (2, 3), "nobody waits for 8,000 events of others");
    assert!(busy >= 16, "{busy}");
    assert_eq!(claim().await, (64, 0, 0));
}

#[tokio::test]
async fn l124_many_webhooks_of_one_tenant_do_not_outweigh_another_tenant() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenants = [TenantId::new(), TenantId::new()];
    for number in 0..20 {
        append_of(&db, tenants[0], &format!("webhook:{number}"), 40, &clock).await;
    }
    append_of(&db, tenants[1], "webhook:x", 200, &clock).await;
    let mut of_first = 0;
    let mut of_second = 0;
    let mut sources = HashSet::new();
    for _ in 0..5 {
        for claimed in intake_log::claim(&db, clock.now(), Duration::from_secs(30), 64).await.unwrap() {
            if claimed.event.tenant == tenants[1] {
                of_second += 1;
            } else {
                of_first += 1;
                sources.insert(claimed.event.source);
            }
        }
    }
    assert_eq!((of_first, of_second), (160, 160));
    assert_eq!(sources.len(), 20, "each in its turn");
}

/// The order of the rows of one statement is another one, so that processes do not wait in a ring.
#[tokio::test]
async fn l125_events_of_one_commit_are_in_the_order_in_which_they_were_given() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = TenantId::new();
    for keys in [["c", "a", "b"], ["f", "e", "d"]] {
        let events = keys.map(|key| Event { order_key: "one".to_owned(), ..event(tenant, key, key, &clock) });
        intake_log::append(&db, events.to_vec()).await.unwrap();
    }
    let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap();
    let bodies: Vec<u8> = claimed.into_iter().flat_map(|claimed| claimed.event.body).collect();
    assert_eq!(String::from_utf8(bodies).unwrap(), "cabfed");
}

#[tokio::test]
async fn l123_a_busy_order_is_applied_in_as_few_claims_as_any_other() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = TenantId::new();
    let one = |number: usize| Event {
        order_key: "busy".to_owned(),
        ..event(tenant, &format!("{number:03}"), "body", &clock)
    };
    intake_log::append(&db, (0..200).map(one).collect()).await.unwrap();
    let mut claims = Vec::new();
    let mut keys = Vec::new();
    while keys.len() < 200 {
        let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 64).await.unwrap();
        claims.push(claimed.len());
        let ids: Vec<Uuid> = claimed.iter().map(|claimed| claimed.event.id).collect();
        let mut tx = db.write(tenant).await.unwrap();
        assert_eq!(intake_log::applied(&mut tx, &ids).await.unwrap().len(), ids.len());
        tx.commit().await.unwrap();
        keys.extend(claimed.into_iter().map(|claimed| claimed.event.dedupe_key));
    }
    assert_eq!(claims, [64, 64, 64, 8]);
    assert!(keys.is_sorted());
}

/// A claimer that stops in the middle of its work holds the first one locked, although its lease is over.
#[tokio::test]
async fn l123_what_follows_a_locked_event_is_not_claimed_without_it() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = TenantId::new();
    if !on_postgres() {
        return;
    }
    let of = |key: &str, order: &str| Event { order_key: order.to_owned(), ..event(tenant, key, key, &clock) };
    let events = vec![of("a1", "a"), of("a2", "a"), of("b1", "b")];
    intake_log::append(&db, events.clone()).await.unwrap();
    let mut applying = db.write(tenant).await.unwrap();
    assert_eq!(intake_log::applied(&mut applying, &[events[0].id]).await.unwrap().len(), 1);
    let claim = async || {
        let claimed = intake_log::claim(&db, clock.now(), Duration::from_secs(30), 10).await.unwrap();
        claimed.into_iter().map(|claimed| String::from_utf8(claimed.event.body).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(claim().await, ["b1"]);
    applying.commit().await.unwrap();
    assert_eq!(claim().await, ["a2"]);
}

/// In one order they wait for each other, in two they would wait in a ring.
#[tokio::test]
async fn two_processes_that_store_the_same_events_in_opposite_order_both_succeed() {
    let (db, _folder) = fresh().await;
    let clock = Clock::system();
    let tenant = TenantId::new();
    for round in 0..10 {
        let events: Vec<Event> =
            (0..200).map(|number| event(tenant, &format!("{round} {number}"), "body", &clock)).collect();
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..4 {
            let db = db.clone();
            let mut events = events.clone();
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
