//! Kept versions: the last version of each credential, in a file beside the key file.
//!
//! Invariant: whoever writes the database does not write this file, so a credential that is put back to an earlier version,
//! or back to life, is not what is kept here. A line is written after the commit of what it says, and it is never taken
//! back: later versions alone make a credential current again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinkwork_database::Tx;
use thinkwork_primitives::{Chain, CredentialId};
use thinkwork_vault::{FilePosition, Vault};

use super::Error;

/// Lines that may be superfluous, beside as many as there are credentials, before the file is written anew.
const SUPERFLUOUS_LINES_MAX: usize = 1_000;

/// What is kept of one credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptVersion {
    /// The last version that was made.
    pub current: i64,
    /// The last version that nobody may use any more.
    pub ended: i64,
}

/// How a stored version compares with what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing later is known.
    Current,
    /// A later version was made: the database was restored or changed.
    Older,
    /// It was revoked or disconnected: the database was restored or changed.
    Ended,
}

impl KeptVersion {
    /// Where the version stands that the database calls the current one.
    pub(super) const fn standing(self, version: i64) -> Standing {
        if version < self.current {
            return if self.ended >= self.current { Standing::Ended } else { Standing::Older };
        }
        if version <= self.ended { Standing::Ended } else { Standing::Current }
    }

    fn merged(self, other: Self) -> Self {
        Self { current: self.current.max(other.current), ended: self.ended.max(other.ended) }
    }
}

/// One line of the file: the credential, its last version, and the last one that ended.
fn line(id: CredentialId, kept: KeptVersion) -> String {
    format!("{id} {} {}\n", kept.current, kept.ended)
}

fn parse(line: &str) -> Option<(CredentialId, KeptVersion)> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let kept = KeptVersion { current: words.next()?.parse().ok()?, ended: words.next()?.parse().ok()? };
    words.next().is_none().then_some((id, kept))
}

/// What every line of the file comes to.
fn parse_all(text: &str) -> Result<Known, Error> {
    let mut known = Known::default();
    for (text, number) in text.lines().zip(1_usize..) {
        let (id, kept) = parse(text).ok_or(Error::UnreadableVersion(number))?;
        known.merge(id, kept);
    }
    Ok(known)
}

/// Writes the file anew, with one line for each credential.
fn shorten(vault: &Vault) -> Result<(), Error> {
    vault.change_versions(|text| {
        let known = parse_all(text)?;
        Ok(((), known.versions.iter().map(|(id, kept)| line(*id, *kept)).collect()))
    })
}

/// What is kept, as this process knows it. Other processes beside the same key file are heard of through the file.
#[derive(Clone)]
pub(super) struct KeptVersions {
    vault: Vault,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    versions: HashMap<CredentialId, KeptVersion>,
    read_to: Option<FilePosition>,
    /// How many lines were read and written since the file was written anew.
    lines: usize,
    /// Lines that could not be written, to be written with the next one.
    unwritten: String,
}

impl Known {
    fn merge(&mut self, id: CredentialId, kept: KeptVersion) {
        let known = self.versions.entry(id).or_default();
        *known = known.merged(kept);
        self.lines = self.lines.saturating_add(1);
    }

    /// Whether most lines of the file say what later ones say again.
    fn is_long(&self) -> bool {
        self.lines > self.versions.len().saturating_mul(2).saturating_add(SUPERFLUOUS_LINES_MAX)
    }
}

impl KeptVersions {
    pub(super) fn new(vault: Vault) -> Self {
        Self { vault, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file. There is none before the first rotation.
    ///
    /// # Errors
    /// [`Error::Vault`] where it cannot be read, [`Error::UnreadableVersion`] where a line of it cannot.
    pub(super) fn open(&self) -> Result<(), Error> {
        let Some((text, position)) = self.vault.versions_since(None)? else { return Ok(()) };
        *self.known() = Known { read_to: Some(position), ..parse_all(&text)? };
        Ok(())
    }

    /// What is kept of a credential.
    ///
    /// # Errors
    /// [`Error::Vault`] where another process wrote and that cannot be read.
    pub(super) fn get(&self, id: CredentialId) -> Result<KeptVersion, Error> {
        let mut known = self.known();
        if let Some((text, position)) = self.vault.versions_since(known.read_to.as_ref())? {
            // A line that another process is about to finish is read the next time.
            text.lines().filter_map(parse).for_each(|(id, kept)| known.merge(id, kept));
            known.read_to = Some(position);
        }
        Ok(known.versions.get(&id).copied().unwrap_or_default())
    }

    /// Keeps this of a credential once the transaction is committed.
    pub(super) fn keep(&self, tx: &mut Tx, id: CredentialId, kept: KeptVersion) {
        let this = self.clone();
        tx.after_commit(move || {
            this.known().merge(id, kept);
            // It goes on by itself where nobody waits for it any more.
            let written = tokio::task::spawn_blocking(move || this.write(&line(id, kept)));
            Box::pin(async move { drop(written.await) })
        });
    }

    fn write(&self, line: &str) {
        let (lines, is_long) = {
            let mut known = self.known();
            let is_long = known.is_long();
            if is_long {
                known.lines = known.versions.len();
            }
            (std::mem::take(&mut known.unwritten) + line, is_long)
        };
        let written = self.vault.append_versions(&lines).map_err(Error::from);
        if let Err(error) = written.and_then(|()| if is_long { shorten(&self.vault) } else { Ok(()) }) {
            // The change itself is done. This process knows it, and tries to write it down with the next one.
            tracing::error!(error = %Chain(&error), "the version of a credential could not be kept beside the key file");
            self.known().unwritten.insert_str(0, &lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l112_an_older_version_is_told_from_one_that_ended() {
        let check = |kept: (i64, i64), version: i64, expected: Standing| {
            let kept = KeptVersion { current: kept.0, ended: kept.1 };
            assert_eq!(kept.standing(version), expected, "{kept:?} {version}");
        };
        check((0, 0), 1, Standing::Current);
        check((2, 1), 2, Standing::Current);
        check((2, 1), 3, Standing::Current);
        check((2, 1), 1, Standing::Older);
        check((3, 1), 2, Standing::Older);
        check((2, 2), 2, Standing::Ended);
        check((2, 2), 1, Standing::Ended);
        check((2, 2), 3, Standing::Current);
    }

    #[test]
    fn a_line_reads_back_and_nothing_else_does() {
        let id = CredentialId::new();
        let kept = KeptVersion { current: 7, ended: 6 };
        assert_eq!(parse(line(id, kept).trim_end()), Some((id, kept)));
        let text = id.to_string();
        for other in ["", &text, &format!("{text} 1"), &format!("{text} 1 x"), &format!("{text} 1 2 3"), "x 1 2"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
