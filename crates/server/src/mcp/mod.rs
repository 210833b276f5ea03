//! MCP servers: registry, approval, upstream calls, gateway. A tool source. Alone names `rmcp` (so may `demo`).
//!
//! Invariants: a server is used only while its definition is the one an operator approved; a tool only while its
//! definition is the one that was approved; a user's grant is looked up by (tenant, user, server, issuer) and nothing
//! else; nothing of an inbound request is passed on to an upstream; no transaction is held across a call.

pub mod auth;
mod call;
mod checks;
pub mod gateway;
mod grant;
pub mod http;
mod list;
mod mine;
pub mod pages;
mod registry;
mod review;
mod rules;
mod snapshot;
mod store;
mod upstream;

use std::sync::Arc;

use strum::{EnumString, IntoStaticStr};
use thinkwork_database::{Db, Tx};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Clock, CredentialId, Effect, McpServerId, Timestamp, ToolSourceId, UserId};
use url::Url;

use crate::access::Access;
use crate::credentials::{CredentialMeaning, Credentials};
use crate::edge::caller::BoxFuture;
use crate::edge::{InvalidField, NameMap, Named, NamedIds, idempotency};
use crate::oauth::{ConnectionStatus, Deviation, Oauth, ProviderMetadata};
use crate::spaces::{SpaceSource, Spaces};
use crate::tools::facts::{ApprovedTool, SourceFacts, ToolDetails};
use crate::tools::{Call, LeftOutReason, ToolContext, ToolResult, ToolSource};

use auth::SecretHolder;
pub use auth::{Auth, NewAuth};
pub use checks::{TestResult, TestedTool};
pub use registry::{NewServer, ServerUpdate};
pub use review::ApprovalDecision;
pub use upstream::UpstreamError;

/// Silent servers that are remembered at once: beyond that the oldest is asked again.
const TIMEOUTS_CACHED_MAX: u64 = 2_000;
/// How long they are remembered at most.
const TIMEOUT_CACHE_TTL: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a server that was altered waits.
const SERVER_ALTERED: &str = "The stored definition of this server differs from the approved one, and it was not changed in \
                              ThinkWork. Find out who can write to the database, then review and approve the server again.";

/// How often a 401 may cause discovery of a server's authorization server.
const REDISCOVERY_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such server in this tenant, or it was deleted.
    #[error("there is no such MCP server")]
    NotFound,
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Another server of the tenant has this slug.
    #[error("another MCP server has the slug {0}")]
    SlugTaken(String),
    /// The definition is not the one that was reviewed; the current hash.
    #[error("the definition changed; the current hash is {current}")]
    DefinitionChanged {
        /// What to review now.
        current: String,
    },
    /// This tool's definition is not the one that was reviewed.
    #[error("the definition of the tool {0} changed")]
    ToolChanged(String),
    /// `If-Match` named an older version.
    #[error("the MCP server was changed meanwhile; its version is {current}")]
    VersionConflict {
        /// The current version.
        current: i64,
    },
    /// The act does not fit the server's state; a sentence that says what to do first.
    #[error("{0}")]
    NotNow(String),
    /// The upstream did not do what was asked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// Whoever asked may not act any more.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The OAuth core refused.
    #[error(transparent)]
    Oauth(#[from] crate::oauth::Error),
    #[error(transparent)]
    Spaces(#[from] crate::spaces::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
}

/// Whether a server may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum McpServerStatus {
    /// Waits for an operator.
    Pending,
    /// Used while its definition is the approved one.
    Approved,
    /// An operator refused it; a changed definition makes it pending again.
    Rejected,
}

impl McpServerStatus {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A tenant's registration of a remote MCP endpoint.
#[derive(Clone, Debug)]
pub struct McpServer {
    pub id: McpServerId,
    /// For people.
    pub name: String,
    /// The first part of its tools' names.
    pub slug: String,
    /// The endpoint.
    pub url: String,
    /// How it is authorised.
    pub auth: Auth,
    /// What discovery found, as reviewed.
    pub discovered: Option<ProviderMetadata>,
    /// The only tools that may be used, by upstream name; `None`: all.
    pub tool_allowlist: Option<Vec<String>>,
    /// The tenant's key, or the secret of a client registered by hand.
    pub credential: Option<CredentialId>,
    /// Whether it may be used.
    pub status: McpServerStatus,
    /// SHA-256 in hex over what the operator decides, computed from the row whenever it is read.
    pub definition_hash: String,
    /// The hash that was approved last.
    pub approved_hash: Option<String>,
    /// Who decided last, printed.
    pub decided_by: Option<String>,
    pub decided_at: Option<Timestamp>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// The authorization server that was found; part of what is approved.
    pub issuer: Option<String>,
    /// Whether `/mcp` without a Space offers it.
    pub outside_spaces: bool,
    /// What went wrong at the last check, as a sentence for the operator.
    pub last_error: Option<String>,
    /// When it was last asked for its tools.
    pub checked_at: Option<Timestamp>,
    /// Who registered it, printed.
    pub created_by: String,
    pub created_at: Timestamp,
    /// Grows with each change of the registration.
    pub version: i64,
    /// Grows with each change of what is stored of its tools.
    pub tools_version: i64,
}

impl McpServer {
    /// Whether its tools may be offered: approved, and still what was approved.
    pub fn is_usable(&self) -> bool {
        self.status == McpServerStatus::Approved && self.approved_hash.as_deref() == Some(self.definition_hash.as_str())
    }

    /// Whether it was approved and is not what was approved any more, though no operator changed it here.
    pub fn is_altered(&self) -> bool {
        self.status == McpServerStatus::Approved && !self.is_usable()
    }

    /// Its status as it counts: one that was altered waits for an operator.
    pub fn effective_status(&self) -> McpServerStatus {
        if self.is_altered() { McpServerStatus::Pending } else { self.status }
    }

    /// Why it was refused, or why it waits.
    pub fn effective_reason(&self) -> Option<&str> {
        if self.is_altered() { Some(SERVER_ALTERED) } else { self.reason.as_deref() }
    }

    /// What its secret is for, where it takes one.
    pub(crate) fn secret_meaning(&self) -> Option<CredentialMeaning> {
        self.auth.secret_meaning(&SecretHolder {
            source: self.id.into(),
            url: &self.url,
            issuer: self.issuer.as_deref(),
            token_endpoint: self.discovered.as_ref().map(|found| found.token_endpoint.as_str()),
        })
    }

    /// In what it differs from the specifications of authorization.
    pub fn deviations(&self) -> &[Deviation] {
        self.discovered.as_ref().map(|found| found.deviations.as_slice()).unwrap_or_default()
    }
}

/// One tool as the server last described it, and what the operator decided of it.
#[derive(Clone, Debug)]
pub struct ServerTool {
    /// The upstream's own name.
    pub name: String,
    /// What the server says it does; not trusted.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Arc<serde_json::Map<String, serde_json::Value>>,
    /// What else the server says of it; never trusted.
    pub details: Arc<ToolDetails>,
    /// SHA-256 in hex over the whole definition.
    pub definition_hash: String,
    /// The definition that was approved.
    pub approved_hash: Option<String>,
    /// As the operator decided; unset counts as `send`.
    pub effect: Option<Effect>,
    /// Whether a call may be repeated, as the operator decided.
    pub idempotent: bool,
    /// When the server last described it.
    pub seen_at: Timestamp,
    /// Since when the server no longer offers it.
    pub gone_at: Option<Timestamp>,
}

impl ServerTool {
    /// Its definition is not the approved one: no call until an operator approves it.
    pub fn is_held(&self) -> bool {
        self.approved_hash.as_deref() != Some(self.definition_hash.as_str())
    }

    /// Offered by the server, and as approved.
    pub fn is_usable(&self) -> bool {
        self.gone_at.is_none() && !self.is_held()
    }
}

/// A server in a person's list, with what they can do about it.
#[derive(Clone, Debug)]
pub struct MyServer {
    pub server: McpServer,
    /// Their connection's state; `None` where no person's grant is needed.
    pub connection: Option<ConnectionStatus>,
    /// How many tools it offers.
    pub tool_count: usize,
}

#[derive(Clone)]
pub struct Mcp {
    db: Db,
    clock: Clock,
    access: Access,
    credentials: Credentials,
    oauth: Oauth,
    outbound: Outbound,
    spaces: Spaces,
    public_url: Url,
    upstreams: upstream::UpstreamClient,
    /// At which uptime a server, in which version, did not answer whose first question; a hint of this process only.
    silent: moka::sync::Cache<(McpServerId, i64, Option<UserId>), std::time::Duration>,
    stored_tools: list::ToolCache,
    /// Servers whose authorization server was discovered again a moment ago, after a 401.
    rediscovered: moka::sync::Cache<McpServerId, ()>,
}

/// What the ids of this slice are called.
pub fn names<'a>(
    tx: &'a mut Tx,
    ids: &'a NamedIds,
    found: &'a mut NameMap,
) -> BoxFuture<'a, Result<(), thinkwork_database::Error>> {
    Box::pin(async move {
        let sources = ids.tool_sources.iter().copied().filter_map(|source| source.try_into().ok());
        let targets = ids.grant_targets.iter().copied().filter_map(|target| target.try_into().ok());
        let servers: Vec<McpServerId> = sources.chain(targets).collect();
        for (id, name) in store::server_names(tx, &servers).await? {
            found.insert(Named::ToolSource(id.into()), name.clone());
            found.insert(Named::GrantTarget(id.into()), name);
        }
        Ok(())
    })
}

impl Mcp {
    /// Over this database; `public_url` is where connect links lead.
    #[expect(clippy::too_many_arguments, reason = "each is another slice or handle that it stands on")]
    pub fn new(
        db: Db,
        clock: Clock,
        access: Access,
        credentials: Credentials,
        oauth: Oauth,
        outbound: Outbound,
        spaces: Spaces,
        public_url: Url,
    ) -> Self {
        let upstreams = upstream::UpstreamClient::new(outbound.clone(), clock.clone());
        let silent =
            moka::sync::Cache::builder().max_capacity(TIMEOUTS_CACHED_MAX).time_to_live(TIMEOUT_CACHE_TTL).build();
        Self {
            db,
            clock,
            access,
            credentials,
            oauth,
            outbound,
            spaces,
            public_url,
            upstreams,
            silent,
            stored_tools: list::tool_cache(),
            rediscovered: moka::sync::Cache::builder()
                .max_capacity(TIMEOUTS_CACHED_MAX)
                .time_to_live(REDISCOVERY_EVERY)
                .build(),
        }
    }

    /// How many servers wait for approval, for the operator's home.
    pub async fn pending_count(&self, tx: &mut Tx) -> Result<u64, Error> {
        store::server_pending_count(tx).await
    }

    /// Servers that this person could connect and has not, for the member's home.
    pub async fn unconnected(&self, tx: &mut Tx, user: UserId) -> Result<Vec<(McpServerId, String)>, Error> {
        let mine = self.mine(tx, user).await?;
        let open =
            mine.into_iter().filter(|mine| mine.connection.is_some_and(|status| status != ConnectionStatus::Connected));
        Ok(open.map(|mine| (mine.server.id, mine.server.name)).collect())
    }

    /// The plain page where a person connects a server: no flow, user or state in it.
    pub(crate) fn connect_url(&self, server: McpServerId) -> String {
        let base = self.public_url.as_str().trim_end_matches('/');
        format!("{base}/me/mcp-servers/{server}/connect")
    }
}

impl ToolSource for Mcp {
    fn serves(&self, source: ToolSourceId) -> bool {
        McpServerId::try_from(source).is_ok()
    }

    fn facts<'a>(
        &'a self,
        tx: &'a mut Tx,
        context: &'a ToolContext,
        policies: Option<&'a [SpaceSource]>,
        only: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<SourceFacts>, crate::tools::Error>> {
        Box::pin(async move { self.source_facts(tx, context, policies, only).await.map_err(list::into_tools_error) })
    }

    fn discover<'a>(
        &'a self,
        context: &'a ToolContext,
        source: ToolSourceId,
    ) -> BoxFuture<'a, Result<Vec<Arc<ApprovedTool>>, LeftOutReason>> {
        Box::pin(self.source_discover(context, source))
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<ToolResult, crate::tools::Error>> {
        Box::pin(self.run(call))
    }
}
