//! The tables of both engines, and how a database is brought up to date.

mod catalogue;

use sea_orm::ConnectionTrait as _;
use thinkwork_database::{Error, schema};

use crate::harness::{connect, fresh_url, on_postgres, open};

/// Tables with a tenant column that belong to no tenant: workers claim and look up in them for all.
const SHARED: [&str; 5] = ["audit_refused", "audit_unsealed", "intake_event", "job", "route"];

/// A fresh database that holds what the migrations make.
async fn migrated(folder: &tempfile::TempDir) -> String {
    let url = fresh_url(folder).await;
    let db = open(&url).await;
    schema::migrate(&db).await.unwrap();
    db.close().await;
    url
}

/// Runs one statement as whoever owns the database could.
async fn run(url: &str, sql: &str) {
    let owner = connect(url).await;
    owner.execute_unprepared(sql).await.unwrap();
    owner.close().await.unwrap();
}

#[tokio::test]
async fn the_tables_are_those_of_the_catalogue_on_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let tables = catalogue::read(&migrated(&folder).await).await;
    let found: String = tables.iter().map(|table| format!("{table}\n")).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/schema.txt");
    #[expect(clippy::disallowed_methods, reason = "whoever changes the tables asks for the file")]
    if std::env::var("THINKWORK_WRITE_SCHEMA").is_ok() {
        std::fs::write(path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    if let Some(difference) = first_difference(&expected, &found) {
        panic!("the tables are not those of migrations/schema.txt: {difference}");
    }
}

/// Where two catalogues part, in words.
fn first_difference(expected: &str, found: &str) -> Option<String> {
    let mut expected_lines = expected.lines();
    let mut found_lines = found.lines();
    let mut table = "";
    loop {
        let expected = expected_lines.next();
        let found = found_lines.next();
        if expected == found {
            table = expected?.strip_prefix("table ").unwrap_or(table);
            continue;
        }
        let [expected, found] = [expected, found].map(|line| match line.map(str::trim) {
            None | Some("") => "nothing more".to_owned(),
            Some(line) => format!("`{line}`"),
        });
        return Some(format!("in or after {table}, expected {expected} and found {found}"));
    }
}

#[test]
fn the_first_difference_is_named_with_its_table() {
    let base = "table a\n  id bytes\n\ntable b of a tenant\n  id bytes\n  unique b_x (id)\n\n";
    let check = |other: &str, expect: Option<&str>| assert_eq!(first_difference(base, other).as_deref(), expect);
    check(base, None);
    check(
        &base.replace("unique b_x", "index b_x"),
        Some("in or after b of a tenant, expected `unique b_x (id)` and found `index b_x (id)`"),
    );
    check(
        &base.replace("  unique b_x (id)\n", ""),
        Some("in or after b of a tenant, expected `unique b_x (id)` and found nothing more"),
    );
    check(&format!("{base}table c\n"), Some("in or after b of a tenant, expected nothing more and found `table c`"));
}

#[tokio::test]
async fn every_table_of_a_tenant_is_kept_apart_by_its_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let tables = catalogue::read(&migrated(&folder).await).await;
    let mut checked = 0;
    let to_its_tenant = "foreign key (tenant_id) references tenant (id)".to_owned();
    for table in &tables {
        if SHARED.contains(&table.name.as_str()) || !table.has_column("tenant_id") {
            assert!(!table.is_tenants, "{table}");
            continue;
        }
        checked += 1;
        assert!(table.is_tenants, "{} has a tenant column, and its rows are not kept apart", table.name);
        assert!(table.primary_key.starts_with("tenant_id, "), "{} is not found by its tenant first", table.name);
        assert!(table.rules.contains(&to_its_tenant), "{} may hold rows of no tenant", table.name);
    }
    assert!(checked > 20, "only {checked} tables were found");
}

#[tokio::test]
async fn a_table_without_row_security_stops_the_start() {
    if !on_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = migrated(&folder).await;
    let db = open(&url).await;
    schema::check_row_security(&db).await.unwrap();
    run(&url, "ALTER TABLE space NO FORCE ROW LEVEL SECURITY").await;
    let refused = schema::check_row_security(&db).await;
    assert!(matches!(&refused, Err(Error::NoRowSecurity { table }) if table == "space"), "{refused:?}");
}

#[tokio::test]
async fn migrations_are_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&fresh_url(&folder).await).await;
    let pending = schema::migrations_pending(&db).await.unwrap();
    assert!(pending > 0);
    assert_eq!(schema::migrate(&db).await.unwrap(), pending);
    assert_eq!(schema::migrations_pending(&db).await.unwrap(), 0);
    assert_eq!(schema::migrate(&db).await.unwrap(), 0);
}

#[tokio::test]
async fn two_processes_that_migrate_at_once_apply_each_migration_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = fresh_url(&folder).await;
    let first = open(&url).await;
    let second = open(&url).await;
    let (one, other) = tokio::join!(schema::migrate(&first), schema::migrate(&second));
    let one = one.unwrap();
    let other = other.unwrap();
    assert!((one == 0) != (other == 0), "one applied {one}, the other {other}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = migrated(&folder).await;
    run(
        &url,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'later', success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let db = open(&url).await;
    let looked = schema::migrations_pending(&db).await;
    assert!(matches!(looked, Err(Error::SchemaTooNew { version: 9999 })), "{looked:?}");
    let refused = schema::migrate(&db).await.unwrap_err();
    assert!(matches!(refused, Error::SchemaTooNew { version: 9999 }), "{refused:?}");
    assert!(refused.to_string().contains("newer thinkwork (migration 9999)"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = migrated(&folder).await;
    let other = if on_postgres() { r"'\x00'" } else { "x'00'" };
    run(&url, &format!("UPDATE _sqlx_migrations SET checksum = {other} WHERE version = 1")).await;
    let db = open(&url).await;
    let refused = schema::migrate(&db).await.unwrap_err();
    assert!(matches!(refused, Error::MigrationChanged { version: 1 }), "{refused:?}");
    assert!(refused.to_string().contains("migration 1 is another one"), "{refused}");
    // What was refused holds no lock.
    let again = schema::migrate(&db).await.unwrap_err();
    assert!(matches!(again, Error::MigrationChanged { version: 1 }), "{again:?}");
}
