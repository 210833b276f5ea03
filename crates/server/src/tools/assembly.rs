//! The one assembly: admission, every source at the same time, the Space's policy, who may use what, names.
//!
//! Invariant: [`of`] is called by `Tools` alone, and nothing of it is kept between two calls.

use futures_util::future::join_all;
use thinkwork_primitives::{CredentialSubject, Effect};

use super::{Ask, Error, LeftOut, LeftOutReason, Needs, Offer, Tool, Tools, rules};
use crate::spaces::SpaceServer;

/// An offered tool and where it comes from.
pub(super) struct Found {
    pub(super) tool: Tool,
    /// The place of its source in the list of sources.
    pub(super) source: usize,
}

/// What one ask gets.
pub(super) struct Assembly {
    /// By name.
    pub(super) tools: Vec<Found>,
    /// By slug.
    pub(super) left_out: Vec<LeftOut>,
}

impl Assembly {
    /// The tool of this name. Where its server is left out, that is told: the requester sees it in the turn anyway.
    pub(super) fn find(self, name: &str) -> Result<Found, Error> {
        if let Some(found) = self.tools.into_iter().find(|found| found.tool.name == name) {
            return Ok(found);
        }
        match self.left_out.into_iter().find(|left_out| left_out.server == rules::slug_of(name)) {
            Some(left_out) => Err(Error::LeftOut(left_out)),
            None => Err(Error::Unknown),
        }
    }
}

/// Assembles the tools of this ask afresh; `only` those of the server with this slug.
pub(super) async fn of(tools: &Tools, ask: &Ask, only: Option<&str>) -> Result<Assembly, Error> {
    let policy = admitted(tools, ask).await?;
    let offers = join_all(tools.sources.iter().map(|source| source.list(ask, policy.as_deref(), only))).await;
    let (mut offered, mut left_out) = (Vec::new(), Vec::new());
    for (source, offer) in offers.into_iter().enumerate() {
        let Offer { tools, left_out: without } = offer?;
        offered.extend(tools.into_iter().map(|tool| Found { tool, source }));
        left_out.extend(without);
    }
    let offered = offered.into_iter().filter_map(|found| allowed(found, policy.as_deref())).collect();
    let offered = only_usable(ask, offered, &mut left_out);
    left_out.sort_by(|one, other| one.server.cmp(&other.server));
    left_out.dedup_by(|one, other| one.server == other.server);
    Ok(Assembly { tools: named(offered), left_out })
}

/// The servers that serve the Space, if the requester may be there now; nothing outside of Spaces, where the marks of
/// the servers count alone.
async fn admitted(tools: &Tools, ask: &Ask) -> Result<Option<Vec<SpaceServer>>, Error> {
    let mut tx = tools.db.read(ask.tenant).await?;
    let user = ask.requester.user();
    if let Some(user) = user
        && !tools.access.is_active(&mut tx, user).await.map_err(other)?
    {
        return Err(Error::NotAdmitted);
    }
    let Some(space) = ask.space else { return Ok(None) };
    let served = tools.spaces.served(&mut tx, space, user).await.map_err(other)?;
    served.map(Some).ok_or(Error::NotAdmitted)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

/// The tool with the Space's approval policy, if its server serves the Space with it (L42). Outside of Spaces the
/// default of its effect holds.
fn allowed(mut found: Found, servers: Option<&[SpaceServer]>) -> Option<Found> {
    let Some(servers) = servers else {
        found.tool.approval = None;
        return Some(found);
    };
    let server = servers.iter().find(|server| server.server == found.tool.server)?;
    if let Some(allowlist) = &server.tool_allowlist
        && !allowlist.contains(&found.tool.upstream_name)
    {
        return None;
    }
    found.tool.approval =
        server.approvals.get(&found.tool.upstream_name).and_then(|word| word.as_str()).map(str::to_owned);
    Some(found)
}

/// Whether the ask may call this tool for what it does.
pub(super) fn in_reach(ask: &Ask, tool: &Tool) -> bool {
    !ask.reads_only || tool.effect == Effect::Read
}

/// Whether a user's own credential may be used for this ask: only by that very user.
fn may_use_own(ask: &Ask) -> bool {
    match (ask.requester.user(), ask.may_use) {
        (Some(requester), CredentialSubject::User { user, .. }) => requester == user,
        _ => false,
    }
}

/// Takes out what needs a person's grant where none may be used, and says so.
fn only_usable(ask: &Ask, offered: Vec<Found>, left_out: &mut Vec<LeftOut>) -> Vec<Found> {
    if may_use_own(ask) {
        return offered;
    }
    for missing in left_out.iter_mut() {
        if matches!(missing.reason, LeftOutReason::NeedsConnection | LeftOutReason::Expired) {
            // Without a person there is nobody who could connect.
            *missing = LeftOut { server: missing.server.clone(), reason: LeftOutReason::NoUser, connect_url: None };
        }
    }
    let (usable, not): (Vec<_>, Vec<_>) = offered.into_iter().partition(|found| found.tool.needs != Needs::UserGrant);
    left_out.extend(not.into_iter().map(|found| LeftOut {
        server: found.tool.server_slug,
        reason: LeftOutReason::NoUser,
        connect_url: None,
    }));
    usable
}

/// Gives every tool its name; a tool that a source lists twice is one tool.
fn named(mut offered: Vec<Found>) -> Vec<Found> {
    offered.sort_by_cached_key(|found| {
        let tool = &found.tool;
        (tool.server_slug.clone(), tool.upstream_name.clone(), tool.server, found.source, tool.definition_hash.clone())
    });
    offered.dedup_by(|one, other| {
        one.tool.server == other.tool.server && one.tool.upstream_name == other.tool.upstream_name
    });
    let full: Vec<_> = offered
        .iter()
        .map(|Found { tool, .. }| rules::FullName {
            server_slug: &tool.server_slug,
            upstream_name: &tool.upstream_name,
            server: tool.server,
        })
        .collect();
    let names = rules::names(&full);
    for (found, name) in offered.iter_mut().zip(names) {
        found.tool.name = name;
    }
    offered.sort_by(|one, other| one.tool.name.cmp(&other.tool.name));
    offered
}
