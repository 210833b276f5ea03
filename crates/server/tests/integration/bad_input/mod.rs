//! Bad input as the person at the terminal or the sender of a webhook meets it: one clear sentence that names the next
//! step, the right exit code or status, and nothing lost.
//!
//! What needs the process itself is here; routes have theirs beside their slice.

mod answers;
mod disk;
mod start;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::Client;

/// How long a server may take to get ready, on a busy machine.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// A folder with a data folder, its key and an owner's token, as `thinkwork setup` leaves them.
pub(super) struct Deployment {
    pub(super) folder: TempDir,
    token: String,
}

/// The binary with nothing of this run's environment.
pub(super) fn thinkwork(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thinkwork"));
    command.args(arguments).env_clear().current_dir(folder);
    command
}

impl Deployment {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = ["setup", "--tenant", "acme", "--owner-email", "owner@acme.test", "--json"];
        let made = thinkwork(folder.path(), &setup).output().unwrap();
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        Self { token: made["token"].as_str().unwrap().to_owned(), folder }
    }

    /// What a command prints and how it ends.
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        thinkwork(self.folder.path(), arguments).output().unwrap()
    }

    fn database(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("thinkwork-data/thinkwork.db")).unwrap()
    }

    fn key_file(&self) -> std::path::PathBuf {
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
        let address = free_address();
        Self::start_at(place, before, address.clone(), &address).await
    }

    /// The same on this port, where `/readyz` answers at another address.
    pub(super) async fn start_at(place: &Deployment, before: &str, address: String, ready_at: &str) -> Self {
        let script = format!("{before} exec \"$0\" serve --listen {address}");
        let log = place.folder.path().join("log");
        let child = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_thinkwork")])
            .env_clear()
            .current_dir(place.folder.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut serving = Self { child, address, log };
        let began = Instant::now();
        let client = Client::at(format!("http://{ready_at}"));
        while client.try_get("/readyz").await != Some(200) {
            let ended = serving.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < READY_LIMIT, "{ended:?} {}", serving.log());
            tokio::task::yield_now().await;
        }
        serving
    }

    pub(super) fn anonymous(&self) -> Client {
        Client::at(format!("http://{}", self.address))
    }

    fn owner(&self, place: &Deployment) -> Client {
        let mut client = self.anonymous();
        client.bearer = Some(place.token.clone());
        client
    }

    fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// What it has logged.
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
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
