//! The face of the crate: one ring of keys, shared by clones, that seals, opens, re-wraps and derives.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use thinkwork_primitives::crypto::{constant_time_eq, random};
use thinkwork_primitives::{CredentialId, RecordKey, Secret};
use zeroize::Zeroizing;

use crate::blob::{BlobKey, KEY_BYTES, Refused};
use crate::kept::KeptFile;
use crate::ring::{Kek, Ring, fresh_text, shown_kek_id};
use crate::{Context, CookieKey, Error, FilePosition, Meaning, MissingKeyFile, file};

/// A secret as it is stored. Each blob is a format byte (1), a 12-byte nonce, the ciphertext and a 16-byte tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The KEK that wrapped the data key.
    pub kek_id: String,
    /// The data key under that KEK; 61 bytes.
    pub wrapped_key: Vec<u8>,
    /// The secret under the data key; 29 bytes longer than the secret.
    pub ciphertext: Vec<u8>,
}

/// The open key ring. Clones share it. Where it meets a KEK that it lacks, it reads its key file once more, so that
/// `add_key` in another process needs no restart.
#[derive(Clone)]
pub struct Vault {
    ring: Arc<RwLock<Arc<Ring>>>,
    path: Option<PathBuf>,
}

impl Vault {
    /// Opens the key file; with [`MissingKeyFile::Create`] makes one of mode 0600 first if there is none.
    ///
    /// Several processes may do so at once: one file comes to be, and all open that one.
    ///
    /// # Errors
    /// No file, a file that group or others may touch, a file that is not valid, or the file system's refusal.
    pub fn open_key_file(path: &Path, missing: MissingKeyFile) -> Result<Self, Error> {
        let text = file::read_or_create(path, missing)?;
        Self::from_text(&text, Some(path)).map_err(|problem| Error::Invalid { path: path.to_owned(), problem })
    }

    /// A ring of fresh keys that no file holds, for tests.
    pub fn in_memory() -> Result<Self, Error> {
        // A text of our own making always parses, unless the cipher library has nothing to give.
        Self::from_text(&fresh_text()?, None).map_err(|_| Error::Random)
    }

    fn from_text(text: &str, path: Option<&Path>) -> Result<Self, crate::Problem> {
        let ring = RwLock::new(Arc::new(Ring::parse(text)?));
        Ok(Self { ring: Arc::new(ring), path: path.map(Path::to_owned) })
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ring with this KEK: as it is, or read from the key file once more. A file with another root is not ours and
    /// changes nothing.
    fn ring_with(&self, kek_id: &str) -> Option<Arc<Ring>> {
        let ring = self.ring();
        if ring.find(kek_id).is_some() {
            return Some(ring);
        }
        let text = file::read_or_create(self.path.as_deref()?, MissingKeyFile::Refuse).ok()?;
        let fresh = Arc::new(Ring::parse(&text).ok()?);
        if fresh.root.fingerprint != ring.root.fingerprint || fresh.find(kek_id).is_none() {
            return None;
        }
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Some(fresh)
    }

    /// Seals the secret for this place and meaning under a fresh data key and the active KEK.
    ///
    /// # Errors
    /// [`Error::Random`], or [`Error::Seal`] when the cipher refuses.
    pub fn seal(&self, context: &Context, meaning: &Meaning, secret: &Secret) -> Result<Sealed, Error> {
        let refused = |Refused| Error::Seal { credential: context.credential };
        let data_key = Zeroizing::new(random::<KEY_BYTES>()?);
        let ciphertext = BlobKey::new(&data_key)
            .and_then(|key| key.seal(&context.for_data(meaning), secret.expose()))
            .map_err(refused)?;
        let ring = self.ring();
        let kek = &ring.active;
        let wrapped_key = kek.wrap.seal(&context.for_wrap(&kek.id), &*data_key).map_err(refused)?;
        Ok(Sealed { kek_id: kek.id.clone(), wrapped_key, ciphertext })
    }

    /// Opens what was sealed for exactly this place and meaning.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] when the ring lacks the KEK; [`Error::Damaged`] for everything else, be it short,
    /// changed, or another row's.
    pub fn open(&self, context: &Context, meaning: &Meaning, sealed: &Sealed) -> Result<Secret, Error> {
        let data_key = self.unwrap_key(context, sealed)?;
        let mut plain = BlobKey::new(&data_key)
            .and_then(|key| key.open(&context.for_data(meaning), &sealed.ciphertext))
            .map_err(|Refused| Error::Damaged { credential: context.credential })?;
        Ok(Secret::from_bytes(std::mem::take(&mut *plain)))
    }

    /// The same secret with its data key wrapped under the active KEK; `None` when it already is.
    ///
    /// The ciphertext is carried over untouched and unread, see [`Context`].
    ///
    /// # Errors
    /// As [`Vault::open`], but only for the wrapped key.
    pub fn rewrap(&self, context: &Context, sealed: &Sealed) -> Result<Option<Sealed>, Error> {
        let ring = self.ring();
        let kek = &ring.active;
        if sealed.kek_id == kek.id {
            return Ok(None);
        }
        let data_key = self.unwrap_key(context, sealed)?;
        let wrapped_key = kek
            .wrap
            .seal(&context.for_wrap(&kek.id), &*data_key)
            .map_err(|Refused| Error::Seal { credential: context.credential })?;
        Ok(Some(Sealed { kek_id: kek.id.clone(), wrapped_key, ciphertext: sealed.ciphertext.clone() }))
    }

    fn unwrap_key(&self, context: &Context, sealed: &Sealed) -> Result<Zeroizing<[u8; KEY_BYTES]>, Error> {
        let credential: CredentialId = context.credential;
        let ring = self.ring_with(&sealed.kek_id);
        let kek = ring
            .as_ref()
            .and_then(|ring| ring.find(&sealed.kek_id))
            .ok_or_else(|| Error::UnknownKey { credential, kek_id: shown_kek_id(&sealed.kek_id) })?;
        let plain = kek
            .wrap
            .open(&context.for_wrap(&kek.id), &sealed.wrapped_key)
            .map_err(|Refused| Error::Damaged { credential })?;
        let bytes = plain.as_slice().try_into().map_err(|_| Error::Damaged { credential })?;
        Ok(Zeroizing::new(bytes))
    }

    /// Appends a new active KEK to the key file and returns its id; the file is replaced whole and keeps its mode.
    ///
    /// Rings that are open seal as before and read the file once more when they meet the new KEK.
    ///
    /// # Errors
    /// As [`Vault::open_key_file`]; a file that does not parse is left as it is.
    pub fn add_key(path: &Path) -> Result<String, Error> {
        file::add_key(path)
    }

    /// Drops every KEK from the key file but the active one and those of `keep`; returns the dropped ids.
    ///
    /// `keep` is every id that a stored row still names, backups included: what is dropped here opens never again.
    /// The caller makes sure that no process still seals under an older key.
    ///
    /// # Errors
    /// [`Error::AbsentKey`] when the file lacks one of `keep`, since then it is not this database's file; else as
    /// [`Vault::add_key`].
    pub fn retire_keys(path: &Path, keep: &[String]) -> Result<Vec<String>, Error> {
        file::retire_keys(path, keep)
    }

    /// The KEK that seals.
    pub fn active_key_id(&self) -> String {
        self.ring().active.id.clone()
    }

    /// Every KEK of the ring, oldest first, the active one last.
    pub fn key_ids(&self) -> Vec<String> {
        self.ring().keks().map(|kek| kek.id.clone()).collect()
    }

    /// What the database keeps to know this KEK by: 32 hexadecimal digits that tell nothing about the key.
    pub fn fingerprint(&self, kek_id: &str) -> Option<String> {
        self.ring().find(kek_id).map(|kek| kek.fingerprint.clone())
    }

    /// What the database keeps to know the file's root by.
    pub fn root_fingerprint(&self) -> String {
        self.ring().root.fingerprint.clone()
    }

    /// Checks one KEK against the fingerprint in the database; the error is the sentence that stops the start.
    ///
    /// # Errors
    /// [`Error::AbsentKey`] or [`Error::WrongKey`].
    pub fn verify_fingerprint(&self, kek_id: &str, stored: &str) -> Result<(), Error> {
        let ring = self.ring_with(kek_id);
        let kek: &Kek = ring
            .as_ref()
            .and_then(|ring| ring.find(kek_id))
            .ok_or_else(|| Error::AbsentKey { kek_id: shown_kek_id(kek_id) })?;
        let same = constant_time_eq(kek.fingerprint.as_bytes(), stored.as_bytes());
        if same { Ok(()) } else { Err(Error::WrongKey { kek_id: kek.id.clone() }) }
    }

    /// Checks the root against the fingerprint in the database.
    ///
    /// # Errors
    /// [`Error::WrongRoot`].
    pub fn verify_root_fingerprint(&self, stored: &str) -> Result<(), Error> {
        let same = constant_time_eq(self.ring().root.fingerprint.as_bytes(), stored.as_bytes());
        if same { Ok(()) } else { Err(Error::WrongRoot) }
    }

    /// HMAC-SHA-256 under a key of this purpose's own, derived from the root, so it holds across KEK rotations.
    pub fn mac(&self, purpose: &'static str, message: &[u8]) -> [u8; 32] {
        self.ring().root.mac(purpose, message)
    }

    /// The key of the record, derived from the root, so it holds across KEK rotations.
    pub fn record_key(&self) -> RecordKey {
        self.ring().root.record_key.clone()
    }

    /// The key of our cookies, derived from the root, so it holds across KEK rotations.
    pub fn cookie_key(&self) -> CookieKey {
        self.ring().root.cookie_key.clone()
    }

    /// Where the file of signed heads is; none beside a ring that no file holds.
    pub fn heads_path(&self) -> Option<PathBuf> {
        self.path.as_deref().map(|path| KeptFile::Heads.path(path))
    }

    /// The signed heads that are kept beside the key file, one a line; empty where none were kept yet.
    ///
    /// # Errors
    /// [`Error::Kept`].
    pub fn read_heads(&self) -> Result<String, Error> {
        self.path.as_deref().map_or(Ok(String::new()), |path| KeptFile::Heads.read(path))
    }

    /// Replaces the signed heads by what `edit` makes of them, one process at a time, and returns what it says beside. Waits
    /// for others and for the disk.
    ///
    /// # Errors
    /// [`Error::Kept`], or what `edit` says; then nothing was changed.
    pub fn change_heads<T, E: From<Error>>(&self, edit: impl FnOnce(&str) -> Result<(T, String), E>) -> Result<T, E> {
        self.change(KeptFile::Heads, edit)
    }

    /// The same of the last versions of credentials.
    ///
    /// # Errors
    /// [`Error::Kept`], or what `edit` says; then nothing was changed.
    pub fn change_versions<T, E: From<Error>>(
        &self,
        edit: impl FnOnce(&str) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        self.change(KeptFile::Versions, edit)
    }

    /// Appends whole lines to the last versions of credentials. Waits for others and for the disk.
    ///
    /// # Errors
    /// [`Error::Kept`].
    pub fn append_versions(&self, lines: &str) -> Result<(), Error> {
        self.path.as_deref().map_or(Ok(()), |path| KeptFile::Versions.append(path, lines))
    }

    /// What was appended to them behind this position, all where another file is in its place; `None` where nothing was.
    /// One look at the file's length where nothing was.
    ///
    /// # Errors
    /// [`Error::Kept`].
    pub fn versions_since(&self, position: Option<&FilePosition>) -> Result<Option<(String, FilePosition)>, Error> {
        self.path.as_deref().map_or(Ok(None), |path| KeptFile::Versions.read_since(path, position))
    }

    fn change<T, E: From<Error>>(
        &self,
        file: KeptFile,
        edit: impl FnOnce(&str) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        match self.path.as_deref() {
            Some(path) => file.change(path, edit),
            None => edit("").map(|(answer, _)| answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use thinkwork_primitives::TenantId;

    use super::*;

    #[test]
    fn s25_data_is_bound_to_its_place_even_for_who_could_wrap_its_key_anew() -> Result<(), Error> {
        let vault = Vault::in_memory()?;
        let here = Context {
            tenant: TenantId::new(),
            owner_kind: "connection",
            owner_id: "con_1".to_owned(),
            credential: CredentialId::new(),
            kind: "access_token",
            version: 1,
        };
        let meaning = Meaning::new("access_token").field("user", "usr_1");
        let sealed = vault.seal(&here, &meaning, &Secret::from_text("s".to_owned()))?;
        let data_key = vault.unwrap_key(&here, &sealed)?;
        let ring = vault.ring();
        let kek = &ring.active;
        for there in [
            Context { tenant: TenantId::new(), ..here.clone() },
            Context { owner_kind: "mcp_server", ..here.clone() },
            Context { owner_id: "con_2".to_owned(), ..here.clone() },
            Context { credential: CredentialId::new(), ..here.clone() },
            Context { kind: "refresh_token", ..here.clone() },
            Context { version: 2, ..here.clone() },
        ] {
            let wrapped = kek.wrap.seal(&there.for_wrap(&kek.id), &*data_key);
            let wrapped_key = wrapped.map_err(|Refused| Error::Seal { credential: there.credential })?;
            let moved = Sealed { wrapped_key, ..sealed.clone() };
            assert!(vault.unwrap_key(&there, &moved).is_ok());
            assert!(matches!(vault.open(&there, &meaning, &moved), Err(Error::Damaged { .. })), "{there:?}");
        }
        Ok(())
    }
}
