//! "What can the agent use here?": for the member themself, and for operators about anyone.
//!
//! Invariant: drawn from [`Tools::inspect`], so it says what a turn would get, and leaves no trace.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use thinkwork_primitives::{CredentialSubject, Effect, Requester, SpaceId, ToolSourceId, UserId, limits};

use super::{Error, GrantAct, LeftOut, LeftOutReason, Narrowing, OfferedSource, OfferedTool, OfferedTools, Tools};
use crate::edge::{ApiError, DisplayTime, Layout, Page, PageCaller, PageError, PageMember, PageOperator, Path, Query};
use crate::spaces::Approval;

/// The pages' routes.
pub fn routes(tools: &Tools) -> Router {
    Router::new()
        .route("/me/spaces/{id}/tools", get(mine))
        .route("/admin/spaces/{id}/tools", get(of_anyone))
        .with_state(tools.clone())
}

#[derive(Template)]
#[template(path = "tools/templates/effective.html")]
struct EffectivePage {
    layout: Layout,
    space_id: String,
    space_name: String,
    /// For the operator's choice; empty for members.
    people: Vec<PersonChoice>,
    /// Why this person gets nothing at all.
    refusal: String,
    sources: Vec<SourceView>,
    left_out: Vec<LeftOutView>,
}

struct PersonChoice {
    id: String,
    name: String,
    is_chosen: bool,
}

struct SourceView {
    name: String,
    href: String,
    granted: String,
    granted_at: DisplayTime,
    account: String,
    limits: &'static str,
    tools: Vec<ToolView>,
}

struct ToolView {
    name: String,
    effect: &'static str,
    approval: &'static str,
}

struct LeftOutView {
    source: String,
    why: String,
    href: String,
    act: &'static str,
}

/// About whom the page speaks, to whom.
struct Subject {
    /// Empty where the reader is the person.
    name: String,
    is_operator: bool,
}

async fn mine(
    State(tools): State<Tools>,
    PageMember(caller): PageMember,
    Path(space): Path<SpaceId>,
) -> Result<Response, PageError> {
    let layout = Layout::me(&caller, "What can the agent use here?", "spaces");
    page(&tools, &caller, layout, space, caller.user, Vec::new()).await
}

#[derive(Deserialize)]
struct AboutWhom {
    user: Option<UserId>,
}

async fn of_anyone(
    State(tools): State<Tools>,
    PageOperator(caller): PageOperator,
    Path(space): Path<SpaceId>,
    Query(about): Query<AboutWhom>,
) -> Result<Response, PageError> {
    let layout = Layout::admin(&caller, "What can the agent use here?", "spaces");
    let user = about.user.unwrap_or(caller.user);
    let people = tools.people(&caller, user).await?;
    page(&tools, &caller, layout, space, user, people).await
}

async fn page(
    tools: &Tools,
    caller: &PageCaller,
    layout: Layout,
    space: SpaceId,
    user: UserId,
    people: Vec<PersonChoice>,
) -> Result<Response, PageError> {
    let context = tools.context_of(&caller.principal, space, Some(user)).await?;
    let mut tx = tools.db.read(caller.tenant()).await?;
    let space_name = tools.spaces.visible(&mut tx, space, &caller.principal).await?.name;
    drop(tx);
    let mut page = EffectivePage {
        layout,
        space_id: space.to_string(),
        space_name,
        people,
        refusal: String::new(),
        sources: Vec::new(),
        left_out: Vec::new(),
    };
    match tools.inspect(&context).await {
        Ok(offered) => tools.fill(&mut page, caller, user, offered).await?,
        Err(Error::NotAdmitted) => page.refusal = ApiError::from(Error::NotAdmitted).message,
        Err(error) => return Err(error.into()),
    }
    Ok(Page(page).into_response())
}

impl Tools {
    async fn fill(
        &self,
        page: &mut EffectivePage,
        caller: &PageCaller,
        user: UserId,
        offered: OfferedTools,
    ) -> Result<(), ApiError> {
        let sources = offered.by_source();
        let mut asked: Vec<UserId> =
            sources.iter().filter_map(|source| source.provenance.granted_by.requester.user()).collect();
        asked.push(user);
        let mut tx = self.db.read(caller.tenant()).await?;
        let names = self.access.user_names(&mut tx, &asked).await.map_err(|error| ApiError::internal(&error))?;
        let name_of = |id: UserId| {
            let found = names.iter().find(|(user, _)| *user == id);
            found.map_or_else(|| "somebody".to_owned(), |(_, name)| name.clone())
        };
        let subject = Subject {
            name: if user == caller.user { String::new() } else { name_of(user) },
            is_operator: caller.is_operator(),
        };
        let now = self.spaces.clock.now();
        page.sources = sources
            .into_iter()
            .map(|source| {
                let granter = match &source.provenance.granted_by.requester {
                    Requester::User(id) => name_of(*id),
                    _ => "a service token".to_owned(),
                };
                let at = DisplayTime::of(source.provenance.granted_by.at, now);
                source_view(source, &granter, at, &subject)
            })
            .collect();
        page.left_out = offered.left_out.into_iter().map(|left_out| left_out_view(left_out, &subject)).collect();
        Ok(())
    }

    /// Enabled people of the tenant by name, for the operator's choice.
    async fn people(&self, caller: &PageCaller, chosen: UserId) -> Result<Vec<PersonChoice>, ApiError> {
        let found = self.access.users(caller.tenant(), limits::PAGE_ITEMS_MAX, None).await;
        let found = found.map_err(|error| ApiError::internal(&error))?;
        let enabled = found.into_iter().filter(|user| !user.disabled || user.id == chosen);
        let mut people: Vec<PersonChoice> = enabled
            .map(|user| PersonChoice { id: user.id.to_string(), name: user.name, is_chosen: user.id == chosen })
            .collect();
        people.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(people)
    }
}

fn source_view(source: OfferedSource, granter: &str, granted_at: DisplayTime, subject: &Subject) -> SourceView {
    let granted = &source.provenance.granted_by;
    SourceView {
        granted: match granted.act {
            GrantAct::Space => format!("Added to this Space by {granter}"),
            GrantAct::OutsideSpaces => format!("Approved for use outside Spaces by {granter}"),
        },
        account: match granted.credential_subject {
            CredentialSubject::None => "Does not use an account.".to_owned(),
            CredentialSubject::Tenant => "Uses the company's key.".to_owned(),
            CredentialSubject::User { .. } if subject.name.is_empty() => "Uses your own account.".to_owned(),
            CredentialSubject::User { .. } => format!("Uses {}'s own account.", subject.name),
        },
        limits: limits_sentence(&source.provenance.narrowed_by),
        href: if subject.is_operator { settings_href(source.source) } else { String::new() },
        tools: source.tools.into_iter().map(tool_view).collect(),
        name: source.slug,
        granted_at,
    }
}

fn limits_sentence(narrowed_by: &[Narrowing]) -> &'static str {
    let by = |narrowing| narrowed_by.contains(&narrowing);
    match (by(Narrowing::Registration), by(Narrowing::Space)) {
        (false, false) => "All approved tools are available.",
        (true, false) => "The server settings allow only these tools.",
        (false, true) => "This Space allows only these tools.",
        (true, true) => "The server settings and this Space allow only these tools.",
    }
}

fn tool_view(tool: OfferedTool) -> ToolView {
    ToolView {
        name: tool.name,
        effect: match tool.effect {
            Effect::Read => "Read-only",
            Effect::Write => "Changes only own data",
            Effect::Send => "Reaches others",
        },
        approval: match tool.approval {
            Approval::Never => "Not needed",
            Approval::Once => "Once per thread",
            Approval::Always => "Every call",
        },
    }
}

fn left_out_view(left_out: LeftOut, subject: &Subject) -> LeftOutView {
    let own = subject.name.is_empty();
    let href = match &left_out.connect_url {
        Some(url) if own => url::Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default(),
        Some(_) => String::new(),
        None if subject.is_operator => settings_href(left_out.source),
        None => String::new(),
    };
    let name = &subject.name;
    let why = match left_out.reason {
        LeftOutReason::NeedsConnection if !own => {
            format!("{name} has not connected an account. Only they can do this.")
        }
        LeftOutReason::Expired if !own => format!("The connection of {name} has expired. Only they can reconnect it."),
        LeftOutReason::NotDiscovered => {
            "Its tools are not known yet. They are loaded when the agent first needs them.".to_owned()
        }
        reason => sentence(&left_out.with_detail(reason.plain())),
    };
    LeftOutView { source: left_out.name().to_owned(), why, href, act: left_out.reason.act() }
}

fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first: String = chars.next().map(|char| char.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// Where operators configure a source; empty where there is no such page.
fn settings_href(source: ToolSourceId) -> String {
    match source {
        ToolSourceId::McpServer(id) => format!("/admin/mcp-servers/{id}"),
        ToolSourceId::BuiltInSet(_) | ToolSourceId::Extension(_) => String::new(),
    }
}
