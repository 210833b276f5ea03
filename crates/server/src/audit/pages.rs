//! `/admin/audit`: the record, to read and to filter.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use thinkwork_primitives::{CredentialSubject, Requester, TenantId, UserId};

use super::http::FilterIn;
use super::{Audit, Recorded};
use crate::edge::caller::Boxed;
use crate::edge::{Frame, List, Moment, Page, PageError, PageOperator, Paging};

/// Finds the names of people. The record keeps none, and this slice stands above the people's.
pub type People = Arc<dyn Fn(TenantId, Vec<UserId>) -> Boxed<'static, HashMap<UserId, String>> + Send + Sync>;

#[derive(Clone)]
struct Shown {
    audit: Audit,
    people: People,
}

/// The page of the record.
pub fn routes(audit: &Audit, people: People) -> Router {
    Router::new().route("/admin/audit", get(show)).with_state(Shown { audit: audit.clone(), people })
}

struct Row {
    at: Moment,
    action: String,
    asked_by: String,
    credential: String,
    target: String,
    thread: String,
    thread_href: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "audit/templates/audit.html")]
struct AuditPage {
    frame: Frame,
    rows: Vec<Row>,
    next: String,
    action: String,
    actor: String,
    thread: String,
    filtered: bool,
}

async fn show(
    PageOperator(caller): PageOperator,
    State(shown): State<Shown>,
    paging: Paging,
    Query(filter): Query<FilterIn>,
) -> Result<impl IntoResponse, PageError> {
    let filter = filter.parse()?;
    let after = paging.after_id()?;
    let mut tx = shown.audit.db.read(caller.tenant()).await?;
    let events = shown.audit.list(&mut tx, &filter, paging.limit.saturating_add(1), after).await?;
    drop(tx);
    let page = List::cut(events, &paging, |event| event.id.to_string());
    let people = page.items.iter().flat_map(|event| [event.requester.user(), event.subject.user()]);
    let names = (shown.people)(caller.tenant(), people.flatten().collect()).await;
    let now = shown.audit.clock.now();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(Page(AuditPage {
        frame: Frame::admin(&caller, "Audit", "audit"),
        next: page.next.map(|next| next_page(&filter, &next)).unwrap_or_default(),
        action: text(&filter.action),
        actor: text(&filter.actor),
        thread: filter.thread.map(|id| id.to_string()).unwrap_or_default(),
        filtered: filter.action.is_some() || filter.actor.is_some() || filter.thread.is_some(),
        rows: page.items.into_iter().map(|event| row(event, &names, now)).collect(),
    }))
}

/// The next page of the same search.
fn next_page(filter: &crate::audit::Filter, after: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("after", after);
    let thread = filter.thread.map(|id| id.to_string());
    for (name, value) in [("action", &filter.action), ("actor", &filter.actor), ("thread", &thread)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("/admin/audit?{}", query.finish())
}

fn row(event: Recorded, names: &HashMap<UserId, String>, now: thinkwork_primitives::Timestamp) -> Row {
    let name = |user: UserId| names.get(&user).cloned().unwrap_or_else(|| user.to_string());
    let thread = event.thread.map(|id| id.to_string()).unwrap_or_default();
    let detail: Vec<String> = event
        .detail
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            format!("{}: {}", key.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    Row {
        at: Moment::of(event.at, now),
        action: event.action,
        asked_by: match &event.requester {
            Requester::User(user) => name(*user),
            Requester::System(id) if id == "server" => "the server".to_owned(),
            other => format!("{} {}", other.kind(), other.id()),
        },
        credential: match event.subject {
            CredentialSubject::None => "none".to_owned(),
            CredentialSubject::Tenant => "the tenant’s".to_owned(),
            CredentialSubject::User { user, .. } => format!("{}’s", name(user)),
        },
        target: event.target.map(|(_, id)| id).unwrap_or_default(),
        thread_href: if thread.is_empty() { String::new() } else { format!("/me/threads/{thread}") },
        thread,
        detail: detail.join(" · "),
    }
}
