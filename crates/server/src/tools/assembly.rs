//! The one assembly: admission, the facts of every source, what is not known yet, and then the rules.
//!
//! Invariant: [`assemble`] is called by `Tools` alone, and nothing of it is kept between two calls.

use std::sync::Arc;

use thinkwork_database::Tx;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::facts::{KnownTools, SourceFacts};
use super::{Error, LeftOutReason, OfferedTools, ToolContext, ToolSource, Tools, rules};
use crate::spaces::SpaceSource;

/// What to do about a source that was never asked for its tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undiscovered {
    /// Ask it now, with the requester's credential where it needs one.
    Discover,
    /// Only say so.
    Report,
}

/// Assembles the tools of this context afresh; `only` those of the source with this slug.
pub(super) async fn assemble(
    tools: &Tools,
    context: &ToolContext,
    only: Option<&str>,
    undiscovered: Undiscovered,
) -> Result<OfferedTools, Error> {
    let mut tx = tools.db.read(context.tenant).await?;
    let policies = admitted(tools, &mut tx, context).await?;
    offered_by(&tools.sources, tx, context, policies.as_deref(), only, undiscovered).await
}

/// The same for all sources and in this transaction; `None` where one has to be asked for its tools.
pub(super) async fn assemble_known(
    tools: &Tools,
    tx: &mut Tx,
    context: &ToolContext,
) -> Result<Option<OfferedTools>, Error> {
    let policies = admitted(tools, tx, context).await?;
    let facts = facts_of(&tools.sources, tx, context, policies.as_deref(), None).await?;
    if facts.iter().any(|facts| rules::needs_discovery(context, policies.as_deref(), facts)) {
        return Ok(None);
    }
    Ok(Some(rules::offer(context, policies.as_deref(), facts)))
}

/// The assembly for a context that is admitted.
pub(super) async fn offered_by(
    sources: &[Arc<dyn ToolSource>],
    mut tx: Tx,
    context: &ToolContext,
    policies: Option<&[SpaceSource]>,
    only: Option<&str>,
    undiscovered: Undiscovered,
) -> Result<OfferedTools, Error> {
    let mut facts = facts_of(sources, &mut tx, context, policies, only).await?;
    drop(tx);
    if undiscovered == Undiscovered::Discover {
        discover(sources, context, policies, &mut facts).await;
    }
    Ok(rules::offer(context, policies, facts))
}

async fn facts_of(
    sources: &[Arc<dyn ToolSource>],
    tx: &mut Tx,
    context: &ToolContext,
    policies: Option<&[SpaceSource]>,
    only: Option<&str>,
) -> Result<Vec<SourceFacts>, Error> {
    let mut facts = Vec::new();
    for source in sources {
        facts.extend(source.facts(tx, context, policies, only).await?);
    }
    Ok(facts)
}

/// Asks the sources whose tools are not known, side by side and each with its own deadline, so that one that fails holds
/// up nobody.
async fn discover(
    sources: &[Arc<dyn ToolSource>],
    context: &ToolContext,
    policies: Option<&[SpaceSource]>,
    facts: &mut [SourceFacts],
) {
    // Each in a task of its own: what it learns it writes, and a task writes in one transaction at a time.
    let mut asked = JoinSet::new();
    for (index, unknown) in facts.iter().enumerate() {
        if !rules::needs_discovery(context, policies, unknown) {
            continue;
        }
        if let Some(source) = sources.iter().find(|source| source.serves(unknown.source)) {
            let source = Arc::clone(source);
            let context = context.clone();
            let id = unknown.source;
            let found = async move { (index, source.discover(&context, id).await) };
            asked.spawn(found.in_current_span());
        }
    }
    while let Some(done) = asked.join_next().await {
        let Ok((index, found)) = done else { continue };
        if let Some(known) = facts.get_mut(index) {
            known.tools = found.map_or_else(KnownTools::Failed, KnownTools::Known);
        }
    }
    // A task that was cut off has no answer.
    for unknown in facts.iter_mut().filter(|facts| rules::needs_discovery(context, policies, facts)) {
        unknown.tools = KnownTools::Failed(LeftOutReason::Unreachable);
    }
}

/// The sources that serve the Space, if the requester may be there now; nothing outside of Spaces, where the marks of
/// the sources count alone.
async fn admitted(tools: &Tools, tx: &mut Tx, context: &ToolContext) -> Result<Option<Vec<SpaceSource>>, Error> {
    let user = context.requester.user();
    if let Some(user) = user
        && !tools.access.is_active(tx, user).await.map_err(other)?
    {
        return Err(Error::NotAdmitted);
    }
    let Some(space) = context.space else { return Ok(None) };
    let served = tools.spaces.served(tx, space, user).await.map_err(other)?;
    served.map(Some).ok_or(Error::NotAdmitted)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
