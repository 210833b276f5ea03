//! The key file on disk: made once, read by its owner only, replaced whole. Only `Vault` calls here.
//!
//! Invariant: at its path there is at every moment either no file or a complete one, also across a crash; whoever
//! changes it holds an exclusive lock on the very file that is replaced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use thinkwork_primitives::crypto::{hex, random};
use zeroize::Zeroizing;

use crate::kept::KeptFile;
use crate::ring::{Ring, fresh_text, shown_kek_id, text_with_key, text_without};
use crate::{Error, Problem};

/// What to do when there is no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingKeyFile {
    /// Make one: right on the first start only, while the database holds nothing sealed.
    Create,
    /// Stop: right whenever the database already names a KEK.
    Refuse,
}

/// Some 400 keys; a larger file is not ours, and reading has an end.
const FILE_BYTES_MAX: usize = 65_536;

/// What the owner may do with a new key file: read and write.
const MODE_NEW: u32 = 0o600;

/// Bits that must not be set: whatever group and others may do.
const MODE_EXPOSED: u32 = 0o077;

/// The bits that say who may do what.
const MODE_PERMISSIONS: u32 = 0o7777;

pub(crate) fn read_or_create(path: &Path, missing: MissingKeyFile) -> Result<Zeroizing<String>, Error> {
    let absent = || Error::MissingKeyFile { path: path.to_owned() };
    let file = match (open(path)?, missing) {
        (Some(file), _) => file,
        (None, MissingKeyFile::Refuse) => return Err(absent()),
        (None, MissingKeyFile::Create) => {
            create(path, &fresh_text()?)?;
            KeptFile::Heads.forget(path)?;
            KeptFile::Versions.forget(path)?;
            open(path)?.ok_or_else(absent)?
        }
    };
    read(path, &file)
}

pub(crate) fn add_key(path: &Path) -> Result<String, Error> {
    change(path, |text, _| text_with_key(text).map(|(id, text)| (id, Some(text))))
}

pub(crate) fn retire_keys(path: &Path, keep: &[String]) -> Result<Vec<String>, Error> {
    change(path, |text, ring| {
        if let Some(absent) = keep.iter().find(|id| ring.find(id).is_none()) {
            return Err(Error::AbsentKey { kek_id: shown_kek_id(absent) });
        }
        let goes: Vec<String> =
            ring.older.iter().filter(|kek| !keep.contains(&kek.id)).map(|kek| kek.id.clone()).collect();
        let rest = (!goes.is_empty()).then(|| text_without(text, |id| goes.iter().any(|gone| gone == id)));
        Ok((goes, rest))
    })
}

/// Reads, lets `edit` make the new text, and replaces the file with it; `None` leaves the file as it is.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&str, &Ring) -> Result<(T, Option<Zeroizing<String>>), Error>,
) -> Result<T, Error> {
    // A link is followed first, so that what is replaced is the file and not the link to it.
    let path = &fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::MissingKeyFile { path: path.to_owned() },
        _ => failed(path, "read")(error),
    })?;
    let locked = lock(path)?;
    let text = read(path, &locked)?;
    let invalid = |problem| Error::Invalid { path: path.clone(), problem };
    let ring = Ring::parse(&text).map_err(invalid)?;
    let (answer, changed) = edit(&text, &ring)?;
    if let Some(changed) = changed {
        // What this machine will not be able to read back must not replace what it can.
        Ring::parse(&changed).map_err(invalid)?;
        replace(path, &locked, &changed)?;
    }
    Ok(answer)
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    // Asked before opening, since opening a pipe would wait for its other end.
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(Error::NotAFile { path: path.to_owned() }),
        Ok(_) => File::open(path).map(Some).map_err(failed(path, "read")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read")(error)),
    }
}

fn read(path: &Path, file: &File) -> Result<Zeroizing<String>, Error> {
    // The open file is asked, not the path, so that what is checked is what is read.
    let found = file.metadata().map_err(failed(path, "read"))?;
    if !found.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let mode = found.mode() & MODE_PERMISSIONS;
    if mode & MODE_EXPOSED != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let invalid = |problem| Error::Invalid { path: path.to_owned(), problem };
    // All the room at once, so that no copy of a key is left by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 2));
    let limit = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(failed(path, "read"))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(invalid(Problem::TooLarge { max: FILE_BYTES_MAX }));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(refused) => {
            drop(Zeroizing::new(refused.into_bytes()));
            Err(invalid(Problem::NotText))
        }
    }
}

/// Makes the file with this text unless there is one by now, which then stays.
pub(crate) fn create(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = Temporary::write(path, text, MODE_NEW, None)?;
    // A hard link refuses a taken name, as O_EXCL does, and shows the file only once it is complete.
    match fs::hard_link(&temporary.path, path) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, "made")(error)),
    }
}

pub(crate) fn replace(path: &Path, old: &File, text: &str) -> Result<(), Error> {
    let found = old.metadata().map_err(failed(path, "changed"))?;
    let owner = (found.uid(), found.gid());
    let temporary = Temporary::write(path, text, found.mode() & MODE_PERMISSIONS, Some(owner))?;
    fs::rename(&temporary.path, path).map_err(failed(path, "changed"))?;
    sync_folder(path)
}

/// The file at this path, open and locked until it is closed.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    loop {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed(path, "changed"))?;
        file.lock().map_err(failed(path, "locked"))?;
        let locked = file.metadata().map_err(failed(path, "locked"))?;
        let named = fs::metadata(path).map_err(failed(path, "locked"))?;
        // While we waited for the lock, its holder may have put a new file in the place of this one.
        if (locked.dev(), locked.ino()) == (named.dev(), named.ino()) {
            return Ok(file);
        }
    }
}

/// A file beside the key file that is gone when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(beside: &Path, text: &str, mode: u32, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let mut name = beside.as_os_str().to_owned();
        name.push(format!(".{}.new", hex(&random::<8>()?)));
        let path = PathBuf::from(name);
        let opened = OpenOptions::new().write(true).create_new(true).mode(MODE_NEW).open(&path);
        let mut file = opened.map_err(failed(beside, "written"))?;
        let temporary = Self { path };
        let filled = file.write_all(text.as_bytes()).and_then(|()| {
            if let Some((user, group)) = owner {
                let made = file.metadata()?;
                // Root may rotate the keys of a server that runs as another user, which must still read them.
                if (made.uid(), made.gid()) != (user, group) {
                    fchown(&file, Some(user), Some(group))?;
                }
            }
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        });
        filled.map_err(failed(beside, "written"))?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is gone already, and a left-over is as closed to others as the key file itself.
        let _gone_or_left = fs::remove_file(&self.path);
    }
}

/// Makes a new name last across a power cut.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(path, "written"))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), action, source }
}
