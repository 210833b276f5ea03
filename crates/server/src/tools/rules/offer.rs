//! The one decision of what is offered: from facts, the Space's policy and the context to tools and what is left out.
//!
//! Invariant: turn, gateway and inspector get their answer from [`offer`] and from nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use thinkwork_primitives::{CredentialSubject, Effect, Requester, Timestamp, ToolSourceId};

use super::{FullName, default_approval, names};
use crate::spaces::{SourcePolicy, SpaceSource};
use crate::tools::facts::{ApprovedTool, GrantStatus, KnownTools, SourceFacts};
use crate::tools::provenance::{GrantAct, GrantedBy, Narrowing, Provenance};
use crate::tools::{CredentialRequirement, LeftOut, LeftOutReason, OfferedTools, Tool, ToolContext};

/// What is offered in this context. `policies`: what serves the Space; `None` outside of Spaces.
///
/// Tools beyond the context's reach are in it, so that a call of one is told why; [`is_in_reach`] says which.
pub(crate) fn offer(
    context: &ToolContext,
    policies: Option<&[SpaceSource]>,
    sources: Vec<SourceFacts>,
) -> OfferedTools {
    let mut offered = OfferedTools::default();
    for facts in sources {
        let Some(admission) = admission(policies, &facts) else { continue };
        match blocked(context, &facts) {
            Some(reason) => offered.left_out.push(LeftOut {
                source: facts.source,
                server: facts.slug,
                tool: None,
                reason,
                detail: None,
                connect_url: facts.connect_url.filter(|_| reason.is_mended_by_connecting()),
            }),
            None => offered.tools.extend(tools_of(context, admission, facts)),
        }
    }
    offered.left_out.sort_by(|one, other| one.server.cmp(&other.server));
    offered.tools = named(offered.tools);
    offered
}

/// Whether this source has to be asked for its tools before it can be decided what of it is offered.
pub(crate) fn needs_discovery(context: &ToolContext, policies: Option<&[SpaceSource]>, facts: &SourceFacts) -> bool {
    admission(policies, facts).is_some() && blocked(context, facts) == Some(LeftOutReason::NotDiscovered)
}

/// Whether the context may call this tool for what it does.
pub(crate) fn is_in_reach(context: &ToolContext, tool: &Tool) -> bool {
    !context.reads_only || tool.effect == Effect::Read
}

/// What lets a source be offered here.
struct Admission<'a> {
    act: GrantAct,
    requester: Requester,
    at: Timestamp,
    /// Of the Space; outside of Spaces there is none.
    policy: Option<&'a SourcePolicy>,
}

/// A source is offered in a Space that it was put into, or outside of Spaces where it has the mark (L42).
fn admission<'a>(policies: Option<&'a [SpaceSource]>, facts: &SourceFacts) -> Option<Admission<'a>> {
    match policies {
        Some(policies) => {
            let found = policies.iter().find(|found| found.source == facts.source)?;
            Some(Admission {
                act: GrantAct::Space,
                requester: found.granted_by.clone(),
                at: found.granted_at,
                policy: Some(&found.policy),
            })
        }
        None => {
            let mark = facts.outside_spaces.as_ref()?;
            Some(Admission {
                act: GrantAct::OutsideSpaces,
                requester: mark.granted_by.clone(),
                at: mark.granted_at,
                policy: None,
            })
        }
    }
}

/// Why this source offers nothing in this context.
fn blocked(context: &ToolContext, facts: &SourceFacts) -> Option<LeftOutReason> {
    if !facts.is_approved {
        return Some(LeftOutReason::Pending);
    }
    if facts.needs == CredentialRequirement::UserGrant {
        if !may_use_own(context) {
            return Some(LeftOutReason::NoUser);
        }
        match facts.grant {
            GrantStatus::Connected(_) => {}
            GrantStatus::Expired => return Some(LeftOutReason::Expired),
            GrantStatus::None => return Some(LeftOutReason::NeedsConnection),
        }
    }
    match facts.tools {
        KnownTools::Known(_) => None,
        KnownTools::Undiscovered => Some(LeftOutReason::NotDiscovered),
        KnownTools::Failed(reason) => Some(reason),
    }
}

/// Whether a person's own credential may be used: only by that very person.
fn may_use_own(context: &ToolContext) -> bool {
    match (context.requester.user(), context.may_use) {
        (Some(requester), CredentialSubject::User { user, .. }) => requester == user,
        _ => false,
    }
}

/// The tools that both lists allow, with the Space's approvals.
fn tools_of(context: &ToolContext, admission: Admission<'_>, facts: SourceFacts) -> Vec<Tool> {
    let KnownTools::Known(known) = facts.tools else { return Vec::new() };
    let of_space = admission.policy.and_then(|policy| policy.tool_allowlist.as_deref());
    let of_registration = facts.tool_allowlist.as_deref();
    let set = |list: Option<&[String]>| list.map(|list| list.iter().cloned().collect::<HashSet<String>>());
    let lists = [set(of_registration), set(of_space)];
    let is_listed = |tool: &ApprovedTool| lists.iter().flatten().all(|list| list.contains(&tool.upstream_name));
    let narrowings = [
        (of_registration.is_some(), Narrowing::Registration),
        (of_space.is_some(), Narrowing::Space),
        (context.reads_only, Narrowing::ReadScope),
    ];
    let provenance = Arc::new(Provenance {
        granted_by: GrantedBy {
            act: admission.act,
            requester: admission.requester,
            at: admission.at,
            credential_subject: subject(context, facts.needs, facts.grant),
        },
        narrowed_by: narrowings.into_iter().filter_map(|(narrows, by)| narrows.then_some(by)).collect(),
    });
    let allowed = known.into_iter().filter(|tool| is_listed(tool));
    let tools = allowed.map(|tool| Tool {
        name: String::new(),
        source: facts.source,
        source_slug: facts.slug.clone(),
        approval: admission
            .policy
            .and_then(|policy| policy.approvals.get(&tool.upstream_name).copied())
            .unwrap_or(default_approval(tool.effect)),
        upstream_name: tool.upstream_name.clone(),
        description: tool.description.clone(),
        input_schema: Arc::clone(&tool.input_schema),
        details: Arc::clone(&tool.details),
        effect: tool.effect,
        idempotent: tool.idempotent,
        definition_hash: tool.definition_hash.clone(),
        needs: facts.needs,
        provenance: Arc::clone(&provenance),
    });
    tools.collect()
}

/// Whose credential a call would use.
fn subject(context: &ToolContext, needs: CredentialRequirement, grant: GrantStatus) -> CredentialSubject {
    match (needs, context.may_use.user(), grant) {
        (CredentialRequirement::TenantKey, ..) => CredentialSubject::Tenant,
        (CredentialRequirement::UserGrant, Some(user), GrantStatus::Connected(connection)) => {
            CredentialSubject::User { user, connection: Some(connection) }
        }
        _ => CredentialSubject::None,
    }
}

/// Gives every tool its name; a tool that a source lists twice is one tool.
fn named(mut tools: Vec<Tool>) -> Vec<Tool> {
    fn order(tool: &Tool) -> (&str, &str, ToolSourceId, &str) {
        (&tool.source_slug, &tool.upstream_name, tool.source, &tool.definition_hash)
    }
    tools.sort_by(|one, other| order(one).cmp(&order(other)));
    tools.dedup_by(|one, other| one.source == other.source && one.upstream_name == other.upstream_name);
    let full: Vec<_> = tools
        .iter()
        .map(|tool| FullName {
            source_slug: &tool.source_slug,
            upstream_name: &tool.upstream_name,
            source: tool.source,
        })
        .collect();
    let names = names(&full);
    for (tool, name) in tools.iter_mut().zip(names) {
        tool.name = name;
    }
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    tools
}
