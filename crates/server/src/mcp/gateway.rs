//! `/mcp/spaces/{space_id}`: a Space's tools for a foreign MCP client, over `rmcp`'s stateless server. `/mcp`: those of
//! the servers that are marked for outside of Spaces.
//!
//! Invariants: a bearer for `/mcp` alone opens it, and none of the request is passed on; each request is resolved
//! afresh, so any process serves it; tools come from the one assembly; a foreign client's context is unknown, so it
//! counts as carrying both marks; nothing is approved here; a token with scope `read` gets tools that read alone.

mod cancellation;
mod large_answer;
mod wire;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CustomRequest, CustomResult, ErrorCode, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool as McpTool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use thinkwork_primitives::{
    AuthMethod, Chain, CredentialSubject, Marks, Principal, Scope, SpaceId, TraceContext, limits,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use url::Url;

use super::Mcp;
use crate::edge::{ApiError, McpCaller, Path, Public, RequestId};
use crate::tools::{CallOrigin, Error as ToolsError, Receipt, ToolContext, Tools};
use cancellation::{RunningCalls, SESSION_HEADER, SessionKey, SessionMessage};
use large_answer::LargeAnswer;

/// Where a client learns how to be authorised (RFC 9728 section 3.1); the path of the resource follows.
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// What is in the context of a client that we do not see: anything.
const MARKS_UNKNOWN: Marks = Marks { private: true, untrusted: true, private_to: None };

/// What a client tells its model about these tools.
const INSTRUCTIONS: &str = "Tools of this company. Tools that send something outside need a person's approval. If no tools \
     are listed, no server is available here: use the address of a Space (/mcp/spaces/{space_id}, shown on the Space's \
     page), or ask an operator to make a server available outside of Spaces.";

/// How the SDK's text begins where a body cannot be read as a message.
const SDK_UNREADABLE: &str = "fail to deserialize";
/// Longest text of the SDK that is passed on.
const SDK_TEXT_BYTES_MAX: usize = 4_096;
/// The protocol versions that are offered. 2025-03-26 is left out for its batches.
const VERSIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];
/// Added where the SDK refuses a header.
const VERSIONS_TEXT: &str = "MCP-Protocol-Version is one of 2025-06-18, 2025-11-25 and 2026-07-28.";

type Service = StreamableHttpService<Handler, NeverSessionManager>;

#[derive(Clone)]
struct Gateway {
    mcp: Mcp,
    service: Service,
    running: RunningCalls,
    /// Where this deployment is, without a slash at the end.
    base: String,
}

pub fn routes(mcp: &Mcp, tools: &Tools) -> Router {
    let base = mcp.public_url.as_str().trim_end_matches('/').to_owned();
    let running = RunningCalls::default();
    let service = service(tools, &mcp.public_url, &base, &running);
    let gateway = Gateway { mcp: mcp.clone(), service, running, base };
    Router::new()
        .route("/mcp", any(serve_outside))
        .route("/mcp/spaces/{space_id}", any(serve))
        .route("/.well-known/oauth-protected-resource/mcp", get(metadata_outside))
        .route("/.well-known/oauth-protected-resource/mcp/spaces/{space_id}", get(metadata))
        .with_state(gateway)
}

async fn metadata_outside(State(gateway): State<Gateway>, _: Public) -> axum::Json<Value> {
    axum::Json(gateway.metadata(None))
}

/// The same for each Space, whether there is one or not: it says nothing of it.
async fn metadata(State(gateway): State<Gateway>, _: Public, Path(space): Path<SpaceId>) -> axum::Json<Value> {
    axum::Json(gateway.metadata(Some(space)))
}

impl Gateway {
    fn path(space: Option<SpaceId>) -> String {
        space.map_or_else(|| "/mcp".to_owned(), |space| format!("/mcp/spaces/{space}"))
    }

    fn metadata(&self, space: Option<SpaceId>) -> Value {
        json!({
            "resource": format!("{}{}", self.base, Self::path(space)),
            "resource_name": "ThinkWork",
            "bearer_methods_supported": ["header"],
        })
    }

    /// Of a 401: where the metadata is.
    fn challenge(&self, space: Option<SpaceId>) -> HeaderValue {
        let challenge = format!("Bearer resource_metadata=\"{}{METADATA_PATH}{}\"", self.base, Self::path(space));
        HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

fn service(tools: &Tools, public_url: &Url, base: &str, running: &RunningCalls) -> Service {
    let handler = Handler { tools: tools.clone(), base: base.to_owned(), running: running.clone() };
    // Host and Origin are checked for every route before this; here they are checked once more, as the SDK advises.
    let mut hosts: Vec<String> = public_url.host_str().map(str::to_owned).into_iter().collect();
    if matches!(public_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
        hosts.extend(["localhost", "127.0.0.1", "::1", "[::1]"].map(str::to_owned));
    }
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts)
        .with_allowed_origins([public_url.origin().ascii_serialization()])
        .enforce_origin_validation()
        .with_max_request_body_bytes(limits::API_BODY_BYTES_MAX);
    StreamableHttpService::new(move || Ok(handler.clone()), Arc::new(NeverSessionManager::default()), config)
}

async fn serve(
    State(gateway): State<Gateway>,
    caller: Result<McpCaller, ApiError>,
    Path(space): Path<SpaceId>,
    request: Request,
) -> Response {
    handle(&gateway, caller, Some(space), request).await
}

async fn serve_outside(
    State(gateway): State<Gateway>,
    caller: Result<McpCaller, ApiError>,
    request: Request,
) -> Response {
    handle(&gateway, caller, None, request).await
}

async fn handle(
    gateway: &Gateway,
    caller: Result<McpCaller, ApiError>,
    space: Option<SpaceId>,
    request: Request,
) -> Response {
    let principal = match caller {
        Ok(McpCaller(principal)) => principal,
        Err(error) => return refused(error, gateway, space),
    };
    if matches!(*request.method(), Method::OPTIONS | Method::HEAD | Method::PUT | Method::PATCH) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response();
    }
    let trace = request.extensions().get::<TraceContext>().copied();
    let tool_context = match tool_context(&principal, space, trace) {
        Ok(tool_context) => tool_context,
        Err(error) => return refused(error, gateway, space),
    };
    let session = SessionKey::of(principal.client(), request.headers());
    let entry = Entry {
        tool_context,
        session: session.clone(),
        admitted: Arc::default(),
        answer: LargeAnswer::default(),
        span: Span::current(),
        request_id: RequestId::current(),
    };
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => body,
        Err(rejection) => return refused(rejection.into(), gateway, space),
    };
    let mut request = Request::from_parts(parts, Body::from(body.clone()));
    request.extensions_mut().insert(entry.clone());
    // What proved the caller ends here.
    request.headers_mut().remove(header::AUTHORIZATION);
    if principal.user().is_none()
        && let Err(error) = seen(&gateway.mcp, &principal, space).await
    {
        return refused(error, gateway, space);
    }
    let message = SessionMessage::read(&body);
    let mut answer = entry.answer.answer(gateway.service.handle(request)).await;
    match (message, session) {
        (SessionMessage::Initialize, _) if answer.status().is_success() => {
            answer.headers_mut().extend(cancellation::session_id().map(|id| (SESSION_HEADER, id)));
        }
        (SessionMessage::Cancelled(request), Some(session)) => gateway.running.cancel(session, request),
        _ => {}
    }
    let seen = match entry.admitted.get() {
        Some(true) => Ok(()),
        Some(false) => Err(ApiError::not_found()),
        None => seen(&gateway.mcp, &principal, space).await,
    };
    match seen {
        Ok(()) => understood(answer.map(Body::new), &body).await,
        Err(error) => refused(error, gateway, space),
    }
}

/// The answer; where the SDK says in plain text that it does not understand the request with this body, the same as
/// JSON-RPC 2.0 says it (section 5.1).
async fn understood(answer: Response, body: &[u8]) -> Response {
    let status = answer.status();
    if status == StatusCode::NOT_ACCEPTABLE {
        return ApiError::not_acceptable("Send the header Accept: application/json, text/event-stream.")
            .into_response();
    }
    let is_json = answer.headers().contains_key(header::CONTENT_TYPE);
    if is_json || !matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE) {
        return answer;
    }
    let text = axum::body::to_bytes(answer.into_body(), SDK_TEXT_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let (code, message) = if !text.starts_with(SDK_UNREADABLE) {
        match status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => return ApiError::not_json_type().into_response(),
            _ => (ErrorCode::INVALID_REQUEST, format!("{text}. {VERSIONS_TEXT}")),
        }
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        (
            ErrorCode::INVALID_REQUEST,
            "The body is no JSON-RPC message; send one with jsonrpc, method and id.".to_owned(),
        )
    } else {
        (ErrorCode::PARSE_ERROR, "The body is no JSON; send a JSON-RPC message with jsonrpc, method and id.".to_owned())
    };
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code.0, "message": message } });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

/// What a request takes to its handler, and what comes back beside the answer.
#[derive(Clone)]
struct Entry {
    tool_context: ToolContext,
    /// The session of the client, if it names one.
    session: Option<SessionKey>,
    /// Whether the assembly let a person in, where it was asked: it decides, and spares a look of its own here.
    admitted: Arc<OnceLock<bool>>,
    /// Whether what is answered is large.
    answer: LargeAnswer,
    /// The span of the request: the SDK answers in a task of its own.
    span: Span,
    request_id: RequestId,
}

impl Entry {
    /// Notes whether the assembly let the caller in.
    fn note<T>(&self, assembled: &Result<T, ToolsError>) {
        self.admitted.get_or_init(|| !matches!(assembled, Err(ToolsError::NotAdmitted)));
    }

    /// The answer where something failed here; the log has the error under the id of the request.
    fn failed(&self, error: &ToolsError) -> ErrorData {
        if matches!(error, ToolsError::NotAdmitted) {
            return ErrorData::invalid_params("This Space does not exist or you do not have access to it.", None);
        }
        self.span.in_scope(|| tracing::error!(error = %Chain(error), "a gateway request failed"));
        let message = format!("Something went wrong. Try again. Request ID: {}.", self.request_id);
        ErrorData::internal_error(message, None)
    }
}

fn refused(error: ApiError, gateway: &Gateway, space: Option<SpaceId>) -> Response {
    let mut response = error.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, gateway.challenge(space));
    }
    response
}

/// Whether the Space is there for this caller.
async fn seen(mcp: &Mcp, principal: &Principal, space: Option<SpaceId>) -> Result<(), ApiError> {
    if let Some(space) = space {
        let mut tx = mcp.db.read(principal.tenant).await?;
        mcp.spaces.visible(&mut tx, space, principal).await.map_err(super::Error::Spaces)?;
    }
    Ok(())
}

/// For whom tools are asked for: the token's person, or nobody for a service.
fn tool_context(
    principal: &Principal,
    space: Option<SpaceId>,
    trace: Option<TraceContext>,
) -> Result<ToolContext, ApiError> {
    if matches!(principal.auth, AuthMethod::Turn { .. }) {
        return Err(ApiError::forbidden("turn_token", "This token cannot be used here. Use a personal token."));
    }
    let may_use = match principal.user() {
        Some(user) => CredentialSubject::User { user, connection: None },
        None => CredentialSubject::None,
    };
    Ok(ToolContext {
        tenant: principal.tenant,
        space,
        requester: principal.requester(),
        client: principal.client(),
        may_use,
        reads_only: !matches!(principal.auth, AuthMethod::Token { scope, .. } if scope >= Scope::Write),
        thread: None,
        turn: None,
        trace,
        cancellation: CancellationToken::new(),
    })
}

/// One request's MCP server.
#[derive(Clone)]
struct Handler {
    tools: Tools,
    running: RunningCalls,
    /// Where this deployment is, without a slash at the end.
    base: String,
}

impl ServerHandler for Handler {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&VERSIONS)
    }

    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("thinkwork", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(unreadable(&request.method, request.params.unwrap_or_default()))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let entry = entry_of(&context)?;
        let offered = self.tools.assemble(&entry.tool_context).instrument(entry.span.clone()).await;
        entry.note(&offered);
        let offered = offered.map_err(|error| entry.failed(&error))?;
        let mut tools: Vec<McpTool> = offered.tools.iter().map(wire::tool).collect();
        tools.extend(offered.left_out.iter().filter_map(wire::connect_tool));
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entry = entry_of(&context)?;
        let arguments = request.arguments.unwrap_or_default();
        // The SDK cancels this when the client closes the request.
        let tool_context = ToolContext { cancellation: context.ct.clone(), ..entry.tool_context.clone() };
        let _running = entry.session.clone().map(|session| self.running.insert(session, context.id, context.ct));
        let call = self.tools.call(
            &tool_context,
            &request.name,
            arguments,
            MARKS_UNKNOWN,
            CallOrigin::Software,
            Receipt::Gateway,
        );
        let called = call.instrument(entry.span.clone()).await;
        entry.note(&called);
        match called {
            Ok(outcome) => {
                let answer = entry.answer.clone();
                let writing = tokio::task::spawn_blocking(move || {
                    let result = wire::result(outcome);
                    answer.note(&result);
                    result
                });
                match writing.await {
                    Ok(result) => Ok(result.into()),
                    Err(error) => Err(entry.failed(&ToolsError::Other(Box::new(error)))),
                }
            }
            Err(ToolsError::Unknown | ToolsError::NotAdmitted) => Err(unknown(&request.name)),
            Err(ToolsError::LeftOut(left_out)) => Ok(wire::left_out(&left_out, &request.name).into()),
            Err(ToolsError::ApprovalRequired) => {
                Ok(wire::approval_required(&self.base, tool_context.space, &request.name).into())
            }
            Err(ToolsError::ReadsOnly) => Ok(wire::reads_only().into()),
            Err(ToolsError::Arguments(problem)) => Ok(wire::bad_arguments(&problem).into()),
            Err(ToolsError::Upstream { message, unknown_outcome }) => {
                Ok(wire::upstream_failed(&message, unknown_outcome).into())
            }
            Err(error @ (ToolsError::Database(_) | ToolsError::Other(_))) => Err(entry.failed(&error)),
        }
    }
}

/// What the SDK could not read as one of its own requests: bad parameters of a known method, or a method that is not here.
fn unreadable(method: &str, params: Value) -> ErrorData {
    let problem = match method {
        "tools/call" => serde_json::from_value::<CallToolRequestParams>(params).err(),
        "tools/list" => serde_json::from_value::<Option<PaginatedRequestParams>>(params).err(),
        _ => None,
    };
    match problem {
        Some(problem) => {
            let problem = super::rules::plain(&problem.to_string());
            ErrorData::invalid_params(format!("The parameters of {method} are not valid: {problem}."), None)
        }
        None => {
            let method = super::rules::plain(method);
            let message = format!("There is no method {method} here. There are tools/list and tools/call.");
            ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
        }
    }
}

/// The entry that [`handle`] put into this request.
fn entry_of(context: &RequestContext<RoleServer>) -> Result<Entry, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    let entry = parts.and_then(|parts| parts.extensions.get::<Entry>());
    entry.cloned().ok_or_else(|| ErrorData::internal_error("The request lost its caller; send it again.", None))
}

fn unknown(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Unknown tool: {}", super::rules::plain(name)), None)
}
