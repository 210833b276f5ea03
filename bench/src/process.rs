//! A child process that listens, and the processor time it has used.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use crate::Failure;

/// Linux counts processor time in hundredths of a second for everyone (`man 5 proc`, `_SC_CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process; it ends when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it with its output on the terminal's error stream or nowhere.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    /// Starts this program as a peer and returns the address that it prints.
    pub(crate) fn peer(word: &str) -> Result<(Self, String), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Self::start(command.arg(word).stdout(Stdio::piped()))?;
        let output = process.0.stdout.take().ok_or("the peer has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok((process, line.trim().to_owned()))
    }

    /// Processor time used so far, by all its threads.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The second field is the name in parentheses; user and system time are the 14th and 15th.
        let (_, fields) = text.rsplit_once(')').ok_or("/proc/PID/stat has another form")?;
        let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// What it writes to its error stream, where that was piped.
    pub(crate) fn log(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }

    /// Asks it to end and waits, so that what it wrote is complete.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.terminate()
    }

    /// The same of a process that another one follows.
    pub(crate) fn terminate(&mut self) -> Result<(), Failure> {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).current_dir(Path::new("/")).status()?;
        self.0.wait()?;
        Ok(())
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            drop(self.0.kill().and_then(|()| self.0.wait()));
        }
    }
}
