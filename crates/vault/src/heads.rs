//! The file of signed heads: what the record had come to, kept beside the key file, so that a database that is older than
//! that is noticed. What its lines say is the server's `audit` slice's; here they are text.
//!
//! Invariant: at its path there is at every moment either no file or a complete one, also across a crash, and one process
//! at a time changes it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::{Error, file};

/// Where the heads of this key file are.
pub(crate) fn path(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".heads");
    PathBuf::from(name)
}

pub(crate) fn read(key_file: &Path) -> Result<String, Error> {
    let path = path(key_file);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| Error::Heads { path, action: "read", source }),
    }
}

pub(crate) fn change<T, E: From<Error>>(
    key_file: &Path,
    edit: impl FnOnce(&str) -> Result<(T, String), E>,
) -> Result<T, E> {
    let path = path(key_file);
    if !path.exists() {
        file::create(&path, "").map_err(of_heads)?;
    }
    let mut locked = file::lock(&path).map_err(of_heads)?;
    let mut text = String::new();
    let read = locked.read_to_string(&mut text);
    read.map_err(|source| Error::Heads { path: path.clone(), action: "read", source })?;
    let (answer, changed) = edit(&text)?;
    if changed != text {
        file::replace(&path, &locked, &changed).map_err(of_heads)?;
    }
    Ok(answer)
}

/// A key file was made anew: heads that an earlier one signed verify under no key any more.
pub(crate) fn forget(key_file: &Path) -> Result<(), Error> {
    let path = path(key_file);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Heads { path, action: "removed", source: error })
        }
        _ => Ok(()),
    }
}

fn of_heads(error: Error) -> Error {
    match error {
        Error::File { path, action, source } => Error::Heads { path, action, source },
        other => other,
    }
}
