//! The commands of the binary. Each reads its arguments, calls the slices or the API, and prints.
//!
//! Invariant: exit codes 0 fine, 1 failed, 2 wrong use; a secret is printed once and only where it was asked for.

/// Prints a line like `println!`; whoever reads no further, like `head`, ends it quietly.
macro_rules! say {
    () => { $crate::commands::print(format_args!("")) };
    ($($words:tt)*) => { $crate::commands::print(format_args!($($words)*)) };
}

pub mod audit;
pub mod backup;
pub mod check;
pub mod client;
pub mod demo;
pub mod keys;
pub mod migrate;
pub mod openapi;
pub mod restore;
pub mod retention;
pub mod serve;
pub mod setup;
pub mod setup_link;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Config};
use crate::logging::Log;

/// Prints a line. A closed pipe is no failure: its reader has all that it wanted.
pub(crate) fn print(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        // Where standard error takes nothing either, there is nobody to tell.
        drop(writeln!(std::io::stderr(), "thinkwork: the output could not be written: {error}"));
    }
}

/// Flags that every command takes; each is also a setting THINKWORK_….
#[derive(Args, Default)]
pub struct GlobalArgs {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE", env = "THINKWORK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Data folder for SQLite [default: ./thinkwork-data].
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Encryption key file [default: the data folder's name with .key].
    #[arg(long, global = true, value_name = "PATH")]
    pub key_file: Option<String>,
    /// Database URL, sqlite:PATH or postgres://… [default: thinkwork.db in the data folder].
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:8080].
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Public URL of the server [default: http:// and the listen address].
    #[arg(long, global = true, value_name = "URL")]
    pub public_url: Option<String>,
    /// Log levels, for example `info` or `warn,access=info` [default: info].
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Server URL for client commands.
    #[arg(long, global = true, value_name = "URL", env = "THINKWORK_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// File with the token for client commands [default: THINKWORK_TOKEN].
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print output as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The log of this run of the binary.
    #[arg(skip)]
    pub logging: Log,
}

impl GlobalArgs {
    /// The checked configuration with `more` flags of the command. The log begins as it says.
    ///
    /// # Errors
    /// Exit code 2 with every problem; 1 where the log cannot begin.
    pub fn load(&self, more: &[(&'static str, String)]) -> Result<Config, CommandError> {
        let named = [
            ("data_dir", &self.data_dir),
            ("key_file", &self.key_file),
            ("database_url", &self.database_url),
            ("listen", &self.listen),
            ("public_url", &self.public_url),
            ("log", &self.log),
        ];
        let mut flags: Vec<(&str, String)> =
            named.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        flags.extend(more.iter().cloned());
        let config =
            config::load(self.config.as_deref(), &config::environment(), &flags).map_err(CommandError::wrong_use)?;
        self.logging.begin(&config).map_err(CommandError::failed)?;
        Ok(config)
    }
}

/// Why a command ends otherwise than fine.
pub struct CommandError {
    /// One sentence, or a list of them.
    pub message: String,
    /// 1 or 2.
    pub exit_code: u8,
}

impl CommandError {
    /// It failed: exit code 1.
    pub fn failed(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit_code: 1 }
    }

    /// It was asked wrongly: exit code 2.
    pub fn wrong_use(error: impl ToString) -> Self {
        Self { message: error.to_string(), exit_code: 2 }
    }
}
