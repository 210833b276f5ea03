//! Wire types of webhooks and deliveries.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;
use thinkwork_primitives::{
    ActingClient, CredentialSubject, DeliveryId, Network, Secret, SpaceId, ThreadId, Timestamp, TurnId, WebhookId,
    crypto,
};
use utoipa::{IntoParams, ToSchema};

use crate::credentials::CredentialInfo;
use crate::edge::identity::{ActingClientResponse, CredentialSubjectResponse, RequesterResponse};
use crate::edge::{ApiError, NameMap, Query, double_option};
use crate::threads::Priority;
use crate::webhooks::schemes::Scheme;
use crate::webhooks::{
    Delivery, DeliveryFilter, DeliveryResult, Locator, NewWebhook, RATE_LIMIT_DEFAULT, Webhook, WebhookUpdate,
    WebhookWithSecret, Webhooks,
};

/// Where an id or key is found: `{"pointer": "/data/id"}`, `{"header": "X-Event-Id"}`, or either as plain text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
#[schema(example = json!({ "pointer": "/data/id" }))]
pub(super) enum Place {
    /// A JSON pointer.
    Pointer {
        /// A JSON pointer into the body.
        #[schema(example = "/data/id")]
        pointer: String,
    },
    /// A header.
    Header {
        /// The header's name.
        #[schema(example = "X-Event-Id")]
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

/// A webhook to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateWebhookRequest {
    /// What people call it.
    #[schema(example = "Billing events")]
    name: String,
    /// The Space whose threads its events go to.
    #[schema(value_type = String)]
    space_id: SpaceId,
    /// How its requests prove where they come from.
    verification: Scheme,
    /// The secret, only if the sender dictates it; otherwise leave it out and take the one in the answer.
    #[schema(value_type = Option<String>, example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: Option<Secret>,
    /// Where the event's id is, by which repeated events are recognised.
    event_id: Option<Place>,
    /// Where the key is that sends related events to one thread.
    correlation: Option<Place>,
    /// What the agent is told about each event.
    #[schema(example = "Say what is due.")]
    prompt: Option<String>,
    /// Accepted requests per minute; 600 if absent.
    #[schema(example = 600)]
    rate_limit_per_minute: Option<i64>,
    /// The networks that may send; any if absent.
    #[schema(example = json!(["192.0.2.0/24"]))]
    allowed_cidrs: Option<Vec<String>>,
    /// The priority of its threads: `low`, `medium`, `high`, `urgent` or `critical`.
    #[schema(example = "medium")]
    default_priority: Option<String>,
}

impl CreateWebhookRequest {
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
            scheme: self.verification,
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

fn networks(texts: &[String]) -> Result<Vec<Network>, ApiError> {
    let parse =
        |text: &String| text.parse::<Network>().map_err(|error| ApiError::invalid("allowed_cidrs", error.to_string()));
    texts.iter().map(parse).collect()
}

fn priority(word: &str) -> Result<Priority, ApiError> {
    word.parse().map_err(|_| ApiError::invalid("default_priority", "use one of: low, medium, high, urgent, critical."))
}

/// What to change of a webhook; a field that is not there stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateWebhookRequest {
    /// What people call it.
    #[schema(example = "Billing events")]
    name: Option<String>,
    /// Whether it accepts requests.
    #[schema(example = true)]
    enabled: Option<bool>,
    /// What the agent is told about each event; null removes it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, example = "Say what is due.")]
    prompt: Option<Option<String>>,
    /// Accepted requests per minute.
    #[schema(example = 600)]
    rate_limit_per_minute: Option<i64>,
    /// The networks that may send; null allows any.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<Vec<String>>, example = json!(["192.0.2.0/24"]))]
    allowed_cidrs: Option<Option<Vec<String>>>,
    /// Where the event's id is, by which repeated events are recognised; null removes it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<Place>)]
    event_id: Option<Option<Place>>,
    /// Where the key is that sends related events to one thread; null removes it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<Place>)]
    correlation: Option<Option<Place>>,
    /// The priority of its threads: `low`, `medium`, `high`, `urgent` or `critical`; null removes it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, example = "medium")]
    default_priority: Option<Option<String>>,
}

impl UpdateWebhookRequest {
    pub(super) fn parsed(self) -> Result<WebhookUpdate, ApiError> {
        let place = |changed: Option<Option<Place>>| changed.map(|place| place.map(Locator::from));
        Ok(WebhookUpdate {
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
pub(super) struct RotateSecretRequest {
    /// For how many seconds the secret before still verifies; a day if absent, 30 days at most.
    #[schema(example = 86_400)]
    pub overlap_seconds: Option<u64>,
    /// The new secret, only if the sender dictates it.
    #[schema(value_type = Option<String>, example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub secret: Option<Secret>,
}

/// What is shown of a secret.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretState {
    /// How many secrets there have been, this one included.
    #[schema(example = 2)]
    version: i64,
    last_four: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    rotated_at: Timestamp,
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    /// Until when the secret before still verifies, RFC 3339; null if it does not.
    #[schema(value_type = Option<String>)]
    previous_ends_at: Option<Timestamp>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookResponse {
    #[schema(value_type = String, example = "whk_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: WebhookId,
    /// What people call it.
    #[schema(example = "Billing events")]
    name: String,
    /// The address to send events to.
    #[schema(example = "https://thinkwork.example.com/hooks/whk_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    url: String,
    /// The Space whose threads its events go to.
    #[schema(value_type = String)]
    space_id: SpaceId,
    /// How its requests prove where they come from.
    verification: Scheme,
    /// Where the event's id is, by which repeated events are recognised.
    event_id: Option<Place>,
    /// Where the key is that sends related events to one thread.
    correlation: Option<Place>,
    /// What the agent is told about each event.
    #[schema(example = "Say what is due.")]
    prompt: Option<String>,
    /// Accepted requests per minute.
    #[schema(example = 600)]
    rate_limit_per_minute: i64,
    /// The networks that may send; empty for any.
    #[schema(example = json!(["192.0.2.0/24"]))]
    allowed_cidrs: Vec<String>,
    /// The priority of its threads: `low`, `medium`, `high`, `urgent` or `critical`; null for the usual one.
    #[schema(example = "medium")]
    default_priority: Option<&'static str>,
    /// Whether it accepts requests.
    #[schema(example = true)]
    enabled: bool,
    /// Whether a secret is stored.
    #[schema(example = true)]
    has_secret: bool,
    /// What may be shown of the secret.
    secret_state: Option<SecretState>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    version: i64,
}

impl WebhookResponse {
    pub(super) fn new(webhooks: &Webhooks, webhook: Webhook, secret: Option<CredentialInfo>) -> Self {
        Self {
            id: webhook.id,
            url: webhooks.url(webhook.id),
            name: webhook.name,
            space_id: webhook.space,
            verification: webhook.scheme,
            event_id: webhook.event_id.map(Place::from),
            correlation: webhook.correlation.map(Place::from),
            prompt: webhook.prompt,
            rate_limit_per_minute: webhook.rate_limit_per_minute,
            allowed_cidrs: webhook.allowed_cidrs.iter().map(ToString::to_string).collect(),
            default_priority: webhook.default_priority.map(Priority::as_str),
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
pub(super) struct WebhookWithSecretResponse {
    #[serde(flatten)]
    webhook: WebhookResponse,
    /// The secret, shown in this answer only.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
}

impl WebhookWithSecretResponse {
    pub(super) fn new(webhooks: &Webhooks, shown: WebhookWithSecret) -> Self {
        let secret = shown.secret.expose_str().unwrap_or_default().to_owned();
        Self { webhook: WebhookResponse::new(webhooks, shown.webhook, shown.secret_state), secret }
    }
}

/// Which deliveries to list.
#[derive(Default, Deserialize, Serialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryQuery {
    /// Only with this result.
    #[schema(example = "failed")]
    result: Option<String>,
    /// Only those received at this time or later, RFC 3339.
    #[schema(example = "2026-01-31T12:00:00Z")]
    since: Option<String>,
    /// Only those received before this time, RFC 3339.
    #[schema(example = "2026-01-31T12:00:00Z")]
    until: Option<String>,
}

/// What to replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Which deliveries; `result` is `applied` or `failed`, left out it is both.
    pub filter: Option<DeliveryQuery>,
    /// Whether to count only and replay nothing; false if absent.
    #[schema(example = true)]
    pub dry_run: Option<bool>,
}

/// How many deliveries come again, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayResponse {
    /// How many deliveries are replayed, or would be.
    #[schema(example = 3)]
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
    pub(super) fn parsed(&self) -> Result<DeliveryFilter, ApiError> {
        let time = |field: &str, text: &Option<String>| {
            let parse = |text: &String| {
                Timestamp::parse(text)
                    .ok_or_else(|| ApiError::invalid(field, "use RFC 3339, like 2026-01-31T12:00:00Z."))
            };
            text.as_ref().map(parse).transpose()
        };
        let result = self.result.as_deref().map(|word| {
            let known: Vec<&str> = DeliveryResult::VARIANTS.iter().map(|one| one.as_str()).collect();
            word.parse().map_err(|_| ApiError::invalid("result", format!("use one of: {}.", known.join(", "))))
        });
        Ok(DeliveryFilter {
            result: result.transpose()?,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
        })
    }
}

/// A header as it may be shown.
#[derive(Serialize, ToSchema)]
pub(super) struct HeaderResponse {
    /// Its name.
    #[schema(example = "content-type")]
    name: String,
    /// Its value, shortened and escaped.
    #[schema(example = "application/json")]
    value: String,
}

/// A delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryResponse {
    #[schema(value_type = String, example = "dlv_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: DeliveryId,
    /// The webhook that received it.
    #[schema(value_type = String, example = "whk_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    webhook_id: WebhookId,
    /// How it went: `accepted`, `applied`, `duplicate`, `conflict`, `refused` or `failed`.
    #[schema(example = "applied")]
    result: &'static str,
    /// Why it was refused or failed, or what is worth knowing of it; else null.
    #[schema(example = "the signature does not match")]
    reason: Option<String>,
    /// When it was received, RFC 3339.
    #[schema(value_type = String)]
    received_at: Timestamp,
    /// When it became a message, RFC 3339; null if it did not.
    #[schema(value_type = Option<String>)]
    applied_at: Option<Timestamp>,
    /// The thread that it became a message of.
    #[schema(value_type = Option<String>)]
    thread_id: Option<ThreadId>,
    /// The turn that it queued.
    #[schema(value_type = Option<String>)]
    turn_id: Option<TurnId>,
    /// The earlier delivery of the same event.
    #[schema(value_type = Option<String>, example = "dlv_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    duplicate_of: Option<DeliveryId>,
    /// The event's id as the sender gave it.
    #[schema(example = "evt_2026_17")]
    event_id: Option<String>,
    /// The request's headers, without those that carry secrets.
    headers: Vec<HeaderResponse>,
    /// The beginning of the body as text, after decompression.
    #[schema(example = "{\"invoice\":\"2026-17\"}")]
    body_preview: String,
    /// The length of the body in bytes, as UTF-8 text; of a refused one, as sent.
    #[schema(example = 21)]
    body_bytes: i64,
    /// The SHA-256 of the same bytes in hexadecimal.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    body_hash: String,
    /// How many requests this entry stands for.
    #[schema(example = 1)]
    count: i64,
    /// On whose request it came: the webhook's; null where the request was not verified.
    requester: Option<RequesterResponse>,
    credential_subject: CredentialSubjectResponse,
    acting_client: ActingClientResponse,
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        let requester = delivery.requester();
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook,
            result: delivery.result.as_str(),
            reason: delivery.reason,
            received_at: delivery.received_at,
            applied_at: delivery.applied_at,
            thread_id: delivery.thread,
            turn_id: delivery.turn,
            duplicate_of: delivery.duplicate_of,
            event_id: delivery.event_id,
            headers: delivery.headers.into_iter().map(|(name, value)| HeaderResponse { name, value }).collect(),
            body_preview: delivery.body_preview.unwrap_or_default(),
            body_bytes: delivery.body_bytes,
            body_hash: crypto::hex(&delivery.body_hash),
            count: delivery.count,
            requester: requester.as_ref().map(Into::into),
            credential_subject: CredentialSubject::None.into(),
            acting_client: ActingClientResponse::new(ActingClient::System, &NameMap::default()),
        }
    }
}
