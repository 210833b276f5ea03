//! `/admin/mcp-servers/{id}`: everything an operator decides about one server, and how its test ended.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use thinkwork_primitives::McpServerId;

use super::ConnectOutcome;
use crate::edge::visible::visible;
use crate::edge::{
    ApiError, DisplayTime, EmptyForm, Flash, Layout, Notice, OperatorFormWithoutReauth, Page, PageCaller, PageError,
    PageOperator, Path,
};
use crate::mcp::{Mcp, McpServer, McpServerStatus, ServerTool, TestResult, rules};
use crate::tools::facts::ToolDetails;

/// Spaces offered in the choice: more than one operator sees at once.
const SPACES_MAX: u64 = 200;

struct Fact {
    label: &'static str,
    value: String,
}

struct ToolRow {
    /// As the server spells it, for the form.
    name: String,
    shown_name: String,
    title: String,
    description: String,
    schema: String,
    /// The schema of its result; empty where it has none.
    output_schema: String,
    /// What else the server says of it; empty where it says nothing.
    claims: String,
    hash: String,
    status: &'static str,
    /// Where nothing is decided yet, what the server's hints suggest.
    effect: &'static str,
    decided: bool,
    idempotent: bool,
}

struct SpaceRow {
    id: String,
    name: String,
    tools: String,
}

struct SecretRow {
    version: String,
    last_four: String,
    rotated: DisplayTime,
    used: Option<DisplayTime>,
}

#[derive(Template)]
#[template(path = "mcp/templates/server.html")]
struct ReviewPage {
    layout: Layout,
    id: String,
    name: String,
    status: &'static str,
    is_approved: bool,
    needs_issuer: bool,
    takes_secret: bool,
    hash: String,
    facts: Vec<Fact>,
    reason: String,
    last_error: String,
    allowlist: String,
    allowlist_missing: String,
    tools: Vec<ToolRow>,
    held: usize,
    /// Approved tools whose effect nobody has decided.
    undecided: usize,
    secret: Option<SecretRow>,
    spaces: Vec<SpaceRow>,
    spaces_other: Vec<SpaceRow>,
}

/// The page.
pub(super) async fn show(
    PageOperator(caller): PageOperator,
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    Query(outcome): Query<ConnectOutcome>,
) -> Result<Response, PageError> {
    page(&mcp, &caller, id, outcome.notice()).await
}

/// Tests and shows how it ended.
pub(super) async fn test(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorFormWithoutReauth { caller, .. }: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Response, PageError> {
    let test = mcp.test(caller.tenant(), id, &caller.principal.actor()).await?;
    Ok(Flash::notice(test_notice(test)).redirect(&format!("/admin/mcp-servers/{id}")))
}

/// The page with what stands above it.
pub(super) async fn page(
    mcp: &Mcp,
    caller: &PageCaller,
    id: McpServerId,
    notice: Option<Notice>,
) -> Result<Response, PageError> {
    let (server, tools) = mcp.find_with_tools(caller.tenant(), id).await?;
    let now = mcp.clock.now();
    let (spaces, spaces_other) = space_rows(mcp, caller, id).await?;
    let secret = mcp.secret_described(caller.tenant(), &server).await?.map(|secret| SecretRow {
        version: secret.version.to_string(),
        last_four: secret.last_four.unwrap_or_default(),
        rotated: DisplayTime::of(secret.rotated_at, now),
        used: secret.last_used_at.map(|at| DisplayTime::of(at, now)),
    });
    let missing = rules::names_missing(&server.tool_allowlist, &tools);
    // Before anything is known of the tools, every name would be missing.
    let allowlist_missing = if tools.is_empty() { String::new() } else { missing.join(", ") };
    let allowlist = server.tool_allowlist.clone();
    // A server chooses its definitions, and there can be hundreds of them.
    let listing = tokio::task::spawn_blocking(move || {
        let here = tools.iter().filter(|tool| tool.gone_at.is_none() && rules::is_listed(&allowlist, &tool.name));
        here.map(tool_row).collect::<Vec<ToolRow>>()
    });
    let listed = listing.await.map_err(|error| ApiError::internal(&error))?;
    Ok(Page(ReviewPage {
        layout: Layout::admin(caller, &server.name, "mcp-servers").with_notice(notice),
        id: id.to_string(),
        status: server.effective_status().as_str(),
        is_approved: server.is_usable(),
        needs_issuer: server.auth.uses_oauth() && server.issuer.is_none(),
        takes_secret: server.auth.takes_secret(),
        hash: server.definition_hash.clone(),
        facts: facts(&server),
        reason: server.effective_reason().unwrap_or_default().to_owned(),
        last_error: server.last_error.clone().unwrap_or_default(),
        allowlist: server.tool_allowlist.clone().unwrap_or_default().join("\n"),
        allowlist_missing,
        held: if server.status == McpServerStatus::Approved {
            listed.iter().filter(|row| row.status == "on_hold").count()
        } else {
            0
        },
        undecided: listed.iter().filter(|row| row.status == "approved" && !row.decided).count(),
        tools: listed,
        secret,
        spaces,
        spaces_other,
        name: server.name,
    })
    .render_off_worker()
    .await)
}

/// What the hash covers, in words.
fn facts(server: &McpServer) -> Vec<Fact> {
    let fact = |label, value: &str| Fact { label, value: value.to_owned() };
    let mut facts = vec![fact("URL", &server.url), fact("Authentication", server.auth.description().name)];
    if server.auth.uses_oauth() {
        facts.push(fact("Authorization server", server.issuer.as_deref().unwrap_or("Not found yet")));
        facts.extend(server.deviations().iter().map(|deviation| fact("Deviation", deviation.sentence())));
    }
    for (setting, value) in server.auth.settings().filter(|(setting, _)| setting.is_reviewed) {
        let value = match value {
            Value::String(text) => text,
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            Value::Bool(true) => "Yes".to_owned(),
            _ => setting.unset.to_owned(),
        };
        if !value.is_empty() {
            facts.push(Fact { label: setting.label, value });
        }
    }
    let allowed = server.tool_allowlist.as_ref().map_or_else(|| "All".to_owned(), |names| names.join(", "));
    facts.push(fact("Allowed tools", &allowed));
    facts.push(fact("Available outside Spaces", if server.outside_spaces { "Yes" } else { "No" }));
    facts
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn tool_row(tool: &ServerTool) -> ToolRow {
    let effect = tool.effect.unwrap_or_else(|| rules::effect_suggested(&tool.details.annotations));
    ToolRow {
        name: tool.name.clone(),
        shown_name: visible(&tool.name),
        title: visible(tool.details.title.as_deref().unwrap_or_default()),
        description: visible(&tool.description),
        schema: visible(&pretty(&*tool.input_schema)),
        output_schema: tool
            .details
            .output_schema
            .as_deref()
            .map_or_else(String::new, |schema| visible(&pretty(schema))),
        claims: claims(&tool.details),
        hash: tool.definition_hash.clone(),
        status: if tool.is_held() { "on_hold" } else { "approved" },
        effect: effect.as_str(),
        decided: tool.effect.is_some(),
        idempotent: tool.idempotent,
    }
}

/// The hints, icons and `_meta` that a server claims of its tool.
fn claims(details: &ToolDetails) -> String {
    let said = [
        ("annotations", details.annotations.clone()),
        ("icons", details.icons.clone().unwrap_or_default()),
        ("_meta", details.meta.clone().map_or(Value::Null, Value::Object)),
    ];
    let said: Map<String, Value> =
        said.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect();
    if said.is_empty() { String::new() } else { visible(&pretty(&said)) }
}

/// How a test ended.
fn test_notice(test: TestResult) -> Notice {
    if test.ok {
        let names: Vec<String> = test.tools.into_iter().map(|tool| visible(&tool.name)).collect();
        let tools = match names.len() {
            0 => "no tools".to_owned(),
            1 => "1 tool: ".to_owned(),
            count => format!("{count} tools: "),
        };
        let protocol = test.protocol_version.unwrap_or_default();
        return Notice::success(format!("The test passed. Protocol {protocol}, {tools}{}.", names.join(", ")));
    }
    let notice = Notice::error(format!("The test failed. {}", test.error.unwrap_or_default()));
    match test.connect_url {
        Some(url) => notice.with_link("Connect your account", url),
        None => notice,
    }
}

/// The Spaces that the operator sees: those that the server serves, and the others.
async fn space_rows(
    mcp: &Mcp,
    caller: &PageCaller,
    id: McpServerId,
) -> Result<(Vec<SpaceRow>, Vec<SpaceRow>), PageError> {
    let mut tx = mcp.db.read(caller.tenant()).await?;
    let all = mcp.spaces.list(&mut tx, &caller.principal, SPACES_MAX, None).await.map_err(crate::mcp::Error::from)?;
    let serves = mcp.spaces.spaces_of_source(&mut tx, id.into()).await.map_err(crate::mcp::Error::from)?;
    let mut served = Vec::new();
    let mut others = Vec::new();
    for space in all {
        let mut row = SpaceRow { id: space.id.to_string(), name: space.name, tools: String::new() };
        if serves.contains(&space.id) {
            let sources = mcp.spaces.sources(&mut tx, space.id).await.map_err(crate::mcp::Error::from)?;
            let found = sources.into_iter().find(|served| served.source == id.into());
            row.tools = found
                .and_then(|served| served.policy.tool_allowlist)
                .map_or_else(|| "All approved tools".to_owned(), |names| names.join(", "));
            served.push(row);
        } else {
            others.push(row);
        }
    }
    Ok((served, others))
}
