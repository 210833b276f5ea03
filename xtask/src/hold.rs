//! Locks between runs of this tool that share a target folder. A lock ends with its process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::failure::Failure;

/// Waits until no other run holds `path`.
pub(crate) fn wait(path: &Path) -> Result<File, Failure> {
    if let Some(file) = attempt(path)? {
        return Ok(file);
    }
    println!("    waiting for another run that holds {}", path.display());
    let file = open(path)?;
    file.lock().map_err(Failure::file(path))?;
    Ok(file)
}

/// The lock, or nothing while another run holds it.
pub(crate) fn attempt(path: &Path) -> Result<Option<File>, Failure> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Failure::file(path)(error)),
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Failure::file(folder))?;
    }
    // What the file says stays: PostgreSQL's lock names the folder of its data.
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).open(path);
    opened.map_err(Failure::file(path))
}
