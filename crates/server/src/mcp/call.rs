//! Calling one tool: checked again, opened and recorded in one transaction, sent, scrubbed.
//!
//! Invariants: nothing is sent before its record is committed; a server or tool that is no longer as approved answers
//! like one that does not exist; nothing of an inbound request reaches the upstream.

use std::time::Duration;

use serde_json::Value;
use thinkwork_database::Tx;
use thinkwork_primitives::{McpServerId, Surface};

use super::grant::{CallError, Grant};
use super::list::into_tools_error;
use super::upstream::{Deadlines, SessionUse, ToolCall, UpstreamTarget};
use super::{Error, Mcp, McpServer, UpstreamError, rules, store};
use crate::audit::{self, Event};
use crate::credentials::UseContext;
use crate::credentials::UseRecorder;
use crate::threads::StepUseRecorder;
use crate::tools::{self, Call, CredentialRequirement, LeftOutReason, Receipt, ToolResult, UsedCredential};

/// How long a tool of a turn may work.
const TURN_CALL_DEADLINES: Deadlines =
    Deadlines { without_progress: Duration::from_secs(120), total: Duration::from_secs(15 * 60) };
/// How long a tool of a gateway call may work: a little less than the gateway's own request may take.
const GATEWAY_CALL_DEADLINES: Deadlines = Deadlines::fixed(Duration::from_secs(27));

impl Mcp {
    /// Calls one tool that the assembly has checked.
    pub(super) async fn run(&self, call: &Call) -> Result<ToolResult, tools::Error> {
        let (server, grant) = match self.admit(call).await {
            Ok(admitted) => admitted,
            Err(problem) => return Err(self.error(call, problem)),
        };
        match self.send(call, &server, &grant).await {
            Err(UpstreamError::Unauthorized { challenge }) => {
                let again = Box::pin(self.run_refused(call, &server, grant)).await;
                let actor = call.context.actor();
                if again.is_err()
                    && self.authorization_server_moved(call.context.tenant, &server, challenge, &actor).await
                {
                    return Err(self.error(call, CallError::Unavailable(LeftOutReason::Pending)));
                }
                again
            }
            other => self.outcome(call, &server, &grant, other).await,
        }
    }

    /// After a 401: a person's token is refreshed once and the call sent once more; else the way in is closed.
    async fn run_refused(&self, call: &Call, server: &McpServer, grant: Grant) -> Result<ToolResult, tools::Error> {
        let Grant::Token(user, token) = &grant else {
            let sentence = self.sentence(server, &CallError::Upstream(UpstreamError::Unauthorized { challenge: None }));
            self.record_error(call.context.tenant, server, sentence.clone()).await.map_err(into_tools_error)?;
            return Err(match grant {
                Grant::Nothing => self.error(call, CallError::Unavailable(LeftOutReason::NeedsConnection)),
                _ => tools::Error::Upstream { message: sentence, unknown_outcome: false },
            });
        };
        let recorder = recorder_of(call);
        let recorder = recorder.as_ref().map(as_dyn);
        let refused = Some(token.version);
        let fresh = self.person_token(call.context.tenant, server, *user, refused, &use_context(call), recorder).await;
        let fresh = fresh.map_err(|problem| self.error(call, problem))?;
        match self.send(call, server, &fresh).await {
            Err(UpstreamError::Unauthorized { .. }) => {
                Err(self.error(call, CallError::Unavailable(LeftOutReason::Expired)))
            }
            other => self.outcome(call, server, &fresh, other).await,
        }
    }

    async fn send(&self, call: &Call, server: &McpServer, grant: &Grant) -> Result<Value, UpstreamError> {
        let deadlines = match call.receipt {
            Receipt::Step(_) => TURN_CALL_DEADLINES,
            Receipt::Gateway => GATEWAY_CALL_DEADLINES,
        };
        let target = UpstreamTarget {
            trace: call.context.trace,
            cancellation: call.context.cancellation.clone(),
            ..grant.target(call.context.tenant, server, SessionUse::Kept, deadlines)
        };
        let request = ToolCall {
            name: &call.tool.upstream_name,
            input_schema: &call.tool.input_schema,
            arguments: call.arguments.clone(),
        };
        self.upstreams.call(&target, &request).await
    }

    /// Checks server and tool again and opens what the call needs; all recorded and committed.
    async fn admit(&self, call: &Call) -> Result<(McpServer, Grant), CallError> {
        let tenant = call.context.tenant;
        let is_step = matches!(call.receipt, Receipt::Step(_));
        let mut tx = match (call.tool.needs, is_step) {
            // The record is written by `oauth`, with the opening; here is only to be read.
            (CredentialRequirement::UserGrant, true) => self.db.read(tenant).await?,
            _ => self.db.write(tenant).await?,
        };
        let server = self.still_approved(&mut tx, call).await?;
        let context = use_context(call);
        let recorder = recorder_of(call);
        let recorder = recorder.as_ref().map(as_dyn);
        match server.auth.needs() {
            CredentialRequirement::Nothing => {
                self.record_call(&mut tx, call).await?;
                tx.commit().await?;
                Ok((server, Grant::Nothing))
            }
            CredentialRequirement::TenantKey => {
                let opened = self.key_open(&mut tx, &server, &context, recorder).await?;
                if !is_step {
                    self.record_call(&mut tx, call).await?;
                }
                tx.commit().await?;
                Ok((server, Grant::Key(opened)))
            }
            CredentialRequirement::UserGrant => {
                let user = call.context.may_use.user().ok_or(CallError::Unavailable(LeftOutReason::NoUser))?;
                if is_step {
                    drop(tx);
                } else {
                    self.record_call(&mut tx, call).await?;
                    tx.commit().await?;
                }
                let grant = self.person_token(tenant, &server, user, None, &context, recorder).await?;
                Ok((server, grant))
            }
        }
    }

    /// The server, if it and the tool are still what the assembly saw.
    async fn still_approved(&self, tx: &mut Tx, call: &Call) -> Result<McpServer, Error> {
        let server = McpServerId::try_from(call.tool.source).map_err(|_| Error::NotFound)?;
        let found = store::tool_find(tx, server, &call.tool.upstream_name).await?;
        let (server, tool) = found.ok_or(Error::NotFound)?;
        let same = server.is_usable() && tool.is_usable() && tool.definition_hash == call.tool.definition_hash;
        if same && server.auth.needs() == call.tool.needs { Ok(server) } else { Err(Error::NotFound) }
    }

    /// The record of a call that opens nothing here, or that belongs to no step.
    async fn record_call(&self, tx: &mut Tx, call: &Call) -> Result<(), Error> {
        let mut event = Event::by(call.context.actor(), "tool.called")
            .on(call.tool.source.kind(), call.tool.source)
            .within(call.context.thread, call.context.turn)
            .detail("tool", call.tool.name.clone());
        if call.tool.needs != CredentialRequirement::Nothing {
            event = event.using(call.context.may_use, Surface::ToolCall);
        }
        audit::record(tx, self.clock.now(), event)?;
        Ok(())
    }

    async fn outcome(
        &self,
        call: &Call,
        server: &McpServer,
        grant: &Grant,
        sent: Result<Value, UpstreamError>,
    ) -> Result<ToolResult, tools::Error> {
        let result = match sent {
            Ok(result) => result,
            Err(UpstreamError::InsufficientScope { scopes }) => {
                let message = self.scope_sentence(call, server, grant, scopes).await.map_err(into_tools_error)?;
                return Err(tools::Error::Upstream { message, unknown_outcome: false });
            }
            Err(failure) => return Err(self.error(call, CallError::Upstream(failure))),
        };
        let used = grant.used();
        // What else the server said goes with it, and freeing much takes its time.
        let reading = tokio::task::spawn_blocking(move || tool_result(result, used));
        reading.await.map_err(|error| tools::Error::Other(Box::new(error)))
    }

    /// What a 403 with `insufficient_scope` means for this caller: which scopes are missing and who can add them. A
    /// person's next consent asks for them, unless an operator chose the scopes.
    async fn scope_sentence(
        &self,
        call: &Call,
        server: &McpServer,
        grant: &Grant,
        scopes: Vec<String>,
    ) -> Result<String, Error> {
        let name = &server.name;
        let missing = match scopes.as_slice() {
            [] => "more permissions".to_owned(),
            scopes => format!("the scope {}", rules::plain(&scopes.join(" "))),
        };
        let Grant::Token(_, token) = grant else {
            return Ok(format!(
                "{name} requires {missing}, which its API key lacks. Ask an operator to enter another key"
            ));
        };
        if server.auth.has_chosen_scopes() {
            return Ok(format!("{name} requires {missing}. Ask an operator to add it to the scopes of this server"));
        }
        if self.oauth.require_scopes(call.context.tenant, token.connection, &scopes).await? {
            let url = self.connect_url(server.id);
            return Ok(format!(
                "{name} requires {missing}, which your connection does not have. To allow it, reconnect at {url}"
            ));
        }
        Ok(format!("{name} requires {missing}. Your connection has it, so your account may lack the permission there"))
    }

    fn error(&self, call: &Call, problem: CallError) -> tools::Error {
        let left_out = |reason| match call.tool.source.try_into() {
            Ok(server) => tools::Error::LeftOut(self.left_out(server, &call.tool.source_slug, reason)),
            Err(_) => tools::Error::Unknown,
        };
        match problem {
            CallError::Unavailable(reason) => left_out(reason),
            CallError::ClientRefused(_) => left_out(LeftOutReason::Unreachable),
            CallError::ClientForgotten => left_out(LeftOutReason::Expired),
            CallError::NotNow(message) => tools::Error::Upstream { message, unknown_outcome: false },
            CallError::Upstream(failure) => {
                let unknown_outcome = failure.may_have_acted();
                tools::Error::Upstream { message: failure.to_string(), unknown_outcome }
            }
            CallError::Internal(Error::NotFound) => tools::Error::Unknown,
            CallError::Internal(error) => into_tools_error(error),
        }
    }
}

fn as_dyn(recorder: &StepUseRecorder) -> &dyn UseRecorder {
    recorder
}

const fn recorder_of(call: &Call) -> Option<StepUseRecorder> {
    match call.receipt {
        Receipt::Step(step) => Some(StepUseRecorder(step)),
        Receipt::Gateway => None,
    }
}

fn use_context(call: &Call) -> UseContext {
    UseContext {
        actor: call.context.actor(),
        thread: call.context.thread,
        turn: call.context.turn,
        tool: Some(call.tool.name.clone()),
    }
}

/// The result of a call, out of what the server answered.
fn tool_result(mut answer: Value, used: UsedCredential) -> ToolResult {
    let mut take = |name: &str| answer.get_mut(name).map(Value::take);
    let content = match take("content") {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let meta = match take("_meta") {
        Some(Value::Object(meta)) => Some(meta),
        _ => None,
    };
    let structured = take("structuredContent");
    let is_error = take("isError") == Some(Value::Bool(true));
    ToolResult { content, structured, meta, is_error, used }
}
