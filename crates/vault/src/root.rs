//! Keys that are not for sealing, derived from the key file's root, which outlives every KEK (HKDF, RFC 5869).

use aws_lc_rs::hkdf;
use thinkwork_primitives::RecordKey;
use thinkwork_primitives::crypto::{hex, hmac_sha256};
use zeroize::Zeroizing;

use crate::CookieKey;
use crate::blob::{KEY_BYTES, Refused};

/// Bytes of a key, wiped when dropped.
pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// HKDF-SHA-256 without salt; `label` keeps the uses of one key apart.
pub(crate) fn derive(key: &[u8; KEY_BYTES], label: &[u8]) -> Result<KeyBytes, Refused> {
    let mut out = Zeroizing::new([0_u8; KEY_BYTES]);
    let extracted = hkdf::Salt::none(hkdf::HKDF_SHA256).extract(key);
    let info = [label];
    let expanded = extracted.expand(&info, hkdf::HKDF_SHA256).map_err(|_| Refused)?;
    expanded.fill(&mut *out).map_err(|_| Refused)?;
    Ok(out)
}

/// 128 bits in hexadecimal that tell one key from another and nothing else about it; fit for the database.
pub(crate) fn fingerprint(key: &[u8; KEY_BYTES], name: &str) -> Result<String, Refused> {
    let key = derive(key, b"thinkwork-fingerprint-1")?;
    let mac = hmac_sha256(&*key, &[name.as_bytes()]);
    Ok(hex(mac.first_chunk::<16>().ok_or(Refused)?))
}

/// What is derived from the root.
pub(crate) struct Root {
    mac_key: KeyBytes,
    pub(crate) record_key: RecordKey,
    pub(crate) cookie_key: CookieKey,
    pub(crate) fingerprint: String,
}

impl Root {
    pub(crate) fn new(root: &[u8; KEY_BYTES]) -> Result<Self, Refused> {
        Ok(Self {
            mac_key: derive(root, b"thinkwork-mac-1")?,
            record_key: RecordKey::new(
                &*derive(root, b"thinkwork-audit-mac-1")?,
                &*derive(root, b"thinkwork-audit-signing-1")?,
            )
            .map_err(|_| Refused)?,
            cookie_key: CookieKey::new(derive(root, b"thinkwork-cookie-1")?),
            fingerprint: fingerprint(root, "root")?,
        })
    }

    /// HMAC-SHA-256 under a key of this purpose's own.
    ///
    /// The step from `mac_key` to the purpose's key is itself an HMAC, which cannot fail, unlike the library's HKDF.
    pub(crate) fn mac(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let key = Zeroizing::new(hmac_sha256(&*self.mac_key, &[purpose.as_bytes()]));
        hmac_sha256(&*key, &[message])
    }
}
