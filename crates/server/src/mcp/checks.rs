//! Looking at a server on an operator's behalf: its authorization server, its tools, whether it works.
//!
//! Invariant: a look uses the operator's own grant, never another person's.

use strum::IntoEnumIterator as _;
use thinkwork_primitives::{Actor, Chain, McpServerId, TenantId};

use super::grant::CallError;
use super::upstream::{LIST_DEADLINES, SessionUse};
use super::{
    Auth, Error, Mcp, McpServer, McpServerStatus, SERVER_ALTERED, ServerTool, UpstreamError, registry, rules, store,
};
use crate::audit::{self, Event};
use crate::credentials::UseContext;
use crate::oauth::BearerChallenge;
use crate::tools::{CredentialRequirement, LeftOutReason};

/// One tool that a test found.
#[derive(Clone, Debug)]
pub struct TestedTool {
    /// The upstream's own name.
    pub name: String,
    /// What the server says it does; not trusted.
    pub description: String,
}

/// How a test ended.
#[derive(Clone, Debug, Default)]
pub struct TestResult {
    /// Whether the tools were listed.
    pub ok: bool,
    /// The protocol that was agreed.
    pub protocol_version: Option<String>,
    /// What the server offers.
    pub tools: Vec<TestedTool>,
    /// What is in the way, and the next step.
    pub error: Option<String>,
    /// Where connecting mends it.
    pub connect_url: Option<String>,
}

impl Mcp {
    /// Lists the server's tools as the runtime would, with the operator's own grant where one is needed. Changes
    /// nothing but what is known of the tools.
    ///
    /// # Errors
    /// [`Error::NotFound`]; what is wrong with the server is in the result.
    pub async fn test(&self, tenant: TenantId, id: McpServerId, by: &Actor) -> Result<TestResult, Error> {
        let server = self.find(tenant, id).await?;
        let result = match self.inspect(tenant, &server, by).await {
            Ok((protocol_version, tools)) => TestResult {
                ok: true,
                protocol_version: Some(protocol_version),
                tools: tools
                    .into_iter()
                    .filter(|tool| tool.gone_at.is_none())
                    .map(|tool| TestedTool { name: tool.name, description: tool.description })
                    .collect(),
                ..TestResult::default()
            },
            Err(CallError::Internal(error)) => return Err(error),
            Err(problem) => self.test_failed(tenant, &server, &problem).await?,
        };
        let mut tx = self.db.write(tenant).await?;
        let event = Event::by(by.clone(), "mcp_server.tested").on("mcp_server", id).detail("ok", result.ok);
        audit::record(&mut tx, self.clock.now(), event)?;
        tx.commit().await?;
        Ok(result)
    }

    async fn test_failed(
        &self,
        tenant: TenantId,
        server: &McpServer,
        problem: &CallError,
    ) -> Result<TestResult, Error> {
        let sentence = self.sentence(server, problem);
        if !matches!(
            problem,
            CallError::Unavailable(LeftOutReason::NeedsConnection | LeftOutReason::Expired | LeftOutReason::NoUser)
        ) {
            self.record_error(tenant, server, sentence.clone()).await?;
        }
        let connect_url = match problem {
            CallError::Unavailable(reason) if server.is_usable() => {
                self.left_out(server.id, &server.slug, *reason).connect_url
            }
            _ => None,
        };
        Ok(TestResult { error: Some(sentence), connect_url, ..TestResult::default() })
    }

    /// Asks the server for its tools now; what changed is held.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Upstream`] and [`Error::NotNow`] say what is in the way.
    pub async fn tools_refresh(&self, tenant: TenantId, id: McpServerId, by: &Actor) -> Result<Vec<ServerTool>, Error> {
        let server = self.find(tenant, id).await?;
        match self.inspect(tenant, &server, by).await {
            Ok((_, tools)) => {
                let mut tx = self.db.write(tenant).await?;
                let event = Event::by(by.clone(), "mcp_server.tools_refreshed").on("mcp_server", id);
                audit::record(&mut tx, self.clock.now(), event)?;
                tx.commit().await?;
                Ok(tools)
            }
            Err(CallError::Internal(error)) => Err(error),
            Err(problem) => Err(Error::NotNow(self.sentence(&server, &problem))),
        }
    }

    /// The first look, right after registration or a change: what goes wrong is noted, nothing fails.
    pub(super) async fn initial_discovery(&self, tenant: TenantId, id: McpServerId, by: &Actor) {
        let looked = async {
            let server = self.find(tenant, id).await?;
            if server.auth.uses_oauth() {
                return match self.discover(tenant, &server, by).await {
                    Ok(_) => Ok(()),
                    Err(error) => self.record_error(tenant, &server, sentence_of(&error)).await,
                };
            }
            match self.inspect(tenant, &server, by).await {
                Ok(_) => Ok(()),
                Err(problem) => self.record_error(tenant, &server, self.sentence(&server, &problem)).await,
            }
        };
        let looked: Result<(), Error> = looked.await;
        if let Err(error) = looked {
            tracing::warn!(server = %id, error = %Chain(&error), "the first look at an MCP server failed here");
        }
    }

    async fn inspect(
        &self,
        tenant: TenantId,
        server: &McpServer,
        by: &Actor,
    ) -> Result<(String, Vec<ServerTool>), CallError> {
        let context = UseContext::by(by.clone());
        if server.is_altered() {
            self.suspend_altered(tenant, server.id).await?;
            return Err(CallError::NotNow(SERVER_ALTERED.to_owned()));
        }
        if server.auth.uses_oauth() {
            let found = self.discover(tenant, server, by).await?;
            if server.is_usable() && !found.is_usable() {
                return Err(CallError::Unavailable(LeftOutReason::Pending));
            }
        }
        let listed = self.fetch_tools(tenant, server, by.requester.user(), SessionUse::New, &context).await?;
        let protocol_version = listed.protocol_version.clone();
        let tools = self.snapshot_save(tenant, server, listed, by).await?;
        Ok((protocol_version, tools))
    }

    /// Finds the authorization server of a server with user grants and notes its issuer, which is part of what is
    /// approved. Another issuer than the one before makes the server pending, and its grants need their owners.
    ///
    /// # Errors
    /// [`Error::Oauth`] with what discovery says; [`Error::NotFound`].
    pub(super) async fn discover(&self, tenant: TenantId, server: &McpServer, by: &Actor) -> Result<McpServer, Error> {
        let challenge = self.challenge(tenant, server).await;
        Box::pin(self.discover_from(tenant, server, challenge, by)).await
    }

    /// Discovers the authorization server again after a 401 that no fresh token mends, at most once a minute. Returns whether
    /// the server is no longer as approved. A discovery that fails changes nothing.
    pub(super) async fn authorization_server_moved(
        &self,
        tenant: TenantId,
        server: &McpServer,
        challenge: Option<BearerChallenge>,
        by: &Actor,
    ) -> bool {
        if self.rediscovered.contains_key(&server.id) {
            return false;
        }
        self.rediscovered.insert(server.id, ());
        match Box::pin(self.discover_from(tenant, server, challenge, by)).await {
            Ok(found) => !found.is_usable(),
            Err(error) => {
                tracing::warn!(server = %server.id, error = %Chain(&error), "its authorization server was not found again");
                false
            }
        }
    }

    async fn discover_from(
        &self,
        tenant: TenantId,
        server: &McpServer,
        challenge: Option<BearerChallenge>,
        by: &Actor,
    ) -> Result<McpServer, Error> {
        let accepted = server.auth.accepted_deviations();
        let discovered = self.oauth.discover(&server.url, challenge.as_ref(), accepted).await?;
        let mut tx = self.db.write(tenant).await?;
        let before = registry::find(&mut tx, server.id).await?;
        let mut current = before.clone();
        if current.url != server.url || !current.auth.uses_oauth() {
            return Err(Error::NotNow("The server was changed in the meantime. Reload and try again.".to_owned()));
        }
        let moved = current.issuer.as_ref().is_some_and(|issuer| *issuer != discovered.issuer);
        current.issuer = Some(discovered.issuer.clone());
        current.discovered = Some(discovered);
        current.last_error = None;
        current.checked_at = Some(self.clock.now());
        let hash = rules::definition_hash(&current);
        if hash != current.definition_hash {
            current.definition_hash = hash;
            current.status = McpServerStatus::Pending;
        }
        if moved && let Some(secret) = current.credential.take() {
            // A client secret goes only to the issuer it was entered for.
            self.credentials.revoke(&mut tx, secret, by).await?;
        }
        self.secret_reseal(&mut tx, &before, &current, by).await?;
        store::server_update(&mut tx, &current).await?;
        let event = Event::by(by.clone(), "mcp_server.discovered").on("mcp_server", server.id).detail("moved", moved);
        audit::record(&mut tx, self.clock.now(), event)?;
        if moved {
            self.oauth.suspend_target(&mut tx, server.id.into(), "issuer_changed", by).await?;
        }
        tx.commit().await?;
        self.find(tenant, server.id).await
    }

    /// The `WWW-Authenticate` of the server's 401 to somebody who presents nothing, if it answers so.
    async fn challenge(&self, tenant: TenantId, server: &McpServer) -> Option<BearerChallenge> {
        let grant = super::grant::Grant::Nothing;
        let target = grant.target(tenant, server, SessionUse::New, LIST_DEADLINES);
        match self.upstreams.tools(&target).await {
            Err(UpstreamError::Unauthorized { challenge }) => challenge,
            _ => None,
        }
    }

    /// What is in the way, for the operator, with the next step.
    pub(super) fn sentence(&self, server: &McpServer, problem: &CallError) -> String {
        match (problem, server.auth.needs()) {
            (CallError::Unavailable(LeftOutReason::NeedsConnection | LeftOutReason::NoUser), _)
                if server.is_usable() =>
            {
                "This server requires each person to connect. Connect your account, then test again.".to_owned()
            }
            (CallError::Unavailable(LeftOutReason::NeedsConnection | LeftOutReason::NoUser), _) => {
                "This server requires each person to connect. Approve it, connect your account, then test again."
                    .to_owned()
            }
            (CallError::Unavailable(LeftOutReason::Expired), _) => {
                "Your connection to this server has ended. Reconnect your account, then test again.".to_owned()
            }
            (CallError::Unavailable(LeftOutReason::Pending), _) => {
                "The server now names another authorization server. Review and approve it again; everyone has to reconnect."
                    .to_owned()
            }
            (CallError::Unavailable(_), _) => "The authorization server did not respond. Try again later.".to_owned(),
            (CallError::ClientRefused(code), _) => {
                format!("The authorization server rejected the OAuth client ({code}). Enter its client secret again.")
            }
            (CallError::ClientForgotten, _) => {
                "The authorization server no longer knows ThinkWork as an OAuth client. It is registered again when \
                 somebody connects, or when you approve the server again. Everyone has to reconnect."
                    .to_owned()
            }
            (CallError::NotNow(sentence), _) => sentence.clone(),
            (CallError::Upstream(UpstreamError::Unauthorized { .. }), CredentialRequirement::Nothing) => {
                let modes = Auth::iter().filter(|auth| auth.needs() != CredentialRequirement::Nothing);
                let names: Vec<&str> = modes.map(|auth| auth.description().name).collect();
                format!("The server requires authentication. Change its authentication to: {}.", names.join(" or "))
            }
            (CallError::Upstream(UpstreamError::Unauthorized { .. }), CredentialRequirement::TenantKey) => {
                "The server rejected its secret. Enter a new one.".to_owned()
            }
            (CallError::Upstream(failure), _) => rules::sentence(&failure.to_string()),
            (CallError::Internal(error), _) => sentence_of(error),
        }
    }
}

/// An error of ours as a sentence for the operator, without the inside.
fn sentence_of(error: &Error) -> String {
    match error {
        Error::Oauth(crate::oauth::Error::Refused(text)) => rules::sentence(&rules::plain(text)),
        Error::Oauth(crate::oauth::Error::Unreachable(text)) => rules::plain(&format!(
            "The authorization server did not respond: {}. Try again later.",
            text.trim_end_matches('.')
        )),
        Error::NotNow(text) => text.clone(),
        Error::Upstream(failure) => rules::sentence(&failure.to_string()),
        _ => "The server could not be checked. Test it again.".to_owned(),
    }
}
