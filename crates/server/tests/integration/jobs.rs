//! Jobs and domain events: what a change leads to is enqueued with it, and a job nobody can do is parked and named.

use thinkwork::app::subscribers;
use thinkwork::threads::RunThread;
use thinkwork_database::jobs::{self, JobType, NewJob};
use thinkwork_primitives::{Channel, DomainEvent, Requester, ThreadId, TurnId};

use crate::harness::{TestApp, execute_sql};

/// A type that this version does not know.
struct Unknown;

impl JobType for Unknown {
    const NAME: &'static str = "from_another_version";
    type Payload = String;
}

async fn last_error(app: &TestApp) -> String {
    use sea_orm::ConnectionTrait as _;
    let tx = app.slices().db.read(app.tenant).await.unwrap();
    let rows = tx.orm().query_all_raw(crate::harness::of_tenant(&tx, "SELECT last_error FROM job")).await.unwrap();
    rows.first().unwrap().try_get("", "last_error").unwrap()
}

async fn try_until_parked(app: &TestApp) {
    for _ in 0..jobs::ATTEMPTS_MAX {
        app.run_pending_jobs().await;
        app.clock.advance(std::time::Duration::from_secs(7_200));
    }
    let counts = jobs::counts(&mut app.slices().db.read_shared().await.unwrap()).await.unwrap();
    assert_eq!((counts.waiting, counts.parked), (0, 1));
}

#[tokio::test]
async fn a_job_of_an_unknown_type_is_parked_with_its_reason() {
    let app = TestApp::new().await;
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    jobs::enqueue::<Unknown>(&mut tx, "a".to_owned(), app.clock.now());
    tx.commit().await.unwrap();
    try_until_parked(&app).await;
    assert!(last_error(&app).await.contains("does not know this type of job"), "{}", last_error(&app).await);
}

#[tokio::test]
async fn a_job_whose_payload_does_not_read_back_is_parked_and_named() {
    let app = TestApp::new().await;
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    let thread = ThreadId::new(Channel::Chat);
    jobs::enqueue::<RunThread>(&mut tx, thread, app.clock.now());
    tx.commit().await.unwrap();
    let tx = app.slices().db.write(app.tenant).await.unwrap();
    execute_sql(&tx, "UPDATE job SET key = 'damaged'").await.unwrap();
    tx.commit().await.unwrap();
    try_until_parked(&app).await;
    assert!(last_error(&app).await.contains("job.key"), "{}", last_error(&app).await);
}

#[tokio::test]
async fn an_event_whose_transaction_is_dropped_leads_to_nothing() {
    let app = TestApp::new().await;
    let thread = ThreadId::new(Channel::Chat);
    let turn = TurnId::new();
    let requester = Requester::server();
    let event = DomainEvent::TurnQueued { thread, turn, requester: requester.clone() };
    assert_eq!(subscribers(&event), [NewJob::new::<RunThread>(thread).asked_by(&requester)]);
    let waiting = async || jobs::counts(&mut app.slices().db.read_shared().await.unwrap()).await.unwrap().waiting;
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    tx.publish(event.clone(), app.clock.now());
    drop(tx);
    assert_eq!(waiting().await, 0);
    let mut tx = app.slices().db.write(app.tenant).await.unwrap();
    tx.publish(event, app.clock.now());
    tx.commit().await.unwrap();
    assert_eq!(waiting().await, 1);
    app.run_pending_jobs().await;
    assert_eq!(waiting().await, 0);
}
