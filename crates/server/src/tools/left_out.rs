//! Sources and tools that are not offered, and why.

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
    /// One tool, whose input schema the model's provider does not take.
    SchemaNotSupported,
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
            Self::SchemaNotSupported => "the model cannot use its input schema",
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

/// A source whose tools are not offered, or one tool that is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "source": "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30",
    "server": "notes",
    "reason": "needs_connection",
    "connect_url": "https://thinkwork.example.com/me/mcp-servers/mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30/connect"
}))]
pub struct LeftOut {
    /// The source's id.
    #[schema(value_type = String, example = "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    pub source: ToolSourceId,
    /// The source's slug.
    #[schema(example = "notes")]
    pub server: String,
    /// The full name of the tool, where one tool is left out and not the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "notes__search")]
    pub tool: Option<String>,
    /// Why it is not offered.
    pub reason: LeftOutReason,
    /// What is known beyond the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "it refers to itself at #/$defs/Filter")]
    pub detail: Option<String>,
    /// An absolute link to a plain `/me/…/connect` page, where connecting mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://thinkwork.example.com/me/mcp-servers/mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30/connect")]
    pub connect_url: Option<String>,
}

impl LeftOut {
    /// The name of what is left out: of the tool, where it is one.
    pub fn name(&self) -> &str {
        self.tool.as_deref().unwrap_or(&self.server)
    }

    /// What is left out, in words: `server` or `tool`.
    pub const fn kind(&self) -> &'static str {
        if self.tool.is_some() { "tool" } else { "server" }
    }

    /// These words for the reason, with what is known beyond it.
    pub fn with_detail(&self, reason: &str) -> String {
        match &self.detail {
            Some(detail) => format!("{reason}: {detail}"),
            None => reason.to_owned(),
        }
    }
}
