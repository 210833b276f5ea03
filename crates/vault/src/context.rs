//! Where a secret belongs, encoded as the associated data of both ciphers (NIST SP 800-38D section 5.2.1.1).
//!
//! Invariant: two different contexts never encode to the same bytes, since every field carries its length.
//!
//! The KEK's id is bound by the wrap of the data key alone, every other field by the wrap and by the data. So a row
//! that names another KEK does not open, and yet a rotation re-wraps data keys without touching a secret. Nothing is
//! lost by it: a data key is made for one seal only, so whoever cannot move the wrap cannot move the data either.

use thinkwork_primitives::{CredentialId, TenantId};

/// Whose secret this is and which; taken from the row's own columns, never from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The tenant.
    pub tenant: TenantId,
    /// What kind of record owns the credential.
    pub owner_kind: &'static str,
    /// The owner's id, printed.
    pub owner_id: String,
    /// The credential.
    pub credential: CredentialId,
    /// What kind of secret it is.
    pub kind: &'static str,
    /// Counts up with each rotation of the secret, so that an older row put back does not open.
    pub version: i32,
}

impl Context {
    /// Associated data of the secret itself.
    pub(crate) fn for_data(&self) -> Vec<u8> {
        self.encode(b"thinkwork-data-1", &[])
    }

    /// Associated data of the data key wrapped under `kek_id`.
    pub(crate) fn for_wrap(&self, kek_id: &str) -> Vec<u8> {
        self.encode(b"thinkwork-wrap-1", &[kek_id.as_bytes()])
    }

    fn encode(&self, purpose: &[u8], more: &[&[u8]]) -> Vec<u8> {
        let tenant = self.tenant.uuid();
        let credential = self.credential.uuid();
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 7] = [
            purpose,
            tenant.as_bytes(),
            self.owner_kind.as_bytes(),
            self.owner_id.as_bytes(),
            credential.as_bytes(),
            self.kind.as_bytes(),
            &version,
        ];
        let mut out = Vec::new();
        for field in fields.into_iter().chain(more.iter().copied()) {
            // No field in memory is longer than 64 bits can say, so the fallback is never taken.
            let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s25_bytes_moved_between_neighbouring_fields_encode_differently() {
        let base = Context {
            tenant: TenantId::new(),
            owner_kind: "user",
            owner_id: "ab".to_owned(),
            credential: CredentialId::new(),
            kind: "token",
            version: 1,
        };
        let moved = Context { owner_kind: "usera", owner_id: "b".to_owned(), ..base.clone() };
        assert_ne!(base.for_data(), moved.for_data());
        assert_ne!(base.for_wrap("kek_1"), moved.for_wrap("kek_1"));
        assert_ne!(base.for_wrap("kek_1"), base.for_wrap("kek_2"));
        assert_ne!(base.for_wrap(""), base.for_data());
    }
}
