//! The files that are kept beside the key file: what the record had come to, and the last version of each credential. So a
//! database that is older than that is noticed. What their lines say is the server's affair; here they are text.
//!
//! Invariant: at its path there is at every moment either no file or a complete one, also across a crash, but for a last
//! line that is being appended; one process at a time changes it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::{Error, file};

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptFile {
    /// The signed heads of the audit record.
    Heads,
    /// The last versions of credentials.
    Versions,
}

/// Up to where a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePosition {
    device: u64,
    inode: u64,
    bytes: u64,
}

impl KeptFile {
    /// Where the one of this key file is.
    pub(crate) fn path(self, key_file: &Path) -> PathBuf {
        let mut name = key_file.as_os_str().to_owned();
        name.push(match self {
            Self::Heads => ".heads",
            Self::Versions => ".versions",
        });
        PathBuf::from(name)
    }

    const fn content(self) -> &'static str {
        match self {
            Self::Heads => "signed heads of the audit record",
            Self::Versions => "last versions of credentials",
        }
    }

    fn failed(self, path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Kept { content: self.content(), path: path.to_owned(), action, source }
    }

    /// An error of the file system is about this file.
    fn of_this(self) -> impl Fn(Error) -> Error {
        move |error| match error {
            Error::File { path, action, source } => Error::Kept { content: self.content(), path, action, source },
            other => other,
        }
    }

    pub(crate) fn read(self, key_file: &Path) -> Result<String, Error> {
        let path = self.path(key_file);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(self.failed(&path, "read")),
        }
    }

    /// What was added behind this position, or the whole where another file is in its place; `None` where nothing was.
    pub(crate) fn read_since(
        self,
        key_file: &Path,
        position: Option<&FilePosition>,
    ) -> Result<Option<(String, FilePosition)>, Error> {
        let path = self.path(key_file);
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(self.failed(&path, "read"))?,
        };
        let end = FilePosition { device: found.dev(), inode: found.ino(), bytes: found.len() };
        if position == Some(&end) {
            return Ok(None);
        }
        let mut file = File::open(&path).map_err(self.failed(&path, "read"))?;
        let opened = file.metadata().map_err(self.failed(&path, "read"))?;
        let is_same = |known: &&FilePosition| (known.device, known.inode) == (opened.dev(), opened.ino());
        let from = position.filter(is_same).map_or(0, |known| known.bytes);
        let mut text = String::new();
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_string(&mut text));
        read.map_err(self.failed(&path, "read"))?;
        // Only whole lines count as read: the rest is being written.
        text.truncate(text.rfind('\n').map_or(0, |at| at.saturating_add(1)));
        let bytes = from.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        Ok(Some((text, FilePosition { device: opened.dev(), inode: opened.ino(), bytes })))
    }

    fn lock(self, path: &Path) -> Result<File, Error> {
        if !path.exists() {
            file::create(path, "").map_err(self.of_this())?;
        }
        file::lock(path).map_err(self.of_this())
    }

    /// Appends whole lines, on disk when it returns.
    pub(crate) fn append(self, key_file: &Path, lines: &str) -> Result<(), Error> {
        let path = self.path(key_file);
        let mut locked = self.lock(&path)?;
        let end = complete_end(&mut locked).map_err(self.failed(&path, "read"))?;
        let written = locked
            .set_len(end)
            .and_then(|()| locked.seek(SeekFrom::End(0)))
            .and_then(|_| locked.write_all(lines.as_bytes()))
            .and_then(|()| locked.sync_data());
        written.map_err(self.failed(&path, "changed"))
    }

    pub(crate) fn change<T, E: From<Error>>(
        self,
        key_file: &Path,
        edit: impl FnOnce(&str) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        let path = self.path(key_file);
        let mut locked = self.lock(&path)?;
        let mut text = String::new();
        locked.read_to_string(&mut text).map_err(self.failed(&path, "read"))?;
        let (answer, changed) = edit(&text)?;
        if changed != text {
            file::replace(&path, &locked, &changed).map_err(self.of_this())?;
        }
        Ok(answer)
    }

    /// A key file was made anew: what was kept beside an earlier one says nothing of what this one seals and signs.
    pub(crate) fn forget(self, key_file: &Path) -> Result<(), Error> {
        let path = self.path(key_file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&path, "removed")(error)),
            _ => Ok(()),
        }
    }
}

/// Where the last whole line ends: a process that was killed may have left half a line.
fn complete_end(file: &mut File) -> io::Result<u64> {
    /// Longer than any line of ours.
    const LINE_BYTES_MAX: u64 = 4_096;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LINE_BYTES_MAX);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    Ok(from.saturating_add(u64::try_from(whole).unwrap_or(0)))
}
