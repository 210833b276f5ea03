//! What may be one of several kinds of record: what a grant is for, and where a tool comes from.
//!
//! Invariant: stored in two columns, kind and id; printed as the id, whose prefix says the kind. A further kind is one
//! line here. Matches on these types are exhaustive, so the compiler names every place that has to decide about it;
//! whoever knows one kind alone asks for it with `try_from`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{BuiltInSetId, ExtensionId, McpServerId, ParseIdError, ProviderId};

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident { $($(#[$kind_doc:meta])* $variant:ident($id:ident) $kind:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$kind_doc])* $variant($id),)*
        }

        impl $name {
            /// The kind to store.
            pub const fn kind(self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)*
                }
            }

            /// The id to store.
            pub const fn uuid(self) -> Uuid {
                match self {
                    $(Self::$variant(id) => id.uuid(),)*
                }
            }

            /// Reads the two columns back; `None` where they were not written by us.
            pub fn from_columns(kind: &str, id: Uuid) -> Option<Self> {
                match kind {
                    $($kind => Some(Self::$variant($id::from_uuid(id))),)*
                    _ => None,
                }
            }
        }

        $(impl From<$id> for $name {
            fn from(id: $id) -> Self {
                Self::$variant(id)
            }
        }

        impl TryFrom<$name> for $id {
            type Error = ParseIdError;

            fn try_from(one: $name) -> Result<Self, ParseIdError> {
                if let $name::$variant(id) = one { Ok(id) } else { Err(ParseIdError { expected: $kind }) }
            }
        })*

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(id) => id.fmt(f),)*
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                $(if let Ok(id) = text.parse() {
                    return Ok(Self::$variant(id));
                })*
                Err(ParseIdError { expected: concat!($($kind, "|"),*) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

targets! {
    /// What a grant is for. Keys client registrations, flows and connections.
    GrantTarget {
        /// A remote MCP endpoint.
        McpServer(McpServerId) "mcp_server",
        /// An OAuth authorization server that the tenant configured.
        Provider(ProviderId) "provider",
    }

    /// Where a tool comes from. Keys the policy of Spaces, the assembly of tools and steps.
    ToolSourceId {
        /// A remote MCP endpoint.
        McpServer(McpServerId) "mcp_server",
        /// Tools that ThinkWork itself brings.
        BuiltInSet(BuiltInSetId) "built_in_set",
        /// A mounted extension.
        Extension(ExtensionId) "extension",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: ToolSourceId, kind: &str, prefix: &str) {
        assert_eq!(source.kind(), kind);
        assert!(source.to_string().starts_with(prefix), "{source}");
        assert_eq!(source.to_string().parse(), Ok(source));
        assert_eq!(ToolSourceId::from_columns(source.kind(), source.uuid()), Some(source));
        assert_eq!(ToolSourceId::from_columns("", source.uuid()), None);
    }

    #[test]
    fn columns_and_text_read_back_with_their_kind() {
        check(McpServerId::new().into(), "mcp_server", "mcp_");
        check(BuiltInSetId::new().into(), "built_in_set", "bis_");
        check(ExtensionId::new().into(), "extension", "ext_");
        let provider = GrantTarget::from(ProviderId::new());
        assert_eq!(provider.to_string().parse(), Ok(provider));
        assert!(provider.to_string().parse::<ToolSourceId>().is_err());
        assert!(ProviderId::try_from(provider).is_ok() && McpServerId::try_from(provider).is_err());
        assert_ne!(Some(provider), GrantTarget::from_columns("mcp_server", provider.uuid()));
    }
}
