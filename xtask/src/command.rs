//! Starting programs: with their output shown, with it captured, or with a limit on their time.
//! Standard input is closed for all of them, so that none waits for a person.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;

const POLL: Duration = Duration::from_millis(20);

/// A command of `program` with `arguments`, run in `folder`.
pub(crate) fn command(program: impl AsRef<Path>, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// The cargo that started this tool, so that a pinned toolchain stays the same.
pub(crate) fn cargo(arguments: &[&str], folder: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(Path::new(&program), arguments, folder)
}

/// Runs it with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{}`: {status}", line(command))))
}

/// Runs it and returns what it printed on stdout; what it printed on stderr is part of the failure.
pub(crate) fn capture(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!(
        "`{}`: {}\n{}{}",
        line(command),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr).trim_end()
    )))
}

/// Runs it with its output shown and ends it when `limit` has passed.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<(), Failure> {
    let mut child = command.spawn().map_err(|error| not_started(command, &error))?;
    let started = Instant::now();
    loop {
        let ended = child.try_wait().map_err(|error| not_started(command, &error))?;
        match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Failure::new(format!("`{}`: {status}", line(command)))),
            None if started.elapsed() > limit => {
                let ended = child.kill().and_then(|()| child.wait());
                return Err(Failure::new(format!(
                    "`{}` was ended after {} s{}",
                    line(command),
                    limit.as_secs(),
                    ended.err().map(|e| format!(" ({e})")).unwrap_or_default()
                )));
            }
            None => std::thread::sleep(POLL),
        }
    }
}

/// Whether a program of that name is in PATH.
pub(crate) fn exists(program: &str) -> bool {
    find(program).is_some()
}

/// Where PATH has a program of that name.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("`{}` did not run: {error}", line(command)))
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
