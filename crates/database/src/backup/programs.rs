//! PostgreSQL's own programs, `pg_dump` and `pg_restore`, as an operator's command runs them.
//!
//! Invariants: no server starts a program; the password goes by the environment and is no argument, which every user of the
//! machine could read; a program that is older than the server is not run.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::process::Stdio;
use std::str::FromStr as _;

use percent_encoding::percent_decode_str;
use sea_orm::sqlx::postgres::PgConnectOptions;
use thinkwork_primitives::Secret;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use url::Url;

use super::Error;

/// How much of a program's error output is kept, in bytes from its end.
const SAID_BYTES_MAX: u64 = 4_096;

/// How the programs log in.
pub(super) struct Login {
    environment: Vec<(&'static str, String)>,
    password: Option<Secret>,
    database: String,
}

impl Login {
    /// As a URL says.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)?;
        let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |at| at.display().to_string());
        let user = options.get_username().to_owned();
        let database = options.get_database().map_or_else(|| user.clone(), str::to_owned);
        let environment = vec![
            ("PGHOST", host),
            ("PGPORT", options.get_port().to_string()),
            ("PGUSER", user),
            ("PGDATABASE", database.clone()),
            ("PGAPPNAME", "thinkwork backup".to_owned()),
        ];
        Ok(Self { environment, password: password(url), database })
    }

    /// Which database, as an argument that is not read as anything else.
    pub(super) fn database_argument(&self) -> String {
        format!("--dbname=dbname='{}'", self.database.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// The password of a URL. Without one the programs find it as every program of PostgreSQL does.
fn password(url: &str) -> Option<Secret> {
    let url = Url::parse(url).ok()?;
    let named = url.query_pairs().find(|(name, _)| name == "password").map(|(_, value)| value.into_owned());
    let password = named.or_else(|| Some(percent_decode_str(url.password()?).decode_utf8().ok()?.into_owned()))?;
    Some(Secret::from_text(password))
}

/// A program that is there and new enough.
pub(super) struct Program<'a> {
    name: &'static str,
    login: &'a Login,
}

impl<'a> Program<'a> {
    /// Looks for it in the PATH and asks its version.
    pub(super) async fn find(name: &'static str, login: &'a Login, server: u32) -> Result<Self, Error> {
        let program = Self { name, login };
        let missing = || Error::MissingProgram { program: name, server };
        let output = program.command().arg("--version").output().await;
        let said = match output {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(_) => return Err(missing()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(Error::Program { program: name, said: error.to_string() }),
        };
        match major_version(&said) {
            Some(found) if found < server => Err(Error::OldProgram { program: name, found, server }),
            Some(_) => Ok(program),
            None => Err(missing()),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        command.envs(self.login.environment.iter().map(|(name, value)| (name, value)));
        // They would lead elsewhere, or change what is dumped.
        for name in ["PGHOSTADDR", "PGSERVICE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let Some(password) = self.login.password.as_ref().and_then(Secret::expose_str) {
            command.env("PGPASSWORD", password);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts it. Its input and output are taken from what comes back, which must be ended.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Running, Error> {
        let failed = |error: std::io::Error| Error::Program { program: self.name, said: error.to_string() };
        // A file takes as much as it says, so that it never waits for a reader.
        let said = tempfile::tempfile().map_err(failed)?;
        let errors = said.try_clone().map_err(failed)?;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        Ok(Running { name: self.name, child: command.spawn().map_err(failed)?, said })
    }
}

/// A program that runs. It is killed when dropped.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    said: File,
}

impl Running {
    pub(super) fn output(&mut self) -> Result<ChildStdout, Error> {
        self.child.stdin = None;
        self.child.stdout.take().ok_or_else(|| self.failed("its output is closed".to_owned()))
    }

    pub(super) fn input(&mut self) -> Result<ChildStdin, Error> {
        self.child.stdout = None;
        self.child.stdin.take().ok_or_else(|| self.failed("its input is closed".to_owned()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Program`] with what it said.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        let status = self.child.wait().await.map_err(|error| self.failed(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        let end = self.said.seek(SeekFrom::End(0)).unwrap_or(0);
        let from = end.saturating_sub(SAID_BYTES_MAX);
        let mut said = Vec::new();
        let read = self.said.seek(SeekFrom::Start(from)).and_then(|_| self.said.read_to_end(&mut said));
        let said = read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&said).trim().to_owned());
        Err(self.failed(if said.is_empty() { status.to_string() } else { said }))
    }

    const fn failed(&self, said: String) -> Error {
        Error::Program { program: self.name, said }
    }
}

/// `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` is of 15.
fn major_version(said: &str) -> Option<u32> {
    let rest = said.split_once("(PostgreSQL) ")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_programs_say() {
        assert_eq!(major_version("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("pg_restore (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("Error: You must install at least one postgresql-client package\n"), None);
    }

    #[test]
    fn a_password_is_no_argument_and_reads_as_the_driver_reads_it() {
        let login = Login::new("postgres://owner:p%40ss%2Bword@db.test:5433/it's").unwrap();
        assert_eq!(login.password.as_ref().and_then(Secret::expose_str), Some("p@ss+word"));
        assert_eq!(login.database_argument(), "--dbname=dbname='it\\'s'");
        assert!(login.environment.contains(&("PGPORT", "5433".to_owned())));
        assert!(Login::new("postgres://owner@db.test/x").unwrap().password.is_none());
    }
}
