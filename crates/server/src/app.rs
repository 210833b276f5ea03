//! Builds every slice once, in order, and says who gets which job.
//!
//! Used by `main`'s commands, the demonstration and the tests; no slice uses it.

use std::path::PathBuf;
use std::sync::Arc;

use thinkwork_database::{Db, Tx, jobs::Job, schema::check_row_security, schema::migrate};
use thinkwork_intake::Intake;
use thinkwork_outbound::{Outbound, Policy};
use thinkwork_primitives::{Clock, McpServerId};
use thinkwork_vault::{Missing, Vault};

use crate::access::Access;
use crate::audit::Audit;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::edge::caller::Boxed;
use crate::mcp::Mcp;
use crate::oauth::{Oauth, ServerNames};
use crate::schema::MIGRATIONS;
use crate::spaces::Spaces;
use crate::threads::Threads;
use crate::tools::{ToolSource, Tools};
use crate::turns::Turns;
use crate::webhooks::Webhooks;

/// Why the start stops. Each is one clear sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process serves this data.
    #[error("another thinkwork serves {}; stop it, or choose another --data-dir or --database-url", .0.display())]
    AlreadyServing(PathBuf),
    /// The data folder cannot be used.
    #[error("{} cannot be used: {source}; check that the folder exists and is yours", .path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting does not fit.
    #[error("{0}")]
    Setting(String),
    /// The keys do not fit.
    #[error(transparent)]
    Vault(#[from] thinkwork_vault::Error),
    /// The database does not answer or does not fit.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The keys of this database are others.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The client for requests to the outside cannot be made.
    #[error(transparent)]
    Outbound(#[from] thinkwork_outbound::Error),
}

/// Every slice, and what they stand on.
pub struct App {
    /// The checked configuration.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// The database.
    pub db: Db,
    /// The log of accepted events.
    pub intake: Intake,
    /// The record.
    pub audit: Audit,
    /// People.
    pub access: Access,
    /// Sealed secrets.
    pub credentials: Credentials,
    /// Spaces.
    pub spaces: Spaces,
    /// The one assembly of tools.
    pub tools: Tools,
    /// The one OAuth core.
    pub oauth: Oauth,
    /// Threads.
    pub threads: Threads,
    /// Inbound endpoints.
    pub webhooks: Webhooks,
    /// MCP servers.
    pub mcp: Mcp,
    /// The runner of turns.
    pub turns: Turns,
    /// How the loops of the worker are.
    pub loops: crate::worker::Loops,
}

/// Opens and migrates the database, checks the keys against it.
///
/// # Errors
/// [`StartError`].
pub async fn open_foundation(config: &Config, clock: &Clock) -> Result<(Db, Credentials, Vault), StartError> {
    let db = Db::open(&thinkwork_database::Options {
        url: config.database_url.clone(),
        connections_max: config.database_connections_max,
    })
    .await?;
    migrate(&db, MIGRATIONS).await?;
    check_row_security(&db).await?;
    // A database that was sealed under other keys must not get a fresh key file: nothing would open any more.
    let missing = if Credentials::has_keys(&db).await? { Missing::Refuse } else { Missing::Create };
    let vault = Vault::open_key_file(&config.key_file, missing)?;
    let credentials = Credentials::new(db.clone(), clock.clone(), vault.clone());
    credentials.check_keys().await?;
    Ok((db, credentials, vault))
}

impl App {
    /// Builds everything.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn build(config: Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        let (db, credentials, vault) = open_foundation(&config, &clock).await?;
        let outbound = Outbound::new(policy(&config)?)?;
        let public_url = config.public_url.clone();
        let intake = Intake::on_database(db.clone(), clock.clone());
        let audit = Audit::new(db.clone(), clock.clone(), vault);
        let access = Access::new(db.clone(), clock.clone(), public_url.clone());
        let spaces = Spaces::new(db.clone(), clock.clone(), access.clone());
        let oauth = Oauth::new(db.clone(), clock.clone(), credentials.clone(), outbound.clone(), public_url.clone());
        let threads = Threads::new(db.clone(), clock.clone(), access.clone(), spaces.clone());
        let webhooks = Webhooks::new(
            db.clone(),
            clock.clone(),
            intake.clone(),
            credentials.clone(),
            spaces.clone(),
            threads.clone(),
            public_url.clone(),
        );
        let mcp = Mcp::new(
            db.clone(),
            clock.clone(),
            credentials.clone(),
            oauth.clone(),
            outbound.clone(),
            spaces.clone(),
            public_url,
        );
        let sources: Vec<Arc<dyn ToolSource>> = vec![Arc::new(mcp.clone())];
        let tools = Tools::new(db.clone(), access.clone(), spaces.clone(), sources);
        let turns = Turns::new(
            db.clone(),
            clock.clone(),
            credentials.clone(),
            outbound,
            spaces.clone(),
            threads.clone(),
            tools.clone(),
        );
        Ok(Arc::new(Self {
            config,
            clock,
            db,
            intake,
            audit,
            access,
            credentials,
            spaces,
            tools,
            oauth,
            threads,
            webhooks,
            mcp,
            turns,
            loops: crate::worker::Loops::default(),
        }))
    }

    /// Gives a job to the slice that does it.
    ///
    /// # Errors
    /// The slice's, as one sentence for the operator.
    pub async fn job(&self, job: &Job) -> Result<(), String> {
        match job.kind.as_str() {
            crate::threads::RUN_JOB => self.turns.run(job).await.map_err(|error| error.to_string()),
            crate::access::DISABLED_JOB => self.oauth.end_user(job).await.map_err(|error| error.to_string()),
            kind if kind.starts_with("credentials.") => {
                self.credentials.job(job).await.map_err(|error| error.to_string())
            }
            kind if kind.starts_with("oauth.") => self.oauth.job(job).await.map_err(|error| error.to_string()),
            kind => Err(format!("this thinkwork knows no job of kind {kind}")),
        }
    }

    /// Whether this job knows when it is no longer worth trying; every other one is parked after some tries.
    pub fn gives_up_by_itself(job: &Job) -> bool {
        job.kind == crate::oauth::REVOKE_JOB
    }
}

/// The pages of connections show servers by name; `oauth` lies below the slice that knows them.
impl ServerNames for Mcp {
    fn names<'a>(&'a self, tx: &'a mut Tx, ids: &'a [McpServerId]) -> Boxed<'a, Vec<(McpServerId, String)>> {
        Box::pin(async move {
            Mcp::names(self, tx, ids).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the names of MCP servers could not be read");
                Vec::new()
            })
        })
    }
}

fn policy(config: &Config) -> Result<Policy, StartError> {
    let mut allowed_private = Vec::new();
    for network in &config.outbound.allowed_private {
        allowed_private.push(network.parse().map_err(|_| {
            StartError::Setting(format!("outbound.allowed_private: {network} is no network like 10.1.2.0/24"))
        })?);
    }
    let own_hosts = match (config.public_url.host_str(), config.public_url.port()) {
        (Some(host), Some(port)) => vec![format!("{host}:{port}")],
        (Some(host), None) => vec![host.to_owned()],
        (None, _) => Vec::new(),
    };
    Ok(Policy {
        allow_loopback: config.outbound.allow_loopback,
        allowed_private,
        ports: config.outbound.ports.clone(),
        own_hosts,
        ..Policy::default()
    })
}
