//! Where a secret belongs and what it is for, encoded as the associated data of both ciphers (NIST SP 800-38D section
//! 5.2.1.1).
//!
//! Invariant: two different contexts or meanings never encode to the same bytes, since every field carries its length.
//!
//! The wrap of the data key binds the KEK's id and the [`Context`], the data the context and the [`Meaning`]. So a row
//! that names another KEK or stands for something else does not open, and yet a rotation of the KEK re-wraps data keys
//! without touching a secret and without knowing what it is for. Nothing is lost by it: a data key is made for one seal
//! only, so whoever has its wrap still needs the meaning to open the data.

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

/// What a secret is for: who may use it and where it may be sent, as the rows say it that are about to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning(Vec<u8>);

impl Meaning {
    /// The meaning of secrets of this kind, without any field yet.
    pub fn new(kind: &str) -> Self {
        let mut encoded = Vec::new();
        append(&mut encoded, kind.as_bytes());
        Self(encoded)
    }

    /// With one more field.
    #[must_use]
    pub fn field(self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.optional(name, Some(value))
    }

    /// With one more field, which may be absent. That is another meaning than an empty one.
    #[must_use]
    pub fn optional(mut self, name: &'static str, value: Option<impl AsRef<[u8]>>) -> Self {
        append(&mut self.0, name.as_bytes());
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            append(&mut self.0, value.as_ref());
        }
        self
    }
}

/// Appends a field behind its length.
fn append(out: &mut Vec<u8>, field: &[u8]) {
    // No field in memory is longer than 64 bits can say, so the fallback is never taken.
    let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}

impl Context {
    /// Associated data of the secret itself.
    pub(crate) fn for_data(&self, meaning: &Meaning) -> Vec<u8> {
        self.encode(b"thinkwork-data-1", &meaning.0)
    }

    /// Associated data of the data key wrapped under `kek_id`.
    pub(crate) fn for_wrap(&self, kek_id: &str) -> Vec<u8> {
        self.encode(b"thinkwork-wrap-1", kek_id.as_bytes())
    }

    fn encode(&self, purpose: &[u8], last: &[u8]) -> Vec<u8> {
        let tenant = self.tenant.uuid();
        let credential = self.credential.uuid();
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 8] = [
            purpose,
            tenant.as_bytes(),
            self.owner_kind.as_bytes(),
            self.owner_id.as_bytes(),
            credential.as_bytes(),
            self.kind.as_bytes(),
            &version,
            last,
        ];
        let mut out = Vec::new();
        fields.into_iter().for_each(|field| append(&mut out, field));
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
        let meaning = Meaning::new("token");
        assert_ne!(base.for_data(&meaning), moved.for_data(&meaning));
        assert_ne!(base.for_wrap("kek_1"), moved.for_wrap("kek_1"));
        assert_ne!(base.for_wrap("kek_1"), base.for_wrap("kek_2"));
        assert_ne!(base.for_wrap(""), base.for_data(&meaning));
    }

    #[test]
    fn l112_two_meanings_never_encode_alike() {
        let of = |kind: &str| Meaning::new(kind);
        let none: Option<&str> = None;
        let all = [
            of("key"),
            of("key").field("url", "ab"),
            of("key").field("url", "a").field("url", "b"),
            of("key").field("ur", "lab"),
            of("keyurl").field("", "ab"),
            of("key").field("url", ""),
            of("key").optional("url", none),
            of("key").field("url", "ab").optional("header", none),
            of("key").field("url", "ab").field("header", ""),
            of("key").field("url", "").field("header", "ab"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{one:?}");
        }
        assert_eq!(of("key").field("url", "ab"), of("key").optional("url", Some("ab")));
    }
}
