//! Transactions, tenancy, append-only tables, routes and quotas.

use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};
use thinkwork_database::{Error, quota, schema, tenant_lookup};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::harness::{self, add_note, fresh, fresh_with_notes, insert_note, notes, on_postgres, open};

#[tokio::test]
async fn nothing_lasts_without_commit_and_a_commit_lasts() {
    let (db, _folder) = fresh_with_notes().await;
    let tenant = TenantId::new();
    let tx = db.write(tenant).await.unwrap();
    insert_note(&tx, (Uuid::now_v7(), tenant.uuid(), "dropped".to_owned())).await.unwrap();
    drop(tx);
    add_note(&db, tenant, "kept").await.unwrap();
    let tx = db.read(tenant).await.unwrap();
    assert_eq!(notes(&tx).await, ["kept"]);
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
    let (db, _folder) = fresh_with_notes().await;
    let one = TenantId::new();
    let two = TenantId::new();
    add_note(&db, one, "of one").await.unwrap();
    add_note(&db, two, "of two").await.unwrap();
    schema::check_row_security(&db).await.unwrap();
    // On PostgreSQL the SELECT is without a condition: the policy filters, not the code.
    let tx = db.read(one).await.unwrap();
    assert_eq!(notes(&tx).await, ["of one"]);
    drop(tx);
    let tx = db.read_shared().await.unwrap();
    assert!(notes(&tx).await.is_empty());
    drop(tx);
    // Nor can a row of another tenant be written.
    let tx = db.write(one).await.unwrap();
    assert!(insert_note(&tx, (Uuid::now_v7(), two.uuid(), "smuggled".to_owned())).await.is_err());
}

#[tokio::test]
async fn l80_on_sqlite_a_statement_that_does_not_keep_to_its_tenant_is_refused() {
    if on_postgres() {
        return;
    }
    let (db, _folder) = fresh_with_notes().await;
    let one = TenantId::new();
    let two = TenantId::new();
    add_note(&db, two, "of two").await.unwrap();
    let run = async |sql: &str, values: &[Uuid]| {
        let tx = db.write(one).await.unwrap();
        let values = values.iter().map(|value| (*value).into());
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        let found = tx.orm().query_one_raw(statement.clone()).await;
        let done = tx.orm().execute_raw(statement).await;
        [found.err(), done.err()].map(|error| error.map(|error| error.to_string()))
    };
    let one = one.uuid();
    let two = two.uuid();
    let id = Uuid::now_v7();
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
    for tenant in [one, two] {
        tx.insert_deferred(&note::ActiveModel {
            id: Set(Uuid::now_v7()),
            tenant_id: Set(tenant),
            text: Set("x".to_owned()),
        });
    }
    assert!(tx.commit().await.unwrap_err().to_string().contains("does not keep to its tenant"));
    let tx = db.read(TenantId::from_uuid(two)).await.unwrap();
    assert_eq!(notes(&tx).await, ["of two"]);
}

#[tokio::test]
async fn the_serving_role_may_not_switch_row_security_off() {
    if !on_postgres() {
        return;
    }
    let (db, _folder) = fresh().await;
    let tx = db.write_shared().await.unwrap();
    assert!(tx.orm().execute_unprepared("ALTER TABLE space DISABLE ROW LEVEL SECURITY").await.is_err());
}

#[tokio::test]
async fn an_append_only_table_refuses_update_and_delete() {
    let (db, _folder) = fresh().await;
    let tenant = harness::tenant(&db).await;
    let run = async |sql: &str, values: Vec<Value>| {
        let tx = db.write(tenant).await.unwrap();
        let statement = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, values);
        let done = tx.orm().execute_raw(statement).await.map(|done| done.rows_affected());
        tx.commit().await.unwrap();
        done
    };
    let id: Value = tenant.uuid().into();
    let bytes: Value = vec![7_u8].into();
    let carve =
        "INSERT INTO audit_checkpoint (id, tenant_id, sequence, head, at, signature) VALUES ($1, $1, 1, $2, 0, $2)";
    assert_eq!(run(carve, vec![id.clone(), bytes]).await.unwrap(), 1);
    let own = if on_postgres() { r#""tenant_id" = $1"# } else { r#""tenant_id" = ?"# };
    for sql in ["UPDATE audit_checkpoint SET at = 1", "DELETE FROM audit_checkpoint"] {
        let refused = run(&format!("{sql} WHERE {own}"), vec![id.clone()]).await.unwrap_err().to_string();
        assert!(refused.contains("append-only") || refused.contains("permission denied"), "{refused}");
    }
}

#[tokio::test]
async fn a_unique_violation_says_so() {
    let (db, _folder) = fresh_with_notes().await;
    let tenant = TenantId::new();
    add_note(&db, tenant, "same").await.unwrap();
    assert!(add_note(&db, tenant, "same").await.unwrap_err().is_unique_violation());
}

#[tokio::test]
async fn a_route_leads_to_its_row_until_it_is_removed() {
    let (db, _folder) = fresh().await;
    let tenant = harness::tenant(&db).await;
    let row = Uuid::now_v7();
    let mut tx = db.write(tenant).await.unwrap();
    tenant_lookup::add(&mut tx, "token", "secret", row).await.unwrap();
    tx.commit().await.unwrap();
    let found = tenant_lookup::find(&db, "token", "secret").await.unwrap().unwrap();
    assert_eq!((found.tenant, found.row), (tenant, row));
    assert!(tenant_lookup::find(&db, "session", "secret").await.unwrap().is_none());
    let mut tx = db.write(tenant).await.unwrap();
    tenant_lookup::remove(&mut tx, "token", row).await.unwrap();
    tx.commit().await.unwrap();
    assert!(tenant_lookup::find(&db, "token", "secret").await.unwrap().is_none());
}

#[tokio::test]
async fn a_quota_holds_across_processes() {
    let folder = tempfile::tempdir().unwrap();
    let url = harness::fresh_url(&folder).await;
    let first = open(&url).await;
    schema::migrate(&first).await.unwrap();
    let second = open(&url).await;
    let mut leases = tokio::task::JoinSet::new();
    for number in 0..20 {
        let db = if number % 2 == 0 { first.clone() } else { second.clone() };
        leases.spawn(async move { quota::lease(&db, "webhook", 7, 10, 100).await.unwrap().granted });
    }
    assert_eq!(leases.join_all().await.into_iter().sum::<i64>(), 100);
    let next = quota::lease(&first, "webhook", 8, 10, 100).await.unwrap();
    assert_eq!(next, quota::Lease { granted: 10, left: 90 });
}

mod note {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub tenant_id: Uuid,
        pub text: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
