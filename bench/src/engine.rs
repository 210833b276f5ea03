//! Which database a deployment under measurement has: a file of its own, or a fresh database of a PostgreSQL server.

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
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
    /// Refuses new connections and ends those that are open, until [`Database::unblock`]. Only on PostgreSQL.
    pub(crate) async fn block(&self, engine: &Engine) -> Result<DatabaseConnection, Failure> {
        let Engine::Postgres(server) = engine else { return Err("only PostgreSQL can refuse connections".into()) };
        let name = self.name()?;
        let admin = sea_orm::Database::connect(server).await?;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        for statement in [format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"), end] {
            admin.execute_unprepared(&statement).await?;
        }
        Ok(admin)
    }

    /// Accepts connections again.
    pub(crate) async fn unblock(&self, admin: DatabaseConnection) -> Result<(), Failure> {
        admin.execute_unprepared(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name()?)).await?;
        Ok(admin.close().await?)
    }

    fn name(&self) -> Result<String, Failure> {
        Ok(url::Url::parse(&self.url)?.path().trim_start_matches('/').to_owned())
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
