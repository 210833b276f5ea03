//! The database as it is, read past the product: tables, and every text and byte in them.

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};

use crate::harness::TestApp;

/// A connection of its own, as whoever owns the database would open one.
pub async fn connect(app: &TestApp) -> DatabaseConnection {
    Database::connect(&app.app.config.database_url).await.unwrap()
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
    let sql = if is_postgres(app) {
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    };
    let names = texts(&connection, sql).await;
    connection.close().await.unwrap();
    names
}
