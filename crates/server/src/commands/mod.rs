//! The commands of the binary. Each reads its arguments, calls the slices or the API, and prints.
//!
//! Invariant: exit codes 0 fine, 1 failed, 2 wrong use; a secret is printed once and only where it was asked for.

/// Prints a line like `println!`; whoever reads no further, like `head`, ends it quietly.
macro_rules! say {
    () => { $crate::commands::print(format_args!("")) };
    ($($words:tt)*) => { $crate::commands::print(format_args!($($words)*)) };
}

pub mod audit;
pub mod check;
pub mod client;
pub mod demo;
pub mod keys;
pub mod openapi;
pub mod serve;
pub mod setup;
pub mod setup_link;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config};

/// Prints a line. A closed pipe is no failure: its reader has all that it wanted.
pub(crate) fn print(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("thinkwork: the output could not be written: {error}");
    }
}

/// Flags that every command takes; each is also a setting THINKWORK_….
#[derive(Args, Default)]
pub struct Shared {
    /// A configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE", env = "THINKWORK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where SQLite keeps its file [default: ./thinkwork-data].
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The file of the keys [default: the data folder's name with .key].
    #[arg(long, global = true, value_name = "PATH")]
    pub key_file: Option<String>,
    /// sqlite:PATH or postgres://… [default: thinkwork.db in the data folder].
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the server listens [default: 127.0.0.1:8080].
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Under which address people reach it [default: http:// and the listen address].
    #[arg(long, global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// The server that client commands talk to.
    #[arg(long, global = true, value_name = "URL", env = "THINKWORK_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// A file with the token for client commands; else THINKWORK_TOKEN.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Shared {
    /// The checked configuration with `more` flags of the command.
    ///
    /// # Errors
    /// Exit code 2 with every problem.
    pub fn load(&self, more: &[(&'static str, String)]) -> Result<Config, Failure> {
        let named = [
            ("data_dir", &self.data_dir),
            ("key_file", &self.key_file),
            ("database_url", &self.database_url),
            ("listen", &self.listen),
            ("public_url", &self.public_url),
        ];
        let mut flags: Vec<(&str, String)> =
            named.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        flags.extend(more.iter().cloned());
        config::load(self.config.as_deref(), &config::environment(), &flags).map_err(Failure::wrong_use)
    }
}

/// Why a command ends otherwise than fine.
pub struct Failure {
    /// One sentence, or a list of them.
    pub message: String,
    /// 1 or 2.
    pub exit_code: u8,
}

impl Failure {
    /// It failed: exit code 1.
    pub fn failed(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit_code: 1 }
    }

    /// It was asked wrongly: exit code 2.
    pub fn wrong_use(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit_code: 2 }
    }
}

/// Human lines on a terminal, JSON lines otherwise. `serve` tells what it does, other commands only what goes wrong.
pub fn start_log(is_server: bool) {
    let level = if is_server { "info,sqlx=warn,sea_orm=warn,rmcp=warn" } else { "warn" };
    let filter = EnvFilter::try_from_env("THINKWORK_TEST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().init();
    }
}
