//! Wire types of webhooks and deliveries.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Deserializer, Serialize};
use thinkwork_primitives::{
    CredentialSubject, DeliveryId, Requester, Secret, SpaceId, ThreadId, Timestamp, TurnId, WebhookId, crypto,
};
use utoipa::{IntoParams, ToSchema};

use crate::credentials::Described;
use crate::edge::{ApiError, Query};
use crate::threads::Priority;
use crate::webhooks::schemes::Scheme;
use crate::webhooks::{
    Change, Delivery, Filter, Locator, Network, NewWebhook, Outcome, RATE_LIMIT_DEFAULT, Shown, Webhook, Webhooks,
    rules,
};

/// Where an id or key is found: `{"pointer": "/data/id"}`, `{"header": "X-Event-Id"}`, or either as plain text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Place {
    /// A JSON pointer.
    Pointer {
        /// Like `/data/id`.
        pointer: String,
    },
    /// A header.
    Header {
        /// Its name.
        header: String,
    },
    /// A pointer where it begins with `/`, else a header's name.
    Text(String),
}

impl From<Place> for Locator {
    fn from(place: Place) -> Self {
        match place {
            Place::Pointer { pointer } => Self::Pointer(pointer),
            Place::Header { header } => Self::Header(header.to_ascii_lowercase()),
            Place::Text(text) => Self::parse(&text),
        }
    }
}

impl From<Locator> for Place {
    fn from(locator: Locator) -> Self {
        match locator {
            Locator::Pointer(pointer) => Self::Pointer { pointer },
            Locator::Header(header) => Self::Header { header },
        }
    }
}

/// How requests prove themselves.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Verification {
    /// `bearer` or `standard_webhooks`.
    pub scheme: String,
}

/// A webhook to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookIn {
    name: String,
    #[schema(value_type = String)]
    space_id: SpaceId,
    verification: Verification,
    /// Only where the sender dictates it; else leave it out and take the one in the answer.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
    event_id: Option<Place>,
    correlation: Option<Place>,
    prompt: Option<String>,
    rate_limit_per_minute: Option<i64>,
    allowed_cidrs: Option<Vec<String>>,
    default_priority: Option<String>,
}

impl WebhookIn {
    /// The body without its secret, whose digest stands for it, for comparing two requests with one key.
    pub(super) fn described(&self) -> String {
        let secret = self.secret.as_ref().map(|secret| crypto::hex(&crypto::sha256(secret.expose())));
        serde_json::json!([
            self.name,
            self.space_id,
            self.verification,
            secret,
            self.event_id,
            self.correlation,
            self.prompt,
            self.rate_limit_per_minute,
            self.allowed_cidrs,
            self.default_priority,
        ])
        .to_string()
    }

    pub(super) fn parsed(self) -> Result<NewWebhook, ApiError> {
        Ok(NewWebhook {
            name: self.name,
            space: self.space_id,
            scheme: scheme(&self.verification.scheme)?,
            secret: self.secret,
            event_id: self.event_id.map(Locator::from),
            correlation: self.correlation.map(Locator::from),
            prompt: self.prompt,
            rate_limit_per_minute: self.rate_limit_per_minute.unwrap_or(RATE_LIMIT_DEFAULT),
            allowed_cidrs: networks(&self.allowed_cidrs.unwrap_or_default())?,
            default_priority: self.default_priority.as_deref().map(priority).transpose()?,
        })
    }
}

fn scheme(word: &str) -> Result<Scheme, ApiError> {
    Scheme::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Scheme::ALL.into_iter().map(Scheme::word).collect();
        ApiError::invalid("verification.scheme", format!("use one of: {}.", known.join(", ")))
    })
}

fn networks(texts: &[String]) -> Result<Vec<Network>, ApiError> {
    let parse =
        |text: &String| text.parse::<Network>().map_err(|error| ApiError::invalid("allowed_cidrs", error.to_string()));
    texts.iter().map(parse).collect()
}

fn priority(word: &str) -> Result<Priority, ApiError> {
    rules::priority(word)
        .ok_or_else(|| ApiError::invalid("default_priority", "use one of: low, medium, high, urgent, critical."))
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What to change of a webhook; a field that is not there stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookChangeBody {
    name: Option<String>,
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    prompt: Option<Option<String>>,
    rate_limit_per_minute: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_cidrs: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Place>)]
    event_id: Option<Option<Place>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Place>)]
    correlation: Option<Option<Place>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    default_priority: Option<Option<String>>,
}

impl WebhookChangeBody {
    pub(super) fn parsed(self) -> Result<Change, ApiError> {
        let place = |changed: Option<Option<Place>>| changed.map(|place| place.map(Locator::from));
        Ok(Change {
            name: self.name,
            enabled: self.enabled,
            prompt: self.prompt,
            rate_limit_per_minute: self.rate_limit_per_minute,
            allowed_cidrs: self.allowed_cidrs.map(|texts| networks(&texts.unwrap_or_default())).transpose()?,
            event_id: place(self.event_id),
            correlation: place(self.correlation),
            default_priority: self
                .default_priority
                .map(|word| word.as_deref().map(priority).transpose())
                .transpose()?,
        })
    }
}

/// How to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateIn {
    /// How long the secret before goes on verifying; a day where it is left out, at most 30 days.
    pub overlap_seconds: Option<u64>,
    /// Only where the sender dictates it.
    #[schema(value_type = Option<String>)]
    pub secret: Option<Secret>,
}

/// What is shown of a secret.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretState {
    version: i64,
    last_four: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    rotated_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    previous_ends_at: Option<Timestamp>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookOut {
    #[schema(value_type = String)]
    id: WebhookId,
    name: String,
    url: String,
    #[schema(value_type = String)]
    space_id: SpaceId,
    verification: Verification,
    event_id: Option<Place>,
    correlation: Option<Place>,
    prompt: Option<String>,
    rate_limit_per_minute: i64,
    allowed_cidrs: Vec<String>,
    default_priority: Option<&'static str>,
    enabled: bool,
    has_secret: bool,
    secret_state: Option<SecretState>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
}

impl WebhookOut {
    pub(super) fn new(webhooks: &Webhooks, webhook: Webhook, secret: Option<Described>) -> Self {
        Self {
            id: webhook.id,
            url: webhooks.url(webhook.id),
            name: webhook.name,
            space_id: webhook.space,
            verification: Verification { scheme: webhook.scheme.word().to_owned() },
            event_id: webhook.event_id.map(Place::from),
            correlation: webhook.correlation.map(Place::from),
            prompt: webhook.prompt,
            rate_limit_per_minute: webhook.rate_limit_per_minute,
            allowed_cidrs: webhook.allowed_cidrs.iter().map(ToString::to_string).collect(),
            default_priority: webhook.default_priority.map(rules::priority_word),
            enabled: webhook.enabled,
            has_secret: secret.is_some(),
            secret_state: secret.map(|secret| SecretState {
                version: secret.version,
                last_four: secret.last_four,
                created_at: secret.created_at,
                rotated_at: secret.rotated_at,
                last_used_at: secret.last_used_at,
                previous_ends_at: secret.previous_ends_at,
            }),
            created_at: webhook.created_at,
            version: webhook.version,
        }
    }
}

/// A webhook and its secret, this once.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownOut {
    #[serde(flatten)]
    webhook: WebhookOut,
    secret: String,
}

impl ShownOut {
    pub(super) fn new(webhooks: &Webhooks, shown: Shown) -> Self {
        let secret = shown.secret.expose_str().unwrap_or_default().to_owned();
        Self { webhook: WebhookOut::new(webhooks, shown.webhook, shown.secret_state), secret }
    }
}

/// Which deliveries to list.
#[derive(Default, Deserialize, Serialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryQuery {
    /// Only with this result.
    result: Option<String>,
    /// Only those that arrived then or later, RFC 3339.
    since: Option<String>,
    /// Only those that arrived before, RFC 3339.
    until: Option<String>,
}

/// What to replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayIn {
    /// Which deliveries; `result` is `applied` or `failed`, left out it is both.
    pub filter: Option<DeliveryQuery>,
    /// True only counts.
    pub dry_run: Option<bool>,
}

/// How many deliveries come again, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayOut {
    pub count: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for DeliveryQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        /// The same in an address, where a list leaves alone what it does not name.
        #[derive(Deserialize)]
        struct InAddress {
            result: Option<String>,
            since: Option<String>,
            until: Option<String>,
        }
        let Query(InAddress { result, since, until }) = Query::from_request_parts(parts, state).await?;
        Ok(Self { result, since, until })
    }
}

impl DeliveryQuery {
    pub(super) fn parsed(&self) -> Result<Filter, ApiError> {
        let time = |field: &str, text: &Option<String>| {
            let parse = |text: &String| {
                Timestamp::parse(text)
                    .ok_or_else(|| ApiError::invalid(field, "use RFC 3339, like 2026-01-31T12:00:00Z."))
            };
            text.as_ref().map(parse).transpose()
        };
        let result = self.result.as_deref().map(|word| {
            let known: Vec<&str> = Outcome::ALL.into_iter().map(Outcome::word).collect();
            Outcome::parse(word)
                .ok_or_else(|| ApiError::invalid("result", format!("use one of: {}.", known.join(", "))))
        });
        Ok(Filter {
            result: result.transpose()?,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
        })
    }
}

/// A header as it may be shown.
#[derive(Serialize, ToSchema)]
pub(super) struct HeaderOut {
    name: String,
    value: String,
}

/// On whose request.
#[derive(Serialize, ToSchema)]
pub(super) struct RequesterOut {
    kind: &'static str,
    id: String,
}

/// Whose credential.
#[derive(Serialize, ToSchema)]
pub(super) struct SubjectOut {
    kind: &'static str,
}

/// A delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryOut {
    #[schema(value_type = String)]
    id: DeliveryId,
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    result: &'static str,
    reason: Option<String>,
    #[schema(value_type = String)]
    received_at: Timestamp,
    #[schema(value_type = Option<String>)]
    applied_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    thread_id: Option<ThreadId>,
    #[schema(value_type = Option<String>)]
    turn_id: Option<TurnId>,
    #[schema(value_type = Option<String>)]
    duplicate_of: Option<DeliveryId>,
    event_id: Option<String>,
    headers: Vec<HeaderOut>,
    body_preview: String,
    body_bytes: i64,
    /// SHA-256 in hexadecimal.
    body_hash: String,
    /// How many requests this row stands for.
    count: i64,
    requester: RequesterOut,
    credential_subject: SubjectOut,
}

impl From<Delivery> for DeliveryOut {
    fn from(delivery: Delivery) -> Self {
        let requester = Requester::Webhook(delivery.webhook);
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook,
            result: delivery.result.word(),
            reason: delivery.reason,
            received_at: delivery.received_at,
            applied_at: delivery.applied_at,
            thread_id: delivery.thread,
            turn_id: delivery.turn,
            duplicate_of: delivery.duplicate_of,
            event_id: delivery.event_id,
            headers: delivery.headers.into_iter().map(|(name, value)| HeaderOut { name, value }).collect(),
            body_preview: delivery.body_preview,
            body_bytes: delivery.body_bytes,
            body_hash: crypto::hex(&delivery.body_hash),
            count: delivery.count,
            requester: RequesterOut { kind: requester.kind(), id: requester.id() },
            credential_subject: SubjectOut { kind: CredentialSubject::None.kind() },
        }
    }
}
