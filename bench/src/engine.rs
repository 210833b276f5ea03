//! Which database a deployment under measurement has: a file of its own, or a fresh database of a PostgreSQL server.

use sea_orm::ConnectionTrait as _;
use thinkwork_database::{Db, Options};

use crate::Failure;

const SERVING_ROLE: &str = "thinkwork_bench";

/// The durability that the tests' server gives up for speed.
const DURABLE: &[&str] = &[
    "ALTER SYSTEM SET fsync = on",
    "ALTER SYSTEM SET synchronous_commit = on",
    "ALTER SYSTEM SET full_page_writes = on",
    "ALTER SYSTEM SET autovacuum = on",
    "SELECT pg_reload_conf()",
];

/// An engine, and for PostgreSQL the address of a server whose superuser we are.
#[derive(Clone)]
pub(crate) enum Engine {
    Sqlite,
    Postgres(String),
}

impl Engine {
    /// The engine that the command line names: PostgreSQL by its server's address.
    pub(crate) fn of(server: Option<&str>) -> Self {
        server.map_or(Self::Sqlite, |url| Self::Postgres(url.to_owned()))
    }

    /// A fresh database named after the deployment.
    pub(crate) async fn database(&self, name: &str, data: &std::path::Path) -> Result<Database, Failure> {
        let server = match self {
            Self::Sqlite => {
                let url = format!("sqlite:{}", data.join("thinkwork.db").display());
                return Ok(Database { url, migration_url: None });
            }
            Self::Postgres(server) => server,
        };
        let connection = sea_orm::Database::connect(server).await?;
        let make_role =
            format!("DO $$ BEGIN CREATE ROLE {SERVING_ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
        connection.execute_unprepared(&make_role).await?;
        for setting in DURABLE {
            connection.execute_unprepared(setting).await?;
        }
        for make in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            connection.execute_unprepared(&make).await?;
        }
        connection.close().await?;
        let mut url = url::Url::parse(server)?;
        url.set_path(name);
        let migration_url = Some(url.to_string());
        url.set_username(SERVING_ROLE).map_err(|()| "the server's address has no user")?;
        Ok(Database { url: url.to_string(), migration_url })
    }
}

/// The addresses of one database.
pub(crate) struct Database {
    /// As the server logs in.
    pub(crate) url: String,
    /// As the owner of the tables logs in; none on SQLite.
    pub(crate) migration_url: Option<String>,
}

impl Database {
    /// Ends every connection to it and lets nobody in for so long; only where it is a server's.
    pub(crate) async fn be_away(&self, engine: &Engine, lasting: std::time::Duration) -> Result<(), Failure> {
        let (Engine::Postgres(server), Some(owner)) = (engine, &self.migration_url) else { return Ok(()) };
        let name = url::Url::parse(owner)?.path().trim_start_matches('/').to_owned();
        let connection = sea_orm::Database::connect(server).await?;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        for act in [format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"), end] {
            connection.execute_unprepared(&act).await?;
        }
        tokio::time::sleep(lasting).await;
        connection.execute_unprepared(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await?;
        connection.close().await?;
        Ok(())
    }

    /// Opens it beside the server.
    pub(crate) async fn open(&self) -> Result<Db, Failure> {
        let subscribers = |_: &_| Vec::new();
        let url = self.url.clone();
        Ok(Db::open(&Options { url, migration_url: None, connections_max: 2, subscribers }).await?)
    }

    /// Does what a server's own housekeeping would have done by then.
    pub(crate) async fn vacuum(&self) -> Result<(), Failure> {
        if let Some(owner) = &self.migration_url {
            let connection = sea_orm::Database::connect(owner).await?;
            connection.execute_unprepared("VACUUM ANALYZE").await?;
            connection.close().await?;
            return Ok(());
        }
        // Closing takes the log of what was written into the file.
        self.open().await?.close().await;
        Ok(())
    }
}
