//! The database as it is, read past the product: tables, and every text and byte in them.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};

use crate::harness::{TestApp, owner_url};

/// Every row of each table.
pub type Dump = BTreeMap<String, Vec<String>>;

/// A connection of its own, as whoever owns the database would open one.
pub async fn connect(app: &TestApp) -> DatabaseConnection {
    Database::connect(owner_url(&app.app.config.database_url)).await.unwrap()
}

/// The first column of every row, as text.
pub async fn texts(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<Option<String>>(0).unwrap().unwrap_or_default()).collect()
}

/// Whether this run is on PostgreSQL.
pub fn is_postgres(app: &TestApp) -> bool {
    app.app.config.database_url.starts_with("postgres")
}

/// The names of all tables.
pub async fn names(app: &TestApp) -> Vec<String> {
    let connection = connect(app).await;
    let names = names_of(app, &connection).await;
    connection.close().await.unwrap();
    names
}

async fn names_of(app: &TestApp, connection: &DatabaseConnection) -> Vec<String> {
    let sql = if is_postgres(app) {
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1"
    };
    texts(connection, sql).await
}

/// Every row of every table as text, bytes in hexadecimal.
pub async fn dump(app: &TestApp) -> Dump {
    let connection = connect(app).await;
    let mut tables = BTreeMap::new();
    for table in names_of(app, &connection).await {
        let sql = if is_postgres(app) {
            format!("SELECT t::text FROM \"{table}\" t ORDER BY 1")
        } else {
            let columns = texts(&connection, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let quoted: Vec<String> = columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
            format!("SELECT {} FROM \"{table}\" ORDER BY 1", quoted.join(" || '|' || "))
        };
        tables.insert(table, texts(&connection, &sql).await);
    }
    connection.close().await.unwrap();
    tables
}

/// Rows that are in one dump and not in the other, with their table. Each request is counted, however it ends, so the
/// counts are no change.
pub fn changes(before: &Dump, after: &Dump) -> Vec<String> {
    let mut found = Vec::new();
    for (table, rows) in after.iter().filter(|(table, _)| *table != "quota") {
        let known = &before[table];
        found.extend(rows.iter().filter(|row| !known.contains(row)).map(|row| format!("{table} has {row}")));
        found.extend(known.iter().filter(|row| !rows.contains(row)).map(|row| format!("{table} had {row}")));
    }
    found
}

/// Runs one statement, as whoever owns the database could.
pub async fn run(app: &TestApp, sql: &str) {
    let connection = connect(app).await;
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}
