//! `/me/mcp-servers`: what a member can connect, and the page that asks before it starts.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use thinkwork_primitives::McpServerId;
use url::Url;

use super::{ConnectOutcome, error_notice};
use crate::edge::{EmptyForm, Layout, Page, PageCaller, PageError, PageMember, Path, ProtectedForm};
use crate::mcp::{Error, Mcp, McpServer};
use crate::oauth::{self, ConnectionStatus};

struct Row {
    id: String,
    name: String,
    host: String,
    status: &'static str,
    word: &'static str,
    tools: String,
    /// What the one button says; empty for none.
    act: &'static str,
    href: String,
}

#[derive(Template)]
#[template(path = "mcp/templates/mine.html")]
struct MinePage {
    layout: Layout,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "mcp/templates/connect.html")]
struct ConnectPage {
    layout: Layout,
    id: String,
    name: String,
    host: String,
    provider: String,
    /// `connect`, `connected`, `not_needed` or `not_yet`.
    state: &'static str,
}

/// The servers, each with its state and one button.
pub(super) async fn list(
    PageMember(caller): PageMember,
    State(mcp): State<Mcp>,
    Query(outcome): Query<ConnectOutcome>,
) -> Result<impl IntoResponse, PageError> {
    let mut tx = mcp.db.read(caller.tenant()).await?;
    let mut rows = Vec::new();
    for mine in mcp.mine(&mut tx, caller.user).await? {
        let connect = format!("/me/mcp-servers/{}/connect", mine.server.id);
        let (status, word, act, href) = match mine.connection {
            None => ("enabled", "Ready", "", String::new()),
            Some(ConnectionStatus::Connected) => {
                let connection = mcp.oauth.connection(&mut tx, caller.user, mine.server.id.into()).await;
                let connection = connection.map_err(Error::from)?;
                let href = connection.map(|connection| format!("/me/connections/{}/disconnect", connection.id));
                ("connected", "", "Disconnect", href.unwrap_or_else(|| "/me/connections".to_owned()))
            }
            Some(ConnectionStatus::NeedsReauth | ConnectionStatus::Expired) => ("expired", "", "Reconnect", connect),
            Some(ConnectionStatus::NotConnected) => ("needs_connection", "", "Connect", connect),
        };
        rows.push(Row {
            id: mine.server.id.to_string(),
            host: host(&mine.server.url),
            name: mine.server.name,
            status,
            word,
            tools: match mine.tool_count {
                0 => "Tools are listed after the first use".to_owned(),
                1 => "1 tool".to_owned(),
                count => format!("{count} tools"),
            },
            act,
            href,
        });
    }
    let layout = Layout::me(&caller, "MCP servers", "mcp-servers").with_notice(outcome.notice());
    Ok(Page(MinePage { layout, rows }))
}

/// Asks, and changes nothing: who asks, for what, where it leads.
pub(super) async fn ask(
    PageMember(caller): PageMember,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
) -> Result<Response, PageError> {
    let server = mcp.find(caller.tenant(), id).await?;
    let mut tx = mcp.db.read(caller.tenant()).await?;
    let connection = mcp.oauth.connection(&mut tx, caller.user, id.into()).await.map_err(Error::from)?;
    let state = if !server.is_usable() {
        "not_yet"
    } else if !server.auth.uses_oauth() {
        "not_needed"
    } else if connection.is_some_and(|connection| connection.status == ConnectionStatus::Connected) {
        "connected"
    } else {
        "connect"
    };
    Ok(connect_page(&caller, &server, state).into_response())
}

/// Starts the flow of whoever is signed in, and hands over to the provider.
pub(super) async fn connect(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    ProtectedForm { caller, .. }: ProtectedForm<EmptyForm>,
) -> Result<Response, PageError> {
    let server = mcp.find(caller.tenant(), id).await?;
    match mcp.connect(&caller.consent(), id, None).await {
        Ok(started) => {
            let layout = Layout::me(&caller, &format!("Connect {}", server.name), "mcp-servers");
            Ok(crate::oauth::pages::handoff(layout, &started))
        }
        Err(error @ Error::Oauth(oauth::Error::Access(_))) => Err(error.into()),
        Err(error) => {
            let mut page = connect_page(&caller, &server, "connect");
            page.0.layout.notice = Some(error_notice(error));
            Ok(page.into_response())
        }
    }
}

fn connect_page(caller: &PageCaller, server: &McpServer, state: &'static str) -> Page<ConnectPage> {
    Page(ConnectPage {
        layout: Layout::me(caller, &format!("Connect {}", server.name), "mcp-servers"),
        id: server.id.to_string(),
        name: server.name.clone(),
        host: host(&server.url),
        provider: server.discovered.as_ref().map(|found| host(&found.authorization_endpoint)).unwrap_or_default(),
        state,
    })
}

fn host(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
