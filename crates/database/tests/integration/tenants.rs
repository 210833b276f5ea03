//! Transactions, tenancy, migrations, append-only tables, routes and quotas.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use thinkwork_database::{Error, Migration, quota, routes, schema};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::harness::{self, MIGRATIONS, add_note, fresh, insert, on_postgres, open, texts};

#[tokio::test]
async fn nothing_lasts_without_commit_and_a_commit_lasts() {
    let (db, _folder) = fresh().await;
    let tenant = TenantId::new();
    let tx = db.write(tenant).await.unwrap();
    insert(&tx, "note", (Uuid::now_v7(), tenant.uuid(), "dropped".to_owned())).await.unwrap();
    drop(tx);
    add_note(&db, tenant, "kept").await.unwrap();
    let tx = db.read(tenant).await.unwrap();
    assert_eq!(texts(&tx, "note").await, ["kept"]);
}

#[tokio::test]
async fn a_write_inside_a_write_of_the_same_task_fails_at_once() {
    let (db, _folder) = fresh().await;
    let spawned = tokio::task::JoinSet::from_iter([async move {
        let tenant = TenantId::new();
        let outer = db.write(tenant).await.unwrap();
        let inner = db.write(tenant).await;
        assert!(matches!(inner.err(), Some(Error::NestedWrite)));
        drop(outer);
        drop(db.write(tenant).await.unwrap());
    }]);
    spawned.join_all().await;
}

#[tokio::test]
async fn row_security_holds_below_the_code() {
    let (db, _folder) = fresh().await;
    let (one, two) = (TenantId::new(), TenantId::new());
    add_note(&db, one, "of one").await.unwrap();
    add_note(&db, two, "of two").await.unwrap();
    schema::check_row_security(&db).await.unwrap();
    // On PostgreSQL the SELECT is without a condition: the policy filters, not the code.
    let tx = db.read(one).await.unwrap();
    assert_eq!(texts(&tx, "note").await, ["of one"]);
    drop(tx);
    let tx = db.read_shared().await.unwrap();
    assert!(texts(&tx, "note").await.is_empty());
    drop(tx);
    // Nor can a row of another tenant be written.
    let tx = db.write(one).await.unwrap();
    assert!(insert(&tx, "note", (Uuid::now_v7(), two.uuid(), "smuggled".to_owned())).await.is_err());
}

#[tokio::test]
async fn l80_on_sqlite_a_statement_that_does_not_keep_to_its_tenant_is_refused() {
    if on_postgres() {
        return;
    }
    let (db, _folder) = fresh().await;
    let (one, two) = (TenantId::new(), TenantId::new());
    add_note(&db, two, "of two").await.unwrap();
    let run = async |sql: &str, values: &[Uuid]| {
        let tx = db.write(one).await.unwrap();
        let values = values.iter().map(|value| (*value).into());
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let (found, done) = (tx.orm().query_one_raw(statement.clone()).await, tx.orm().execute_raw(statement).await);
        [found.err(), done.err()].map(|error| error.map(|error| error.to_string()))
    };
    let (one, two, id) = (one.uuid(), two.uuid(), Uuid::now_v7());
    let compared = r#" WHERE "note"."tenant_id" = ?"#;
    for (sql, values) in [
        ("SELECT text FROM note".to_owned(), vec![]),
        ("SELECT text, ? FROM note".to_owned(), vec![one]),
        (format!("SELECT text FROM note{compared}"), vec![two]),
        ("DELETE FROM note WHERE id = ?".to_owned(), vec![one]),
        (r#"UPDATE note SET "tenant_id" = ? WHERE id = ?"#.to_owned(), vec![one, id]),
        ("INSERT INTO note (id, tenant_id, text) VALUES (?, ?, 'smuggled')".to_owned(), vec![id, two]),
    ] {
        for refused in run(&sql, &values).await {
            assert!(refused.is_some_and(|error| error.contains("does not keep to its tenant")), "{sql}");
        }
    }
    assert_eq!(run(&format!("SELECT text FROM note{compared}"), &[one]).await, [None, None]);
    let mut tx = db.write(TenantId::from_uuid(one)).await.unwrap();
    tx.write_last([Statement::from_string(DbBackend::Sqlite, "DELETE FROM note")]);
    assert!(tx.commit().await.unwrap_err().to_string().contains("does not keep to its tenant"));
    let tx = db.read(TenantId::from_uuid(two)).await.unwrap();
    assert_eq!(texts(&tx, "note").await, ["of two"]);
}

#[tokio::test]
async fn a_table_without_row_security_is_found() {
    let (db, folder) = fresh().await;
    if !on_postgres() {
        return;
    }
    drop(folder);
    let tx = db.write_shared().await.unwrap();
    // The server's role may not switch it off itself.
    assert!(tx.orm().execute_unprepared("ALTER TABLE note DISABLE ROW LEVEL SECURITY").await.is_err());
}

#[tokio::test]
async fn an_append_only_table_refuses_update_and_delete() {
    let (db, _folder) = fresh().await;
    let tenant = TenantId::new();
    let tx = db.write(tenant).await.unwrap();
    insert(&tx, "stone", (Uuid::now_v7(), tenant.uuid(), "carved".to_owned())).await.unwrap();
    tx.commit().await.unwrap();
    for sql in ["UPDATE stone SET text = 'other'", "DELETE FROM stone"] {
        let tx = db.write(tenant).await.unwrap();
        let backend = tx.orm().get_database_backend();
        let mark = if on_postgres() { "$1" } else { "?" };
        let sql = format!("{sql} WHERE \"tenant_id\" = {mark}");
        let statement = Statement::from_sql_and_values(backend, sql, [tenant.uuid().into()]);
        let refused = tx.orm().execute_raw(statement).await.unwrap_err().to_string();
        assert!(refused.contains("append-only") || refused.contains("permission denied"), "{refused}");
    }
    let tx = db.read(tenant).await.unwrap();
    assert_eq!(texts(&tx, "stone").await, ["carved"]);
}

#[tokio::test]
async fn migrations_run_once_and_a_newer_database_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = harness::fresh_url(&folder).await;
    let db = open(&url).await;
    assert_eq!(schema::migrate(&db, MIGRATIONS).await.unwrap(), 2);
    assert_eq!(schema::migrate(&db, MIGRATIONS).await.unwrap(), 0);
    let newer: Vec<Migration> =
        vec![Migration { name: "m0001_note", up: |_| {} }, Migration { name: "m0002_later", up: |_| {} }];
    assert_eq!(schema::migrate(&db, &newer).await.unwrap(), 1);
    let refused = schema::migrate(&db, MIGRATIONS).await.unwrap_err();
    assert!(refused.to_string().contains("m0002_later"), "{refused}");
}

#[tokio::test]
async fn a_unique_violation_says_so() {
    let (db, _folder) = fresh().await;
    let tenant = TenantId::new();
    add_note(&db, tenant, "same").await.unwrap();
    assert!(add_note(&db, tenant, "same").await.unwrap_err().is_unique_violation());
}

#[tokio::test]
async fn a_route_leads_to_its_row_until_it_is_removed() {
    let (db, _folder) = fresh().await;
    let (tenant, row) = (TenantId::new(), Uuid::now_v7());
    let mut tx = db.write(tenant).await.unwrap();
    routes::add(&mut tx, "token", "secret", row).await.unwrap();
    tx.commit().await.unwrap();
    let found = routes::find(&db, "token", "secret").await.unwrap().unwrap();
    assert_eq!((found.tenant, found.row), (tenant, row));
    assert!(routes::find(&db, "session", "secret").await.unwrap().is_none());
    let mut tx = db.write(tenant).await.unwrap();
    routes::remove(&mut tx, "token", row).await.unwrap();
    tx.commit().await.unwrap();
    assert!(routes::find(&db, "token", "secret").await.unwrap().is_none());
}

#[tokio::test]
async fn a_quota_holds_across_processes() {
    let folder = tempfile::tempdir().unwrap();
    let url = harness::fresh_url(&folder).await;
    let first = open(&url).await;
    schema::migrate(&first, MIGRATIONS).await.unwrap();
    let second = open(&url).await;
    let mut leases = tokio::task::JoinSet::new();
    for number in 0..20 {
        let db = if number % 2 == 0 { first.clone() } else { second.clone() };
        leases.spawn(async move { quota::lease(&db, "webhook", 7, 10, 100).await.unwrap() });
    }
    assert_eq!(leases.join_all().await.into_iter().sum::<i64>(), 100);
    assert_eq!(quota::lease(&first, "webhook", 8, 10, 100).await.unwrap(), 10);
}
