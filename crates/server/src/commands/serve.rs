//! `thinkwork serve`: the server.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Args;
use thinkwork_primitives::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{CommandError, GlobalArgs};
use crate::app::{App, StartError};
use crate::config::Config;
use crate::connections::{ConnectionLimits, Server};
use crate::health;
use crate::router::router;
use crate::worker::Worker;

/// How long open requests and running work may take to end after the signal.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Arguments of `serve`.
#[derive(Args)]
pub struct Serve {
    /// Roles of this process: web, worker or both.
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// Whatever stops the start, in one sentence.
pub async fn run(shared: &GlobalArgs, command: Serve) -> Result<(), CommandError> {
    let more: Vec<_> = command.roles.into_iter().map(|roles| ("roles", roles)).collect();
    let config = shared.load(&more)?;
    let _lock = lock(&config).map_err(CommandError::failed)?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        CommandError::failed(format!("cannot listen on {}: {error}; choose another --listen", config.listen))
    })?;
    let internal_listener = match config.internal_listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            CommandError::failed(format!("cannot listen on {address}: {error}; choose another internal_listen"))
        })?),
        None => None,
    };
    let app = App::build(config, Clock::system()).await.map_err(CommandError::failed)?;
    // The lock says that nobody else runs.
    app.db.release_former_leases().await.map_err(CommandError::failed)?;
    app.metrics.add(shared.logging.collectors()).map_err(CommandError::failed)?;
    first_start(&app).await?;
    // It answers until the end, so that whoever watches sees this process stop.
    let mut internal = JoinSet::new();
    if let Some(listener) = internal_listener {
        let server = server(&app, health::routes(&app));
        internal.spawn(async move { server.accept(&listener, std::future::pending(), Duration::ZERO).await });
    }
    serve(app, listener, shutdown_signal()).await;
    internal.shutdown().await;
    Ok(())
}

/// On SQLite one process serves a database; the lock lies beside its file and goes with the process.
pub(super) fn lock(config: &Config) -> Result<Option<File>, StartError> {
    let Some(database) = config.database_url.strip_prefix("sqlite:") else { return Ok(None) };
    let mut beside = OsString::from(database.trim_start_matches("//"));
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let folder = beside.parent().map(Path::to_path_buf).unwrap_or_default();
    let unusable = |source| StartError::DataDir { path: folder.clone(), source };
    if !folder.as_os_str().is_empty() {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
    }
    let file = File::create(beside).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(StartError::AlreadyServing(PathBuf::from(database))),
    }
}

/// On an empty database: makes the first tenant and prints its one-time set-up link, to the terminal only.
async fn first_start(app: &App) -> Result<(), CommandError> {
    if !app.access.tenants().await.map_err(CommandError::failed)?.is_empty() {
        return Ok(());
    }
    let made = app
        .access
        .tenant_create("main", "My company", "owner@localhost", "Owner")
        .await
        .map_err(CommandError::failed)?;
    // What is written elsewhere lands in a journal, where others read it.
    if !std::io::stdout().is_terminal() {
        say!(
            "\nThis is the first start. Run `thinkwork setup-link --tenant main --email owner@localhost` with the same \
             settings, in a terminal, for the link that sets the owner's password.\n"
        );
        return Ok(());
    }
    let link = app.access.setup_url(&made.setup_code);
    let link = link.expose_str().unwrap_or_default();
    say!("\nFirst start. Open this link to set the owner's password. It expires in 1 hour.\n\n  {link}\n");
    Ok(())
}

/// Serves `app` on `listener` until `stop`, with the roles of its configuration, then drains.
pub async fn serve(app: Arc<App>, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) {
    let worker = Worker::start(&app);
    let url = app.config.public_url.clone();
    let server = server(&app, if app.config.web { router(&app) } else { health::routes(&app) });
    tracing::info!(%url, "thinkwork serves");
    let stop = async {
        stop.await;
        // Whoever follows a thread comes back, and by then to another process.
        app.threads.streams_end();
    };
    server.accept(&listener, stop, app.config.shutdown_delay).await;
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, server.drain()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    worker.drain(&app, SHUTDOWN_TIMEOUT).await;
    // Tokens that an issuer is handing out at this moment exist nowhere else: they are stored first.
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, app.oauth.drain()).await.is_err() {
        tracing::warn!("some requests at authorization servers did not end in time");
    }
    app.db.close().await;
    tracing::info!("thinkwork stopped");
}

/// A server of these routes with the limits of the configuration.
fn server(app: &App, routes: Router) -> Server {
    Server::new(routes, ConnectionLimits::new(&app.config), app.metrics.connections.clone(), app.shutdown.clone())
}

/// Waits for SIGINT or SIGTERM.
pub(super) async fn shutdown_signal() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(interrupt.await),
    }
}
