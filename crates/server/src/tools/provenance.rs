//! Where an offered tool comes from, who granted it and what narrowed it: what a turn stores and what is shown.

use serde::{Deserialize, Serialize};
use thinkwork_primitives::{CredentialSubject, Effect, Requester, Timestamp, ToolSourceId};
use utoipa::ToSchema;

use super::OfferedTools;
use crate::spaces::Approval;

/// Who granted a source's tools, and what narrowed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The act that lets them be offered here.
    pub granted_by: GrantedBy,
    /// Everything that may have taken some away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<Narrowing>,
}

/// The act that lets a source's tools be offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedBy {
    pub act: GrantAct,
    pub requester: Requester,
    pub at: Timestamp,
    /// Whose credential a call would use.
    pub credential_subject: CredentialSubject,
}

/// How a source comes to be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantAct {
    /// An operator put it into the Space.
    Space,
    /// An operator approved it for use outside of Spaces.
    OutsideSpaces,
}

/// What limits a source's tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Narrowing {
    /// The list of allowed tools of its registration.
    Registration,
    /// The list of allowed tools of the Space.
    Space,
    /// A token that may only read.
    ReadScope,
}

/// One source with the tools of it that were offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSource {
    pub source: ToolSourceId,
    /// Its slug at that time.
    pub slug: String,
    /// Who granted it and what narrowed it.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The tools, by name.
    pub tools: Vec<OfferedTool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedTool {
    /// Its full name.
    pub name: String,
    /// What it does to the world.
    pub effect: Effect,
    /// When a person is asked before it runs.
    pub approval: Approval,
}

impl OfferedTools {
    /// What is offered, source by source: compact, because a turn keeps it.
    pub fn by_source(&self) -> Vec<OfferedSource> {
        let mut sources: Vec<OfferedSource> = Vec::new();
        for tool in &self.tools {
            let offered = OfferedTool { name: tool.name.clone(), effect: tool.effect, approval: tool.approval };
            match sources.iter_mut().find(|known| known.source == tool.source) {
                Some(known) => known.tools.push(offered),
                None => sources.push(OfferedSource {
                    source: tool.source,
                    slug: tool.source_slug.clone(),
                    provenance: (*tool.provenance).clone(),
                    tools: vec![offered],
                }),
            }
        }
        sources
    }
}
