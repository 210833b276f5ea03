//! Cookies of our own that hold something nobody but us may read or write.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::Error;
use crate::blob::{BlobKey, Refused};
use crate::root::KeyBytes;

/// Seals the values of cookies, under a key of its own that is derived from the root and so outlives every KEK.
#[derive(Clone)]
pub struct CookieKey(KeyBytes);

impl CookieKey {
    pub(crate) const fn new(key: KeyBytes) -> Self {
        Self(key)
    }

    /// A cookie's value, base64url without padding. It opens only where `associated` is the same again.
    ///
    /// # Errors
    /// [`Error::SealCookie`] when the cipher refuses.
    pub fn seal(&self, associated: &[u8], plain: &[u8]) -> Result<String, Error> {
        let blob = BlobKey::new(&self.0).and_then(|key| key.seal(associated, plain));
        blob.map(|blob| URL_SAFE_NO_PAD.encode(blob)).map_err(|Refused| Error::SealCookie)
    }

    /// What was sealed; `None` for every other value.
    pub fn open(&self, associated: &[u8], value: &str) -> Option<Zeroizing<Vec<u8>>> {
        let blob = URL_SAFE_NO_PAD.decode(value).ok()?;
        BlobKey::new(&self.0).and_then(|key| key.open(associated, &blob)).ok()
    }
}
