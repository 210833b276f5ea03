//! Pages: a member's connections and uses, the operator's view.
//!
//! Invariant: a page's words come from allow-listed reasons; a provider's text is never shown.

mod callback;
mod words;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use thinkwork_database::Tx;
use thinkwork_primitives::{AuditId, ConnectionId, GrantTarget, Requester};

use super::{Connection, Error, Oauth};
use crate::audit::{self, Use};
use crate::edge::display_time::DisplayTime;
use crate::edge::{
    ApiError, EmptyForm, Flash, Layout, Named, Names, Notice, OperatorFormWithoutReauth, Page, PageError, PageMember,
    PageOperator, Pagination, Path, ProtectedForm,
};
pub use callback::handoff;
pub(crate) use words::reason_sentence;
use words::revocation_sentence;

/// What the pages need: the slice and the names of people and targets.
#[derive(Clone)]
struct Pages {
    oauth: Oauth,
    names: Names,
}

/// The pages' routes.
pub fn routes(slice: &Oauth, names: Names) -> Router {
    Router::new()
        .route("/oauth/callback/{key}", get(callback::callback))
        .route("/me/connections", get(connections))
        .route("/me/connections/{id}/disconnect", get(disconnect_ask).post(disconnect))
        .route("/me/uses", get(uses))
        .route("/admin/connections", get(tenant_connections))
        .route("/admin/connections/{id}/revoke", get(revoke_ask).post(revoke))
        .with_state(Pages { oauth: slice.clone(), names })
}

/// What a page's address says about what just happened.
#[derive(Deserialize, Default)]
struct StatusQuery {
    status: Option<String>,
    reason: Option<String>,
}

impl StatusQuery {
    fn notice(&self) -> Option<Notice> {
        match self.status.as_deref() {
            Some("connected") => Some(Notice::success("Connected. The agent can use this account for your requests.")),
            Some("error") => Some(Notice::error(reason_sentence(self.reason.as_deref().unwrap_or_default()))),
            _ => None,
        }
    }
}

/// One row of a connections page.
struct Row {
    id: ConnectionId,
    target: String,
    connect_href: String,
    settings_href: String,
    person: String,
    account: String,
    status: &'static str,
    reason: String,
    connected: DisplayTime,
    used: Option<DisplayTime>,
}

#[derive(Template)]
#[template(path = "oauth/templates/connections.html")]
struct ConnectionsPage {
    layout: Layout,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "oauth/templates/tenant_connections.html")]
struct TenantConnectionsPage {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
}

#[derive(Template)]
#[template(path = "oauth/templates/end.html")]
struct EndPage {
    layout: Layout,
    target: String,
    account: String,
    person: String,
    action: String,
    back: &'static str,
    verb: &'static str,
}

/// Where its owner connects it again; the list of connections where it has no page of its own.
pub(crate) fn connect_href(target: GrantTarget) -> String {
    match target {
        GrantTarget::McpServer(id) => format!("/me/mcp-servers/{id}/connect"),
        GrantTarget::Provider(_) => "/me/connections".to_owned(),
    }
}

/// Where operators configure it; empty where there is no such page.
fn settings_href(target: GrantTarget) -> String {
    match target {
        GrantTarget::McpServer(id) => format!("/admin/mcp-servers/{id}"),
        GrantTarget::Provider(_) => String::new(),
    }
}

impl Pages {
    async fn rows(&self, tx: &mut Tx, found: Vec<Connection>) -> Result<Vec<Row>, PageError> {
        let now = self.oauth.clock.now();
        let named = found.iter().flat_map(|one| [Named::GrantTarget(one.target), Named::User(one.user)]);
        let names = self.names.find(tx, named.collect::<Vec<_>>()).await?;
        let row = |one: Connection| Row {
            id: one.id,
            target: names.get(Named::GrantTarget(one.target)).unwrap_or("Deleted").to_owned(),
            connect_href: connect_href(one.target),
            settings_href: settings_href(one.target),
            person: names.user(one.user).to_owned(),
            account: one.account,
            status: one.status.as_str(),
            reason: one.status_reason.as_deref().map(reason_sentence).unwrap_or_default(),
            connected: DisplayTime::of(one.connected_at, now),
            used: one.last_used_at.map(|at| DisplayTime::of(at, now)),
        };
        Ok(found.into_iter().map(row).collect())
    }

    async fn one(&self, tx: &mut Tx, found: Option<Connection>) -> Result<Row, PageError> {
        let found = found.ok_or(Error::NotFound)?;
        let rows = self.rows(tx, vec![found]).await?;
        rows.into_iter().next().ok_or_else(|| PageError(ApiError::not_found()))
    }
}

async fn connections(
    State(pages): State<Pages>,
    PageMember(caller): PageMember,
    Query(said): Query<StatusQuery>,
) -> Result<Page<ConnectionsPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connections_of(&mut tx, caller.user).await?;
    let rows = pages.rows(&mut tx, found).await?;
    let layout = Layout::me(&caller, "Connected accounts", "connections").with_notice(said.notice());
    Ok(Page(ConnectionsPage { layout, rows }))
}

async fn disconnect_ask(
    State(pages): State<Pages>,
    PageMember(caller): PageMember,
    Path(id): Path<ConnectionId>,
) -> Result<Page<EndPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connections_of(&mut tx, caller.user).await?.into_iter().find(|one| one.id == id);
    let row = pages.one(&mut tx, found).await?;
    let title = format!("Disconnect {}", row.target);
    Ok(Page(EndPage {
        layout: Layout::me(&caller, &title, "connections"),
        target: row.target,
        account: row.account,
        person: String::new(),
        action: format!("/me/connections/{id}/disconnect"),
        back: "/me/connections",
        verb: "Disconnect",
    }))
}

async fn disconnect(
    State(pages): State<Pages>,
    Path(id): Path<ConnectionId>,
    form: ProtectedForm<EmptyForm>,
) -> Result<Response, PageError> {
    let results = pages.oauth.disconnect(&form.caller.principal, id).await?;
    Ok(Flash::success(revocation_sentence(&results)).redirect("/me/connections"))
}

async fn tenant_connections(
    State(pages): State<Pages>,
    PageOperator(caller): PageOperator,
    paging: Pagination,
) -> Result<Page<TenantConnectionsPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connections(&mut tx, paging.after_id()?, paging.fetch_limit()).await?;
    let list = crate::edge::List::cut(found, &paging, |one| one.id.to_string());
    let next = list.next_href("/admin/connections");
    let rows = pages.rows(&mut tx, list.items).await?;
    let layout = Layout::admin(&caller, "Connections", "connections");
    Ok(Page(TenantConnectionsPage { layout, rows, next }))
}

async fn revoke_ask(
    State(pages): State<Pages>,
    PageOperator(caller): PageOperator,
    Path(id): Path<ConnectionId>,
) -> Result<Page<EndPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connection_by_id(&mut tx, id).await?;
    let row = pages.one(&mut tx, found).await?;
    let title = format!("Revoke {}'s connection to {}", row.person, row.target);
    Ok(Page(EndPage {
        layout: Layout::admin(&caller, &title, "connections"),
        target: row.target,
        account: row.account,
        person: row.person,
        action: format!("/admin/connections/{id}/revoke"),
        back: "/admin/connections",
        verb: "Revoke",
    }))
}

async fn revoke(
    State(pages): State<Pages>,
    Path(id): Path<ConnectionId>,
    form: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Response, PageError> {
    let tenant = form.caller.tenant();
    let by = form.caller.principal.actor();
    let results = pages.oauth.revoke(tenant, id, by).await?;
    Ok(Flash::success(revocation_sentence(&results)).redirect("/admin/connections"))
}

/// One line of "Account activity".
struct UseRow {
    at: DisplayTime,
    what: String,
    is_tool: bool,
    account: String,
    thread: String,
    requester: String,
}

#[derive(Template)]
#[template(path = "oauth/templates/uses.html")]
struct UsesPage {
    layout: Layout,
    rows: Vec<UseRow>,
    next: String,
}

async fn uses(
    State(pages): State<Pages>,
    PageMember(caller): PageMember,
    paging: Pagination,
) -> Result<Page<UsesPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let after = paging.after_cursor::<AuditId>()?;
    let found = audit::uses_of(&mut tx, caller.user, None, paging.fetch_limit(), after).await.map_err(Error::Audit)?;
    let list = crate::edge::List::cut(found, &paging, |one| crate::edge::time_cursor(one.at, one.id));
    let next = list.next_href("/me/uses");
    let live = pages.oauth.connections_of(&mut tx, caller.user).await?;
    let accounts = pages.rows(&mut tx, live).await?;
    let now = pages.oauth.clock.now();
    let row = |one: Use| UseRow {
        at: DisplayTime::of(one.at, now),
        what: words::use_words(&one.surface, one.tool.as_deref(), one.connection),
        is_tool: one.tool.is_some(),
        account: match (one.connection, accounts.iter().find(|row| one.connection == Some(row.id))) {
            (_, Some(row)) => format!("{} ({})", row.target, row.account),
            (Some(_), None) => "Disconnected account".to_owned(),
            (None, None) => "New account".to_owned(),
        },
        thread: one.thread.map(|id| id.to_string()).unwrap_or_default(),
        requester: match one.requester {
            Some(Requester::User(id)) if id == caller.user => "You".to_owned(),
            Some(Requester::System(_)) => "ThinkWork".to_owned(),
            Some(other) => other.kind().to_owned(),
            None => "Unknown".to_owned(),
        },
    };
    let rows = list.items.into_iter().map(row).collect();
    Ok(Page(UsesPage { layout: Layout::me(&caller, "Account activity", "uses"), rows, next }))
}
