//! What tables a database has, in words that are the same for both engines: read from its own catalogue, as whoever owns
//! it sees it.

use std::fmt::{Display, Formatter};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, QueryResult, Statement, TryGetable};

use crate::harness::connect;

/// The driver's own table, which no migration makes.
const APPLIED: &str = "_sqlx_migrations";

/// The table of the full-text search, which is another one on each engine, and on SQLite those that it consists of.
const SEARCH: &str = "text_search";

/// What keeps the rows of a tenant's table apart on PostgreSQL, as the server prints it.
const POLICY: &str =
    "tenant ALL {thinkwork_app} (tenant_id = (NULLIF(current_setting('tw.tenant'::text, true), ''::text))::uuid)";

/// One table.
pub struct Table {
    pub name: String,
    /// Its rows are a tenant's: (tenant_id, id) is their key, and PostgreSQL keeps them apart.
    pub is_tenants: bool,
    /// Each as `name type`.
    pub columns: Vec<String>,
    pub primary_key: String,
    /// Everything else, a line each, sorted.
    pub rules: Vec<String>,
}

impl Table {
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.split(' ').next() == Some(name))
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "table {}{}", self.name, if self.is_tenants { " of a tenant" } else { "" })?;
        for line in &self.columns {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "  primary key ({})", self.primary_key)?;
        for line in &self.rules {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }
}

/// Every table of the database, by name.
pub async fn read(url: &str) -> Vec<Table> {
    let connection = connect(url).await;
    let catalogue = Catalogue { connection };
    let mut tables = Vec::new();
    for name in catalogue.names().await {
        tables.push(catalogue.table(name).await);
    }
    catalogue.connection.close().await.unwrap();
    tables
}

struct Catalogue {
    connection: DatabaseConnection,
}

impl Catalogue {
    fn is_postgres(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::Postgres
    }

    async fn rows(&self, sqlite: &str, postgres: &str, table: &str) -> Vec<QueryResult> {
        let sql = if self.is_postgres() { postgres } else { sqlite }.replace("$table", &format!("'{table}'"));
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        self.connection.query_all_raw(statement).await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        let rows = self.rows(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
            "SELECT relname::text AS name FROM pg_class WHERE relkind IN ('r', 'p')
             AND relnamespace = 'public'::regnamespace ORDER BY relname COLLATE \"C\"",
            "",
        );
        rows.await
            .iter()
            .map(|row| get(row, "name"))
            .filter(|name: &String| name != APPLIED && !name.starts_with(SEARCH))
            .collect()
    }

    async fn table(&self, name: String) -> Table {
        let (primary_key, mut rules) = self.indexes(&name).await;
        rules.extend(self.foreign_keys(&name).await);
        let append_only = self.is_append_only(&name).await;
        if append_only {
            rules.push("append-only".to_owned());
        }
        let is_tenants = if self.is_postgres() {
            rules.extend(self.unusual_grants(&name, append_only).await);
            self.is_kept_apart(&name, &mut rules).await
        } else {
            primary_key == "tenant_id, id"
        };
        rules.sort();
        Table { columns: self.columns(&name).await, name, is_tenants, primary_key, rules }
    }

    async fn columns(&self, table: &str) -> Vec<String> {
        let rows = self.rows(
            r#"SELECT name, type AS declared, "notnull" = 1 AS filled, dflt_value AS fallback
               FROM pragma_table_info($table) ORDER BY cid"#,
            "SELECT attname::text AS name, format_type(atttypid, atttypmod) AS declared, attnotnull AS filled,
             pg_get_expr(adbin, adrelid) AS fallback
             FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
             WHERE attrelid = $table::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            table,
        );
        let line = |row: &QueryResult| {
            let declared: String = get(row, "declared");
            let class = match declared.as_str() {
                // SQLite has one type for both.
                "BLOB" | "uuid" | "bytea" => "bytes",
                "TEXT" | "text" => "text",
                // The second is how SQLite spells the key that is the row's own number.
                "BIGINT" | "INTEGER" | "bigint" => "integer",
                "BOOLEAN" | "boolean" => "boolean",
                other => other,
            };
            let or_null = if get(row, "filled") { "" } else { " or null" };
            let fallback: Option<String> = get(row, "fallback");
            let fallback = fallback.map(|value| format!(" default {}", plain(&value))).unwrap_or_default();
            format!("{} {class}{or_null}{fallback}", get::<String>(row, "name"))
        };
        rows.await.iter().map(line).collect()
    }

    /// The column that is SQLite's own number of a row: a primary key that needs no index.
    async fn row_number(&self, table: &str) -> String {
        if self.is_postgres() {
            return String::new();
        }
        let sql = "SELECT name FROM pragma_table_info($table) WHERE pk = 1 AND type = 'INTEGER'";
        let rows = self.rows(sql, "", table).await;
        rows.first().map(|row| get(row, "name")).unwrap_or_default()
    }

    /// The columns of the primary key, and the other indexes.
    async fn indexes(&self, table: &str) -> (String, Vec<String>) {
        let rows = self.rows(
            r#"SELECT list.name, list."unique" = 1 AS is_unique, list.origin = 'pk' AS is_primary,
               list.origin = 'u' AS is_unnamed,
               (SELECT group_concat(name, ', ' ORDER BY seqno) FROM pragma_index_info(list.name)) AS columns,
               substr(sql, nullif(instr(sql, 'WHERE '), 0) + 6) AS condition
               FROM pragma_index_list($table) AS list LEFT JOIN sqlite_master ON sqlite_master.name = list.name"#,
            r#"SELECT relname::text AS name, indisunique AS is_unique, indisprimary AS is_primary,
             EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype = 'u') AS is_unnamed,
             (SELECT string_agg(replace(pg_get_indexdef(indexrelid, place::int, true), '"', ''), ', ' ORDER BY place)
              FROM generate_series(1, indnkeyatts) AS place) AS columns,
             pg_get_expr(indpred, indrelid) AS condition
             FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = $table::regclass"#,
            table,
        );
        let mut primary_key = self.row_number(table).await;
        let mut rules = Vec::new();
        for row in &rows.await {
            let name: String = get(row, "name");
            let columns: String = get(row, "columns");
            if get(row, "is_primary") {
                primary_key = columns;
                continue;
            }
            let kind = if get(row, "is_unique") { "unique" } else { "index" };
            let name = if get(row, "is_unnamed") { String::new() } else { format!(" {name}") };
            let condition: Option<String> = get(row, "condition");
            let condition = condition.map(|text| format!(" where {}", plain(&text))).unwrap_or_default();
            rules.push(format!("{kind}{name} ({columns}){condition}"));
        }
        (primary_key, rules)
    }

    async fn foreign_keys(&self, table: &str) -> Vec<String> {
        let rows = self.rows(
            r#"SELECT group_concat("from", ', ' ORDER BY seq) AS own, "table" AS parent,
               group_concat("to", ', ' ORDER BY seq) AS theirs, on_delete || ' ' || on_update AS actions,
               (SELECT sql FROM sqlite_master WHERE name = $table) AS declared
               FROM pragma_foreign_key_list($table) GROUP BY id, "table", on_delete, on_update"#,
            "SELECT string_agg(own.attname, ', ' ORDER BY place) AS own, confrelid::regclass::text AS parent,
             string_agg(theirs.attname, ', ' ORDER BY place) AS theirs,
             replace(confdeltype::text || ' ' || confupdtype::text, 'a', 'NO ACTION') AS actions, pg_get_constraintdef(pg_constraint.oid) AS declared
             FROM pg_constraint CROSS JOIN unnest(conkey, confkey) WITH ORDINALITY AS pair (here, there, place)
             JOIN pg_attribute AS own ON own.attrelid = conrelid AND own.attnum = here
             JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = there
             WHERE contype = 'f' AND conrelid = $table::regclass
             GROUP BY pg_constraint.oid, confrelid, confdeltype, confupdtype",
            table,
        );
        let line = |row: &QueryResult| {
            let [own, parent, theirs, actions] =
                ["own", "parent", "theirs", "actions"].map(|name| get::<String>(row, name));
            let actions = if actions == "NO ACTION NO ACTION" { String::new() } else { format!(" {actions}") };
            let key = format!("FOREIGN KEY ({own}) REFERENCES {parent}({theirs})");
            // The whole table's text on SQLite, of which no catalogue says which keys are deferred.
            let declared =
                one_line(&get::<String>(row, "declared")).replace(&format!("{parent} ("), &format!("{parent}("));
            let is_deferred = declared.contains(&format!("{key} DEFERRABLE INITIALLY DEFERRED"));
            format!(
                "foreign key ({own}) references {parent} ({theirs}){actions}{}",
                if is_deferred { " deferred" } else { "" }
            )
        };
        rows.await.iter().map(line).collect()
    }

    /// Whether a trigger refuses UPDATE and DELETE of every row.
    async fn is_append_only(&self, table: &str) -> bool {
        let rows = self.rows(
            "SELECT count(*) = 2 AS refused FROM (SELECT DISTINCT sql LIKE '%BEFORE UPDATE ON%' AS of_updates
             FROM sqlite_master WHERE type = 'trigger' AND tbl_name = $table AND sql LIKE '%RAISE(ABORT%'
             AND sql NOT LIKE '% WHEN %' AND (sql LIKE '%BEFORE UPDATE ON%' OR sql LIKE '%BEFORE DELETE ON%'))",
            // Before (2), each row (1), DELETE (8) and UPDATE (16).
            "SELECT EXISTS (SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = $table::regclass
             AND tgtype & 27 = 27 AND tgqual IS NULL AND tgenabled = 'O' AND proname = 'refuse_change') AS refused",
            table,
        );
        get(rows.await.first().unwrap(), "refused")
    }

    /// What the serving role may do beyond or below what is usual, on PostgreSQL.
    async fn unusual_grants(&self, table: &str, append_only: bool) -> Option<String> {
        let sql = "SELECT coalesce(string_agg(word, ' ' ORDER BY place), '') AS words FROM unnest(ARRAY['SELECT',
                   'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) WITH ORDINALITY AS all_of
                   (word, place) WHERE has_table_privilege('thinkwork_app', $table::regclass, word)";
        let words: String = get(self.rows("", sql, table).await.first().unwrap(), "words");
        let usual = if append_only { "SELECT INSERT" } else { "SELECT INSERT UPDATE DELETE" };
        (words != usual).then(|| format!("thinkwork_app may {words}"))
    }

    /// Whether row-level security shows a tenant its own rows alone, on PostgreSQL.
    async fn is_kept_apart(&self, table: &str, rules: &mut Vec<String>) -> bool {
        let sql = "SELECT relrowsecurity AND relforcerowsecurity AS active, coalesce((SELECT string_agg(
                   policyname || ' ' || cmd || ' ' || roles::text || ' ' || qual || coalesce(with_check, ''), '; ')
                   FROM pg_policies WHERE schemaname = 'public' AND tablename = $table AND permissive = 'PERMISSIVE'),
                   '') AS policies FROM pg_class WHERE oid = $table::regclass";
        let rows = self.rows("", sql, table).await;
        let row = rows.first().unwrap();
        let active: bool = get(row, "active");
        let policies: String = get(row, "policies");
        let is_kept_apart = active && policies == POLICY;
        if !is_kept_apart && (active || !policies.is_empty()) {
            rules.push(format!("row security, active: {active}, policies: {policies}"));
        }
        is_kept_apart
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> T {
    row.try_get("", column).unwrap()
}

/// An expression without what PostgreSQL adds to it.
fn plain(expression: &str) -> String {
    one_line(expression).replace("::text", "").replace(['(', ')'], "")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
