//! A fresh, migrated database of the engine that this run is on.

use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use tempfile::TempDir;
use thinkwork_database::{Db, Options, schema::migrate};
use thinkwork_primitives::TenantId;
use uuid::Uuid;

/// Whether this run is on PostgreSQL.
pub fn on_postgres() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the run says on which engine it is")]
    let database = std::env::var("THINKWORK_TEST_DATABASE");
    database.as_deref() == Ok("postgres")
}

/// The role that serves in tests.
pub const SERVING_ROLE: &str = "thinkwork_serving";

/// The URL of a fresh database, on PostgreSQL of the role that serves.
pub async fn fresh_url(folder: &TempDir) -> String {
    if !on_postgres() {
        return format!("sqlite:{}", folder.path().join("test.db").display());
    }
    #[expect(clippy::disallowed_methods, reason = "the run says where its PostgreSQL is")]
    let server_url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap();
    let name = format!("test_{}", Uuid::now_v7().simple());
    let server = sea_orm::Database::connect(&server_url).await.unwrap();
    let make_role = format!(
        "DO $$ BEGIN CREATE ROLE {SERVING_ROLE} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    server.execute_unprepared(&make_role).await.unwrap();
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.close().await.unwrap();
    let mut url = url::Url::parse(&server_url).unwrap();
    url.set_path(&name);
    url.set_username(SERVING_ROLE).unwrap();
    url.to_string()
}

/// The same database on PostgreSQL as this role.
pub fn as_role(url: &str, role: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_username(role).unwrap();
    url.to_string()
}

/// The URL for migrations of this database; none on SQLite.
pub fn migration_url(url: &str) -> Option<String> {
    on_postgres().then(|| {
        #[expect(clippy::disallowed_methods, reason = "the run says where its PostgreSQL is")]
        let server_url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap();
        as_role(url, url::Url::parse(&server_url).unwrap().username())
    })
}

/// A connection of its own, as whoever owns the database would open one.
pub async fn connect(url: &str) -> DatabaseConnection {
    let owner = migration_url(url).unwrap_or_else(|| url.replace("sqlite:", "sqlite://"));
    sea_orm::Database::connect(owner).await.unwrap()
}

/// A fresh database; keep the folder as long as it is used.
pub async fn fresh() -> (Db, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&fresh_url(&folder).await).await;
    migrate(&db).await.unwrap();
    (db, folder)
}

/// A fresh database with one table more, `note`, whose rows are tenants'.
pub async fn fresh_with_notes() -> (Db, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open_with_notes(&fresh_url(&folder).await).await, folder)
}

/// The same of a database that is there.
pub async fn open_with_notes(url: &str) -> Db {
    let db = open(url).await;
    migrate(&db).await.unwrap();
    let owner = connect(url).await;
    let sql = if on_postgres() {
        include_str!("fixtures/postgres/notes.sql")
    } else {
        include_str!("fixtures/sqlite/notes.sql")
    };
    owner.execute_unprepared(sql).await.unwrap();
    owner.close().await.unwrap();
    db
}

/// A tenant that is there.
pub async fn tenant(db: &Db) -> TenantId {
    let tenant = TenantId::new();
    let tx = db.write_shared().await.unwrap();
    let sql = "INSERT INTO tenant (id, slug, name, created_at) VALUES ($1, $2, 'Acme', 0)";
    let values = [tenant.uuid().into(), tenant.uuid().to_string().into()];
    let statement = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, values);
    tx.orm().execute_raw(statement).await.unwrap();
    tx.commit().await.unwrap();
    tenant
}

/// Opens a database that is there.
pub async fn open(url: &str) -> Db {
    Db::open(&options(url, migration_url(url))).await.unwrap()
}

/// How this database is opened, with this URL for migrations.
pub fn options(url: &str, migration_url: Option<String>) -> Options {
    Options { url: url.to_owned(), migration_url, connections_max: 4, subscribers: |_| Vec::new() }
}

/// Adds a note as this tenant.
pub async fn add_note(db: &Db, tenant: TenantId, text: &str) -> Result<(), thinkwork_database::Error> {
    let tx = db.write(tenant).await?;
    let values = (Uuid::now_v7(), tenant.uuid(), text.to_owned());
    insert_note(&tx, values).await?;
    tx.commit().await
}

/// Inserts a note with this id, tenant and text.
pub async fn insert_note(
    tx: &thinkwork_database::Tx,
    (id, tenant, text): (Uuid, Uuid, String),
) -> Result<(), thinkwork_database::Error> {
    use sea_orm::sea_query::{Alias, Query};
    let statement = Query::insert()
        .into_table(Alias::new("note"))
        .columns(["id", "tenant_id", "text"].map(Alias::new))
        .values_panic([id.into(), tenant.into(), text.into()])
        .to_owned();
    tx.orm().execute(&statement).await?;
    Ok(())
}

/// Every note that this transaction sees: on PostgreSQL without any condition, since the policy filters; on
/// SQLite with the one that is demanded.
pub async fn notes(tx: &thinkwork_database::Tx) -> Vec<String> {
    use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query};
    let mut statement = Query::select().column(Alias::new("text")).from(Alias::new("note")).to_owned();
    if !on_postgres() {
        statement.and_where(Expr::col(Alias::new("tenant_id")).eq(tx.tenant().uuid()));
    }
    let rows = tx.orm().query_all(&statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", "text").unwrap()).collect()
}
