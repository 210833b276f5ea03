//! How a database with rows is brought up to date: by a migration after the present ones that only these tests have.

use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbBackend};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::Options;

/// A migration that may follow: it adds a column, makes a table and changes one that others refer to.
const UPGRADE: [&str; 2] = [
    include_str!("../../tests/integration/fixtures/sqlite/upgrade.sql"),
    include_str!("../../tests/integration/fixtures/postgres/upgrade.sql"),
];

/// The number of the first migration that only these tests have.
fn next_version() -> i64 {
    SQLITE.last().map_or(1, |last| last.version + 1)
}

/// A fresh database and a connection to it as whoever owns it would open one, that checks no keys.
struct Stage {
    db: Db,
    owner: DatabaseConnection,
    _folder: TempDir,
}

#[expect(clippy::disallowed_methods, reason = "the run says on which engine it is")]
async fn fresh_url(folder: &TempDir) -> String {
    if std::env::var("THINKWORK_TEST_DATABASE").as_deref() != Ok("postgres") {
        return format!("sqlite://{}", folder.path().join("t.db").display());
    }
    let mut url: url::Url = std::env::var("THINKWORK_TEST_POSTGRES_URL").unwrap().parse().unwrap();
    let name = format!("upgrade_{}", Uuid::now_v7().simple());
    let server = Database::connect(url.as_str()).await.unwrap();
    let make_role = "DO $$ BEGIN CREATE ROLE thinkwork_serving LOGIN;
                     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    server.execute_unprepared(make_role).await.unwrap();
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.close().await.unwrap();
    url.set_path(&name);
    url.into()
}

/// The same URL of the role that serves; SQLite has none.
fn serving(url: &str) -> String {
    let mut serving: url::Url = url.parse().unwrap();
    if serving.scheme() == "postgres" {
        serving.set_username("thinkwork_serving").unwrap();
        return serving.into();
    }
    url.to_owned()
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = fresh_url(&folder).await;
        let serving = serving(&url);
        let migration_url = (serving != url).then(|| url.clone());
        let options = Options { url: serving, migration_url, connections_max: 4, subscribers: |_| Vec::new() };
        let db = Db::open(&options).await.unwrap();
        let owner = Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap();
        let stage = Self { db, owner, _folder: folder };
        stage.check_keys(false).await;
        stage
    }

    /// Whether the owner's connection checks keys and fires triggers.
    async fn check_keys(&self, checked: bool) {
        let sql = match (self.db.engine(), checked) {
            (Engine::Sqlite, true) => "PRAGMA foreign_keys = ON",
            (Engine::Sqlite, false) => "PRAGMA foreign_keys = OFF",
            (Engine::Postgres, true) => "SET session_replication_role = origin",
            (Engine::Postgres, false) => "SET session_replication_role = replica",
        };
        self.owner.execute_unprepared(sql).await.unwrap();
    }

    /// The migrations of this engine and then these.
    async fn apply(&self, more: &[&'static str]) -> Result<usize, Error> {
        let own = sources(self.db.engine()).iter().map(|source| MigrationFile { ..*source });
        let more = (next_version()..).zip(more).map(|(version, &sql)| MigrationFile { version, name: "test", sql });
        apply(&self.db, &own.chain(more).collect::<Vec<_>>()).await
    }

    fn upgrade(&self) -> &'static str {
        UPGRADE[usize::from(self.owner.get_database_backend() == DbBackend::Postgres)]
    }

    /// The first column of every row.
    async fn texts(&self, sql: &str) -> Vec<String> {
        let statement = Statement::from_string(self.owner.get_database_backend(), sql);
        let rows = self.owner.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// All but the full-text search, which no migration of the tests touches.
    async fn tables(&self) -> Vec<Columns> {
        let sql = match self.db.engine() {
            Engine::Sqlite => {
                r#"SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || c."notnull" FROM sqlite_master AS m
                   JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name <> '_sqlx_migrations'
                   AND m.name NOT LIKE 'text_search%'
                   ORDER BY m.name, c.cid"#
            }
            Engine::Postgres => {
                "SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || (is_nullable = 'NO')::int
                 FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'
                 AND table_name <> 'text_search'
                 ORDER BY table_name, ordinal_position"
            }
        };
        let mut tables: Vec<Columns> = Vec::new();
        for line in self.texts(sql).await {
            let [table, name, kind, filled]: [&str; 4] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            if tables.last().is_none_or(|last| last.table != table) {
                tables.push(Columns { table: table.to_owned(), columns: Vec::new() });
            }
            let column = (name.to_owned(), kind.to_owned(), filled == "1");
            tables.last_mut().unwrap().columns.push(column);
        }
        tables
    }

    /// A row for this tenant, every id in it being the tenant's own, so that it refers to the others of the tenant.
    async fn insert(&self, table: &Columns, tenant: Uuid, with_optional: bool) {
        let hex = tenant.simple().to_string();
        // As different as the tenants: some are keys.
        let number = tenant.as_u128() % 1_000_000;
        let value = |(_, kind, filled): &(String, String, bool)| match kind.as_str() {
            _ if !filled && !with_optional => "NULL".to_owned(),
            "BLOB" => format!("x'{hex}'"),
            "bytea" => format!(r"'\x{hex}'"),
            "uuid" | "TEXT" | "text" => format!("'{hex}'"),
            "BIGINT" | "INTEGER" | "bigint" => number.to_string(),
            "BOOLEAN" | "boolean" => "true".to_owned(),
            other => panic!("what is a {other}?"),
        };
        let values: Vec<String> = table.columns.iter().map(value).collect();
        let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.table, table.names(), values.join(", "));
        self.owner.execute_unprepared(&sql).await.unwrap();
    }

    /// These columns of every row, in an order that does not change.
    async fn rows(&self, tables: &[Columns]) -> Vec<String> {
        let mut rows = Vec::new();
        for table in tables {
            let row = match self.db.engine() {
                Engine::Sqlite => {
                    let quoted: Vec<String> = table.columns.iter().map(|(name, ..)| format!("quote({name})")).collect();
                    quoted.join(" || ', ' || ")
                }
                Engine::Postgres => format!("ROW({})::text", table.names()),
            };
            let sql = format!("SELECT '{table}: ' || {row} FROM {table} ORDER BY 1", table = table.table);
            rows.extend(self.texts(&sql).await);
        }
        rows
    }
}

struct Columns {
    table: String,
    /// Name, type and whether there is always a value.
    columns: Vec<(String, String, bool)>,
}

impl Columns {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Every file of the folder is applied, and both engines have the same ones.
#[test]
fn every_file_is_listed_under_its_name() {
    for (folder, sources) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
        let path = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.collect();
        files.sort();
        let listed: Vec<String> =
            sources.iter().map(|source| format!("{:04}_{}.sql", source.version, source.name)).collect();
        assert_eq!(files, listed, "of migrations/{folder}");
    }
    let names =
        |sources: &[MigrationFile]| sources.iter().map(|source| (source.version, source.name)).collect::<Vec<_>>();
    assert_eq!(names(SQLITE), names(POSTGRES));
}

#[tokio::test]
async fn a_database_with_rows_in_every_table_is_brought_up_to_date() {
    let stage = Stage::new().await;
    let before = stage.apply(&[]).await.unwrap();
    assert_eq!(before, SQLITE.len());
    let tables = stage.tables().await;
    assert!(tables.len() > 30, "only {} tables were found", tables.len());
    let [full, sparse] = [Uuid::now_v7(), Uuid::now_v7()];
    for table in &tables {
        stage.insert(table, full, true).await;
        stage.insert(table, sparse, false).await;
    }
    let rows = stage.rows(&tables).await;
    assert_eq!(rows.len(), tables.len() * 2);

    // Two at once, of which one does it.
    let upgrade = [stage.upgrade()];
    let (one, other) = tokio::join!(stage.apply(&upgrade), stage.apply(&upgrade));
    assert_eq!(one.unwrap() + other.unwrap(), 1);
    assert_eq!(stage.apply(&upgrade).await.unwrap(), 0);
    check_row_security(&stage.db).await.unwrap();

    let upgraded = stage.rows(&tables).await;
    let gone: Vec<&String> = rows.iter().filter(|row| !upgraded.contains(row)).collect();
    let new: Vec<&String> = upgraded.iter().filter(|row| !rows.contains(row)).collect();
    // The one value that the migration changes: a Space's missing prompt.
    assert_eq!((gone.len(), new.len(), upgraded.len()), (1, 1, rows.len()), "{gone:?} {new:?}");
    assert!(gone[0].starts_with("space: ") && new[0].starts_with("space: "), "{gone:?} {new:?}");
    assert_eq!(stage.texts("SELECT prompt FROM space WHERE prompt = ''").await.len(), 1);
    assert_eq!(stage.texts("SELECT language FROM thread").await, ["en", "en"]);

    // The keys hold as before, those to the changed table with them.
    stage.check_keys(true).await;
    if stage.db.engine() == Engine::Sqlite {
        assert_eq!(stage.texts("SELECT \"table\" FROM pragma_foreign_key_check").await, [""; 0]);
    }
    for parent in ["space", "thread", "tenant"] {
        let refused = stage.owner.execute_unprepared(&format!("DELETE FROM {parent}")).await;
        let refused = refused.map(drop).unwrap_err().to_string().to_lowercase();
        assert!(refused.contains("foreign key"), "{refused}");
    }

    let refused = stage.apply(&[]).await;
    let Err(Error::SchemaTooNew { version }) = refused else { panic!("{refused:?}") };
    assert_eq!(version, next_version());
    let refused = stage.apply(&["SELECT 1"]).await;
    let Err(Error::MigrationChanged { version }) = refused else { panic!("{refused:?}") };
    assert_eq!(version, next_version());
}

#[tokio::test]
async fn a_migration_that_fails_or_breaks_a_key_changes_nothing() {
    let stage = Stage::new().await;
    stage.apply(&[]).await.unwrap();
    let tables = stage.tables().await;
    for table in &tables {
        stage.insert(table, Uuid::from_u128(1), true).await;
    }
    let rows = stage.rows(&tables).await;
    let check = async |more: &[&'static str], expect: &str| {
        let refused = stage.apply(more).await.unwrap_err();
        let text = thinkwork_primitives::Chain(&refused).to_string();
        assert!(text.contains(expect), "{text}");
        assert_eq!(stage.rows(&tables).await, rows);
        let applied = stage.texts("SELECT description FROM _sqlx_migrations ORDER BY version").await;
        assert_eq!(applied, SQLITE.iter().map(|source| source.name).collect::<Vec<_>>());
    };
    let orphans = if stage.db.engine() == Engine::Sqlite { "rows of delivery_envelope without" } else { "foreign key" };
    check(&["DELETE FROM delivery"], orphans).await;
    check(&["DELETE FROM delivery_envelope", "SELECT 1 FROM nowhere"], "nowhere").await;
    assert_eq!(stage.apply(&["DELETE FROM delivery_envelope"]).await.unwrap(), 1);
}
