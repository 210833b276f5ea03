//! What the templates draw.

use askama::Template;
use strum::{IntoEnumIterator as _, VariantArray as _};
use thinkwork_primitives::Timestamp;

use super::forms::{EditForm, NewForm};
use crate::credentials::CredentialInfo;
use crate::edge::{DisplayTime, InvalidField, Layout};
use crate::webhooks::schemes::Scheme;
use crate::webhooks::{Delivery, DeliveryCount, DeliveryResult, Webhook};

/// One delivery in a list.
pub(super) struct Row {
    pub href: String,
    pub at: DisplayTime,
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
            at: DisplayTime::of(delivery.received_at, now),
            result: delivery.result.as_str(),
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
    pub layout: Layout,
    pub rows: Vec<ListRow>,
    pub next: String,
}

#[derive(Template)]
#[template(path = "webhooks/templates/new.html")]
pub(super) struct NewPage {
    pub layout: Layout,
    pub form: NewForm,
    pub problem: Option<InvalidField>,
    pub spaces: Vec<(String, String)>,
}

impl NewPage {
    fn schemes(&self) -> impl Iterator<Item = Scheme> {
        Scheme::iter()
    }

    /// What was entered for a setting of a scheme, else its default.
    fn setting(&self, control: &str, default: &str) -> String {
        self.form.settings.get(control).map_or(default, String::as_str).to_owned()
    }

    /// What is wrong with a field, or nothing.
    fn error(&self, field: &str) -> &str {
        match &self.problem {
            Some(invalid) if invalid.field == field => &invalid.problem,
            _ => "",
        }
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/secret.html")]
pub(super) struct SecretPage {
    pub layout: Layout,
    pub base: String,
    pub url: String,
}

#[derive(Template)]
#[template(path = "webhooks/templates/first.html")]
pub(super) struct FirstPage {
    pub layout: Layout,
    pub base: String,
    pub example: String,
    pub delivery: Option<Row>,
}

/// What is shown of a secret.
pub(super) struct SecretView {
    pub version: i64,
    pub last_four: String,
    pub rotated: DisplayTime,
    pub previous_ends: Option<DisplayTime>,
}

impl SecretView {
    pub(super) fn new(secret: &CredentialInfo, now: Timestamp) -> Self {
        Self {
            version: secret.version,
            last_four: secret.last_four.clone().unwrap_or_default(),
            rotated: DisplayTime::of(secret.rotated_at, now),
            previous_ends: secret.previous_ends_at.map(|at| DisplayTime::of(at, now)),
        }
    }
}

pub(super) struct Bar {
    pub label: &'static str,
    pub class: &'static str,
    pub value: u64,
    pub is_more: bool,
}

/// Requests by result.
pub(super) struct Chart {
    pub items: Vec<Bar>,
    pub max: u64,
}

impl Chart {
    pub(super) fn new(counts: &[DeliveryCount]) -> Self {
        let bar = |outcome: DeliveryResult, label, class| {
            let found = counts.iter().find(|count| count.result == outcome);
            let value = u64::try_from(found.map_or(0, |count| count.count)).unwrap_or(0);
            Bar { label, class, value, is_more: found.is_some_and(|count| count.is_more) }
        };
        let items = vec![
            bar(DeliveryResult::Applied, "Applied", "good"),
            bar(DeliveryResult::Duplicate, "Duplicate", "calm"),
            bar(DeliveryResult::Conflict, "Conflict", "warn"),
            bar(DeliveryResult::Refused, "Refused", "bad"),
            bar(DeliveryResult::Failed, "Failed", "bad"),
        ];
        Self { max: items.iter().map(|bar| bar.value).max().unwrap_or(0), items }
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/detail.html")]
pub(super) struct DetailPage {
    pub layout: Layout,
    pub base: String,
    pub webhook: Webhook,
    pub url: String,
    pub space: String,
    pub edit: EditForm,
    pub secret: Option<SecretView>,
    pub created: DisplayTime,
    pub chart: Chart,
    pub rows: Vec<Row>,
    pub next: String,
    pub result: &'static str,
    pub replay_key: String,
}

impl DetailPage {
    /// The results that the list can be cut to, with the chosen one marked.
    fn results(&self) -> Vec<(&'static str, bool)> {
        DeliveryResult::VARIANTS.iter().map(|outcome| (outcome.as_str(), outcome.as_str() == self.result)).collect()
    }
}

#[derive(Template)]
#[template(path = "webhooks/templates/delivery.html")]
pub(super) struct DeliveryPage {
    layout: Layout,
    id: String,
    result: &'static str,
    reason: String,
    reason_label: &'static str,
    asker: String,
    webhook_href: String,
    received: DisplayTime,
    applied: Option<DisplayTime>,
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
    pub(super) fn new(layout: Layout, delivery: Delivery, webhook: Option<Webhook>, now: Timestamp) -> Self {
        let ended = matches!(delivery.result, DeliveryResult::Applied | DeliveryResult::Failed);
        let is_taken = matches!(delivery.result, DeliveryResult::Applied | DeliveryResult::Accepted);
        let (asker, webhook_href) = match &webhook {
            _ if delivery.requester().is_none() => ("not verified".to_owned(), String::new()),
            Some(webhook) => (format!("webhook {}", webhook.name), format!("/admin/webhooks/{}", webhook.id)),
            None => ("a webhook that was deleted".to_owned(), String::new()),
        };
        Self {
            layout,
            id: delivery.id.to_string(),
            result: delivery.result.as_str(),
            reason: delivery.reason.unwrap_or_default(),
            reason_label: if is_taken { "Note" } else { "Reason" },
            asker,
            webhook_href,
            received: DisplayTime::of(delivery.received_at, now),
            applied: delivery.applied_at.map(|at| DisplayTime::of(at, now)),
            thread: delivery.thread.map(|thread| thread.to_string()).unwrap_or_default(),
            duplicate_of: delivery.duplicate_of.map(|first| first.to_string()).unwrap_or_default(),
            event_id: delivery.event_id.unwrap_or_default(),
            body_bytes: delivery.body_bytes,
            body_preview: delivery.body_preview.unwrap_or_default(),
            headers: delivery.headers,
            count: delivery.count,
            replayable: ended && webhook.is_some_and(|webhook| webhook.enabled),
        }
    }
}
