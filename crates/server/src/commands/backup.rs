//! `thinkwork backup`: the database in one file, taken while others serve it.
//!
//! Invariant: the file has its name only once it is whole and was read back; one that is there already stays.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use thinkwork_database::Db;
use thinkwork_database::backup::{self, Manifest, Origin, Progress};
use thinkwork_primitives::Clock;

use super::serve::shutdown_signal;
use super::{CommandError, GlobalArgs};
use crate::app::database_options;
use crate::config::Config;
use crate::credentials::Credentials;

/// Only its owner reads a backup.
const MODE: u32 = 0o600;
/// How often a terminal is told how far it is.
const SHOW_EVERY: Duration = Duration::from_millis(200);
const MEBIBYTE: u64 = 1_048_576;

/// Arguments of `backup`.
#[derive(Args)]
pub struct Backup {
    /// New file for the backup. An existing file is not overwritten.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Takes a backup. Stopped by a signal, it leaves nothing behind.
///
/// # Errors
/// In one sentence; there is no file then.
pub async fn run(shared: &GlobalArgs, command: Backup) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let clock = Clock::system();
    let began = clock.uptime();
    let taken = tokio::select! {
        taken = Box::pin(take(&config, &command.file, &clock)) => taken?,
        () = shutdown_signal() => return Err(CommandError::failed("the backup was stopped; there is no file")),
    };
    let bytes = std::fs::metadata(&command.file).map_or(0, |found| found.len());
    let duration = clock.uptime().saturating_sub(began);
    let file = command.file.display();
    if shared.json {
        say!(
            "{}",
            json!({ "file": file.to_string(), "bytes": bytes, "seconds": duration.as_secs_f64(), "backup": taken })
        );
    } else {
        say!("Backed up {} to {file}: {} in {:.1} s.", summary(&taken), size(bytes), duration.as_secs_f64());
    }
    Ok(())
}

async fn take(config: &Config, file: &Path, clock: &Clock) -> Result<Manifest, CommandError> {
    let taken = || CommandError::wrong_use(format!("{} exists already; choose another name", file.display()));
    if file.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let unusable = |error: std::io::Error| {
        CommandError::failed(format!("cannot write {}: {error}; choose another place", file.display()))
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Gone when dropped, unless it gets its name.
    let temporary = tempfile::Builder::new()
        .prefix(".thinkwork-backup-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
        .map_err(unusable)?;
    let options = database_options(config);
    let db = Db::open_read_only(&options).await.map_err(CommandError::failed)?;
    let db = db.ok_or_else(|| CommandError::failed("there is no database yet, so there is nothing to back up"))?;
    let keys = Credentials::key_fingerprints(&db).await.map_err(CommandError::failed)?;
    db.close().await;
    let origin = Origin {
        thinkwork_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: clock.now(),
        keys: keys.into_iter().collect(),
    };
    let mut shown = ProgressLine::new(clock, "Backing up");
    let manifest = backup::create(&options, temporary.path(), origin, &mut |progress| shown.show(progress)).await;
    shown.end();
    let manifest = manifest.map_err(CommandError::failed)?;
    temporary.as_file().sync_all().map_err(unusable)?;
    temporary.persist_noclobber(file).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => taken(),
        _ => unusable(error.error),
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    Ok(manifest)
}

/// What a backup is of, in words.
pub(super) fn summary(manifest: &Manifest) -> String {
    let tenants = manifest.tenants;
    let tenants = if tenants == 1 { "1 tenant".to_owned() } else { format!("{tenants} tenants") };
    format!("{tenants} on {}", manifest.engine)
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes.checked_div(MEBIBYTE) {
        Some(0) | None => format!("{} KiB", bytes.div_ceil(1_024)),
        Some(mebibytes) => format!("{mebibytes} MiB"),
    }
}

/// One line on a terminal that says how far it is; nothing elsewhere.
pub(super) struct ProgressLine {
    clock: Clock,
    doing: &'static str,
    is_terminal: bool,
    shown_at: Option<Duration>,
}

impl ProgressLine {
    pub(super) fn new(clock: &Clock, doing: &'static str) -> Self {
        Self { clock: clock.clone(), doing, is_terminal: std::io::stderr().is_terminal(), shown_at: None }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let now = self.clock.uptime();
        let is_due = self.shown_at.is_none_or(|at| now.saturating_sub(at) >= SHOW_EVERY);
        match progress {
            _ if !self.is_terminal => {}
            Progress::Checking => self.write("Checking"),
            Progress::Writing { bytes, expected } if is_due => {
                self.shown_at = Some(now);
                let of = expected.map_or_else(String::new, |expected| format!(" of about {}", size(expected)));
                self.write(&format!("{}: {}{of}", self.doing, size(bytes)));
            }
            Progress::Writing { .. } => {}
        }
    }

    /// Clears the line.
    pub(super) fn end(&self) {
        if self.is_terminal {
            self.write("");
        }
    }

    fn write(&self, text: &str) {
        let mut terminal = std::io::stderr().lock();
        // Whoever does not see how far it is wants the result all the same.
        drop(write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush()));
    }
}
