//! Builds every slice once, in order, and says who gets which job.
//!
//! Used by `main`'s commands, the demonstration and the tests; no slice uses it.

use std::path::PathBuf;
use std::sync::Arc;

use thinkwork_database::jobs::{ATTEMPTS_MAX, Job, JobType, NewJob, RetryPolicy};
use thinkwork_database::{Db, schema::check_row_security, schema::migrate};
use thinkwork_intake::Intake;
use thinkwork_outbound::{Outbound, Policy};
use thinkwork_primitives::{Clock, DomainEvent, Loops};
use thinkwork_vault::{MissingKeyFile, Vault};
use url::Position;

use crate::access::Access;
use crate::audit::Audit;
use crate::config::Config;
use crate::connections::Shutdown;
use crate::credentials::{Credentials, EraseVersion};
use crate::data_retention::DataRetention;
use crate::edge::caller::BoxFuture;
use crate::edge::flash::FlashCookies;
use crate::edge::{Names, RateLimits};
use crate::mcp::Mcp;
use crate::metrics::Metrics;
use crate::oauth::{EndUserConnections, ExpireFlow, Oauth, RevokeTokens};
use crate::spaces::Spaces;
use crate::threads::{RunThread, Threads};
use crate::tools::{ToolSource, Tools};
use crate::turns::Turns;
use crate::webhooks::Webhooks;

/// Why the start stops. Each is one clear sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process serves this data.
    #[error("thinkwork is already running on {}; stop it, or use another --data-dir or --database-url", .0.display())]
    AlreadyServing(PathBuf),
    /// The data folder cannot be used.
    #[error("cannot use {}: {source}; check that the folder exists and that you have access", .path.display())]
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
    /// What is measured cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The client for requests to the outside cannot be made.
    #[error(transparent)]
    Outbound(#[from] thinkwork_outbound::Error),
}

/// Every slice, and what they stand on.
pub struct App {
    /// The checked configuration.
    pub config: Config,
    pub clock: Clock,
    /// What is measured.
    pub metrics: Metrics,
    pub db: Db,
    /// The log of accepted events.
    pub intake: Intake,
    /// How many requests a minute each caller may make.
    pub rate_limits: RateLimits,
    pub audit: Audit,
    /// What pages show once after a form.
    pub flash_cookies: FlashCookies,
    /// People.
    pub access: Access,
    /// Sealed secrets.
    pub credentials: Credentials,
    pub spaces: Spaces,
    /// The one assembly of tools.
    pub tools: Tools,
    /// The one OAuth core.
    pub oauth: Oauth,
    pub threads: Threads,
    /// Inbound endpoints.
    pub webhooks: Webhooks,
    /// MCP servers.
    pub mcp: Mcp,
    /// The runner of turns.
    pub turns: Turns,
    /// What is kept, and for how long.
    pub data_retention: DataRetention,
    /// How the loops of this process are.
    pub loops: Loops,
    /// Whether this process is shutting down.
    pub shutdown: Shutdown,
}

/// How the database of this configuration is opened.
pub(crate) fn database_options(config: &Config) -> thinkwork_database::Options {
    thinkwork_database::Options {
        url: config.database_url.clone(),
        migration_url: config.database_migration_url.clone(),
        connections_max: config.database_connections_max,
        subscribers,
    }
}

/// Opens and migrates the database. Returns it, and how many migrations that took.
pub async fn open_database(config: &Config) -> Result<(Db, usize), StartError> {
    let db = Db::open(&database_options(config)).await?;
    let applied = migrate(&db).await?;
    check_row_security(&db).await?;
    Ok((db, applied))
}

/// Opens and migrates the database, checks the keys against it.
pub async fn open_foundation(config: &Config, clock: &Clock) -> Result<(Db, Credentials, Vault), StartError> {
    let (db, _) = open_database(config).await?;
    // A database that was sealed under other keys must not get a fresh key file: nothing would open any more.
    let missing = if Credentials::has_keys(&db).await? { MissingKeyFile::Refuse } else { MissingKeyFile::Create };
    let vault = Vault::open_key_file(&config.key_file, missing)?;
    let db = db.with_record_key(vault.record_key());
    let credentials = Credentials::new(db.clone(), clock.clone(), vault.clone());
    credentials.check_keys().await?;
    credentials.read_kept_versions()?;
    Ok((db, credentials, vault))
}

impl App {
    /// Builds everything.
    pub async fn build(config: Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        // Reading the system's CA certificates takes as long as opening the database, so both are done side by side.
        let policy = policy(&config)?;
        let outbound = tokio::task::spawn_blocking(move || Outbound::new(policy));
        let (db, credentials, vault) = open_foundation(&config, &clock).await?;
        let outbound = outbound.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let metrics = Metrics::new()?;
        metrics.add(db.collectors())?;
        metrics.add([outbound.collector()])?;
        let rate_limits = RateLimits::new(db.clone(), clock.clone(), &config);
        let public_url = config.public_url.clone();
        let loops = Loops::new(clock.clone());
        let intake = Intake::on_database(db.clone(), clock.clone(), loops.heartbeat("intake"));
        let flash_cookies = FlashCookies::new(vault.cookie_key(), clock.clone());
        let audit = Audit::new(db.clone(), clock.clone(), vault, NAMES);
        let access = Access::new(db.clone(), clock.clone(), public_url.clone());
        let spaces = Spaces::new(db.clone(), clock.clone(), access.clone(), NAMES);
        let oauth = Oauth::new(
            db.clone(),
            clock.clone(),
            access.clone(),
            credentials.clone(),
            outbound.clone(),
            public_url.clone(),
            metrics.refreshes.clone(),
        );
        let threads = Threads::new(db.clone(), clock.clone(), access.clone(), spaces.clone(), NAMES);
        let webhooks = Webhooks::new(
            db.clone(),
            clock.clone(),
            access.clone(),
            intake.clone(),
            credentials.clone(),
            spaces.clone(),
            threads.clone(),
            public_url.clone(),
            metrics.webhooks.clone(),
        );
        let mcp = Mcp::new(
            db.clone(),
            clock.clone(),
            access.clone(),
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
            access.clone(),
            credentials.clone(),
            outbound,
            spaces.clone(),
            threads.clone(),
            tools.clone(),
        );
        let data_retention = DataRetention::new(
            db.clone(),
            clock.clone(),
            config.retention,
            intake.clone(),
            audit.clone(),
            access.clone(),
            credentials.clone(),
            oauth.clone(),
            threads.clone(),
            webhooks.clone(),
        );
        Ok(Arc::new(Self {
            config,
            clock,
            metrics,
            db,
            intake,
            rate_limits,
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
            data_retention,
            flash_cookies,
            loops,
            shutdown: Shutdown::default(),
        }))
    }

    /// Does a claimed job, in the slice that its type belongs to.
    pub async fn run_job(&self, job: &Job) -> Result<(), JobError> {
        let entry = JOBS.iter().find(|entry| entry.name == job.kind);
        (entry.ok_or(JobError::UnknownType)?.run)(self, job).await
    }

    /// How often this job is tried.
    pub fn tries(job: &Job) -> RetryPolicy {
        JOBS.iter().find(|entry| entry.name == job.kind).map_or(RetryPolicy::AtMost(ATTEMPTS_MAX), |entry| entry.tries)
    }
}

/// What ids are called, in each slice that names some.
pub const NAMES: Names =
    Names::new(&[crate::access::names, crate::oauth::names, crate::webhooks::names, crate::mcp::names]);

/// The types of jobs there are, and who does them.
const JOBS: &[JobEntry] = &[
    entry::<RunThread>(|app, job| Box::pin(async move { Ok(app.turns.run(job).await?) })),
    entry::<EraseVersion>(|app, job| {
        Box::pin(async move { Ok(app.credentials.erase_version(job.tenant, job.payload::<EraseVersion>()?).await?) })
    }),
    entry::<ExpireFlow>(|app, job| {
        Box::pin(async move { Ok(app.oauth.expire_flow(job.tenant, job.payload::<ExpireFlow>()?).await?) })
    }),
    entry::<RevokeTokens>(|app, job| {
        Box::pin(async move { Ok(app.oauth.revoke_ended(job.tenant, job.payload::<RevokeTokens>()?).await?) })
    }),
    entry::<EndUserConnections>(|app, job| {
        let user = job.payload::<EndUserConnections>();
        Box::pin(async move { Ok(app.oauth.end_user_connections(job.tenant, user?).await?) })
    }),
];

/// The jobs that each domain event leads to, enqueued in the transaction that publishes it.
pub fn subscribers(event: &DomainEvent) -> Vec<NewJob> {
    match event {
        DomainEvent::TurnQueued { thread, requester, .. } | DomainEvent::TurnCancelled { thread, requester, .. } => {
            vec![NewJob::new::<RunThread>(*thread).asked_by(requester)]
        }
        DomainEvent::UserDisabled { user } => vec![NewJob::new::<EndUserConnections>(*user)],
        DomainEvent::ThreadCreated { .. }
        | DomainEvent::TurnFinished { .. }
        | DomainEvent::ConnectionConnected { .. }
        | DomainEvent::ConnectionNeedsReauth { .. }
        | DomainEvent::ConnectionEnded { .. }
        | DomainEvent::SpaceAccessChanged { .. } => Vec::new(),
    }
}

/// One type of job.
struct JobEntry {
    name: &'static str,
    tries: RetryPolicy,
    run: for<'a> fn(&'a App, &'a Job) -> BoxFuture<'a, Result<(), JobError>>,
}

const fn entry<J: JobType>(run: for<'a> fn(&'a App, &'a Job) -> BoxFuture<'a, Result<(), JobError>>) -> JobEntry {
    JobEntry { name: J::NAME, tries: J::RETRY, run }
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its type is none of this version.
    #[error("this version of thinkwork does not know this type of job; start the version that enqueued it")]
    UnknownType,
    /// The work panicked.
    #[error(transparent)]
    Panicked(#[from] crate::worker::Panicked),
    /// Its payload does not read back.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// A credential could not be erased.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// An OAuth job failed.
    #[error(transparent)]
    Oauth(#[from] crate::oauth::Error),
    /// A turn could not go on.
    #[error(transparent)]
    Turns(#[from] crate::turns::Error),
}

fn policy(config: &Config) -> Result<Policy, StartError> {
    let mut allowed_private = Vec::new();
    for network in &config.outbound.allowed_private {
        allowed_private.push(network.parse().map_err(|_| {
            StartError::Setting(format!("outbound.allowed_private: {network} is no network like 10.1.2.0/24"))
        })?);
    }
    Ok(Policy {
        allow_loopback: config.outbound.allow_loopback,
        allowed_private,
        ports: config.outbound.ports.clone(),
        own_hosts: vec![config.public_url[Position::BeforeHost..Position::AfterPort].to_owned()],
        ..Policy::default()
    })
}
