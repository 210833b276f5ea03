//! Agreeing on a protocol: the newest revision first, and `initialize` where the server does not know it.
//!
//! The result is remembered per process, server and version of its registration, for a day. An operator's test or refresh,
//! and any answer that contradicts it, negotiate again.

use std::time::Duration;

use rmcp::model::{ClientCapabilities, DiscoverResult, InitializeRequestParams, InitializeResult, ProtocolVersion};
use serde_json::{Map, json};
use thinkwork_primitives::{McpServerId, TenantId};
use tokio::time::Instant;

use super::wire::{self, RequestHeaders};
use super::{Exchange, McpRequest, Session, UpstreamClient, UpstreamError, UpstreamTarget, client, within};

/// Servers whose lifecycle is remembered at once, beyond that the least used is forgotten.
const LIFECYCLES_CACHED_MAX: u64 = 10_000;
/// How long it is remembered, so that an upgraded server is noticed.
const LIFECYCLE_TTL: Duration = Duration::from_secs(24 * 3_600);
/// How long a server may take to answer a request that it may not know.
const DISCOVER_DEADLINE: Duration = Duration::from_secs(4);

/// How a client begins at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// `initialize` first: 2025-11-25 and older.
    Initialize,
    /// Each request by itself: 2026-07-28.
    Stateless,
}

/// What is remembered of each server.
pub(super) type Lifecycles = moka::sync::Cache<LifecycleKey, Lifecycle>;
type LifecycleKey = (TenantId, McpServerId, i64);

pub(super) fn lifecycles() -> Lifecycles {
    moka::sync::Cache::builder().max_capacity(LIFECYCLES_CACHED_MAX).time_to_live(LIFECYCLE_TTL).build()
}

pub(super) const fn lifecycle_key(target: &UpstreamTarget<'_>) -> LifecycleKey {
    (target.key.tenant, target.key.server, target.key.server_version)
}

impl UpstreamClient {
    /// Begins a session, in the way that the server knows.
    pub(super) async fn begin(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        let key = lifecycle_key(target);
        let session = match self.lifecycles.get(&key) {
            Some(Lifecycle::Stateless) => return Ok(Session::new(ProtocolVersion::NO_INITIALIZE, None)),
            Some(Lifecycle::Initialize) => match self.initialize(target).await {
                Err(failure) if failure.may_begin_otherwise() => {
                    self.lifecycles.invalidate(&key);
                    self.discover(target).await.map_err(|other| more_informative(failure, other))?
                }
                other => other?,
            },
            None => match within(DISCOVER_DEADLINE.min(target.deadlines.without_progress / 2), self.discover(target))
                .await
            {
                Err(failure) if failure.may_begin_otherwise() => {
                    self.initialize(target).await.map_err(|other| more_informative(other, failure))?
                }
                other => other?,
            },
        };
        let lifecycle = if session.is_stateless() { Lifecycle::Stateless } else { Lifecycle::Initialize };
        self.lifecycles.insert(key, lifecycle);
        Ok(session)
    }

    async fn initialize(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        let hello = InitializeRequestParams::new(ClientCapabilities::default(), client())
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
        let params = serde_json::to_value(hello).ok();
        let message = wire::request(0, "initialize", params.unwrap_or_default());
        let headers = RequestHeaders::default();
        let begun = Instant::now();
        let response =
            wire::post(&self.outbound, target, &headers, &message, target.deadlines.without_progress).await?;
        let id = response.header("mcp-session-id").map(str::to_owned);
        let greeted = Session::new(ProtocolVersion::LATEST_WITH_INITIALIZE, id.clone());
        let result = Exchange::new(self, target, &greeted, 0, begun).answer(response).await?;
        let result: InitializeResult = serde_json::from_value(result)
            .map_err(|_| UpstreamError::Protocol("its answer to initialize is no initialize result".to_owned()))?;
        if !ProtocolVersion::KNOWN_VERSIONS.contains(&result.protocol_version) {
            return Err(UpstreamError::Version(crate::mcp::rules::plain(result.protocol_version.as_str())));
        }
        let session = Session::new(result.protocol_version, id);
        if !session.is_stateless() {
            let message = wire::notification("notifications/initialized", json!({}));
            let headers = RequestHeaders::of(&session);
            let response =
                wire::post(&self.outbound, target, &headers, &message, target.deadlines.without_progress).await?;
            // Some servers refuse notifications and work all the same.
            if response.status == 401 {
                return Err(wire::refusal(response, target).await);
            }
        }
        Ok(session)
    }

    /// Asks for the newest revision; once more where the server refuses it and names it as one that it speaks.
    async fn discover(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        match self.discover_once(target).await {
            Err(failure) if failure.supports(&ProtocolVersion::NO_INITIALIZE) => self.discover_once(target).await,
            other => other,
        }
    }

    async fn discover_once(&self, target: &UpstreamTarget<'_>) -> Result<Session, UpstreamError> {
        let session = Session::new(ProtocolVersion::NO_INITIALIZE, None);
        let request = McpRequest { method: "server/discover", params: Map::new(), schema: None, begun: Instant::now() };
        let result = self.request(target, &session, request).await?;
        let result: DiscoverResult = serde_json::from_value(result)
            .map_err(|_| UpstreamError::Protocol("its answer to server/discover is no discover result".to_owned()))?;
        if result.supported_versions.contains(&session.version) {
            Ok(session)
        } else {
            let versions: Vec<&str> = result.supported_versions.iter().map(ProtocolVersion::as_str).collect();
            Err(UpstreamError::Version(crate::mcp::rules::plain(&versions.join(", "))))
        }
    }
}

/// The failure to report where both ways failed: that of `initialize`, unless the other names the supported versions or
/// asks for authorization.
fn more_informative(initialize: UpstreamError, discover: UpstreamError) -> UpstreamError {
    match discover {
        UpstreamError::Version(_) | UpstreamError::Unauthorized { .. } | UpstreamError::InsufficientScope { .. } => {
            discover
        }
        _ => initialize,
    }
}
