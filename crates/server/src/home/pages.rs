//! The two homes and the way to them.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use thinkwork_database::{Tx, intake_log, jobs};
use thinkwork_primitives::McpServerId;

use crate::app::App;
use crate::audit::{self, Recorded};
use crate::edge::{Frame, Moment, Page, PageCaller, PageError, PageMember, PageOperator};
use crate::oauth::ConnectionStatus;
use crate::threads::ThreadFilter;
use crate::threads::attribution::{Attribution, Labels};

/// Threads shown on a home.
const THREADS_MAX: u64 = 8;
/// How long a change of the agent is told.
const NEWS_SHOWN: Duration = Duration::from_secs(14 * 24 * 3_600);
/// Changes told at most, of each kind.
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
    at: Moment,
}

/// One change of what the agent is or may use, told to everybody (product.md, rule 14).
struct News {
    text: String,
    at: Moment,
}

/// One bar of a picture.
struct Bar {
    label: String,
    value: u64,
    class: &'static str,
}

#[derive(Template)]
#[template(path = "home/templates/me.html")]
struct MePage {
    frame: Frame,
    attention: Vec<Attention>,
    news: Vec<News>,
    rows: Vec<Row>,
    connected: usize,
}

#[derive(Template)]
#[template(path = "home/templates/admin.html")]
struct AdminPage {
    frame: Frame,
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
                title: format!("Connect {} again", connection.account),
                text: "Its access ended. Until you connect again, its tools are left out of your work.".to_owned(),
                href: format!("/me/mcp-servers/{}/connect", connection.server),
                act: "Connect again",
            });
        }
    }
    for (server, name) in app.mcp.unconnected(&mut tx, caller.user).await? {
        attention.push(Attention {
            tone: "info",
            picture: "plug",
            title: format!("Connect {name}"),
            text: "Then the agent can use it for you, with your account and for nobody else.".to_owned(),
            href: format!("/me/mcp-servers/{server}/connect"),
            act: "Connect",
        });
    }
    let news = news(&app, &mut tx).await?;
    let rows = threads(&app, &mut tx, &caller).await?;
    let connected = connections.iter().filter(|one| one.status == ConnectionStatus::Connected).count();
    Ok(Page(MePage { frame: Frame::me(&caller, "Home", "home"), attention, news, rows, connected }))
}

async fn admin(
    PageOperator(caller): PageOperator,
    State(app): State<Arc<App>>,
) -> Result<impl IntoResponse, PageError> {
    let behind = app.audit.sealing_behind().await?.as_secs();
    let mut tx = app.db.read(caller.tenant()).await?;
    let (_, jobs_parked) = jobs::counts(&mut tx).await?;
    let (waiting, events_parked) = intake_log::counts(&mut tx).await?;
    let counts = app.webhooks.delivery_counts(&mut tx).await?;
    let pending = app.mcp.pending_count(&mut tx).await?;
    let deliveries: Vec<Bar> = counts.into_iter().map(bar).collect();
    let attention = operator_attention(pending, &deliveries, jobs_parked.saturating_add(events_parked), behind);
    Ok(Page(AdminPage {
        frame: Frame::admin(&caller, "Home", "home"),
        attention,
        rows: threads(&app, &mut tx, &caller).await?,
        deliveries_max: deliveries.iter().map(|bar| bar.value).max().unwrap_or(0),
        deliveries,
        waiting: waiting.to_string(),
        sealed: if behind < SEALING_SECONDS_MAX { "up to date".to_owned() } else { format!("{behind} s behind") },
    }))
}

fn operator_attention(pending: u64, deliveries: &[Bar], parked: i64, behind: u64) -> Vec<Attention> {
    let failing: u64 = deliveries.iter().filter(|bar| bar.class == "bad").map(|bar| bar.value).sum();
    let mut attention = Vec::new();
    if pending > 0 {
        attention.push(Attention {
            tone: "warn",
            picture: "hand",
            title: match pending {
                1 => "An MCP server waits for approval".to_owned(),
                many => format!("{many} MCP servers wait for approval"),
            },
            text: "Nothing of it is used until you have looked at what is offered.".to_owned(),
            href: "/admin/mcp-servers".to_owned(),
            act: "Review",
        });
    }
    if failing > 0 {
        attention.push(Attention {
            tone: "bad",
            picture: "alert",
            title: match failing {
                1 => "A delivery was refused or failed in the last 24 hours".to_owned(),
                many => format!("{many} deliveries were refused or failed in the last 24 hours"),
            },
            text: "Nothing that was accepted is lost; see who sends what.".to_owned(),
            href: "/admin/webhooks".to_owned(),
            act: "Look",
        });
    }
    if parked > 0 {
        attention.push(Attention {
            tone: "bad",
            picture: "alert",
            title: match parked {
                1 => "A piece of work was put aside after many tries".to_owned(),
                many => format!("{many} pieces of work were put aside after many tries"),
            },
            text: "The log says why. Nothing of it is lost.".to_owned(),
            href: "/admin/audit".to_owned(),
            act: "See the record",
        });
    }
    if behind >= SEALING_SECONDS_MAX {
        attention.push(Attention {
            tone: "bad",
            picture: "audit",
            title: "The record is not being sealed".to_owned(),
            text: format!("The oldest unsealed event is {behind} seconds old. Check that a worker runs."),
            href: "/admin/audit".to_owned(),
            act: "See the record",
        });
    }
    attention
}

fn bar((result, count): (String, i64)) -> Bar {
    let class = match result.as_str() {
        "applied" | "accepted" => "good",
        "duplicate" => "calm",
        _ => "bad",
    };
    let mut label = result;
    label.get_mut(..1).map(str::make_ascii_uppercase);
    Bar { label, value: u64::try_from(count).unwrap_or(0), class }
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
        events.extend(app.audit.list(tx, &filter, NEWS_MAX, None).await?);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    let servers: Vec<McpServerId> = events.iter().filter_map(approved).collect();
    let names = app.mcp.names(tx, &servers).await?;
    Ok(events
        .iter()
        .filter_map(|event| {
            let text = match approved(event) {
                Some(server) => {
                    let (_, name) = names.iter().find(|(id, _)| *id == server)?;
                    format!("{name} was approved: the agent may use its tools where it serves a Space.")
                }
                None => agent_change(&event.detail)?.to_owned(),
            };
            Some(News { text, at: Moment::of(event.at, now) })
        })
        .collect())
}

fn approved(event: &Recorded) -> Option<McpServerId> {
    let (kind, id) = event.target.as_ref()?;
    if kind == "mcp_server" { id.parse().ok() } else { None }
}

/// What changed of the agent, as far as it concerns whoever works with it.
fn agent_change(detail: &serde_json::Value) -> Option<&'static str> {
    let changed = |name: &str| detail.get(name).and_then(serde_json::Value::as_bool) == Some(true);
    match (changed("model_changed"), changed("instructions_changed")) {
        (true, true) => {
            Some("The agent has another model, at the address that an operator chose, and new instructions.")
        }
        (true, false) => Some("The agent has another model: what it reads goes to the address that an operator chose."),
        (false, true) => Some("The agent has new instructions from an operator."),
        (false, false) => None,
    }
}

async fn threads(app: &App, tx: &mut Tx, caller: &PageCaller) -> Result<Vec<Row>, PageError> {
    let found = app.threads.list(tx, &caller.principal, &ThreadFilter::default(), THREADS_MAX, None).await?;
    let mut labels = Labels::new(caller.user, caller.is_operator());
    let now = app.clock.now();
    let lines = app.threads.attributions(tx, &mut labels, &found).await?;
    let mut rows = Vec::with_capacity(found.len());
    for (thread, line) in found.into_iter().zip(lines) {
        rows.push(Row {
            id: thread.id.to_string(),
            title: thread.title,
            status: thread.status.word().to_owned(),
            line,
            at: Moment::of(thread.updated_at, now),
        });
    }
    Ok(rows)
}
