//! Hints between processes.

use std::time::Duration;

use futures_util::FutureExt as _;
use sea_orm::{ConnectionTrait as _, Statement};
use thinkwork_database::schema::migrate;
use thinkwork_database::{Topic, WakeUp, Watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::harness::{connect, fresh_url, on_postgres, open, tenant};

/// Longest a hint takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn hears(watch: &Watch) {
    timeout(PATIENCE, watch.changed()).await.unwrap();
}

#[tokio::test]
async fn a_hint_reaches_a_watch_in_another_process_once_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    migrate(&db).await.unwrap();
    // On SQLite there is one process.
    let other = if on_postgres() { open(&url).await } else { db.clone() };
    let tenant = tenant(&db).await;
    let key = WakeUp { topic: Topic::Access, id: Uuid::now_v7() };
    let unrelated = WakeUp { topic: Topic::Access, id: Uuid::now_v7() };
    let watch = other.wake_ups().watch(vec![key]);
    let unrelated_watch = other.wake_ups().watch(vec![unrelated]);
    let mut rolled_back = db.write(tenant).await.unwrap();
    rolled_back.wake(key.topic, key.id);
    drop(rolled_back);
    for sent in [unrelated, key] {
        assert_eq!(watch.changed().now_or_never(), None);
        let mut tx = db.write(tenant).await.unwrap();
        tx.wake(sent.topic, sent.id);
        tx.commit().await.unwrap();
        hears(if sent == key { &watch } else { &unrelated_watch }).await;
    }
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_connection_for_hints_was_lost() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let db = open(&url).await;
    migrate(&db).await.unwrap();
    let tenant = tenant(&db).await;
    let key = WakeUp { topic: Topic::Thread, id: Uuid::now_v7() };
    let watch = db.wake_ups().watch(vec![key]);
    let owner = connect(&url).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    let ended = owner.query_all_raw(Statement::from_string(owner.get_database_backend(), end)).await.unwrap();
    assert_eq!(ended.len(), 1);
    owner.close().await.unwrap();
    // Nobody sent a hint.
    hears(&watch).await;
    // It listens again.
    let mut tx = db.write(tenant).await.unwrap();
    tx.wake(key.topic, key.id);
    tx.commit().await.unwrap();
    hears(&watch).await;
}
