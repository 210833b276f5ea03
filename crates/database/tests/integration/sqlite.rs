//! The SQLite that is built in.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use sea_orm::ConnectionTrait as _;
use thinkwork_database::intake_log;
use thinkwork_primitives::{Clock, TenantId};
use tokio::task::JoinSet;

use crate::harness::{fresh, on_postgres};

#[tokio::test]
async fn sqlite_is_built_to_keep_its_compiled_statements() {
    if on_postgres() {
        return;
    }
    let (db, _folder) = fresh().await;
    let tx = db.read_shared().await.unwrap();
    let rows =
        tx.orm().query_all_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "PRAGMA compile_options"));
    let options: Vec<String> = rows.await.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    for fast in ["ENABLE_QPSG", "DEFAULT_MEMSTATUS=0"] {
        assert!(options.contains(&fast.to_owned()), "{options:?}");
    }
    for slow in ["ENABLE_STAT4", "ENABLE_MEMORY_MANAGEMENT"] {
        assert!(!options.contains(&slow.to_owned()), "{options:?}");
    }
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    if on_postgres() {
        return;
    }
    let (_db, folder) = fresh().await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() > 1, "the log is beside the database");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn an_event_that_a_sender_waits_for_is_stored_before_those_who_stand_in_line_to_write() {
    if on_postgres() {
        return;
    }
    let (db, _folder) = fresh().await;
    let tenant = TenantId::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    let holder = db.write(tenant).await.unwrap();
    let mut others = JoinSet::new();
    for name in ["first", "second", "third"] {
        let db = db.clone();
        let order = Arc::clone(&order);
        others.spawn(async move {
            let tx = db.write(tenant).await.unwrap();
            order.lock().unwrap().push(name);
            // Whoever may go on does so now.
            tokio::task::yield_now().await;
            tx.commit().await.unwrap();
        });
    }
    // On this runtime of one thread, all of them stand in line after that.
    tokio::task::yield_now().await;
    let event = {
        let db = db.clone();
        let order = Arc::clone(&order);
        others.spawn(async move {
            let event = crate::intake::event(tenant, "a", "body", &Clock::system());
            intake_log::append(&db, vec![event]).await.unwrap();
            order.lock().unwrap().push("event");
        })
    };
    tokio::task::yield_now().await;
    assert!(!event.is_finished() && order.lock().unwrap().is_empty(), "one writes");
    drop(holder);
    while let Some(done) = others.join_next().await {
        done.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["first", "event", "second", "third"]);
}
