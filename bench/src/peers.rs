//! What the product is compared with: a handler that only reads the body, and an MCP server that only echoes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, any, post};
use bytes::Bytes;
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::Failure;

/// Listens on a free port, says which and serves until the process is ended.
async fn serve(routes: Router) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

/// A handler that reads the body and answers 202.
pub(crate) async fn bare() -> Result<(), Failure> {
    serve(Router::new().route("/hooks/{id}", post(|_: Bytes| async { StatusCode::ACCEPTED }))).await
}

/// An MCP server without sessions: at `/mcp` with one tool, `echo`, at `/many` with thirty and at `/large` with forty.
pub(crate) async fn echo() -> Result<(), Failure> {
    let routes = Router::new().route("/mcp", mcp_server(0));
    serve(routes.route("/many", mcp_server(29)).route("/large", mcp_server(39))).await
}

fn mcp_server(more_tools: usize) -> MethodRouter {
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let factory = move || Ok(Echo { more_tools });
    let service = StreamableHttpService::new(factory, Arc::new(NeverSessionManager::default()), config);
    any(move |request| {
        let service = service.clone();
        async move { service.handle(request).await.map(Body::new).into_response() }
    })
}

/// Arguments of each tool beside `echo`, as of a server like those that people connect.
const ARGUMENTS: usize = 6;

struct Echo {
    more_tools: usize,
}

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("echo", "1"))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let text = json!({ "text": { "type": "string" } });
        let echo = tool("echo".to_owned(), "Says the text back.", &text);
        let more = (0..self.more_tools).map(|number| {
            let arguments: Map<String, Value> = (0..ARGUMENTS).map(argument).collect();
            tool(format!("more_{number}"), "Is listed and never called here.", &arguments.into())
        });
        Ok(ListToolsResult::with_all_items(std::iter::once(echo).chain(more).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

fn tool(name: String, description: &'static str, properties: &Value) -> Tool {
    let schema = json!({ "type": "object", "properties": properties });
    Tool::new(name, description, Arc::new(schema.as_object().cloned().unwrap_or_default()))
}

fn argument(number: usize) -> (String, Value) {
    let description = format!("What the tool is told in its argument number {number}, in a sentence of common length.");
    (format!("argument_{number}"), json!({ "type": "string", "description": description }))
}
