//! The two homes and the way to them.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use thinkwork_database::{COUNTED_MAX, Tx, jobs};
use thinkwork_primitives::McpServerId;

use crate::app::App;
use crate::audit::{self, AuditEvent};
use crate::edge::Named;
use crate::edge::{ApiError, DisplayTime, Layout, Page, PageCaller, PageError, PageMember, PageOperator};
use crate::oauth::{ConnectionStatus, pages::connect_href};
use crate::threads::ThreadFilter;
use crate::threads::attribution::Attribution;
use crate::webhooks::{DeliveryCount, DeliveryResult};

/// Threads shown on a home.
const THREADS_MAX: u64 = 8;
/// How long a change of the agent is shown.
const NEWS_SHOWN: Duration = Duration::from_secs(14 * 24 * 3_600);
/// Changes shown at most, of each kind.
const NEWS_MAX: u64 = 5;
/// How long the record may lie unsealed before an operator should know.
const SEALING_SECONDS_MAX: u64 = 10;

/// The pages.
pub fn routes(app: &Arc<App>) -> Router {
    Router::new().route("/", get(start)).route("/me", get(me)).route("/admin", get(admin)).with_state(Arc::clone(app))
}

/// One thing that waits for this person.
struct Attention {
    tone: &'static str,
    picture: &'static str,
    title: String,
    text: String,
    href: String,
    act: &'static str,
}

/// One thread of the list.
struct Row {
    id: String,
    title: String,
    status: String,
    line: Attribution,
    at: DisplayTime,
}

/// One change of what the agent is or may use, shown to everybody.
struct News {
    text: String,
    at: DisplayTime,
}

/// One bar of a picture.
struct Bar {
    label: String,
    value: u64,
    class: &'static str,
    is_more: bool,
}

#[derive(Template)]
#[template(path = "home/templates/me.html")]
struct MePage {
    layout: Layout,
    attention: Vec<Attention>,
    news: Vec<News>,
    rows: Vec<Row>,
    connected: usize,
}

#[derive(Template)]
#[template(path = "home/templates/admin.html")]
struct AdminPage {
    layout: Layout,
    attention: Vec<Attention>,
    rows: Vec<Row>,
    deliveries: Vec<Bar>,
    deliveries_max: u64,
    waiting: String,
    sealed: String,
}

/// Whoever opens the address lands on their own face.
async fn start(PageMember(caller): PageMember) -> Redirect {
    Redirect::to(if caller.is_operator() { "/admin" } else { "/me" })
}

async fn me(PageMember(caller): PageMember, State(app): State<Arc<App>>) -> Result<impl IntoResponse, PageError> {
    let mut tx = app.db.read(caller.tenant()).await?;
    let connections = app.oauth.connections_of(&mut tx, caller.user).await?;
    let mut attention = Vec::new();
    for connection in &connections {
        if matches!(connection.status, ConnectionStatus::NeedsReauth | ConnectionStatus::Expired) {
            attention.push(Attention {
                tone: "warn",
                picture: "clock",
                title: format!("Reconnect {}", connection.account),
                text: "Access has expired. The agent cannot use this account until you reconnect it.".to_owned(),
                href: connect_href(connection.target),
                act: "Reconnect",
            });
        }
    }
    for (server, name) in app.mcp.unconnected(&mut tx, caller.user).await? {
        attention.push(Attention {
            tone: "info",
            picture: "plug",
            title: format!("Connect {name}"),
            text: "Connect your account so that the agent can use it for your requests.".to_owned(),
            href: format!("/me/mcp-servers/{server}/connect"),
            act: "Connect",
        });
    }
    let news = news(&app, &mut tx).await?;
    let rows = threads(&app, &mut tx, &caller).await?;
    let connected = connections.iter().filter(|one| one.status == ConnectionStatus::Connected).count();
    Ok(Page(MePage { layout: Layout::me(&caller, "Home", "home"), attention, news, rows, connected }))
}

async fn admin(
    PageOperator(caller): PageOperator,
    State(app): State<Arc<App>>,
) -> Result<impl IntoResponse, PageError> {
    // Before the transaction: nobody holds one connection while they wait for another.
    let behind = app.audit.sealing_behind().await?.as_secs();
    let mut tx = app.db.read(caller.tenant()).await?;
    let jobs = jobs::counts(&mut tx).await?;
    let events = app.intake.counts(&mut tx).await.map_err(|error| ApiError::internal(&error))?;
    let counts = app.webhooks.delivery_counts(&mut tx, &caller.principal).await?;
    let pending = app.mcp.pending_count(&mut tx).await?;
    let deliveries: Vec<Bar> = counts.into_iter().filter(|counted| counted.count > 0).map(bar).collect();
    let attention = operator_attention(pending, &deliveries, jobs.parked.saturating_add(events.parked), behind);
    Ok(Page(AdminPage {
        layout: Layout::admin(&caller, "Home", "home"),
        attention,
        rows: threads(&app, &mut tx, &caller).await?,
        deliveries_max: deliveries.iter().map(|bar| bar.value).max().unwrap_or(0),
        deliveries,
        waiting: if events.waiting < COUNTED_MAX {
            events.waiting.to_string()
        } else {
            format!("{COUNTED_MAX} or more")
        },
        sealed: if behind < SEALING_SECONDS_MAX { "Up to date".to_owned() } else { format!("{behind} s behind") },
    }))
}

fn operator_attention(pending: u64, deliveries: &[Bar], parked: i64, behind: u64) -> Vec<Attention> {
    let bad = || deliveries.iter().filter(|bar| bar.class == "bad");
    let failing: u64 = bad().map(|bar| bar.value).sum();
    let is_more = bad().any(|bar| bar.is_more);
    let mut attention = Vec::new();
    if pending > 0 {
        attention.push(Attention {
            tone: "warn",
            picture: "hand",
            title: match pending {
                1 => "1 MCP server is waiting for approval".to_owned(),
                many => format!("{many} MCP servers are waiting for approval"),
            },
            text: "The agent cannot use its tools until you approve it.".to_owned(),
            href: "/admin/mcp-servers".to_owned(),
            act: "Review",
        });
    }
    if failing > 0 {
        attention.push(Attention {
            tone: "bad",
            picture: "alert",
            title: match failing {
                1 => "1 delivery was refused or failed in the last 24 hours".to_owned(),
                many if is_more => format!("More than {many} deliveries were refused or failed in the last 24 hours"),
                many => format!("{many} deliveries were refused or failed in the last 24 hours"),
            },
            text: "Accepted events are not lost. Check the deliveries of each webhook.".to_owned(),
            href: "/admin/webhooks".to_owned(),
            act: "View webhooks",
        });
    }
    if parked > 0 {
        attention.push(Attention {
            tone: "bad",
            picture: "alert",
            title: match parked {
                1 => "1 background task stopped after repeated failures".to_owned(),
                many => format!("{many} background tasks stopped after repeated failures"),
            },
            text: "Nothing was lost. The server log shows the cause.".to_owned(),
            href: "/admin/audit".to_owned(),
            act: "View audit log",
        });
    }
    if behind >= SEALING_SECONDS_MAX {
        attention.push(Attention {
            tone: "bad",
            picture: "audit",
            title: "The audit log is not being sealed".to_owned(),
            text: format!("The oldest unsealed event is {behind} seconds old. Check that a worker is running."),
            href: "/admin/audit".to_owned(),
            act: "View audit log",
        });
    }
    attention
}

fn bar(counted: DeliveryCount) -> Bar {
    let class = match counted.result {
        DeliveryResult::Applied | DeliveryResult::Accepted => "good",
        DeliveryResult::Duplicate => "calm",
        DeliveryResult::Conflict | DeliveryResult::Refused | DeliveryResult::Failed => "bad",
    };
    let mut label = counted.result.as_str().to_owned();
    label.get_mut(..1).map(str::make_ascii_uppercase);
    Bar { label, value: u64::try_from(counted.count).unwrap_or(0), class, is_more: counted.is_more }
}

/// The latest changes of the agent and of the servers it may use, newest first.
async fn news(app: &App, tx: &mut Tx) -> Result<Vec<News>, PageError> {
    let now = app.clock.now();
    let mut events = Vec::new();
    for action in ["agent.changed", "mcp_server.approved"] {
        let filter = audit::Filter {
            since: Some(now.minus(NEWS_SHOWN)),
            action: Some(action.to_owned()),
            ..audit::Filter::default()
        };
        events.extend(app.audit.list(tx, &filter, NEWS_MAX, None).await?.events);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    let servers: Vec<McpServerId> = events.iter().filter_map(approved).collect();
    let named = servers.into_iter().map(|id| Named::ToolSource(id.into()));
    let names = crate::app::NAMES.find(tx, named).await?;
    Ok(events
        .iter()
        .filter_map(|event| {
            let text = match approved(event) {
                Some(server) => {
                    let name = names.get(Named::ToolSource(server.into()))?;
                    format!("{name} was approved. The agent can use its tools in the Spaces it was added to.")
                }
                None => agent_update(&event.detail)?.to_owned(),
            };
            Some(News { text, at: DisplayTime::of(event.at, now) })
        })
        .collect())
}

fn approved(event: &AuditEvent) -> Option<McpServerId> {
    let (kind, id) = event.target.as_ref()?;
    if kind == "mcp_server" { id.parse().ok() } else { None }
}

/// What changed of the agent, as far as it concerns whoever works with it.
fn agent_update(detail: &serde_json::Value) -> Option<&'static str> {
    let changed = |name: &str| detail.get(name).and_then(serde_json::Value::as_bool) == Some(true);
    match (changed("model_changed"), changed("instructions_changed")) {
        (true, true) => Some("An operator changed the model and the instructions of the agent."),
        (true, false) => {
            Some("An operator changed the model of the agent. What the agent reads is sent to the new model.")
        }
        (false, true) => Some("An operator changed the instructions of the agent."),
        (false, false) => None,
    }
}

async fn threads(app: &App, tx: &mut Tx, caller: &PageCaller) -> Result<Vec<Row>, PageError> {
    let page = app.threads.list(tx, &caller.principal, &ThreadFilter::default(), THREADS_MAX, None).await?;
    let found = page.threads;
    let now = app.clock.now();
    let lines = app.threads.attributions(tx, caller.user, caller.is_operator(), &found).await?;
    let mut rows = Vec::with_capacity(found.len());
    for (thread, line) in found.into_iter().zip(lines) {
        rows.push(Row {
            id: thread.id.to_string(),
            title: thread.title,
            status: thread.status.as_str().to_owned(),
            line,
            at: DisplayTime::of(thread.updated_at, now),
        });
    }
    Ok(rows)
}
