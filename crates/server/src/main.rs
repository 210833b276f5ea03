//! The one binary: arguments, configuration, App, run. A table of contents.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thinkwork::commands::{self, GlobalArgs};

/// The integration foundation of an agent harness.
#[derive(Parser)]
#[command(name = "thinkwork", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    shared: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server. The first start prints a one-time setup link.
    Serve(commands::serve::Serve),
    /// Create a tenant and its owner, and print an owner token once.
    Setup(commands::setup::Setup),
    /// Create a one-time link to set a new password, for example a forgotten one.
    SetupLink(commands::setup_link::SetupLink),
    /// Run an offline demo with sample data in a temporary folder.
    Demo(commands::demo::Demo),
    /// Check configuration, keys and database.
    Check,
    /// Bring the database up to date, as the next start would.
    Migrate,
    /// Write a backup of the database to a new file, while the server runs. The key file is not part of it.
    Backup(commands::backup::Backup),
    /// Restore a backup into an empty database. Stop the server first.
    Restore(commands::restore::Restore),
    /// Show how long each kind of row is kept, and what it takes on disk.
    Retention,
    /// Manage encryption keys.
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    /// Verify or list the audit log.
    #[command(subcommand)]
    Audit(commands::audit::Audit),
    /// Print the OpenAPI document.
    Openapi,
    #[command(flatten)]
    Client(commands::client::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Cli::parse();
    thinkwork_outbound::install_crypto_provider();
    let shared = &arguments.shared;
    let outcome = match arguments.command {
        Command::Serve(command) => commands::serve::run(shared, command).await,
        Command::Setup(command) => commands::setup::run(shared, command).await,
        Command::SetupLink(command) => commands::setup_link::run(shared, command).await,
        Command::Demo(command) => commands::demo::run(shared, command).await,
        Command::Check => commands::check::run(shared).await,
        Command::Migrate => commands::migrate::run(shared).await,
        Command::Backup(command) => commands::backup::run(shared, command).await,
        Command::Restore(command) => commands::restore::run(shared, command).await,
        Command::Retention => commands::retention::run(shared).await,
        Command::Keys(command) => commands::keys::run(shared, command).await,
        Command::Audit(command) => commands::audit::run(shared, command).await,
        Command::Openapi => commands::openapi::run().await,
        Command::Client(command) => commands::client::run(shared, command).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error takes nothing, the exit code still tells.
            drop(writeln!(std::io::stderr(), "thinkwork: {}", failure.message));
            ExitCode::from(failure.exit_code)
        }
    }
}
