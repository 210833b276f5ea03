//! What the templates draw.

use askama::Template;
use thinkwork_primitives::Timestamp;

use super::forms::{EditForm, NewForm};
use crate::credentials::Described;
use crate::edge::{Frame, Moment, PageCaller};
use crate::webhooks::schemes::Scheme;
use crate::webhooks::{Delivery, Outcome, Shown, Webhook, Webhooks};

/// One delivery in a list.
pub(super) struct Row {
    pub href: String,
    pub at: Moment,
    pub result: &'static str,
    pub reason: String,
    pub event_id: String,
    pub thread: String,
    pub count: i64,
}

impl Row {
    pub(super) fn new(delivery: &Delivery, now: Timestamp) -> Self {
        Self {
            href: format!("/admin/deliveries/{}", delivery.id),
            at: Moment::of(delivery.received_at, now),
            result: delivery.result.word(),
            reason: delivery.reason.clone().unwrap_or_default(),
            event_id: delivery.event_id.clone().unwrap_or_default(),
            thread: delivery.thread.map(|thread| thread.to_string()).unwrap_or_default(),
            count: delivery.count,
        }
    }
}

/// One webhook in the list.
pub(super) struct ListRow {
    pub href: String,
    pub name: String,
    pub space: String,
    pub scheme: &'static str,
    pub enabled: bool,
    pub last: Option<Row>,
}

#[derive(Template)]
#[template(path = "webhooks/templates/list.html")]
pub(super) struct ListPage {
    pub frame: Frame,
    pub rows: Vec<ListRow>,
    pub next: String,
}

#[derive(Template)]
#[template(path = "webhooks/templates/new.html")]
pub(super) struct NewPage {
    pub frame: Frame,
    pub form: NewForm,
    pub problem: Option<(&'static str, String)>,
    pub spaces: Vec<(String, String)>,
}

impl NewPage {
    /// What is wrong with a field, or nothing.
    fn error(&self, field: &str) -> &str {
        match &self.problem {
            Some((at, problem)) if *at == field => problem,
            _ => "",
        }
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/made.html")]
pub(super) struct MadePage {
    frame: Frame,
    fresh: bool,
    secret: String,
    url: String,
    done: String,
    label: &'static str,
    help: &'static str,
    previous: Option<Moment>,
}

impl MadePage {
    pub(super) fn new(webhooks: &Webhooks, caller: &PageCaller, shown: Shown, fresh: bool) -> Self {
        let (webhook, now) = (shown.webhook, webhooks.parts.clock.now());
        let (label, help) = match webhook.scheme {
            Scheme::Bearer => ("Token", "The sender puts it into the header Authorization: Bearer."),
            Scheme::StandardWebhooks => ("Signing secret", "The sender signs each request with it."),
        };
        let base = format!("/admin/webhooks/{}", webhook.id);
        Self {
            frame: Frame::admin(caller, &webhook.name, "webhooks"),
            fresh,
            secret: shown.secret.expose_str().unwrap_or_default().to_owned(),
            url: webhooks.url(webhook.id),
            done: if fresh { format!("{base}/first") } else { base },
            label,
            help,
            previous: shown.secret_state.and_then(|secret| secret.previous_ends_at).map(|at| Moment::of(at, now)),
        }
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/first.html")]
pub(super) struct FirstPage {
    pub frame: Frame,
    pub base: String,
    pub example: String,
    pub delivery: Option<Row>,
}

/// What is shown of a secret.
pub(super) struct SecretView {
    pub version: i64,
    pub last_four: String,
    pub rotated: Moment,
    pub previous_ends: Option<Moment>,
}

impl SecretView {
    pub(super) fn new(secret: &Described, now: Timestamp) -> Self {
        Self {
            version: secret.version,
            last_four: secret.last_four.clone().unwrap_or_default(),
            rotated: Moment::of(secret.rotated_at, now),
            previous_ends: secret.previous_ends_at.map(|at| Moment::of(at, now)),
        }
    }
}

/// One bar.
pub(super) struct Bar {
    pub label: &'static str,
    pub class: &'static str,
    pub value: u64,
}

/// Requests by result.
pub(super) struct Chart {
    pub items: Vec<Bar>,
    pub max: u64,
}

impl Chart {
    pub(super) fn new(counts: &[(String, i64)]) -> Self {
        let count = |outcome: Outcome| {
            let found = counts.iter().find(|(word, _)| word == outcome.word());
            u64::try_from(found.map_or(0, |(_, count)| *count)).unwrap_or(0)
        };
        let bar = |outcome, label, class| Bar { label, class, value: count(outcome) };
        let items = vec![
            bar(Outcome::Applied, "Applied", "good"),
            bar(Outcome::Duplicate, "Duplicate", "calm"),
            bar(Outcome::Conflict, "Conflict", "warn"),
            bar(Outcome::Refused, "Refused", "bad"),
            bar(Outcome::Failed, "Failed", "bad"),
        ];
        Self { max: items.iter().map(|bar| bar.value).max().unwrap_or(0), items }
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/detail.html")]
pub(super) struct DetailPage {
    pub frame: Frame,
    pub base: String,
    pub webhook: Webhook,
    pub url: String,
    pub space: String,
    pub edit: EditForm,
    pub secret: Option<SecretView>,
    pub created: Moment,
    pub chart: Chart,
    pub rows: Vec<Row>,
    pub next: String,
    pub result: &'static str,
    pub replay_key: String,
}

impl DetailPage {
    /// The results that the list can be cut to, with the chosen one marked.
    fn results(&self) -> Vec<(&'static str, bool)> {
        Outcome::ALL.into_iter().map(|outcome| (outcome.word(), outcome.word() == self.result)).collect()
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/delivery.html")]
pub(super) struct DeliveryPage {
    frame: Frame,
    id: String,
    result: &'static str,
    reason: String,
    asker: String,
    webhook_href: String,
    received: Moment,
    applied: Option<Moment>,
    thread: String,
    duplicate_of: String,
    event_id: String,
    body_bytes: i64,
    body_preview: String,
    headers: Vec<(String, String)>,
    count: i64,
    replayable: bool,
}

impl DeliveryPage {
    pub(super) fn new(frame: Frame, delivery: Delivery, webhook: Option<Webhook>, now: Timestamp) -> Self {
        let ended = matches!(delivery.result, Outcome::Applied | Outcome::Failed);
        let (asker, webhook_href) = match &webhook {
            Some(webhook) => (format!("webhook {}", webhook.name), format!("/admin/webhooks/{}", webhook.id)),
            None => ("a webhook that was deleted".to_owned(), String::new()),
        };
        Self {
            frame,
            id: delivery.id.to_string(),
            result: delivery.result.word(),
            reason: delivery.reason.unwrap_or_default(),
            asker,
            webhook_href,
            received: Moment::of(delivery.received_at, now),
            applied: delivery.applied_at.map(|at| Moment::of(at, now)),
            thread: delivery.thread.map(|thread| thread.to_string()).unwrap_or_default(),
            duplicate_of: delivery.duplicate_of.map(|first| first.to_string()).unwrap_or_default(),
            event_id: delivery.event_id.unwrap_or_default(),
            body_bytes: delivery.body_bytes,
            body_preview: delivery.body_preview,
            headers: delivery.headers,
            count: delivery.count,
            replayable: ended && webhook.is_some_and(|webhook| webhook.enabled),
        }
    }
}

/// How a sender sends, to be pasted into a shell.
pub(super) fn example(webhook: &Webhook, url: &str) -> String {
    let rest = "-H 'Content-Type: application/json' --data-binary \"$BODY\"";
    match webhook.scheme {
        Scheme::Bearer => format!(
            "TOKEN='the token you stored'\nBODY='{{\"hello\":\"world\"}}'\n\
             curl '{url}' -H \"Authorization: Bearer $TOKEN\" \\\n  {rest}"
        ),
        Scheme::StandardWebhooks => format!(
            "SECRET='the whsec_ secret you stored'\nBODY='{{\"hello\":\"world\"}}'\n\
             ID=\"msg_$(date +%s)\" TIME=$(date +%s)\n\
             KEY=$(printf %s \"${{SECRET#whsec_}}\" | base64 -d | od -An -v -tx1 | tr -d ' \\n')\n\
             SIGNATURE=$(printf %s \"$ID.$TIME.$BODY\" | openssl dgst -sha256 -mac HMAC -macopt hexkey:$KEY -binary | base64)\n\
             curl '{url}' -H \"webhook-id: $ID\" -H \"webhook-timestamp: $TIME\" \\\n  \
             -H \"webhook-signature: v1,$SIGNATURE\" \\\n  {rest}"
        ),
    }
}
