//! The SQLite that is built in.

use sea_orm::ConnectionTrait as _;
use thinkwork_primitives::TenantId;

use crate::harness::{fresh, on_postgres};

#[tokio::test]
async fn sqlite_is_built_to_keep_its_compiled_statements() {
    if on_postgres() {
        return;
    }
    let (db, _folder) = fresh().await;
    let tx = db.read(TenantId::new()).await.unwrap();
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
