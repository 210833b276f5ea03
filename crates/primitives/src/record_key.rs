//! The key of the record: authenticates its events and links, and signs its checkpoints.
//!
//! Invariant: whoever writes the database without this key can make none of the three. The vault derives it from the key
//! file; it is never stored, printed or sent.

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::crypto::constant_time_eq;

/// Clones share it.
#[derive(Clone)]
pub struct RecordKey(Arc<Keys>);

struct Keys {
    mac: hmac::Key,
    signer: Ed25519KeyPair,
}

/// The seed makes no Ed25519 key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the key that signs the record could not be derived")]
pub struct SeedError;

impl RecordKey {
    /// From two independent secrets of 32 bytes.
    ///
    /// # Errors
    /// Where the seed has another length.
    pub fn new(mac_key: &[u8], signing_seed: &[u8]) -> Result<Self, SeedError> {
        let signer = Ed25519KeyPair::from_seed_unchecked(signing_seed).map_err(|_| SeedError)?;
        Ok(Self(Arc::new(Keys { mac: hmac::Key::new(hmac::HMAC_SHA256, mac_key), signer })))
    }

    /// HMAC-SHA-256 over the parts as one text: all but the last must be of a fixed length.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0.mac);
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0_u8; 32];
        out.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        out
    }

    /// Whether `mac` was made of these parts.
    pub fn is_mac(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        constant_time_eq(&self.mac(parts), mac)
    }

    /// The Ed25519 signature of the text (RFC 8032), which is the same each time.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.0.signer.sign(text).as_ref().to_vec()
    }

    /// Whether this key signed the text.
    pub fn is_signature(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0.signer.public_key()).verify(text, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_a_mac_and_a_signature_hold_for_their_text_and_key_alone() {
        let key = RecordKey::new(&[1; 32], &[2; 32]).unwrap();
        let other = RecordKey::new(&[3; 32], &[4; 32]).unwrap();
        let mac = key.mac(&[b"a", b"b"]);
        assert!(key.is_mac(&[b"ab"], &mac));
        assert!(!key.is_mac(&[b"ac"], &mac) && !other.is_mac(&[b"ab"], &mac) && !key.is_mac(&[b"ab"], &mac[..31]));
        let signature = key.sign(b"head");
        assert!(key.is_signature(b"head", &signature));
        assert!(!key.is_signature(b"tail", &signature) && !other.is_signature(b"head", &signature));
        assert!(RecordKey::new(&[1; 32], &[2; 31]).is_err());
    }
}
