//! One AES-256-GCM blob: a format byte, a random 96-bit nonce, the ciphertext and its 128-bit tag.
//!
//! Invariant: a blob of any length and content is either opened or refused; it never panics. A nonce is drawn by the
//! cipher itself for every seal. A data key seals once; a KEK stays far below the 2^32 seals of NIST SP 800-38D
//! section 8.3, since it seals one data key per credential version.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

/// The only format so far.
const FORMAT: u8 = 1;

/// Bytes of the tag behind the ciphertext.
const TAG_BYTES: usize = 16;

/// Bytes of every key here.
pub(crate) const KEY_BYTES: usize = 32;

/// The cipher said no; which of the reasons it was is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A key that seals and opens blobs; wiped by the cipher library when dropped.
pub(crate) struct BlobKey(RandomizedNonceKey);

impl BlobKey {
    pub(crate) fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, Refused> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| Refused)
    }

    pub(crate) fn seal(&self, associated: &[u8], plain: &[u8]) -> Result<Vec<u8>, Refused> {
        // The room for the tag is there from the start, so that no copy of the plain text is left by growing.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len().saturating_add(TAG_BYTES)));
        buffer.extend_from_slice(plain);
        let nonce = self.0.seal_in_place_append_tag(Aad::from(associated), &mut *buffer).map_err(|_| Refused)?;
        let mut blob = Vec::with_capacity(1 + NONCE_LEN + buffer.len());
        blob.push(FORMAT);
        blob.extend_from_slice(nonce.as_ref());
        blob.extend_from_slice(&buffer);
        Ok(blob)
    }

    pub(crate) fn open(&self, associated: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let (&format, rest) = blob.split_first().ok_or(Refused)?;
        if format != FORMAT {
            return Err(Refused);
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Refused)?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let length = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated), &mut buffer)
            .map_err(|_| Refused)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}
