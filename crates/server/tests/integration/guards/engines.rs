//! No database is mocked: every test meets a real engine, and both are met. No token is the platform's.

use std::fs;

use super::source::{files, root, shown, sources};
use super::tables;
use crate::harness::TestApp;

/// What a mocked or half database would be called; in two parts, so that this file does not find itself.
const MOCKED: [(&str, &str); 8] = [
    ("Mock", "Database"),
    ("Mock", "ExecResult"),
    ("Mock", "Row"),
    ("into_transaction", "_log"),
    (":mem", "ory:"),
    ("mode=", "memory"),
    ("sqlx", "::Any"),
    ("any_", "kind"),
];

#[test]
fn l84_no_database_is_mocked_anywhere() {
    let mut findings = Vec::new();
    let read = sources();
    assert!(read.len() > 200, "only {} sources were read", read.len());
    for source in &read {
        for (first, second) in MOCKED {
            for (line, text) in source.text.lines().enumerate() {
                if text.contains(&format!("{first}{second}")) {
                    findings.push(format!("{}:{} {first}{second}", source.path, line + 1));
                }
            }
        }
    }
    let manifests = [root().join("Cargo.toml")].into_iter().chain(files(&root().join("crates"), "Cargo.toml"));
    for manifest in manifests.chain(files(&root().join("xtask"), "Cargo.toml")) {
        let text = fs::read_to_string(&manifest).unwrap();
        let databases = text.lines().filter(|line| line.starts_with("sea-orm") || line.starts_with("sqlx"));
        for line in databases {
            for feature in ["\"mock\"", "\"proxy\"", "\"any\"", "\"sqlx-any\"", "\"rusqlite\""] {
                if line.contains(feature) {
                    findings.push(format!("{}: {line}", shown(&manifest)));
                }
            }
        }
    }
    assert!(findings.is_empty(), "test on the real engines, see harness.rs:\n  {}", findings.join("\n  "));
}

#[test]
fn l84_the_one_command_runs_the_tests_on_both_engines() {
    let suite = fs::read_to_string(root().join("xtask/src/suite.rs")).unwrap();
    for stage in ["name: \"tests-sqlite\"", "name: \"tests-postgres\"", "Engine::Postgres", "Engine::Sqlite"] {
        assert!(suite.contains(stage), "xtask/src/suite.rs lost {stage}");
    }
}

#[tokio::test]
async fn l84_this_very_run_is_on_the_engine_that_was_asked_for() {
    let app = TestApp::new().await;
    let asked = std::env::var("THINKWORK_TEST_DATABASE").as_deref() == Ok("postgres");
    assert_eq!(tables::is_postgres(&app), asked);
    let connection = tables::connect(&app).await;
    let sql = if asked { "SELECT version()" } else { "SELECT 'SQLite ' || sqlite_version()" };
    let version = tables::texts(&connection, sql).await.remove(0);
    connection.close().await.unwrap();
    assert!(version.starts_with(if asked { "PostgreSQL 1" } else { "SQLite 3." }), "{version}");
    // What the product wrote is in the database that is looked at, so it is the same one.
    let tenants = tables::dump(&app).await["tenant"].join("\n");
    assert!(tenants.contains("acme"), "{tenants}");
    if let Some(path) = app.slices().config.database_url.strip_prefix("sqlite:") {
        assert!(fs::metadata(path).unwrap().len() > 0, "{path} is a file");
    }
}

/// Whatever proves a caller leads to one tenant: the column cannot be empty, and no row is without one.
#[tokio::test]
async fn l85_every_proof_belongs_to_one_tenant() {
    let app = TestApp::new().await;
    app.slices().access.setup_token(app.tenant, app.owner).await.unwrap();
    drop(app.owner().await);
    let connection = tables::connect(&app).await;
    for table in ["token", "session", "invitation", "route", "credential"] {
        let sql = if tables::is_postgres(&app) {
            format!(
                "SELECT is_nullable::text FROM information_schema.columns \
                 WHERE table_name = '{table}' AND column_name = 'tenant_id'"
            )
        } else {
            format!(
                "SELECT CASE \"notnull\" WHEN 1 THEN 'NO' ELSE 'YES' END FROM pragma_table_info('{table}') \
                 WHERE name = 'tenant_id'"
            )
        };
        assert_eq!(tables::texts(&connection, &sql).await, ["NO"], "{table}.tenant_id may be empty or is not there");
    }
    connection.close().await.unwrap();
}

/// No setting, no flag and no variable of the server is a token, password or secret that opens the API.
#[test]
fn l85_no_setting_opens_the_api() {
    let default = fs::read_to_string(root().join("crates/server/src/default.toml")).unwrap();
    let names: Vec<&str> = default
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim())
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    let opens = ["token", "secret", "password", "admin", "api_key", "master", "root", "bypass", "superuser"];
    // A limit or a retention period opens nothing, whatever it is of.
    let opens_nothing = |name: &str| name.ends_with("_rate_limit_per_minute") || name.ends_with("_days");
    for name in names.into_iter().filter(|name| !opens_nothing(name)) {
        assert!(!opens.iter().any(|word| name.contains(word)), "{name}: access is given to people, per tenant");
    }
    // The server reads its environment in config.rs only; there the client's token is named as no setting.
    let config = fs::read_to_string(root().join("crates/server/src/config.rs")).unwrap();
    assert!(config.contains("const NOT_SETTINGS: [&str; 3] = [\"URL\", \"TOKEN\", \"CONFIG\"];"));
}
