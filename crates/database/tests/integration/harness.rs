//! A fresh, migrated database of the engine that this run is on.

use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;
use thinkwork_database::{Db, Migration, Options, schema::migrate};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

/// One tenant's table, for the tests of tenancy.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "m0001_note",
    up: |steps| {
        steps.tenant_table("note", |table| {
            table.text("text").unique(&["tenant_id", "text"]);
        });
        steps.tenant_table("stone", |table| {
            table.text("text");
        });
        steps.append_only("stone");
    },
}];

/// Whether this run is on PostgreSQL.
pub fn on_postgres() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the run says on which engine it is")]
    let database = std::env::var("THINKWORK_TEST_DATABASE");
    database.as_deref() == Ok("postgres")
}

/// The URL of a fresh database.
pub async fn fresh_url(folder: &TempDir) -> String {
    if !on_postgres() {
        return format!("sqlite:{}", folder.path().join("test.db").display());
    }
    #[expect(clippy::disallowed_methods, reason = "the run says where its PostgreSQL is")]
    let server_url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap();
    let name = format!("test_{}", Uuid::now_v7().simple());
    let server = sea_orm::Database::connect(&server_url).await.unwrap();
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.close().await.unwrap();
    let mut url = url::Url::parse(&server_url).unwrap();
    url.set_path(&name);
    url.to_string()
}

/// A fresh database; keep the folder as long as it is used.
pub async fn fresh() -> (Db, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&fresh_url(&folder).await).await;
    migrate(&db, MIGRATIONS).await.unwrap();
    (db, folder)
}

/// Opens a database that is there.
pub async fn open(url: &str) -> Db {
    Db::open(&Options { url: url.to_owned(), connections_max: 4 }).await.unwrap()
}

/// Adds a note as this tenant.
pub async fn add_note(db: &Db, tenant: TenantId, text: &str) -> Result<(), thinkwork_database::Error> {
    let tx = db.write(tenant).await?;
    let values = (Uuid::now_v7(), tenant.uuid(), text.to_owned());
    insert(&tx, "note", values).await?;
    tx.commit().await
}

/// Inserts into a table of (id, tenant, text).
pub async fn insert(
    tx: &thinkwork_database::Tx,
    table: &'static str,
    (id, tenant, text): (Uuid, Uuid, String),
) -> Result<(), thinkwork_database::Error> {
    use sea_orm::sea_query::{Alias, Query};
    let statement = Query::insert()
        .into_table(Alias::new(table))
        .columns(["id", "tenant_id", "text"].map(Alias::new))
        .values_panic([id.into(), tenant.into(), text.into()])
        .to_owned();
    tx.orm().execute(&statement).await?;
    Ok(())
}

/// Every text of a table that this transaction sees: on PostgreSQL without any condition, since the policy filters; on
/// SQLite with the one that is demanded.
pub async fn texts(tx: &thinkwork_database::Tx, table: &'static str) -> Vec<String> {
    use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query};
    let mut statement = Query::select().column(Alias::new("text")).from(Alias::new(table)).to_owned();
    if !on_postgres() {
        statement.and_where(Expr::col(Alias::new("tenant_id")).eq(tx.tenant().uuid()));
    }
    let rows = tx.orm().query_all(&statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", "text").unwrap()).collect()
}
