//! What a private extension will see of the deployment that mounts it: traits, wire types and handles.
//!
//! Architecture Invariant: it uses `primitives` only, so that an extension never links the server's inside. Today it
//! fixes the one thing that routes and audit rely on: how an extension is named.

/// The name of an extension: its path below `/x/`, its requester id and its prefix of table names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtensionName(String);

/// Longest name: it must leave room in table names, which PostgreSQL cuts at 63 bytes.
const NAME_BYTES_MAX: usize = 24;

impl ExtensionName {
    /// Takes lower-case letters, digits and inner hyphens, beginning with a letter; nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        (inner && begins && !text.ends_with('-') && text.len() <= NAME_BYTES_MAX).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_lower_case_and_begins_with_a_letter() {
        for (text, takes) in [
            ("tracker", true),
            ("tracker-2", true),
            ("", false),
            ("2x", false),
            ("x-", false),
            ("X", false),
            ("a/b", false),
        ] {
            assert_eq!(ExtensionName::parse(text).is_some(), takes, "{text}");
        }
    }
}
