//! Backups: one file that holds the whole database at one moment, taken while others serve it, and put back.
//!
//! Invariants: a backup says what it is ([`Manifest`]) and was read back whole before [`create`] returns; [`restore`] writes
//! into an empty database alone, all or nothing. The key file is never part of it: credentials stay sealed. Used by the
//! commands `backup` and `restore`; no server calls here.
//!
//! On SQLite the file is a database with the manifest in a table of its own. On PostgreSQL it is the manifest as one line of
//! JSON, and then what `pg_dump --format=custom` wrote.

mod postgres;
mod programs;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thinkwork_primitives::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Engine, Options, schema};

/// The product that a manifest names.
const PRODUCT: &str = "thinkwork";
/// The version of the file's format.
const FORMAT: u32 = 1;
/// The longest manifest, in bytes: enough for some hundred keys.
const MANIFEST_BYTES_MAX: u64 = 65_536;
/// The buffer for copying, in bytes.
const CHUNK_BYTES: usize = 1_048_576;
/// How every database file of SQLite begins.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `thinkwork`.
    pub product: String,
    /// The version of the file's format.
    pub format: u32,
    /// The version of ThinkWork that took it.
    pub thinkwork_version: String,
    /// The engine of its database, into which alone it can be restored.
    pub engine: Engine,
    /// The last migration of its database.
    pub schema_version: i64,
    /// When it was begun: what was stored before is in it.
    pub started_at: Timestamp,
    /// How many tenants its database has.
    pub tenants: i64,
    /// The fingerprints of the keys of its database, by the key's id.
    pub keys: BTreeMap<String, String>,
}

/// What the caller of [`create`] knows.
pub struct Origin {
    /// The version of ThinkWork.
    pub thinkwork_version: String,
    /// Now.
    pub started_at: Timestamp,
    /// The fingerprints of the keys, by the key's id.
    pub keys: BTreeMap<String, String>,
}

impl Origin {
    fn manifest(self, engine: Engine, schema_version: i64, tenants: i64) -> Manifest {
        Manifest {
            product: PRODUCT.to_owned(),
            format: FORMAT,
            thinkwork_version: self.thinkwork_version,
            engine,
            schema_version,
            started_at: self.started_at,
            tenants,
            keys: self.keys,
        }
    }
}

impl Manifest {
    /// Whether this version can restore it into a database of this engine.
    ///
    /// # Errors
    /// [`Error::OtherEngine`], [`Error::NewerFormat`], [`Error::NewerSchema`].
    pub fn check(&self, engine: Engine) -> Result<(), Error> {
        if self.format > FORMAT {
            return Err(Error::NewerFormat { version: self.thinkwork_version.clone() });
        }
        if self.engine != engine {
            return Err(Error::OtherEngine { backup: self.engine, database: engine });
        }
        if self.schema_version > schema::latest_version(engine) {
            return Err(Error::NewerSchema {
                version: self.thinkwork_version.clone(),
                schema_version: self.schema_version,
            });
        }
        Ok(())
    }
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes are being written.
    Writing {
        /// Bytes written so far.
        bytes: u64,
        /// The expected total, where it is known.
        expected: Option<u64>,
    },
    /// The file is read back.
    Checking,
}

/// Called with the progress.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a backup.
    #[error("{} is not a ThinkWork backup; give a file that `thinkwork backup` wrote", .0.display())]
    NotABackup(PathBuf),
    /// The file's format is newer than this version.
    #[error("the backup was taken by the newer thinkwork {version}; restore it with that version")]
    NewerFormat {
        /// The version that took it.
        version: String,
    },
    /// The backup is of another engine.
    #[error("the backup is of {backup} and the database is {database}; restore it into {backup}")]
    OtherEngine {
        /// Of the backup.
        backup: Engine,
        /// Of the database.
        database: Engine,
    },
    /// The backup has migrations that this version does not know.
    #[error(
        "the backup was taken by the newer thinkwork {version} (migration {schema_version}); restore it with that version"
    )]
    NewerSchema {
        /// The version that took it.
        version: String,
        /// The last migration of it.
        schema_version: i64,
    },
    /// The file was changed or cut after it was written.
    #[error("the backup is damaged: {0}. Use another one")]
    Damaged(String),
    /// The copy fails its check, so the database is damaged.
    #[error("the copy of the database is damaged: {0}. No backup was kept; restore an earlier one")]
    DamagedCopy(String),
    /// The database to restore into is not empty.
    #[error("{0} is not empty; a backup is restored into an empty database. Move the old one away first")]
    NotEmpty(String),
    /// A server uses the database.
    #[error(
        "{sessions} connections of a running thinkwork use the database {database}; stop all of its processes first"
    )]
    InUse {
        /// Its name.
        database: String,
        /// How many.
        sessions: i64,
    },
    /// No URL of the role that owns the PostgreSQL database was given.
    #[error(
        "database_migration_url is not set; a backup is taken and restored as the role that owns the PostgreSQL database"
    )]
    NoOwner,
    /// Row-level security hides rows from the role that owns the database.
    #[error(
        "the role {role} of database_migration_url is under row-level security, so a backup would miss every tenant's rows. \
         Run as a superuser: ALTER ROLE {role} BYPASSRLS"
    )]
    RowsHidden {
        /// The owner.
        role: String,
    },
    /// The write-ahead log grew too much meanwhile.
    #[error(
        "so much was written meanwhile that SQLite's write-ahead log grew to {megabytes} MB, and the backup was given up; take \
         it when less is written, or onto a faster disk"
    )]
    LogTooLarge {
        /// Its size.
        megabytes: u64,
    },
    /// PostgreSQL's programs are not there.
    #[error(
        "{program} was not found; install the Debian package postgresql-client-{server}, or another {program} {server} or \
         later, and have it in the PATH"
    )]
    MissingProgram {
        /// Which one.
        program: &'static str,
        /// The server's major version.
        server: u32,
    },
    /// PostgreSQL's programs are older than the server.
    #[error(
        "{program} is of version {found} and the server of version {server}; install the Debian package \
         postgresql-client-{server}, or another {program} {server} or later"
    )]
    OldProgram {
        /// Which one.
        program: &'static str,
        /// Its major version.
        found: u32,
        /// The server's.
        server: u32,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which one.
        program: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// A file cannot be used.
    #[error("{} could not be {action}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The database refused.
    #[error(transparent)]
    Database(#[from] crate::Error),
}

impl From<sea_orm::sqlx::Error> for Error {
    fn from(error: sea_orm::sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Writes a backup of the database into `file`, which is there and empty, and reads it back. Others may serve and write
/// meanwhile.
///
/// # Errors
/// [`Error`]; the file then holds nothing of use.
pub async fn create(
    options: &Options,
    file: &Path,
    origin: Origin,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, Error> {
    match options.sqlite_path() {
        Some(database) => sqlite::create(database, file, origin, on_progress).await,
        None => postgres::create(options, file, origin, on_progress).await,
    }
}

/// What a backup says of itself.
///
/// # Errors
/// [`Error::NotABackup`]; the file's or the driver's.
pub async fn read_manifest(file: &Path) -> Result<Manifest, Error> {
    let mut opened = tokio::fs::File::open(file).await.map_err(failed(file, "read"))?;
    let mut begin = Vec::new();
    (&mut opened).take(MANIFEST_BYTES_MAX).read_to_end(&mut begin).await.map_err(failed(file, "read"))?;
    let line = if begin.starts_with(SQLITE_MAGIC) {
        sqlite::manifest_line(file).await?
    } else {
        let end = begin.iter().position(|byte| *byte == b'\n');
        begin.truncate(end.unwrap_or(0));
        String::from_utf8(begin).ok()
    };
    let manifest = line.and_then(|line| serde_json::from_str::<Manifest>(&line).ok());
    manifest.filter(|manifest| manifest.product == PRODUCT).ok_or_else(|| Error::NotABackup(file.to_owned()))
}

/// Reads the whole of a backup, as a restore does before it changes anything.
///
/// # Errors
/// [`Error::Damaged`]; on PostgreSQL those of its programs.
pub async fn verify(options: &Options, file: &Path, on_progress: OnProgress<'_>) -> Result<(), Error> {
    on_progress(Progress::Checking);
    match options.sqlite_path() {
        Some(_) => sqlite::verify(file).await,
        None => postgres::verify(options, file).await,
    }
}

/// Puts a backup into the empty database that the options name. Its caller has checked the manifest and the keys, and on
/// SQLite holds the lock of `serve`.
///
/// # Errors
/// [`Error::NotEmpty`], [`Error::InUse`] and whatever else; the database is then as empty as before.
pub async fn restore(options: &Options, file: &Path, on_progress: OnProgress<'_>) -> Result<(), Error> {
    match options.sqlite_path() {
        Some(database) => sqlite::restore(file, database, on_progress).await,
        None => postgres::restore(options, file, on_progress).await,
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Copies to the end and tells how far it is; `expected` bytes are to come.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    expected: Option<u64>,
    on_progress: OnProgress<'_>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0_u64;
    loop {
        let length = from.read(&mut chunk).await?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { break };
        to.write_all(read).await?;
        bytes = bytes.saturating_add(u64::try_from(length).unwrap_or(0));
        on_progress(Progress::Writing { bytes, expected });
    }
    to.flush().await
}

/// For the error of a file.
fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), action, source }
}
