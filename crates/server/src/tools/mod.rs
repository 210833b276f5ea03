//! Tools for turns and gateway: sources, naming, policy, effects, marks, left-out reasons. One assembly for all.
//!
//! Invariants: [`Tools::assemble`] and [`Tools::call`] are the only way to a tool; a tool that is not offered answers
//! like one that does not exist; work without a person never gets user-owned tools; with both marks every `send`
//! needs approval of that very call.

mod assembly;
pub mod rules;

use std::sync::Arc;

use serde_json::{Map, Value};
use thinkwork_database::Db;
use thinkwork_primitives::{
    CredentialId, CredentialSubject, Effect, Marks, McpServerId, Requester, SpaceId, StepId, TenantId, ThreadId, TurnId,
};

use crate::access::Access;
use crate::edge::caller::Boxed;
use crate::spaces::{SpaceServer, Spaces};

/// For whom and where tools are asked for. Built by `turns` from the turn record and by the gateway from its caller.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The tenant.
    pub tenant: TenantId,
    /// The Space whose policy holds; `None`: outside of Spaces, with the servers that are marked for it.
    pub space: Option<SpaceId>,
    /// On whose request.
    pub requester: Requester,
    /// Whose credential may be used: the requester's if a person, else `None` or `Tenant`.
    pub may_use: CredentialSubject,
    /// Whether tools that only read are all there is for it: for a token with scope `read`.
    pub reads_only: bool,
    /// In which thread.
    pub thread: Option<ThreadId>,
    /// In which turn.
    pub turn: Option<TurnId>,
}

/// Whose credential a tool needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
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
    /// `<server>__<tool>`, at most 64 of `[A-Za-z0-9_-]`, unique in the offer. The assembly writes it.
    pub name: String,
    /// Its server.
    pub server: McpServerId,
    /// The server's slug.
    pub server_slug: String,
    /// The upstream's own name.
    pub upstream_name: String,
    /// The upstream's description, as approved.
    pub description: String,
    /// JSON Schema of the arguments, as approved.
    pub input_schema: Value,
    /// What it does to the world, as the operator recorded it; `Send` where unset.
    pub effect: Effect,
    /// Whether a second call with the same arguments changes nothing more, as the operator recorded it.
    pub idempotent: bool,
    /// The hash of the approved definition.
    pub definition_hash: String,
    /// Whose credential it needs.
    pub needs: Needs,
    /// As the Space's policy says for this tool: `never`, `once`, `always`; `None` means the default of the effect.
    /// The assembly writes it.
    pub approval: Option<String>,
}

/// Why a server's tools are not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl LeftOutReason {
    /// The word that the API shows and that is stored.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NeedsConnection => "needs_connection",
            Self::Expired => "expired",
            Self::NoUser => "no_user",
            Self::Pending => "pending",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::NotSupported => "not_supported",
        }
    }

    /// The reason in plain words, to stand after "the server … is left out:".
    pub const fn plain(self) -> &'static str {
        match self {
            Self::NeedsConnection => "you have not connected it",
            Self::Expired => "your connection has expired",
            Self::NoUser => "it needs a person's own account, and no person asked for this work",
            Self::Pending => "an operator has not approved it yet",
            Self::Unreachable => "it could not be reached",
            Self::Timeout => "it did not answer in time",
            Self::NotSupported => "it needs something ThinkWork does not support",
        }
    }
}

/// A server whose tools are not offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The server's slug.
    pub server: String,
    /// Why.
    pub reason: LeftOutReason,
    /// An absolute link to a plain `/me/…/connect` page, where connecting mends it.
    pub connect_url: Option<String>,
}

/// What is offered, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The tools, by name.
    pub tools: Vec<Tool>,
    /// The servers without tools here, by slug.
    pub left_out: Vec<LeftOut>,
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// MCP content blocks, scrubbed.
    pub content: Vec<Value>,
    /// MCP structured content, scrubbed.
    pub structured: Option<Value>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
    /// Whose credential was opened.
    pub used: Used,
}

/// The credential that a call opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Whose.
    pub subject: CredentialSubject,
    /// Which, if any.
    pub credential: Option<CredentialId>,
    /// In which version.
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
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// A source failed inside.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// What a source must know to call one of its tools.
pub struct Call {
    /// For whom and where.
    pub ask: Ask,
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
    /// All approved, allowed tools of this source for this ask, and the servers left out with reasons. `served` is what
    /// serves the ask's Space; `None` outside of Spaces. `only`: of the servers with this slug and of no other.
    fn list<'a>(
        &'a self,
        ask: &'a Ask,
        served: Option<&'a [SpaceServer]>,
        only: Option<&'a str>,
    ) -> Boxed<'a, Result<Offer, Error>>;
    /// Calls one tool that [`Tools::call`] has checked.
    fn call<'a>(&'a self, call: &'a Call) -> Boxed<'a, Result<Outcome, Error>>;
}

/// Who wrote a tool call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The requester, in a browser session: the approval of that very call.
    ByPerson,
    /// A model, or a person through a token.
    Otherwise,
}

/// The slice.
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
    pub async fn assemble(&self, ask: &Ask) -> Result<Offer, Error> {
        let assembly = assembly::of(self, ask, None).await?;
        let tools = assembly.tools.into_iter().map(|found| found.tool).filter(|tool| assembly::in_reach(ask, tool));
        Ok(Offer { tools: tools.collect(), left_out: assembly.left_out })
    }

    /// The tool of this name in a fresh assembly, without calling it: for recording the step first.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`]; [`Error::LeftOut`] where its server is left out, [`Error::Unknown`] where there is no such
    /// tool here.
    pub async fn find(&self, ask: &Ask, name: &str) -> Result<Tool, Error> {
        Ok(self.look_up(ask, name).await?.tool)
    }

    /// Of the one server that the name belongs to, so that a call costs the same however many serve the Space.
    async fn look_up(&self, ask: &Ask, name: &str) -> Result<assembly::Found, Error> {
        assembly::of(self, ask, Some(rules::slug_of(name))).await?.find(name)
    }

    /// Finds `name` in a fresh assembly, re-checks everything (requester active, admitted to the Space, policy, effect
    /// x marks x approval) and calls it. `typed` by the person: the approval of that very call.
    ///
    /// # Errors
    /// As [`Tools::find`]; [`Error::Arguments`]; [`Error::ApprovalRequired`], then nothing was sent;
    /// [`Error::Upstream`].
    pub async fn call(
        &self,
        ask: &Ask,
        name: &str,
        arguments: Map<String, Value>,
        marks: Marks,
        typed: Typed,
        receipt: Receipt,
    ) -> Result<Outcome, Error> {
        let found = self.look_up(ask, name).await?;
        if !assembly::in_reach(ask, &found.tool) {
            return Err(Error::ReadsOnly);
        }
        rules::check_arguments(&found.tool.input_schema, &arguments).map_err(Error::Arguments)?;
        // Only a person can have typed a call; whoever claims otherwise gets no approval for it.
        let typed = if ask.requester.user().is_some() { typed } else { Typed::Otherwise };
        match rules::decide(found.tool.effect, marks, found.tool.approval.as_deref(), typed) {
            rules::Decision::Run => {}
            rules::Decision::NeedsApproval => return Err(Error::ApprovalRequired),
        }
        let source = self.sources.get(found.source).ok_or(Error::Unknown)?;
        source.call(&Call { ask: ask.clone(), tool: found.tool, arguments, receipt }).await
    }
}
