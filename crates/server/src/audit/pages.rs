//! `/admin/audit`: the record, to read and to filter.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use thinkwork_primitives::{ActingClient, AuditId, CredentialSubject, Requester, UserId};

use super::http::AuditEventQuery;
use super::{Audit, AuditEvent};
use crate::edge::{
    DisplayTime, Layout, NameMap, Named, Page, PageError, PageOperator, Pagination, Reader, time_cursor,
};

/// The page of the record.
pub fn routes(audit: &Audit) -> Router {
    Router::new().route("/admin/audit", get(show)).with_state(audit.clone())
}

struct Row {
    at: DisplayTime,
    action: String,
    asked_by: String,
    client: String,
    credential: String,
    target: String,
    thread: String,
    thread_href: String,
    detail: String,
    changed: bool,
}

#[derive(Template)]
#[template(path = "audit/templates/audit.html")]
struct AuditPage {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
    action: String,
    actor: String,
    thread: String,
    filtered: bool,
}

async fn show(
    PageOperator(caller): PageOperator,
    State(audit): State<Audit>,
    paging: Pagination,
    Query(filter): Query<AuditEventQuery>,
) -> Result<impl IntoResponse, PageError> {
    let filter = filter.parse()?;
    let after = paging.after_cursor()?;
    let mut tx = audit.db.read(caller.tenant()).await?;
    let page = audit.list(&mut tx, &filter, paging.limit, after).await?;
    let named = page.events.iter().flat_map(|event| {
        let people = [event.requester.user(), event.subject.user()].map(|user| user.map(Named::User));
        let webhook = match event.requester {
            Requester::Webhook(id) => Some(Named::Webhook(id)),
            _ => None,
        };
        people.into_iter().chain([Named::of_client(event.client), webhook])
    });
    let reader = Reader::Person(Some(caller.user));
    let names = audit.names.find_for(&mut tx, named.flatten().collect::<Vec<_>>(), reader).await?;
    drop(tx);
    let now = audit.clock.now();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(Page(AuditPage {
        layout: Layout::admin(&caller, "Audit", "audit"),
        next: page.next.map(|(at, id)| next_page(&filter, &time_cursor(at, id))).unwrap_or_default(),
        action: text(&filter.action),
        actor: text(&filter.actor),
        thread: filter.thread.map(|id| id.to_string()).unwrap_or_default(),
        filtered: filter.action.is_some() || filter.actor.is_some() || filter.thread.is_some(),
        rows: page.events.into_iter().map(|event| row(event, &page.changed, &names, now)).collect(),
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

fn row(event: AuditEvent, changed: &[AuditId], names: &NameMap, now: thinkwork_primitives::Timestamp) -> Row {
    let name = |user: UserId| names.get(Named::User(user)).map_or_else(|| user.to_string(), str::to_owned);
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
        changed: changed.contains(&event.id),
        at: DisplayTime::of(event.at, now),
        action: event.action,
        // Pages and the server itself are the usual case and are left out.
        client: match event.client {
            ActingClient::Page(_) | ActingClient::System => String::new(),
            client => names.client(client),
        },
        asked_by: match &event.requester {
            Requester::User(user) => name(*user),
            Requester::Webhook(id) => match names.get(Named::Webhook(*id)) {
                Some(name) => format!("webhook {name}"),
                None => format!("webhook {id}"),
            },
            Requester::System(id) if id == "server" => "ThinkWork".to_owned(),
            other => format!("{} {}", other.kind(), other.id()),
        },
        credential: match event.subject {
            CredentialSubject::None => "None".to_owned(),
            CredentialSubject::Tenant => "Company credential".to_owned(),
            CredentialSubject::User { user, .. } => format!("{}’s", name(user)),
        },
        target: event.target.map(|(_, id)| id).unwrap_or_default(),
        thread_href: if thread.is_empty() { String::new() } else { format!("/me/threads/{thread}") },
        thread,
        detail: detail.join(" · "),
    }
}
