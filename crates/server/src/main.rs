//! The one binary: arguments, configuration, App, run. A table of contents.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thinkwork::commands::{self, Shared};

/// The integration foundation of an agent harness.
#[derive(Parser)]
#[command(name = "thinkwork", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server. A first start prints a one-time set-up link.
    Serve(commands::serve::Serve),
    /// Make a tenant with its owner and print an owner token once.
    Setup(commands::setup::Setup),
    /// Print a new one-time link that sets a person's password: for a forgotten one.
    SetupLink(commands::setup_link::SetupLink),
    /// Everything at once, offline, in a temporary folder: to look around.
    Demo(commands::demo::Demo),
    /// Check configuration, keys and database.
    Check,
    /// The keys that seal every credential.
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    /// The record: verify it here, or list it over the API.
    #[command(subcommand)]
    Audit(commands::audit::Audit),
    /// Print the OpenAPI document.
    Openapi,
    /// MCP servers of the tenant.
    #[command(subcommand)]
    Mcp(commands::client::Mcp),
    /// Webhooks of the tenant.
    #[command(subcommand)]
    Webhook(commands::client::Webhook),
    /// Spaces of the tenant.
    #[command(subcommand)]
    Space(commands::client::Space),
    /// Threads that you can see.
    #[command(subcommand)]
    Thread(commands::client::Thread),
    /// Tokens.
    #[command(subcommand)]
    Token(commands::client::Token),
    /// People of the tenant.
    #[command(subcommand)]
    User(commands::client::User),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    commands::start_log(matches!(arguments.command, Command::Serve(_)));
    thinkwork_outbound::install_crypto_provider();
    let shared = &arguments.shared;
    let outcome = match arguments.command {
        Command::Serve(command) => commands::serve::run(shared, command).await,
        Command::Setup(command) => commands::setup::run(shared, command).await,
        Command::SetupLink(command) => commands::setup_link::run(shared, command).await,
        Command::Demo(command) => commands::demo::run(shared, command).await,
        Command::Check => commands::check::run(shared).await,
        Command::Keys(command) => commands::keys::run(shared, command).await,
        Command::Audit(command) => commands::audit::run(shared, command).await,
        Command::Openapi => commands::openapi::run().await,
        Command::Mcp(command) => commands::client::run(shared, command.into()).await,
        Command::Webhook(command) => commands::client::run(shared, command.into()).await,
        Command::Space(command) => commands::client::run(shared, command.into()).await,
        Command::Thread(command) => commands::client::run(shared, command.into()).await,
        Command::Token(command) => commands::client::run(shared, command.into()).await,
        Command::User(command) => commands::client::run(shared, command.into()).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thinkwork: {}", failure.message);
            ExitCode::from(failure.exit_code)
        }
    }
}
