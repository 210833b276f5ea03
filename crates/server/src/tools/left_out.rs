//! Sources whose tools are not offered, and why.

use serde::{Deserialize, Serialize};
use thinkwork_primitives::ToolSourceId;

/// Why a source's tools are not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// The requester has not connected it.
    NeedsConnection,
    /// The requester's grant has expired.
    Expired,
    /// The work has no person, so nobody's grant may be used.
    NoUser,
    /// An operator has not approved it, or what changed of it.
    Pending,
    /// It could not be reached.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It needs something that ThinkWork does not do.
    NotSupported,
    /// Its tools are not known yet. The agent asks for them when it first needs them, so no turn says this.
    NotDiscovered,
}

impl LeftOutReason {
    /// The reason in plain words, to stand after "the server … is left out:".
    pub const fn plain(self) -> &'static str {
        match self {
            Self::NeedsConnection => "you have not connected it",
            Self::Expired => "your connection has expired",
            Self::NoUser => "it needs a person's account, and no person requested this work",
            Self::Pending => "an operator has not approved it yet",
            Self::Unreachable => "it could not be reached",
            Self::Timeout => "it did not answer in time",
            Self::NotSupported => "it needs something ThinkWork does not support",
            Self::NotDiscovered => "its tools are not known yet",
        }
    }

    /// The reason for whoever reads about another person's work, to stand after the source's name.
    pub const fn plain_of_requester(self) -> &'static str {
        match self {
            Self::NeedsConnection => "the requester has not connected it",
            Self::Expired => "the requester's connection has expired",
            other => other.plain(),
        }
    }

    /// What the link that mends it says.
    pub const fn act(self) -> &'static str {
        match self {
            Self::NeedsConnection => "Connect",
            Self::Expired => "Reconnect",
            Self::Pending => "Review",
            _ => "Open",
        }
    }

    /// Whether it may be over the next time.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout)
    }

    /// Whether connecting mends it.
    pub const fn is_mended_by_connecting(self) -> bool {
        matches!(self, Self::NeedsConnection | Self::Expired)
    }
}

/// A source whose tools are not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftOut {
    /// The source's id.
    #[schema(value_type = String, example = "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    pub source: ToolSourceId,
    /// The source's slug.
    #[schema(example = "notes")]
    pub server: String,
    /// Why its tools are not offered.
    pub reason: LeftOutReason,
    /// An absolute link to a plain `/me/…/connect` page, where connecting mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://thinkwork.example.com/me/mcp-servers/mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30/connect")]
    pub connect_url: Option<String>,
}
