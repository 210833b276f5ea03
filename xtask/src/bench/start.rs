//! How soon `thinkwork serve` answers `/readyz` on an existing database, and what it holds in memory when idle.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Bench, Figure, Goal, number};
use crate::command;
use crate::failure::Failure;

const STARTS: usize = 7;
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(1);

/// After this long without a request, pools and caches have settled.
const IDLE: Duration = Duration::from_secs(3);

pub(super) fn figures(bench: &mut Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let data = bench.folder.join("start");
    make_database(bench, &data)?;
    let mut milliseconds = Vec::new();
    for _ in 0..STARTS {
        let (server, took) = Server::start(bench, &data)?;
        milliseconds.push(took.as_secs_f64() * 1000.0);
        server.stop()?;
    }
    milliseconds.sort_by(f64::total_cmp);
    let median = milliseconds.get(STARTS / 2).copied();
    let (server, _) = Server::start(bench, &data)?;
    std::thread::sleep(IDLE);
    let resident = server.resident_mebibytes();
    server.stop()?;
    Ok(vec![
        Figure {
            name: "start to /readyz, median",
            value: median.ok_or_else(|| Failure::new("no start was measured"))?,
            unit: "ms",
            goal: Goal::AtMost(25.0),
        },
        Figure { name: "idle memory", value: resident?, unit: "MiB", goal: Goal::AtMost(32.0) },
        Figure {
            name: "start to /readyz, slowest",
            value: milliseconds.last().copied().unwrap_or_default(),
            unit: "ms",
            goal: Goal::Reported,
        },
    ])
}

fn make_database(bench: &Bench<'_>, data: &Path) -> Result<(), Failure> {
    let arguments = ["setup", "--tenant", "bench", "--owner-email", "owner@example.com", "--json", "--data-dir"];
    let mut setup = command::command(&bench.binary, &arguments, &bench.folder);
    command::capture(setup.arg(data)).map(drop)
}

/// A running `thinkwork serve`; it is ended when dropped, so a failed measurement leaves none behind.
struct Server(Child);

impl Server {
    /// Starts it and measures until `/readyz` answers 200.
    fn start(bench: &Bench<'_>, data: &Path) -> Result<(Self, Duration), Failure> {
        let address = free_address()?;
        let mut serve =
            command::command(&bench.binary, &["serve", "--listen", &address.to_string(), "--data-dir"], &bench.folder);
        serve.arg(data).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let child = serve.spawn().map_err(Failure::file(&bench.binary))?;
        let mut server = Self(child);
        while !ready(address) {
            let ended = server.0.try_wait().map_err(Failure::file(&bench.binary))?;
            if ended.is_some() || began.elapsed() > START_LIMIT {
                return Err(Failure::new(format!("`thinkwork serve --data-dir {}` did not get ready", data.display())));
            }
            std::thread::sleep(POLL);
        }
        Ok((server, began.elapsed()))
    }

    /// Resident set size, from Linux's account of the process.
    fn resident_mebibytes(&self) -> Result<f64, Failure> {
        let status = format!("/proc/{}/status", self.0.id());
        let text = fs::read_to_string(&status).map_err(Failure::file(Path::new(&status)))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        let kibibytes = kibibytes.ok_or_else(|| Failure::new(format!("{status} has no VmRSS")))?;
        Ok(number(kibibytes)? / 1024.0)
    }

    /// Asks it to end and waits, so that the next start finds a database that was closed.
    fn stop(mut self) -> Result<(), Failure> {
        let id = self.0.id().to_string();
        command::capture(&mut command::command("kill", &["-TERM", &id], Path::new("/")))?;
        let waited = self.0.wait();
        waited.map(drop).map_err(|error| Failure::new(format!("`thinkwork serve`: {error}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            drop(self.0.kill().and_then(|()| self.0.wait()));
        }
    }
}

fn ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failure::new(format!("no free port on 127.0.0.1: {error}")))
}
