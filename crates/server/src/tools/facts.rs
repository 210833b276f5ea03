//! What the rules of the assembly decide about: what is known of each source, read once.
//!
//! Invariant: reading facts opens no credential, asks no upstream and writes nothing, so that whoever only wants to see
//! what would be offered leaves no trace.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thinkwork_primitives::{ConnectionId, Effect, Requester, Timestamp, ToolSourceId};

use super::{CredentialRequirement, LeftOutReason};

/// What is known of one source, for one context.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    pub source: ToolSourceId,
    /// The first part of its tools' names.
    pub slug: String,
    /// Whether an operator approved it as it is now.
    pub is_approved: bool,
    /// Whose credential its tools need.
    pub needs: CredentialRequirement,
    /// The grant of the person whose credential may be used. It counts where `needs` says so.
    pub grant: GrantStatus,
    /// The only tools that its registration allows, by upstream name; `None`: all.
    pub tool_allowlist: Option<Vec<String>>,
    /// Who let it be offered outside of Spaces; `None`: nobody did.
    pub outside_spaces: Option<OutsideSpaces>,
    /// What is known of its tools.
    pub tools: KnownTools,
    /// The absolute address of the page where a person connects it, where connecting is possible.
    pub connect_url: Option<String>,
}

/// A person's grant at a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantStatus {
    /// A call would get a token.
    Connected(ConnectionId),
    /// Its owner has to connect again.
    Expired,
    None,
}

/// Who let a source be offered outside of Spaces.
#[derive(Clone, Debug)]
pub struct OutsideSpaces {
    /// Who approved it with that mark.
    pub granted_by: Requester,
    pub granted_at: Timestamp,
}

/// What is known of a source's tools.
#[derive(Clone, Debug)]
pub enum KnownTools {
    /// The source was not asked yet; the assembly asks it, the inspector does not.
    Undiscovered,
    /// Those that are there and as approved.
    Known(Vec<Arc<ApprovedTool>>),
    /// It was asked a moment ago and had no answer.
    Failed(LeftOutReason),
}

/// What a source says of its tool beside what a model needs. It is shown and passed on, and decides nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ToolDetails {
    /// A name for people.
    pub title: Option<String>,
    /// JSON Schema of the structured result.
    pub output_schema: Option<Arc<Map<String, Value>>>,
    /// Hints about what it does, as in MCP; null where there are none.
    pub annotations: Value,
    /// Pictures for it, as in MCP.
    pub icons: Option<Value>,
    /// `_meta` as in MCP.
    pub meta: Option<Map<String, Value>>,
}

#[derive(Clone, Debug)]
pub struct ApprovedTool {
    /// The upstream's own name.
    pub upstream_name: String,
    /// The upstream's description.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: Arc<Map<String, Value>>,
    pub details: Arc<ToolDetails>,
    /// What it does to the world, as the operator recorded it; `Send` where unset.
    pub effect: Effect,
    /// Whether a second call with the same arguments changes nothing more, as the operator recorded it.
    pub idempotent: bool,
    /// The hash of the approved definition.
    pub definition_hash: String,
}
