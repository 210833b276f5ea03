//! Tools for turns and gateway: sources, naming, policy, effects, marks, left-out reasons. One assembly for all.
//!
//! Invariants: [`Tools::assemble`] and [`Tools::call`] are the only way to a tool; a tool that is not offered answers
//! like one that does not exist; work without a person never gets user-owned tools; with both marks every `send`
//! needs approval of that very call.

mod assembly;
pub mod facts;
pub mod http;
mod left_out;
pub mod pages;
mod provenance;
pub mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};
use thinkwork_database::{Db, Tx};
use thinkwork_primitives::{
    ActingClient, Actor, CredentialId, CredentialSubject, Effect, Marks, Requester, SpaceId, StepId, TenantId,
    ThreadId, ToolSourceId, TraceContext, TurnId,
};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::edge::caller::BoxFuture;
use crate::spaces::{Approval, SpaceSource, Spaces};
use assembly::Undiscovered;
use facts::{ApprovedTool, SourceFacts, ToolDetails};

pub use left_out::{LeftOut, LeftOutReason};
pub use provenance::{GrantAct, GrantedBy, Narrowing, OfferedSource, OfferedTool, Provenance};

/// For whom and where tools are asked for. Built by `turns` from the turn record and by the gateway from its caller.
#[derive(Clone, Debug)]
pub struct ToolContext {
    pub tenant: TenantId,
    /// The Space whose policy holds; `None`: outside of Spaces, with the servers that are marked for it.
    pub space: Option<SpaceId>,
    pub requester: Requester,
    /// The software that acted.
    pub client: ActingClient,
    /// Whose credential may be used: the requester's if a person, else `None` or `Tenant`.
    pub may_use: CredentialSubject,
    /// Whether tools that only read are all there is for it: for a token with scope `read`.
    pub reads_only: bool,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// Which trace the calls belong to.
    pub trace: Option<TraceContext>,
    /// Ends its calls when their results are no longer wanted: the turn was cancelled, or the client is gone.
    pub cancellation: CancellationToken,
}

impl ToolContext {
    /// As whom tools are called, and with which software.
    pub fn actor(&self) -> Actor {
        Actor { requester: self.requester.clone(), client: self.client }
    }
}

/// Whose credential a tool needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialRequirement {
    /// Nobody's.
    Nothing,
    /// The tenant's key for the server.
    TenantKey,
    /// The requester's own grant or headers.
    UserGrant,
}

/// One offered tool.
#[derive(Clone, Debug)]
pub struct Tool {
    /// `<server>__<tool>`, at most 64 of `[A-Za-z0-9_-]`, unique in the offer.
    pub name: String,
    /// Where it comes from.
    pub source: ToolSourceId,
    /// The source's slug.
    pub source_slug: String,
    /// The upstream's own name.
    pub upstream_name: String,
    /// The upstream's description, as approved.
    pub description: String,
    /// JSON Schema of the arguments, as approved.
    pub input_schema: Arc<Map<String, Value>>,
    /// What the upstream says of it besides, as approved.
    pub details: Arc<ToolDetails>,
    /// What it does to the world, as the operator recorded it; `Send` where unset.
    pub effect: Effect,
    /// Whether a second call with the same arguments changes nothing more, as the operator recorded it.
    pub idempotent: bool,
    /// The hash of the approved definition.
    pub definition_hash: String,
    pub needs: CredentialRequirement,
    /// When a person is asked: as the Space's policy says for this tool, else the default of its effect.
    pub approval: Approval,
    /// Who granted it and what narrowed it; the same for all tools of a source.
    pub provenance: Arc<Provenance>,
}

/// What is offered, and what is not.
#[derive(Clone, Debug, Default)]
pub struct OfferedTools {
    /// The tools, by name.
    pub tools: Vec<Tool>,
    /// The sources without tools here, by slug.
    pub left_out: Vec<LeftOut>,
}

impl OfferedTools {
    /// Without the tools that do more than the ask may.
    fn in_reach_of(mut self, context: &ToolContext) -> Self {
        self.tools.retain(|tool| rules::is_in_reach(context, tool));
        self
    }

    /// The tool of this name. Where its source is left out, the error says so: the requester sees it in the turn anyway.
    fn find(self, name: &str) -> Result<Tool, Error> {
        if let Some(tool) = self.tools.into_iter().find(|tool| tool.name == name) {
            return Ok(tool);
        }
        match self.left_out.into_iter().find(|left_out| left_out.server == rules::slug_of(name)) {
            Some(left_out) => Err(Error::LeftOut(left_out)),
            None => Err(Error::Unknown),
        }
    }
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct ToolResult {
    /// MCP content blocks, scrubbed.
    pub content: Vec<Value>,
    /// MCP structured content, scrubbed.
    pub structured: Option<Value>,
    /// MCP `_meta`, scrubbed.
    pub meta: Option<Map<String, Value>>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
    /// Whose credential was opened.
    pub used: UsedCredential,
}

/// The credential that a call opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedCredential {
    pub subject: CredentialSubject,
    /// Which, if any.
    pub credential: Option<CredentialId>,
    pub version: Option<i64>,
}

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such tool for this caller here: also a hidden, held or revoked one.
    #[error("there is no tool of that name here")]
    Unknown,
    /// Who asks is not active or may not be in this Space (any more): to them there is none.
    #[error("there is no such Space for who asks")]
    NotAdmitted,
    /// This very call needs a person's approval first.
    #[error("this call needs approval first")]
    ApprovalRequired,
    /// The tool does more than read, and no more was asked for.
    #[error("this tool does more than read")]
    ReadsOnly,
    /// The arguments are too large or not what the tool takes.
    #[error("the arguments do not fit: {0}")]
    Arguments(String),
    /// The server's tools are left out, and why.
    #[error("the server {} is left out", .0.server)]
    LeftOut(LeftOut),
    /// The upstream did not answer usefully; `unknown_outcome` when it may have acted.
    #[error("{message}")]
    Upstream {
        /// One sentence, scrubbed.
        message: String,
        /// Whether the call may have been carried out.
        unknown_outcome: bool,
    },
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// A source failed inside.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What a source must know to call one of its tools.
pub struct Call {
    /// For whom and where.
    pub context: ToolContext,
    /// Which tool, as assembled.
    pub tool: Tool,
    /// The checked arguments.
    pub arguments: Map<String, Value>,
    /// The durable work this call belongs to.
    pub receipt: Receipt,
}

/// The durable work a call belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Receipt {
    /// A step row that is already committed as `running`; what is opened is written into it in the same transaction
    /// as the audit event.
    Step(StepId),
    /// A gateway call: the audit event is the record.
    Gateway,
}

/// Where tools come from. Implemented by `mcp`.
pub trait ToolSource: Send + Sync {
    /// Whether this is one of its ids.
    fn serves(&self, source: ToolSourceId) -> bool;
    /// What is known of those that serve the ask's Space by `policies`, or outside of Spaces of those with the
    /// mark. `only`: of the one with this slug and of no other. Reads and does nothing else.
    fn facts<'a>(
        &'a self,
        tx: &'a mut Tx,
        context: &'a ToolContext,
        policies: Option<&'a [SpaceSource]>,
        only: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<SourceFacts>, Error>>;
    /// Asks a source for its tools, with the requester's credential where it needs one, and keeps the answer.
    fn discover<'a>(
        &'a self,
        context: &'a ToolContext,
        source: ToolSourceId,
    ) -> BoxFuture<'a, Result<Vec<Arc<ApprovedTool>>, LeftOutReason>>;
    /// Calls one tool that [`Tools::call`] has checked.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<ToolResult, Error>>;
}

/// Who wrote a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOrigin {
    /// The requester, in a browser session: the approval of that very call.
    Person,
    /// A model, or a person through a token.
    Software,
}

#[derive(Clone)]
pub struct Tools {
    db: Db,
    access: Access,
    spaces: Spaces,
    sources: Arc<Vec<Arc<dyn ToolSource>>>,
}

impl Tools {
    /// Over these sources.
    pub fn new(db: Db, access: Access, spaces: Spaces, sources: Vec<Arc<dyn ToolSource>>) -> Self {
        Self { db, access, spaces, sources: Arc::new(sources) }
    }

    /// The tools of this ask, namespaced, collision-free, and what was left out. The one assembly for every channel.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`]; a source's own failure.
    pub async fn assemble(&self, context: &ToolContext) -> Result<OfferedTools, Error> {
        let offered = assembly::assemble(self, context, None, Undiscovered::Discover).await?;
        Ok(offered.in_reach_of(context))
    }

    /// The same within a transaction; `None` where a source would have to be asked for its tools first, which a transaction
    /// does not wait for.
    pub async fn assemble_known(&self, tx: &mut Tx, context: &ToolContext) -> Result<Option<OfferedTools>, Error> {
        let offered = assembly::assemble_known(self, tx, context).await?;
        Ok(offered.map(|offered| offered.in_reach_of(context)))
    }

    /// What [`Tools::assemble`] would answer now, without asking a source: it leaves nothing behind.
    pub async fn inspect(&self, context: &ToolContext) -> Result<OfferedTools, Error> {
        let offered = assembly::assemble(self, context, None, Undiscovered::Report).await?;
        Ok(offered.in_reach_of(context))
    }

    /// The tool of this name in a fresh assembly, without calling it: for recording the step first. Of the one source
    /// that the name belongs to, so that a call costs the same however many serve the Space.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`]; [`Error::LeftOut`] where its server is left out, [`Error::Unknown`] where there is no such
    /// tool here.
    pub async fn find(&self, context: &ToolContext, name: &str) -> Result<Tool, Error> {
        let only = Some(rules::slug_of(name));
        assembly::assemble(self, context, only, Undiscovered::Discover).await?.find(name)
    }

    /// Finds `name` in a fresh assembly, re-checks everything (requester active, admitted to the Space, policy, effect
    /// x marks x approval) and calls it. `typed` by the person: the approval of that very call.
    ///
    /// # Errors
    /// As [`Tools::find`]; [`Error::Arguments`]; [`Error::ApprovalRequired`], then nothing was sent;
    /// [`Error::Upstream`].
    pub async fn call(
        &self,
        context: &ToolContext,
        name: &str,
        arguments: Map<String, Value>,
        marks: Marks,
        typed: CallOrigin,
        receipt: Receipt,
    ) -> Result<ToolResult, Error> {
        let tool = self.find(context, name).await?;
        if !rules::is_in_reach(context, &tool) {
            return Err(Error::ReadsOnly);
        }
        let arguments = checked(Arc::clone(&tool.input_schema), arguments).await?;
        // Only a person can have typed a call; whoever claims otherwise gets no approval for it.
        let typed = if context.requester.user().is_some() { typed } else { CallOrigin::Software };
        match rules::decide(tool.effect, marks, tool.approval, typed) {
            rules::Decision::Run => {}
            rules::Decision::NeedsApproval => return Err(Error::ApprovalRequired),
        }
        let source = self.sources.iter().find(|source| source.serves(tool.source)).ok_or(Error::Unknown)?;
        source.call(&Call { context: context.clone(), tool, arguments, receipt }).await
    }
}

/// Arguments that fit the schema, without those that are absent. On a thread for blocking work, since a server chose the
/// schema and a model the arguments.
async fn checked(schema: Arc<Map<String, Value>>, arguments: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let checking = tokio::task::spawn_blocking(move || {
        let arguments = rules::without_absent(&schema, arguments);
        rules::check_arguments(&schema, &arguments).map(|()| arguments)
    });
    checking.await.map_err(|error| Error::Other(Box::new(error)))?.map_err(Error::Arguments)
}
