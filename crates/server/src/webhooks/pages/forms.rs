//! The two forms of a webhook: make and change. Fields are text as typed; empty means "none".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use strum::IntoEnumIterator as _;
use thinkwork_primitives::Network;

use crate::edge::InvalidField;
use crate::webhooks::schemes::Scheme;
use crate::webhooks::{Error, Locator, NewWebhook, RATE_LIMIT_DEFAULT, Webhook, WebhookUpdate};

fn filled(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn place(text: &str) -> Option<Locator> {
    filled(text).map(Locator::parse)
}

fn rate(text: &str) -> Result<i64, InvalidField> {
    text.trim().parse().map_err(|_| InvalidField::new("rate_limit_per_minute", "use a whole number, for example 600."))
}

/// Networks separated by commas, spaces or lines.
fn networks(text: &str) -> Result<Vec<Network>, InvalidField> {
    text.split([',', ' ', '\n', '\r', '\t'])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse::<Network>().map_err(|error| InvalidField::new("allowed_cidrs", error.to_string())))
        .collect()
}

/// What makes a webhook.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct NewForm {
    pub name: String,
    pub space_id: String,
    pub scheme: String,
    pub event_id: String,
    pub correlation: String,
    pub prompt: String,
    pub rate_limit_per_minute: String,
    pub allowed_cidrs: String,
    pub default_priority: String,
    /// All other fields. The settings of a scheme are those whose names begin with its word: `hmac.header`.
    #[serde(flatten)]
    pub settings: BTreeMap<String, String>,
}

impl Default for NewForm {
    fn default() -> Self {
        Self {
            name: String::new(),
            space_id: String::new(),
            scheme: Scheme::iter().next().map_or("", |suggested| suggested.as_str()).to_owned(),
            event_id: String::new(),
            correlation: String::new(),
            prompt: String::new(),
            rate_limit_per_minute: RATE_LIMIT_DEFAULT.to_string(),
            allowed_cidrs: String::new(),
            default_priority: String::new(),
            settings: BTreeMap::new(),
        }
    }
}

impl NewForm {
    /// The scheme as its JSON says it: its word, and what was entered for its settings.
    pub(crate) fn scheme(&self) -> Result<Scheme, Error> {
        let prefix = format!("{}.", self.scheme);
        let mut json = Map::from_iter([("scheme".to_owned(), Value::from(self.scheme.as_str()))]);
        for (name, value) in &self.settings {
            if let (Some(name), Some(value)) = (name.strip_prefix(&prefix), filled(value)) {
                json.insert(name.to_owned(), Value::from(value));
            }
        }
        serde_json::from_value(json.into())
            .map_err(|error| InvalidField::new("verification", format!("{error}.")).into())
    }

    pub(super) fn parsed(&self) -> Result<NewWebhook, Error> {
        let priority = |word: &str| {
            word.parse().map_err(|_| InvalidField::new("default_priority", "choose a priority from the list."))
        };
        Ok(NewWebhook {
            name: self.name.trim().to_owned(),
            space: self.space_id.parse().map_err(|_| InvalidField::new("space_id", "choose a Space."))?,
            scheme: self.scheme()?,
            secret: None,
            event_id: place(&self.event_id),
            correlation: place(&self.correlation),
            prompt: filled(&self.prompt).map(str::to_owned),
            rate_limit_per_minute: rate(&self.rate_limit_per_minute)?,
            allowed_cidrs: networks(&self.allowed_cidrs)?,
            default_priority: filled(&self.default_priority).map(priority).transpose()?,
        })
    }
}

/// What changes one.
#[derive(Deserialize)]
pub(super) struct EditForm {
    pub name: String,
    #[serde(default)]
    pub event_id: String,
    pub correlation: String,
    pub prompt: String,
    pub rate_limit_per_minute: String,
    pub allowed_cidrs: String,
}

impl EditForm {
    pub(super) fn of(webhook: &Webhook) -> Self {
        let place = |place: &Option<Locator>| place.as_ref().map(|place| place.text().to_owned()).unwrap_or_default();
        let networks: Vec<String> = webhook.allowed_cidrs.iter().map(ToString::to_string).collect();
        Self {
            name: webhook.name.clone(),
            event_id: place(&webhook.event_id),
            correlation: place(&webhook.correlation),
            prompt: webhook.prompt.clone().unwrap_or_default(),
            rate_limit_per_minute: webhook.rate_limit_per_minute.to_string(),
            allowed_cidrs: networks.join(", "),
        }
    }

    pub(super) fn parsed(&self) -> Result<WebhookUpdate, Error> {
        Ok(WebhookUpdate {
            name: Some(self.name.trim().to_owned()),
            event_id: Some(place(&self.event_id)),
            correlation: Some(place(&self.correlation)),
            prompt: Some(filled(&self.prompt).map(str::to_owned)),
            rate_limit_per_minute: Some(rate(&self.rate_limit_per_minute)?),
            allowed_cidrs: Some(networks(&self.allowed_cidrs)?),
            ..WebhookUpdate::default()
        })
    }
}
