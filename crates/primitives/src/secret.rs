//! Bytes that must not show: no `Debug`, `Display`, `Serialize` or `Clone`, wiped when dropped.
//!
//! Invariant: the only ways to the bytes are [`Secret::expose`] and [`Secret::expose_str`], easy to search for.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Secret bytes in memory.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes the text over.
    pub fn from_text(text: String) -> Self {
        Self::from_bytes(text.into_bytes())
    }

    /// The bytes, for the moment of use.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, if they are UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in constant time.
    pub fn equals(&self, other: &[u8]) -> bool {
        crate::crypto::constant_time_eq(&self.0, other)
    }

    /// The last four characters of secrets of 16 characters or more, to recognise one by.
    pub fn last_four(&self) -> Option<String> {
        let text = self.expose_str()?;
        let count = text.chars().count();
        (count >= 16).then(|| text.chars().skip(count.saturating_sub(4)).collect())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from_text)
    }
}
