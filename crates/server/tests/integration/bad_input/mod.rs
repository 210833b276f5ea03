//! Bad input as the person at the terminal or the sender of a webhook meets it: one clear sentence that names the next
//! step, the right exit code or status, and nothing lost.
//!
//! What needs the process itself is here; routes have theirs beside their slice.

mod answers;
mod disk;
mod log;
mod start;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Client, fresh_database, migration_url};

/// How long a server may take to get ready, on a busy machine.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// A folder with a data folder, its key and an owner's token, as `thinkwork setup` leaves them.
pub(super) struct Deployment {
    pub(super) folder: TempDir,
    token: String,
    settings: Vec<(&'static str, String)>,
}

/// The binary with nothing of this run's environment.
pub(super) fn thinkwork(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thinkwork"));
    command.args(arguments).env_clear().current_dir(folder);
    command
}

impl Deployment {
    pub(super) fn new() -> Self {
        Self::set_up(tempfile::tempdir().unwrap(), Vec::new())
    }

    /// The same over a database of the engine that this run is on.
    pub(super) async fn on_engine() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = fresh_database(folder.path()).await;
        let migration_url = migration_url(&url).unwrap_or_default();
        let settings = vec![("THINKWORK_DATABASE_URL", url), ("THINKWORK_DATABASE_MIGRATION_URL", migration_url)];
        Self::set_up(folder, settings)
    }

    fn set_up(folder: TempDir, settings: Vec<(&'static str, String)>) -> Self {
        let setup = ["setup", "--tenant", "acme", "--owner-email", "owner@acme.test", "--json"];
        let made = thinkwork(folder.path(), &setup).envs(settings.clone()).output().unwrap();
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        Self { token: made["token"].as_str().unwrap().to_owned(), folder, settings }
    }

    /// What a command prints and how it ends.
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Another place with an empty database and the files that lie beside this one's key file and end so.
    pub(super) async fn elsewhere(&self, beside_key: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = fresh_database(folder.path()).await;
        let migration_url = migration_url(&url).unwrap_or_default();
        let settings = vec![("THINKWORK_DATABASE_URL", url), ("THINKWORK_DATABASE_MIGRATION_URL", migration_url)];
        for ending in beside_key {
            let name = format!("thinkwork-data.key{ending}");
            std::fs::copy(self.folder.path().join(&name), folder.path().join(&name)).unwrap();
        }
        Self { folder, token: self.token.clone(), settings }
    }

    /// A setting of this place.
    pub(super) fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The same, with another value for a setting.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value));
    }

    /// A command, to be started beside the test.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = thinkwork(self.folder.path(), arguments);
        command.envs(self.settings.clone());
        command
    }

    fn database(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("thinkwork-data/thinkwork.db")).unwrap()
    }

    pub(super) fn key_file(&self) -> std::path::PathBuf {
        self.folder.path().join("thinkwork-data.key")
    }
}

/// A running `thinkwork serve`, ended when dropped.
pub(super) struct Serving {
    child: Child,
    pub(super) address: String,
    log: std::path::PathBuf,
}

impl Serving {
    /// Starts it through `/bin/sh` after `before`, on a free port, and waits until it is ready.
    pub(super) async fn start(place: &Deployment, before: &str) -> Self {
        let log = std::fs::File::create(place.folder.path().join("log")).unwrap();
        let serving = Self::spawn(place, before, Stdio::null(), log.into());
        let address = serving.address.clone();
        serving.ready_at(&address).await
    }

    /// Starts it with these ends of its output and its log.
    pub(super) fn spawn(place: &Deployment, before: &str, stdout: Stdio, stderr: Stdio) -> Self {
        let address = free_address();
        let script = format!("{before} exec \"$0\" serve --listen {address}");
        let child = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_thinkwork")])
            .env_clear()
            .envs(place.settings.clone())
            .current_dir(place.folder.path())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, address, log: place.folder.path().join("log") }
    }

    /// Waits until `/readyz` answers 200 at this address.
    pub(super) async fn ready_at(mut self, address: &str) -> Self {
        let began = Instant::now();
        let client = Client::at(format!("http://{address}"));
        while client.try_get("/readyz").await != Some(200) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < READY_LIMIT, "{ended:?} {}", self.log());
            tokio::task::yield_now().await;
        }
        self
    }

    pub(super) fn anonymous(&self) -> Client {
        Client::at(format!("http://{}", self.address))
    }

    pub(super) fn owner(&self, place: &Deployment) -> Client {
        let mut client = self.anonymous();
        client.bearer = Some(place.token.clone());
        client
    }

    /// Stops it as an operator does, and waits until it has ended.
    pub(super) fn stop(&mut self) {
        assert!(Command::new("kill").args(["-TERM", &self.id()]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// What it has logged.
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address on which nobody listens at this moment.
pub(super) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
