//! The tests' own PostgreSQL: made by `initdb` in the target folder, on a free port of 127.0.0.1, as an
//! unprivileged user, without syncing to disk. A shared server is never used.
//!
//! Each run has its own, and it ends with the [`Postgres`] value. What a killed run left is stopped and removed
//! by the next: beside each data folder stands a lock file that names it and is held while its run lives.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::failure::Failure;
use crate::hold;
use crate::install::is_root;

const SUPERUSER: &str = "postgres";

/// Another process may take a port between its choice and its use.
const START_ATTEMPTS: u32 = 3;

/// Each test has databases of its own, and many tests run at once.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 400
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
autovacuum = off
log_min_messages = warning
";

/// A running server.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<String>,
    port: u16,
    lock: PathBuf,
    _held: File,
}

impl Postgres {
    /// Makes an empty cluster below `peers_folder` and starts it.
    pub(crate) fn start(peers_folder: &Path) -> Result<Self, Failure> {
        let mut server = Self::claim(peers_folder)?;
        server.make()?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            server.port = free_port()?;
            match server.launch() {
                Ok(()) => break,
                Err(_) if attempt < START_ATTEMPTS => {}
                Err(failure) => return Err(failure),
            }
        }
        println!("    {} at port {}", server.programs.display(), server.port);
        Ok(server)
    }

    /// Removes what dead runs left, then takes a folder for this run.
    fn claim(peers_folder: &Path) -> Result<Self, Failure> {
        let _alone = hold::wait(&peers_folder.join("postgres.lock"))?;
        let programs = programs()?;
        let user = unprivileged_user()?;
        sweep(peers_folder, &programs, user.as_deref())?;
        let name = format!("postgres-{}", std::process::id());
        let folder = place(peers_folder, &name, user.as_deref())?;
        let lock = peers_folder.join(format!("{name}.lock"));
        let held = hold::wait(&lock)?;
        fs::write(&lock, folder.display().to_string()).map_err(Failure::file(&lock))?;
        fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
        give(&folder, user.as_deref())?;
        Ok(Self { programs, folder, user, port: 0, lock, _held: held })
    }

    /// The address of the maintenance database, with rights to make others.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn make(&self) -> Result<(), Failure> {
        let data = self.data();
        let mut initdb = self.program("initdb", &["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.args(["--username", SUPERUSER, "--pgdata"]).arg(&data);
        command::capture(&mut initdb)?;
        let path = data.join("postgresql.conf");
        let settings = fs::read_to_string(&path).map_err(Failure::file(&path))?;
        fs::write(&path, settings + SETTINGS).map_err(Failure::file(&path))
    }

    fn launch(&self) -> Result<(), Failure> {
        let log = self.folder.join("log");
        let port = format!("-p {}", self.port);
        let mut start = self.program("pg_ctl", &["start", "--wait", "--timeout=60", "--options", &port]);
        start.arg("--log").arg(&log).arg("--pgdata").arg(self.data());
        command::capture(&mut start).map(drop).map_err(|failure| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            Failure::new(format!("{failure}\n{log}"))
        })
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        program(&self.programs.join(name), arguments, self.user.as_deref())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let ended = remove(&self.programs, &self.folder, &self.lock, self.user.as_deref());
        if let Err(failure) = ended {
            eprintln!("xtask: PostgreSQL left something behind: {failure}");
        }
    }
}

/// Removes the servers of runs that no longer live.
fn sweep(peers_folder: &Path, programs: &Path, user: Option<&str>) -> Result<(), Failure> {
    for entry in fs::read_dir(peers_folder).map_err(Failure::file(peers_folder))? {
        let lock = entry.map_err(Failure::file(peers_folder))?.path();
        let name = lock.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.starts_with("postgres-") && name.ends_with(".lock")) {
            continue;
        }
        let Some(_held) = hold::attempt(&lock)? else {
            continue;
        };
        let folder = fs::read_to_string(&lock).map_err(Failure::file(&lock))?;
        // A run that died between making its lock and writing it had no folder yet.
        let folder = if folder.is_empty() { lock.with_extension("") } else { PathBuf::from(folder) };
        remove(programs, &folder, &lock, user)?;
    }
    Ok(())
}

/// Stops the server whose data is in `folder` and removes its files.
fn remove(programs: &Path, folder: &Path, lock: &Path, user: Option<&str>) -> Result<(), Failure> {
    let data = folder.join("data");
    if data.join("postmaster.pid").exists() {
        let mut stop = program(&programs.join("pg_ctl"), &["stop", "--mode=immediate", "--pgdata"], user);
        // Where the process is gone and only its file is left, there is nothing to stop.
        drop(command::capture(stop.arg(&data)));
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Failure::file(folder))?;
    }
    fs::remove_file(lock).map_err(Failure::file(lock))
}

/// One of PostgreSQL's programs, run as the unprivileged user.
fn program(program: &Path, arguments: &[&str], user: Option<&str>) -> Command {
    let Some(user) = user else {
        return command::command(program, arguments, Path::new("/"));
    };
    let mut command = command::command("runuser", &["-u", user, "--"], Path::new("/"));
    command.arg(program).args(arguments);
    command
}

/// The folder of the newest PostgreSQL server on this machine; Debian keeps them out of PATH.
pub(crate) fn programs() -> Result<PathBuf, Failure> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").is_file())
        .max();
    let in_path = || command::find("initdb").and_then(|file| file.parent().map(Path::to_path_buf));
    newest
        .map(|(_, folder)| folder)
        .or_else(in_path)
        .ok_or_else(|| Failure::new("PostgreSQL's `initdb` is not there: run `cargo xtask test --only install`"))
}

/// Whom the server runs as when this process is root, whom PostgreSQL refuses; nobody else otherwise.
fn unprivileged_user() -> Result<Option<String>, Failure> {
    if !is_root()? {
        return Ok(None);
    }
    let known = |user: &&str| command::capture(&mut command::command("id", &["-u", user], Path::new("/"))).is_ok();
    ["postgres", "nobody"]
        .into_iter()
        .find(known)
        .map(|user| Some(user.to_owned()))
        .ok_or_else(|| Failure::new("there is no unprivileged user to run PostgreSQL as"))
}

/// Below the target folder; in the system's temporary folder where that user cannot reach the former, as in a
/// checkout below root's home.
fn place(peers_folder: &Path, name: &str, user: Option<&str>) -> Result<PathBuf, Failure> {
    let folder = peers_folder.join(name);
    let Some(user) = user else {
        return Ok(folder);
    };
    let mut reach = command::command("runuser", &["-u", user, "--", "test", "-x"], Path::new("/"));
    if command::capture(reach.arg(peers_folder)).is_ok() {
        return Ok(folder);
    }
    let elsewhere = std::env::temp_dir().join(format!("thinkwork-{name}"));
    println!("    {user} cannot reach {}, so PostgreSQL runs in {}", peers_folder.display(), elsewhere.display());
    Ok(elsewhere)
}

fn give(folder: &Path, user: Option<&str>) -> Result<(), Failure> {
    let Some(user) = user else {
        return Ok(());
    };
    let mut chown = command::command("chown", &[user], Path::new("/"));
    command::capture(chown.arg(folder)).map(drop)
}

fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(format!("no free port on 127.0.0.1: {error}")))
}
