//! How long lists, filters, homes and searches take on a database that is full, and how soon the server starts on it.

use std::path::Path;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use thinkwork_primitives::{Clock, Timestamp};

use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::fill::{self, Known};
use crate::{Failure, figure};

const WEBHOOKS: usize = 10;
const WARM_UP: usize = 20;
const READS: usize = 300;
const STARTS: usize = 7;
/// Pages that are turned before one is measured.
const PAGES_DEEP: usize = 20;

/// Fills a fresh database and prints `name p50 p99` in milliseconds for each list, and the starts.
pub(crate) async fn figures(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    let deployment = Deployment::make(binary, folder, engine, "lists").await?;
    let server = deployment.serve("web").await?;
    let known = known(&server).await?;
    server.process.stop()?;
    let began = Instant::now();
    fill::fill(&deployment.database, &known).await?;
    deployment.database.vacuum().await?;
    eprintln!("filled in {} s", began.elapsed().as_secs());

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let server = deployment.serve("web,worker").await?;
        starts.push(server.started_in.as_secs_f64() * 1000.0);
        server.process.stop()?;
    }
    let server = deployment.serve("web,worker").await?;
    for (name, path) in paths(&server, &known).await? {
        let mut took = Vec::with_capacity(READS);
        let mut shown = 0;
        for read in 0..WARM_UP + READS {
            let began = Instant::now();
            let answer = server.read(&path).await?;
            if read >= WARM_UP {
                took.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            shown = items(&answer);
        }
        took.sort_by(f64::total_cmp);
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
        println!("{name}|{shown}|{:.2}|{:.2}", at(50), at(99));
    }
    server.process.stop()?;
    starts.sort_by(f64::total_cmp);
    figure("start_median_ms", starts.get(STARTS / 2).copied().unwrap_or_default());
    figure("start_slowest_ms", starts.last().copied().unwrap_or_default());
    Ok(())
}

/// How many items a list has, or rows a page.
fn items(answer: &[u8]) -> usize {
    match serde_json::from_slice::<Value>(answer) {
        Ok(list) => list.get("items").and_then(Value::as_array).map_or(1, Vec::len),
        Err(_) => String::from_utf8_lossy(answer).matches("<tr>").count(),
    }
}

async fn known(server: &Server) -> Result<Known, Failure> {
    let space = server.space("bench").await?;
    let mut webhooks = Vec::new();
    for number in 0..WEBHOOKS {
        let body = json!({
            "name": format!("bench {number}"),
            "space_id": space,
            "verification": { "scheme": "standard_webhooks" },
        });
        webhooks.push(text(&server.ask(Method::POST, "/v1/webhooks", body).await?, "id")?.parse()?);
    }
    let me = server.ask(Method::GET, "/v1/me", Value::Null).await?;
    let now = Clock::system().now().seconds();
    let id = |of: &str| text(me.get(of).unwrap_or(&Value::Null), "id");
    let tenant = id("tenant")?.parse()?;
    let owner = id("user")?.parse()?;
    Ok(Known { tenant, owner, webhooks, now })
}

/// Everything that is measured.
async fn paths(server: &Server, known: &Known) -> Result<Vec<(String, String)>, Failure> {
    let webhook = known.webhooks.first().ok_or("there is no webhook")?;
    let owner = known.owner;
    let now = known.now;
    let spaces = server.ask(Method::GET, "/v1/spaces?limit=200", Value::Null).await?;
    let of_access = |access: &str| {
        let all = spaces.get("items").and_then(Value::as_array).into_iter().flatten();
        let is_filled = |space: &&Value| space.get("slug").and_then(Value::as_str) != Some("bench");
        let has_access = |space: &&Value| space.get("access").and_then(Value::as_str) == Some(access);
        all.filter(is_filled)
            .find(has_access)
            .map(|space| text(space, "id"))
            .unwrap_or_else(|| Err("there is no such Space".into()))
    };
    let open = of_access("public")?;
    let private = of_access("private")?;
    let list = server.ask(Method::GET, "/v1/threads?limit=1", Value::Null).await?;
    let first = list.get("items").and_then(|items| items.get(0)).ok_or("there is no thread")?;
    let thread = text(first, "id")?;
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).to_string();
    let hour = at(now - 3_600);
    let day = at(now - 86_400);
    let month = at(now - 30 * 86_400);
    let tomorrow = at(now + 86_400);
    let nobody = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30";
    let deliveries = format!("/v1/webhooks/{webhook}/deliveries");
    let mut paths: Vec<(String, String)> = [
        ("threads", "/v1/threads".to_owned()),
        ("threads, 200 a page", "/v1/threads?limit=200".to_owned()),
        ("threads, page 20", deep(server, "/v1/threads?").await?),
        ("threads by status", "/v1/threads?status=todo".to_owned()),
        ("threads by status, page 20", deep(server, "/v1/threads?status=todo").await?),
        ("threads by status, none", "/v1/threads?status=blocked".to_owned()),
        ("threads by channel", "/v1/threads?channel=HOOK".to_owned()),
        ("threads by channel, none", "/v1/threads?channel=MAIL".to_owned()),
        ("threads by status and channel", "/v1/threads?status=done&channel=CHAT".to_owned()),
        ("threads by requester", format!("/v1/threads?requester={webhook}")),
        ("threads by requester, none", format!("/v1/threads?requester={nobody}")),
        ("threads by requester and status, none", format!("/v1/threads?requester={webhook}&status=blocked")),
        ("threads by requester and channel, none", format!("/v1/threads?requester={webhook}&channel=MAIL")),
        ("threads of a Space", format!("/v1/threads?space={open}")),
        ("threads of a private Space by status", format!("/v1/threads?space={private}&status=todo")),
        ("threads of a Space by requester, none", format!("/v1/threads?space={open}&requester={nobody}")),
        ("search, a word of every title", "/v1/threads?q=customer".to_owned()),
        ("search, a common word", "/v1/threads?q=invoice".to_owned()),
        ("search, a word's begin", "/v1/threads?q=inv".to_owned()),
        ("search, one letter", "/v1/threads?q=c".to_owned()),
        ("search, a rare word", "/v1/threads?q=7919".to_owned()),
        ("search, two words", "/v1/threads?q=invoice+77".to_owned()),
        ("search, two words that never meet", "/v1/threads?q=legacy+current".to_owned()),
        ("search, a word of old titles alone", "/v1/threads?q=legacy".to_owned()),
        ("search, none", "/v1/threads?q=nowhere".to_owned()),
        ("search, page 20", deep(server, "/v1/threads?q=invoice").await?),
        ("search by status, none", "/v1/threads?q=invoice&status=blocked".to_owned()),
        ("search by channel, none", "/v1/threads?q=invoice&channel=MAIL".to_owned()),
        ("search of a private Space", format!("/v1/threads?q=invoice&space={private}")),
        ("audit", "/v1/audit".to_owned()),
        ("audit, page 20", deep(server, "/v1/audit?").await?),
        ("audit of the last hour", format!("/v1/audit?since={hour}")),
        ("audit since a time to come, none", format!("/v1/audit?since={tomorrow}")),
        ("audit by action", "/v1/audit?action=thread.created".to_owned()),
        ("audit by a rare action", "/v1/audit?action=space.created".to_owned()),
        ("audit by action, none", "/v1/audit?action=space.deleted".to_owned()),
        ("audit by an action's begin", "/v1/audit?action=turn.".to_owned()),
        ("audit by an action's begin, none", "/v1/audit?action=nothing.".to_owned()),
        ("audit by action and time, none", format!("/v1/audit?action=thread.created&since={tomorrow}")),
        ("audit by requester", format!("/v1/audit?actor={webhook}")),
        ("audit by requester, none", format!("/v1/audit?actor={nobody}")),
        ("audit by requester and action", format!("/v1/audit?actor={owner}&action=space.created")),
        ("audit by requester and action, none", format!("/v1/audit?actor={webhook}&action=space.deleted")),
        ("audit by person", format!("/v1/audit?subject={owner}")),
        ("audit by person and requester, none", format!("/v1/audit?subject={owner}&actor={webhook}")),
        ("audit of a thread", format!("/v1/audit?thread={thread}")),
        ("audit of a thread by requester, none", format!("/v1/audit?thread={thread}&actor={nobody}")),
        ("deliveries", deliveries.clone()),
        ("deliveries, page 20", deep(server, &format!("{deliveries}?")).await?),
        ("deliveries by result", format!("{deliveries}?result=refused")),
        ("deliveries by result, none", format!("{deliveries}?result=conflict")),
        ("deliveries that wait, none", format!("{deliveries}?result=accepted")),
        ("deliveries since", format!("{deliveries}?since={day}")),
        ("deliveries until", format!("{deliveries}?until={month}")),
        ("deliveries by result and time, none", format!("{deliveries}?result=failed&since={tomorrow}")),
        ("messages", format!("/v1/threads/{thread}/messages")),
        ("turns", format!("/v1/threads/{thread}/turns")),
        ("webhooks", "/v1/webhooks".to_owned()),
        ("Spaces", "/v1/spaces".to_owned()),
        ("members of a Space", format!("/v1/spaces/{private}/members")),
        ("users", "/v1/users".to_owned()),
        ("tokens", "/v1/tokens".to_owned()),
        ("connections", "/v1/connections".to_owned()),
        ("MCP servers", "/v1/mcp-servers".to_owned()),
        ("page /me", "/me".to_owned()),
        ("page /me/spaces", "/me/spaces".to_owned()),
        ("page of a Space", format!("/me/spaces/{open}")),
        ("page of a thread", format!("/me/threads/{thread}")),
        ("page /me/uses", "/me/uses".to_owned()),
        ("page /admin", "/admin".to_owned()),
        ("page /admin/threads", "/admin/threads".to_owned()),
        ("page /admin/threads by status, none", "/admin/threads?status=blocked".to_owned()),
        ("page /admin/threads, search", "/admin/threads?q=invoice".to_owned()),
        ("page /admin/data-retention", "/admin/data-retention".to_owned()),
        ("page /admin/audit", "/admin/audit".to_owned()),
        ("page /admin/audit by action", "/admin/audit?action=tool.called".to_owned()),
        ("page /admin/webhooks", "/admin/webhooks".to_owned()),
        ("page of a webhook", format!("/admin/webhooks/{webhook}")),
        ("page of a webhook by result, none", format!("/admin/webhooks/{webhook}?result=conflict")),
        ("page /admin/people", "/admin/people".to_owned()),
        ("page /admin/spaces", "/admin/spaces".to_owned()),
    ]
    .map(|(name, path)| (name.to_owned(), path))
    .into();
    paths.sort_by_key(|(name, _)| name.starts_with("page "));
    Ok(paths)
}

/// The address of a page that is far from the first one.
async fn deep(server: &Server, path: &str) -> Result<String, Failure> {
    let mut at = path.to_owned();
    for _ in 0..PAGES_DEEP {
        let list: Value = serde_json::from_slice(&server.read(&at).await?)?;
        at = format!("{path}&after={}", text(&list, "next")?);
    }
    Ok(at)
}
