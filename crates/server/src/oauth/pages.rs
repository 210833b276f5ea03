//! Pages: a member's connections and uses, the operator's view.
//!
//! Invariant: a page's words come from allow-listed reasons; a provider's text is never shown.

mod callback;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Redirect;
use axum::routing::get;
use serde::Deserialize;
use thinkwork_database::Tx;
use thinkwork_primitives::{AuditId, ConnectionId, McpServerId, Requester, UserId};

use super::{Connection, Error, Oauth, ServerNames};
use crate::access::Access;
use crate::audit::{self, Use};
use crate::edge::moment::Moment;
use crate::edge::{ApiError, CheckedForm, Frame, Id, Notice, Page, PageError, PageMember, PageOperator, Paging};
pub use callback::handoff;
pub(crate) use words::reason_sentence;
use words::revocation_sentence;

/// What the pages need beside the slice: names of people and of servers.
#[derive(Clone)]
struct Pages {
    oauth: Oauth,
    access: Access,
    servers: Arc<dyn ServerNames>,
}

/// The pages' routes.
pub fn routes(slice: &Oauth, access: &Access, servers: Arc<dyn ServerNames>) -> Router {
    Router::new()
        .route("/oauth/callback/{key}", get(callback::callback))
        .route("/me/connections", get(connections))
        .route("/me/connections/{id}/disconnect", get(disconnect_ask).post(disconnect))
        .route("/me/uses", get(uses))
        .route("/admin/connections", get(tenant_connections))
        .route("/admin/connections/{id}/revoke", get(revoke_ask).post(revoke))
        .with_state(Pages { oauth: slice.clone(), access: access.clone(), servers })
}

/// What a page's address says about what just happened.
#[derive(Deserialize, Default)]
struct Said {
    status: Option<String>,
    reason: Option<String>,
    ended: Option<String>,
}

impl Said {
    fn notice(&self) -> Option<Notice> {
        let good = |text: String| Some(Notice { kind: "good", text });
        match (self.status.as_deref(), self.ended.as_deref()) {
            (Some("connected"), _) => good("Connected. The agent can use this account when you ask it to.".to_owned()),
            (Some("error"), _) => {
                let text = reason_sentence(self.reason.as_deref().unwrap_or_default());
                Some(Notice { kind: "bad", text })
            }
            (_, Some(results)) => good(revocation_sentence(results)),
            _ => None,
        }
    }
}

/// One row of a connections page.
struct Row {
    id: ConnectionId,
    server_id: McpServerId,
    server: String,
    person: String,
    account: String,
    status: &'static str,
    reason: String,
    connected: Moment,
    used: Option<Moment>,
}

#[derive(Template)]
#[template(path = "oauth/templates/connections.html")]
struct ConnectionsPage {
    frame: Frame,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "oauth/templates/tenant_connections.html")]
struct TenantConnectionsPage {
    frame: Frame,
    rows: Vec<Row>,
    next: String,
}

#[derive(Template)]
#[template(path = "oauth/templates/end.html")]
struct EndPage {
    frame: Frame,
    server: String,
    account: String,
    person: String,
    action: String,
    back: &'static str,
    verb: &'static str,
}

impl Pages {
    async fn rows(&self, tx: &mut Tx, found: Vec<Connection>) -> Result<Vec<Row>, PageError> {
        let now = self.oauth.clock.now();
        let servers: Vec<McpServerId> = found.iter().map(|one| one.server).collect();
        let users: Vec<UserId> = found.iter().map(|one| one.user).collect();
        let servers: HashMap<_, _> = self.servers.names(tx, &servers).await.into_iter().collect();
        let people = self.access.user_names(tx, &users).await.map_err(|error| ApiError::internal(&error))?;
        let people: HashMap<_, _> = people.into_iter().collect();
        let row = |one: Connection| Row {
            id: one.id,
            server_id: one.server,
            server: servers.get(&one.server).cloned().unwrap_or_else(|| "A server that is gone".to_owned()),
            person: people.get(&one.user).cloned().unwrap_or_default(),
            account: one.account,
            status: one.status.word(),
            reason: one.status_reason.as_deref().map(reason_sentence).unwrap_or_default(),
            connected: Moment::of(one.connected_at, now),
            used: one.last_used_at.map(|at| Moment::of(at, now)),
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
    Query(said): Query<Said>,
) -> Result<Page<ConnectionsPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connections_of(&mut tx, caller.user).await?;
    let rows = pages.rows(&mut tx, found).await?;
    let frame = Frame::me(&caller, "Connections", "connections").with_notice(said.notice());
    Ok(Page(ConnectionsPage { frame, rows }))
}

async fn disconnect_ask(
    State(pages): State<Pages>,
    PageMember(caller): PageMember,
    Id(id): Id<ConnectionId>,
) -> Result<Page<EndPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connections_of(&mut tx, caller.user).await?.into_iter().find(|one| one.id == id);
    let row = pages.one(&mut tx, found).await?;
    let title = format!("Disconnect {}", row.server);
    Ok(Page(EndPage {
        frame: Frame::me(&caller, &title, "connections"),
        server: row.server,
        account: row.account,
        person: String::new(),
        action: format!("/me/connections/{id}/disconnect"),
        back: "/me/connections",
        verb: "Disconnect",
    }))
}

#[derive(Deserialize)]
struct Nothing {}

async fn disconnect(
    State(pages): State<Pages>,
    Id(id): Id<ConnectionId>,
    form: CheckedForm<Nothing>,
) -> Result<Redirect, PageError> {
    let results = pages.oauth.disconnect(&form.caller.principal, id).await?;
    Ok(Redirect::to(&format!("/me/connections?ended={}", words::results_query(&results))))
}

async fn tenant_connections(
    State(pages): State<Pages>,
    PageOperator(caller): PageOperator,
    Query(said): Query<Said>,
    paging: Paging,
) -> Result<Page<TenantConnectionsPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let count = paging.limit.saturating_add(1);
    let found = pages.oauth.connections(&mut tx, paging.after_id()?, count).await?;
    let list = crate::edge::List::cut(found, &paging, |one| one.id.to_string());
    let next = list.next.map(|after| format!("/admin/connections?after={after}")).unwrap_or_default();
    let rows = pages.rows(&mut tx, list.items).await?;
    let frame = Frame::admin(&caller, "Connections", "connections").with_notice(said.notice());
    Ok(Page(TenantConnectionsPage { frame, rows, next }))
}

async fn revoke_ask(
    State(pages): State<Pages>,
    PageOperator(caller): PageOperator,
    Id(id): Id<ConnectionId>,
) -> Result<Page<EndPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let found = pages.oauth.connection_by_id(&mut tx, id).await?;
    let row = pages.one(&mut tx, found).await?;
    let title = format!("Revoke {}'s connection to {}", row.person, row.server);
    Ok(Page(EndPage {
        frame: Frame::admin(&caller, &title, "connections"),
        server: row.server,
        account: row.account,
        person: row.person,
        action: format!("/admin/connections/{id}/revoke"),
        back: "/admin/connections",
        verb: "Revoke",
    }))
}

async fn revoke(
    State(pages): State<Pages>,
    Id(id): Id<ConnectionId>,
    form: CheckedForm<Nothing>,
) -> Result<Redirect, PageError> {
    form.caller.require_operator()?;
    let (tenant, by) = (form.caller.tenant(), form.caller.principal.requester());
    let results = pages.oauth.revoke(tenant, id, by).await?;
    Ok(Redirect::to(&format!("/admin/connections?ended={}", words::results_query(&results))))
}

/// One line of "What used my accounts".
struct UseRow {
    at: Moment,
    what: String,
    is_tool: bool,
    account: String,
    thread: String,
    requester: String,
}

#[derive(Template)]
#[template(path = "oauth/templates/uses.html")]
struct UsesPage {
    frame: Frame,
    rows: Vec<UseRow>,
    next: String,
}

async fn uses(
    State(pages): State<Pages>,
    PageMember(caller): PageMember,
    paging: Paging,
) -> Result<Page<UsesPage>, PageError> {
    let mut tx = pages.oauth.db.read(caller.tenant()).await?;
    let (count, after) = (paging.limit.saturating_add(1), paging.after_id::<AuditId>()?);
    let found = audit::uses_of(&mut tx, caller.user, None, count, after).await.map_err(Error::Audit)?;
    let list = crate::edge::List::cut(found, &paging, |one| one.id.to_string());
    let next = list.next.map(|after| format!("/me/uses?after={after}")).unwrap_or_default();
    let live = pages.oauth.connections_of(&mut tx, caller.user).await?;
    let accounts = pages.rows(&mut tx, live).await?;
    let now = pages.oauth.clock.now();
    let row = |one: Use| UseRow {
        at: Moment::of(one.at, now),
        what: words::use_words(&one.surface, one.tool.as_deref(), one.connection),
        is_tool: one.tool.is_some(),
        account: match (one.connection, accounts.iter().find(|row| one.connection == Some(row.id))) {
            (_, Some(row)) => format!("{} ({})", row.server, row.account),
            (Some(_), None) => "a connection that has ended".to_owned(),
            (None, None) => "one that was being connected".to_owned(),
        },
        thread: one.thread.map(|id| id.to_string()).unwrap_or_default(),
        requester: match one.requester {
            Some(Requester::User(id)) if id == caller.user => "you".to_owned(),
            Some(Requester::System(_)) => "ThinkWork".to_owned(),
            Some(other) => other.kind().to_owned(),
            None => "unknown".to_owned(),
        },
    };
    let rows = list.items.into_iter().map(row).collect();
    Ok(Page(UsesPage { frame: Frame::me(&caller, "What used my accounts", "uses"), rows, next }))
}
