//! Tables, once for both engines, and the append-only list of migrations.
//!
//! Invariant: a tenant's table has the tenant column, its index and, on PostgreSQL, the policy; a migration that was
//! published never changes.

use sea_orm::sqlx::{Executor as _, Row as _};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::connect::Connections;
use crate::{Db, Engine, Error};

/// One step of the append-only list.
pub struct Migration {
    /// Its name, for ever, like `m0001_access`.
    pub name: &'static str,
    /// What it does.
    pub up: fn(&mut Steps),
}

/// Collects the statements of one migration for one engine.
pub struct Steps {
    engine: Engine,
    sql: Vec<String>,
}

/// One table in the making. Columns are NOT NULL unless the name says otherwise.
pub struct Table {
    engine: Engine,
    name: &'static str,
    columns: Vec<String>,
    indexes: Vec<String>,
}

impl Table {
    fn column(&mut self, name: &str, kind: &str, rest: &str) -> &mut Self {
        self.columns.push(format!("{name} {kind}{rest}"));
        self
    }

    const fn uuid_type(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "BLOB",
            Engine::Postgres => "uuid",
        }
    }

    const fn bytes_type(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "BLOB",
            Engine::Postgres => "bytea",
        }
    }

    /// A UUID.
    pub fn uuid(&mut self, name: &str) -> &mut Self {
        self.column(name, self.uuid_type(), " NOT NULL")
    }

    /// A UUID or nothing.
    pub fn uuid_null(&mut self, name: &str) -> &mut Self {
        self.column(name, self.uuid_type(), "")
    }

    /// Text.
    pub fn text(&mut self, name: &str) -> &mut Self {
        self.column(name, "TEXT", " NOT NULL")
    }

    /// Text or nothing.
    pub fn text_null(&mut self, name: &str) -> &mut Self {
        self.column(name, "TEXT", "")
    }

    /// A 64-bit whole number; also every time, in microseconds.
    pub fn int(&mut self, name: &str) -> &mut Self {
        self.column(name, "BIGINT", " NOT NULL")
    }

    /// A 64-bit whole number or nothing.
    pub fn int_null(&mut self, name: &str) -> &mut Self {
        self.column(name, "BIGINT", "")
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> &mut Self {
        self.column(name, "BOOLEAN", " NOT NULL")
    }

    /// Bytes.
    pub fn bytes(&mut self, name: &str) -> &mut Self {
        self.column(name, self.bytes_type(), " NOT NULL")
    }

    /// Bytes or nothing.
    pub fn bytes_null(&mut self, name: &str) -> &mut Self {
        self.column(name, self.bytes_type(), "")
    }

    /// The six columns of attribution: requester (kind, id) and credential subject (kind, user, connection), and
    /// nothing else. See `thinkwork_primitives::{Requester, CredentialSubject}`.
    pub fn attribution(&mut self) -> &mut Self {
        self.text("requester_kind")
            .text("requester_id")
            .text("subject_kind")
            .uuid_null("subject_user_id")
            .uuid_null("subject_connection_id")
    }

    /// No two rows share these columns.
    pub fn unique(&mut self, columns: &[&str]) -> &mut Self {
        self.index_statement("UNIQUE INDEX", columns, "")
    }

    /// No two rows share these columns among those that fulfil `condition`.
    pub fn unique_where(&mut self, columns: &[&str], condition: &str) -> &mut Self {
        self.index_statement("UNIQUE INDEX", columns, &format!(" WHERE {condition}"))
    }

    /// Rows that fulfil `condition` are found by these columns.
    pub fn index_where(&mut self, columns: &[&str], condition: &str) -> &mut Self {
        self.index_statement("INDEX", columns, &format!(" WHERE {condition}"))
    }

    /// Rows are found by these columns.
    pub fn index(&mut self, columns: &[&str]) -> &mut Self {
        self.index_statement("INDEX", columns, "")
    }

    fn index_statement(&mut self, kind: &str, columns: &[&str], rest: &str) -> &mut Self {
        let (table, number) = (self.name, self.indexes.len());
        let statement = format!("CREATE {kind} {table}_i{number} ON {table} ({}){rest}", columns.join(", "));
        self.indexes.push(statement);
        self
    }
}

impl Steps {
    /// A table of tenants' rows: `id`, `tenant_id`, then what `describe` adds; found by tenant and id, which is its
    /// primary key; on PostgreSQL under row-level security.
    pub fn tenant_table(&mut self, name: &'static str, describe: impl FnOnce(&mut Table)) {
        self.table(name, |table| {
            table.uuid("id").uuid("tenant_id");
            describe(table);
            table.columns.push("PRIMARY KEY (tenant_id, id)".to_owned());
        });
        if self.engine == Engine::Postgres {
            self.sql.push(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"));
            self.sql.push(format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY"));
            self.sql.push(format!(
                "CREATE POLICY tenant ON {name} TO thinkwork_app
                 USING (tenant_id = nullif(current_setting('tw.tenant', true), '')::uuid)"
            ));
        }
    }

    /// A table outside row-level security: it may hold nothing that a claimer of any tenant could not see.
    pub fn shared_table(&mut self, name: &'static str, primary_key: &[&str], describe: impl FnOnce(&mut Table)) {
        self.table(name, |table| {
            describe(table);
            table.columns.push(format!("PRIMARY KEY ({})", primary_key.join(", ")));
        });
    }

    /// The same for rows of a few ids: on SQLite the table is its primary key's tree, which spares a second one
    /// (<https://www.sqlite.org/withoutrowid.html>).
    pub fn shared_index(&mut self, name: &'static str, primary_key: &[&str], describe: impl FnOnce(&mut Table)) {
        let from = self.sql.len();
        self.shared_table(name, primary_key, describe);
        if self.engine == Engine::Sqlite
            && let Some(create) = self.sql.get_mut(from)
        {
            create.push_str(" WITHOUT ROWID");
        }
    }

    fn table(&mut self, name: &'static str, describe: impl FnOnce(&mut Table)) {
        let mut table = Table { engine: self.engine, name, columns: Vec::new(), indexes: Vec::new() };
        describe(&mut table);
        self.sql.push(format!("CREATE TABLE {name} (\n  {}\n)", table.columns.join(",\n  ")));
        self.sql.append(&mut table.indexes);
        if self.engine == Engine::Postgres {
            self.sql.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO thinkwork_app"));
        }
    }

    /// From here on the database itself refuses to update or delete rows of `table`.
    pub fn append_only(&mut self, table: &'static str) {
        match self.engine {
            Engine::Sqlite => {
                for verb in ["UPDATE", "DELETE"] {
                    self.sql.push(format!(
                        "CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
                         BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                    ));
                }
            }
            Engine::Postgres => {
                self.sql.push(format!("REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM thinkwork_app"));
                self.sql.push(format!(
                    "CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
                ));
                self.sql.push(format!(
                    "CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
                     FOR EACH ROW EXECUTE FUNCTION {table}_refuse()"
                ));
            }
        }
    }
}

/// The tables of this crate itself.
const BASE: Migration = Migration {
    name: "m0000_base",
    up: |steps| {
        steps.shared_index("route", &["kind", "key_hash", "row_id"], |table| {
            table.text("kind").bytes("key_hash").uuid("tenant_id").uuid("row_id").index(&["kind", "row_id"]);
        });
        steps.shared_table("job", &["id"], |table| {
            table.uuid("id").uuid("tenant_id").text("kind").text("key").int("run_at").int("attempts");
            table.int("generation").uuid_null("lease").int_null("lease_until").int_null("parked_at");
            table.text_null("last_error").unique(&["tenant_id", "kind", "key"]).index(&["run_at"]);
        });
        steps.shared_index("quota", &["key", "window_number"], |table| {
            table.text("key").int("window_number").int("used");
        });
        // An event is found by its id only while it waits; what stays of it is its key.
        steps.shared_table("intake_event", &["tenant_id", "source", "dedupe_key"], |table| {
            table.uuid("id").uuid("tenant_id").text("source").bytes("dedupe_key").text("order_key");
            table.bytes_null("body").bytes("body_hash").int("received_at").int("attempts");
            table.int_null("lease_until").int_null("parked_at").text_null("last_error");
            table.unique_where(&["id"], "body IS NOT NULL");
            // What of an order comes before, and which keys are old enough to be forgotten.
            let pending_of_an_order = "body IS NOT NULL AND order_key <> ''";
            table.index_where(&["tenant_id", "source", "order_key", "id"], pending_of_an_order);
            table.index_where(&["tenant_id", "source", "received_at"], "body IS NULL");
        });
    },
};

fn statements(engine: Engine, migration: &Migration) -> Vec<String> {
    let mut steps = Steps { engine, sql: Vec::new() };
    (migration.up)(&mut steps);
    steps.sql
}

/// Brings the database up to date, one transaction a migration, one process at a time. Returns how many were run.
///
/// # Errors
/// [`Error::FromTheFuture`] where the database knows more than this binary; the driver's error.
pub async fn migrate(db: &Db, migrations: &[Migration]) -> Result<usize, Error> {
    let all: Vec<&Migration> = std::iter::once(&BASE).chain(migrations).collect();
    let mut run = 0;
    match db.connections() {
        Connections::Sqlite { writer, .. } => {
            writer
                .take()
                .await?
                .execute_unprepared(
                    "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, position BIGINT NOT NULL)",
                )
                .await?;
            let session = writer.take().await?.begin();
            let known = Statement::from_string(DbBackend::Sqlite, "SELECT name FROM migration ORDER BY position");
            let rows = session.query_all_raw(known).await?;
            let known = rows.iter().map(|row| row.try_get("", "name")).collect::<Result<Vec<String>, _>>()?;
            for sql in pending(Engine::Sqlite, &all, &known, &mut run)? {
                session.execute_unprepared(&sql).await?;
            }
            session.commit(Vec::new()).await?;
        }
        Connections::Postgres(pool) => {
            let mut session = pool.get_postgres_connection_pool().acquire().await?;
            session.execute("RESET ROLE").await?;
            session.execute("BEGIN").await?;
            session.execute("SELECT pg_advisory_xact_lock(8413701)").await?;
            session
                .execute("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, position BIGINT NOT NULL)")
                .await?;
            session.execute("GRANT SELECT ON migration TO thinkwork_app").await?;
            let rows = session.fetch_all("SELECT name FROM migration ORDER BY position").await?;
            let known = rows.iter().map(|row| row.try_get("name")).collect::<Result<Vec<String>, _>>()?;
            for sql in pending(Engine::Postgres, &all, &known, &mut run)? {
                session.execute(sea_orm::sqlx::AssertSqlSafe(sql)).await?;
            }
            session.execute("COMMIT").await?;
            session.execute("SET ROLE thinkwork_app").await?;
        }
    }
    Ok(run)
}

/// The statements that are still to run, each migration followed by its own mark.
fn pending(engine: Engine, all: &[&Migration], known: &[String], run: &mut usize) -> Result<Vec<String>, Error> {
    if let Some(unknown) = known.iter().find(|name| !all.iter().any(|migration| migration.name == *name)) {
        return Err(Error::FromTheFuture { name: unknown.clone() });
    }
    let mut sql = Vec::new();
    for (position, migration) in all.iter().enumerate() {
        if !known.iter().any(|name| name == migration.name) {
            sql.append(&mut statements(engine, migration));
            sql.push(format!("INSERT INTO migration (name, position) VALUES ('{}', {position})", migration.name));
            *run = run.saturating_add(1);
        }
    }
    Ok(sql)
}

/// Fails where a table with a tenant column has no active row-level security, the shared ones apart. SQLite has none
/// to check.
///
/// # Errors
/// [`Error::NoRowSecurity`]; the driver's error.
pub async fn check_row_security(db: &Db) -> Result<(), Error> {
    if db.engine() == Engine::Sqlite {
        return Ok(());
    }
    let sql = "SELECT c.relname AS name FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                 AND c.relname NOT IN ('route', 'job', 'intake_event', 'audit_unsealed')
                 AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
               UNION ALL SELECT 'every table, because the role in use bypasses it' FROM pg_roles
               WHERE rolname = current_user AND (rolbypassrls OR rolsuper)";
    let statements = db.statements().await?;
    let statement = Statement::from_string(statements.get_database_backend(), sql);
    match statements.query_one_raw(statement).await? {
        Some(row) => Err(Error::NoRowSecurity { table: row.try_get("", "name")? }),
        None => Ok(()),
    }
}

/// The names of all tables, for the test that some must not exist.
///
/// # Errors
/// The driver's error.
pub async fn table_names(db: &Db) -> Result<Vec<String>, Error> {
    let sql = match db.engine() {
        Engine::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        Engine::Postgres => {
            "SELECT relname AS name FROM pg_class WHERE relkind = 'r'
             AND relnamespace = 'public'::regnamespace ORDER BY relname"
        }
    };
    let statements = db.statements().await?;
    let statement = Statement::from_string(statements.get_database_backend(), sql);
    let rows = statements.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get("", "name").map_err(Error::from)).collect()
}
