//! What every implementation of the log must hold. An implementation's test calls [`conforms`] with a function that
//! makes a fresh log of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thinkwork_database::Db;
use thinkwork_primitives::{Clock, TenantId, Timestamp, crypto};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{ATTEMPTS_MAX, Accepted, Claimed, Counts, Event, Intake, LEASE, PAUSE_MAX, Pending};

/// Longest that many who work at once may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A fresh and empty log, and what the suite needs beside it.
pub(super) struct Subject {
    pub intake: Intake,
    /// The database whose transactions apply events.
    pub db: Db,
    /// The log's own clock.
    pub clock: Clock,
    /// Holds the files of the subject for as long as it is used.
    pub _folder: tempfile::TempDir,
}

/// Fails unless the implementation does what [`crate::Log`] says.
pub(super) async fn conforms(fresh: impl AsyncFn() -> Subject) {
    append_tells_new_from_duplicate_from_conflict(&fresh().await).await;
    keys_of_tenants_and_sources_are_apart(&fresh().await).await;
    concurrent_appends_store_each_key_once(&fresh().await).await;
    a_claim_takes_the_oldest_up_to_its_count(&fresh().await).await;
    a_lease_that_ran_out_is_claimed_again(&fresh().await).await;
    an_event_is_applied_once_and_only_by_a_commit(&fresh().await).await;
    a_failing_event_pauses_longer_and_is_parked(&fresh().await).await;
    a_claim_takes_the_consecutive_prefix_of_an_order(&fresh().await).await;
    a_failed_event_gives_its_successors_back_untried(&fresh().await).await;
    a_claimer_without_its_lease_changes_nothing(&fresh().await).await;
    order_is_that_of_storing_whatever_clocks_say(&fresh().await).await;
    orders_hold_while_many_claim_and_apply(&fresh().await).await;
    only_old_keys_of_applied_events_are_forgotten(&fresh().await).await;
    counts_are_of_a_tenant_or_of_all(&fresh().await).await;
    what_is_not_applied_is_found_by_its_tenant_alone(&fresh().await).await;
}

impl Subject {
    pub(super) fn event(&self, tenant: TenantId, key: &str) -> Event {
        Event {
            id: Uuid::now_v7(),
            tenant,
            source: "webhook:test".to_owned(),
            dedupe_key: key.as_bytes().to_vec(),
            order_key: String::new(),
            body: key.as_bytes().to_vec(),
            body_hash: crypto::sha256(key.as_bytes()),
            received_at: self.clock.now(),
        }
    }

    /// Stores fresh events, each under its name as key and body, in the order that its first letter names.
    async fn append_ordered(&self, tenant: TenantId, names: &[&str]) {
        for name in names {
            let order_key = name[..1].to_owned();
            let event = Event { order_key, ..self.event(tenant, name) };
            assert_eq!(self.intake.append(event).await.unwrap(), Accepted::Stored);
        }
    }

    async fn claim(&self, count: u64) -> Vec<Claimed> {
        self.intake.claim(count).await.unwrap()
    }

    async fn apply(&self, event: &Event) -> bool {
        let mut tx = self.db.write(event.tenant).await.unwrap();
        let first = self.intake.applied(&mut tx, &[event]).await.unwrap().contains(&event.id);
        self.intake.commit(tx, &[event]).await.unwrap();
        first
    }

    async fn counts_of_all(&self) -> Counts {
        self.intake.counts(&mut self.db.read_shared().await.unwrap()).await.unwrap()
    }

    async fn counts_of(&self, tenant: TenantId) -> Counts {
        self.intake.counts(&mut self.db.read(tenant).await.unwrap()).await.unwrap()
    }
}

/// The bodies, which are the names of their events.
fn names(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| std::str::from_utf8(&claimed.event.body).unwrap()).collect()
}

async fn append_tells_new_from_duplicate_from_conflict(subject: &Subject) {
    let tenant = TenantId::new();
    let first = subject.event(tenant, "key");
    let again = subject.event(tenant, "key");
    let other = Event { body_hash: crypto::sha256(b"other"), ..subject.event(tenant, "key") };
    assert_eq!(subject.intake.append(first.clone()).await.unwrap(), Accepted::Stored);
    for (event, same_body) in [(again, true), (other, false)] {
        let outcome = subject.intake.append(event).await.unwrap();
        assert_eq!(outcome, Accepted::Duplicate { id: first.id, same_body });
    }
    assert_eq!(subject.claim(10).await.len(), 1);
}

async fn keys_of_tenants_and_sources_are_apart(subject: &Subject) {
    let tenant = TenantId::new();
    let one = subject.event(tenant, "key");
    let of_another_source = Event { source: "webhook:other".to_owned(), ..subject.event(tenant, "key") };
    let of_another_tenant = subject.event(TenantId::new(), "key");
    for event in [one, of_another_source, of_another_tenant] {
        assert_eq!(subject.intake.append(event).await.unwrap(), Accepted::Stored);
    }
}

async fn concurrent_appends_store_each_key_once(subject: &Subject) {
    let tenant = TenantId::new();
    let mut appends = JoinSet::new();
    for number in 0..200 {
        let intake = subject.intake.clone();
        let event = subject.event(tenant, &format!("key {}", number % 50));
        appends.spawn(async move { intake.append(event).await.unwrap() });
    }
    let outcomes = appends.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Accepted::Stored).count(), 50);
    assert!(outcomes.iter().all(|outcome| !matches!(outcome, Accepted::Duplicate { same_body: false, .. })));
    assert_eq!(subject.counts_of_all().await, Counts { waiting: 50, parked: 0 });
}

async fn a_claim_takes_the_oldest_up_to_its_count(subject: &Subject) {
    let tenant = TenantId::new();
    let events: Vec<Event> = (0..10).map(|number| subject.event(tenant, &number.to_string())).collect();
    for event in &events {
        subject.intake.append(event.clone()).await.unwrap();
    }
    assert_eq!(names(&subject.claim(4).await), ["0", "1", "2", "3"]);
    assert!(subject.claim(0).await.is_empty());
    let rest = subject.claim(100).await;
    assert_eq!(names(&rest), ["4", "5", "6", "7", "8", "9"]);
    assert!(subject.claim(100).await.is_empty(), "a claimed event is leased");
    let claimed = &rest[0].event;
    let stored = &events[4];
    assert_eq!((claimed.id, claimed.tenant, &claimed.source), (stored.id, stored.tenant, &stored.source));
    assert_eq!((&claimed.body, claimed.body_hash), (&stored.body, stored.body_hash));
    assert_eq!((&claimed.dedupe_key, claimed.received_at), (&stored.dedupe_key, stored.received_at));
}

async fn a_lease_that_ran_out_is_claimed_again(subject: &Subject) {
    subject.append_ordered(TenantId::new(), &["a1", "a2"]).await;
    assert_eq!(names(&subject.claim(1).await), ["a1"]);
    subject.clock.advance(LEASE + Duration::from_secs(1));
    let again = subject.claim(10).await;
    assert_eq!(names(&again), ["a1", "a2"]);
    assert_eq!(again.iter().map(|claimed| claimed.attempts).collect::<Vec<_>>(), [1, 0]);
}

async fn an_event_is_applied_once_and_only_by_a_commit(subject: &Subject) {
    let tenant = TenantId::new();
    let event = subject.event(tenant, "key");
    subject.intake.append(event.clone()).await.unwrap();
    assert_eq!(subject.claim(10).await.len(), 1);
    let mut tx = subject.db.write(tenant).await.unwrap();
    assert_eq!(subject.intake.applied(&mut tx, &[&event]).await.unwrap(), HashSet::from([event.id]));
    drop(tx);
    subject.clock.advance(LEASE + Duration::from_secs(1));
    assert_eq!(subject.claim(10).await.len(), 1, "what was rolled back is delivered again");
    assert!(subject.apply(&event).await);
    assert!(!subject.apply(&event).await);
    subject.clock.advance(LEASE + Duration::from_secs(1));
    assert!(subject.claim(10).await.is_empty());
    let again = subject.intake.append(subject.event(tenant, "key")).await.unwrap();
    assert_eq!(again, Accepted::Duplicate { id: event.id, same_body: true }, "its key outlives it");
}

async fn a_failing_event_pauses_longer_and_is_parked(subject: &Subject) {
    subject.intake.append(subject.event(TenantId::new(), "key")).await.unwrap();
    for attempt in 0..ATTEMPTS_MAX {
        let claimed = subject.claim(10).await;
        let [claimed] = claimed.as_slice() else { panic!("not claimed at attempt {attempt}") };
        assert_eq!(claimed.attempts, attempt);
        subject.intake.failed(claimed, "no\0 luck").await.unwrap();
        assert!(subject.claim(10).await.is_empty(), "a failed event pauses");
        let pause = if attempt == 0 { Duration::from_secs(1) } else { PAUSE_MAX };
        subject.clock.advance(pause + Duration::from_millis(1));
    }
    assert!(subject.claim(10).await.is_empty());
    assert_eq!(subject.counts_of_all().await, Counts { waiting: 0, parked: 1 });
}

async fn a_claim_takes_the_consecutive_prefix_of_an_order(subject: &Subject) {
    let tenant = TenantId::new();
    subject.append_ordered(tenant, &["a1", "b1", "a2", "a3"]).await;
    assert_eq!(names(&subject.claim(2).await), ["a1", "b1"]);
    subject.append_ordered(TenantId::new(), &["a1"]).await;
    // The other tenant's order of the same name is another one.
    assert_eq!(names(&subject.claim(10).await), ["a1"], "what precedes a2 is claimed by somebody else");
    subject.clock.advance(LEASE + Duration::from_secs(1));
    let mut claimed = subject.claim(10).await;
    claimed.retain(|claimed| claimed.event.tenant == tenant);
    assert_eq!(names(&claimed), ["a1", "b1", "a2", "a3"]);
    subject.append_ordered(tenant, &["a4"]).await;
    for claimed in &claimed[..3] {
        assert!(subject.apply(&claimed.event).await);
        assert_eq!(subject.claim(10).await.iter().filter(|claimed| claimed.event.tenant == tenant).count(), 0);
    }
    assert!(subject.apply(&claimed[3].event).await);
    assert_eq!(names(&subject.claim(10).await), ["a4"]);
}

async fn a_failed_event_gives_its_successors_back_untried(subject: &Subject) {
    let tenant = TenantId::new();
    subject.append_ordered(tenant, &["a1", "a2", "b1"]).await;
    for attempt in 0..ATTEMPTS_MAX {
        let claimed = subject.claim(10).await;
        let expected: &[&str] = if attempt == 0 { &["a1", "a2", "b1"] } else { &["a1", "a2"] };
        assert_eq!(names(&claimed), expected);
        assert_eq!((claimed[0].attempts, claimed[1].attempts), (attempt, 0));
        subject.intake.failed(&claimed[0], "not now").await.unwrap();
        if attempt == 0 {
            assert!(subject.claim(10).await.is_empty(), "a1 pauses, and b1 is another order's");
            assert!(subject.apply(&claimed[2].event).await);
        }
        if attempt + 1 < ATTEMPTS_MAX {
            subject.clock.advance(PAUSE_MAX + Duration::from_secs(1));
        }
    }
    assert_eq!(names(&subject.claim(10).await), ["a2"], "a parked event holds nobody up");
}

async fn a_claimer_without_its_lease_changes_nothing(subject: &Subject) {
    subject.append_ordered(TenantId::new(), &["a1", "a2"]).await;
    let late = subject.claim(10).await;
    subject.clock.advance(LEASE + Duration::from_secs(1));
    let claimed = subject.claim(10).await;
    assert_eq!(names(&claimed), ["a1", "a2"]);
    subject.intake.failed(&late[0], "too late").await.unwrap();
    subject.clock.advance(LEASE - Duration::from_secs(1));
    assert!(subject.claim(10).await.is_empty(), "both are still the other claimer's");
}

/// What was answered as stored precedes what is appended then, also where the clock of its process went ahead.
async fn order_is_that_of_storing_whatever_clocks_say(subject: &Subject) {
    let tenant = TenantId::new();
    let behind = subject.event(tenant, "c");
    subject.clock.advance(Duration::from_secs(3_600));
    let ahead = Event { id: Uuid::max(), ..subject.event(tenant, "b") };
    for event in [subject.event(tenant, "d"), ahead, Event { received_at: subject.clock.now(), ..behind }] {
        subject.intake.append(Event { order_key: "one".to_owned(), ..event }).await.unwrap();
    }
    assert_eq!(names(&subject.claim(1).await), ["d"]);
    subject.clock.advance(LEASE + Duration::from_secs(1));
    let claimed = subject.claim(10).await;
    assert_eq!(names(&claimed), ["d", "b", "c"]);
    assert!(subject.apply(&claimed[0].event).await);
    subject.intake.failed(&claimed[1], "not now").await.unwrap();
    assert!(subject.claim(10).await.is_empty(), "c follows b");
    subject.clock.advance(PAUSE_MAX);
    assert_eq!(names(&subject.claim(10).await), ["b", "c"]);
}

/// Four claim and apply at once, and some events fail at their first try.
async fn orders_hold_while_many_claim_and_apply(subject: &Subject) {
    let tenant = TenantId::new();
    let mut stored = HashSet::new();
    for number in 0..160 {
        let order_key = ["a", "b", "c", ""][number % 4].to_owned();
        let event = Event { order_key, ..subject.event(tenant, &number.to_string()) };
        stored.insert(event.id);
        subject.intake.append(event).await.unwrap();
    }
    let applied: Arc<Mutex<Vec<Event>>> = Arc::default();
    let mut claimers = JoinSet::new();
    for _ in 0..4 {
        let intake = subject.intake.clone();
        let db = subject.db.clone();
        let clock = subject.clock.clone();
        let applied = Arc::clone(&applied);
        claimers.spawn(async move {
            while intake.counts(&mut db.read(tenant).await.unwrap()).await.unwrap().waiting > 0 {
                let claimed = intake.claim(7).await.unwrap();
                if claimed.is_empty() {
                    clock.advance(Duration::from_secs(1));
                }
                let mut failed: Vec<&Event> = Vec::new();
                for claimed in &claimed {
                    let event = &claimed.event;
                    if failed.iter().any(|earlier| event.shares_order_with(earlier)) {
                        continue;
                    }
                    if claimed.attempts == 0 && event.body.ends_with(b"5") {
                        intake.failed(claimed, "not at once").await.unwrap();
                        failed.push(event);
                        continue;
                    }
                    let mut tx = db.write(tenant).await.unwrap();
                    if intake.applied(&mut tx, &[event]).await.unwrap().contains(&event.id) {
                        applied.lock().unwrap().push(event.clone());
                    }
                    intake.commit(tx, &[event]).await.unwrap();
                }
            }
        });
    }
    tokio::time::timeout(DEADLINE, claimers.join_all()).await.expect("not all events are ever applied");
    let applied = applied.lock().unwrap();
    assert_eq!(applied.len(), stored.len(), "each once");
    assert_eq!(applied.iter().map(|event| event.id).collect::<HashSet<_>>(), stored);
    for order in ["a", "b", "c"] {
        let ids: Vec<Uuid> = applied.iter().filter(|event| event.order_key == order).map(|event| event.id).collect();
        assert!(ids.is_sorted(), "order {order}");
    }
}

async fn only_old_keys_of_applied_events_are_forgotten(subject: &Subject) {
    let tenant = TenantId::new();
    let applied = ["one", "two", "three"].map(|key| subject.event(tenant, key));
    for event in applied.iter().chain([&subject.event(tenant, "waits")]) {
        subject.intake.append(event.clone()).await.unwrap();
    }
    for event in &applied {
        assert!(subject.apply(event).await);
    }
    let arrived = applied[0].received_at;
    subject.clock.advance(Duration::from_secs(3_600));
    let later = subject.clock.now();
    let forget = async |tenant: TenantId, source: &str, before: Timestamp, count: u64| {
        subject.intake.forget(tenant, source, before, count).await.unwrap()
    };
    assert_eq!(forget(tenant, "webhook:other", later, 10).await, 0);
    assert_eq!(forget(TenantId::new(), "webhook:test", later, 10).await, 0);
    assert_eq!(forget(tenant, "webhook:test", arrived, 10).await, 0);
    assert_eq!(forget(tenant, "webhook:test", later, 2).await, 2);
    assert_eq!(forget(tenant, "webhook:test", later, 10).await, 1);
    assert_eq!(forget(tenant, "webhook:test", later, 10).await, 0);
    assert_eq!(subject.intake.append(subject.event(tenant, "one")).await.unwrap(), Accepted::Stored);
    let waits = subject.intake.append(subject.event(tenant, "waits")).await.unwrap();
    assert!(matches!(waits, Accepted::Duplicate { .. }), "{waits:?}");
}

async fn counts_are_of_a_tenant_or_of_all(subject: &Subject) {
    let one = TenantId::new();
    let other = TenantId::new();
    assert_eq!(subject.intake.oldest().await.unwrap(), None);
    let first = subject.event(one, "first");
    subject.intake.append(first.clone()).await.unwrap();
    subject.clock.advance(Duration::from_secs(1));
    subject.intake.append(subject.event(one, "second")).await.unwrap();
    subject.intake.append(subject.event(other, "third")).await.unwrap();
    assert_eq!(subject.intake.oldest().await.unwrap(), Some(first.received_at));
    assert_eq!(subject.counts_of(one).await, Counts { waiting: 2, parked: 0 });
    assert_eq!(subject.counts_of(other).await, Counts { waiting: 1, parked: 0 });
    assert_eq!(subject.counts_of_all().await, Counts { waiting: 3, parked: 0 });
    assert_eq!(subject.claim(10).await.len(), 3);
    assert_eq!(subject.counts_of_all().await.waiting, 3, "a claimed event is not applied yet");
    assert!(subject.apply(&first).await);
    assert_eq!(subject.counts_of(one).await.waiting, 1);
    assert_ne!(subject.intake.oldest().await.unwrap(), Some(first.received_at));
}

async fn what_is_not_applied_is_found_by_its_tenant_alone(subject: &Subject) {
    let tenant = TenantId::new();
    let source = "webhook:test";
    let all = Pending { before: None, since: None, until: None, count: 10 };
    let events = ["one", "two", "three"].map(|key| {
        subject.clock.advance(Duration::from_secs(1));
        subject.event(tenant, key)
    });
    let of_another_source = Event { source: "webhook:other".to_owned(), ..subject.event(tenant, "one") };
    for event in events.iter().chain([&of_another_source]) {
        subject.intake.append(event.clone()).await.unwrap();
    }
    let mut tx = subject.db.read(tenant).await.unwrap();
    let mut list = async |which| {
        let found = subject.intake.list_pending(&mut tx, source, which).await.unwrap();
        found.into_iter().map(|event| String::from_utf8(event.body).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(list(all).await, ["three", "two", "one"]);
    assert_eq!(list(Pending { count: 1, ..all }).await, ["three"]);
    assert_eq!(list(Pending { before: Some((events[2].received_at, events[2].id)), ..all }).await, ["two", "one"]);
    assert_eq!(list(Pending { since: Some(events[1].received_at), ..all }).await, ["three", "two"]);
    assert_eq!(list(Pending { until: Some(events[1].received_at), ..all }).await, ["one"]);
    let found = subject.intake.find_pending(&mut tx, events[0].id).await.unwrap();
    assert_eq!(found.map(|event| event.body), Some(b"one".to_vec()));
    drop(tx);
    let mut foreign = subject.db.read(TenantId::new()).await.unwrap();
    assert!(subject.intake.find_pending(&mut foreign, events[0].id).await.unwrap().is_none());
    assert!(subject.intake.list_pending(&mut foreign, source, all).await.unwrap().is_empty());
    drop(foreign);
    assert!(subject.apply(&events[0]).await);
    let mut tx = subject.db.read(tenant).await.unwrap();
    assert!(subject.intake.find_pending(&mut tx, events[0].id).await.unwrap().is_none());
    assert_eq!(subject.intake.list_pending(&mut tx, source, all).await.unwrap().len(), 2);
}
