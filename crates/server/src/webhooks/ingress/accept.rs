//! From a request to a stored event, or to a refusal with its row.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use thinkwork_intake::{Accepted, Event};
use thinkwork_primitives::{Chain, DeliveryId, Timestamp, crypto, limits};

use super::cache::Endpoint;
use crate::edge::rate_limit::{Policy, RateLimitStatus, minute_of};
use crate::webhooks::envelope::Envelope;
use crate::webhooks::rules::{Content, Format, Unreadable, Unsupported};
use crate::webhooks::schemes::Unverified;
use crate::webhooks::{Delivery, DeliveryResult, Error, Locator, Webhooks, rules, store};

/// A body that is larger is read on a thread for blocking work.
const INLINE_BYTES_MAX: usize = 32 * 1_024;

/// What is known of a request before its body is read.
#[derive(Clone, Copy)]
pub(crate) struct IncomingRequest<'a> {
    pub headers: &'a HeaderMap,
    pub peer: Peer,
    pub received_at: Timestamp,
    /// The same by the clock that nobody sets back, for limits.
    pub counted_at: Timestamp,
}

/// Who is at the other end.
#[derive(Clone, Copy)]
pub(crate) enum Peer {
    /// This address; `None` where the listener does not say.
    Address(Option<IpAddr>),
    /// The server itself, for a test that its operator asked for, with the id of the delivery that it is to become.
    Ourselves(DeliveryId),
}

/// A request that was taken.
#[derive(Clone, Copy)]
pub(crate) enum Taken {
    /// On disk, to be applied.
    Stored { delivery: DeliveryId },
    /// The same event as `first`.
    Duplicate { delivery: DeliveryId, first: DeliveryId },
}

/// What became of a request.
pub(crate) struct Received {
    pub taken: Result<Taken, Rejection>,
    /// How its webhook stands against its limit, which counts what was verified.
    pub rate_limit: Option<RateLimitStatus>,
}

/// What is known of a request on its way.
#[derive(Default)]
struct Progress {
    bytes: Bytes,
    rate_limit: Option<RateLimitStatus>,
}

/// Why a request was not taken.
#[derive(Debug)]
pub(crate) enum Rejection {
    TooLarge,
    BrokenOff,
    Unsupported(Unsupported),
    /// Verified, and cannot be read.
    Unreadable(Unreadable),
    /// The webhook's own limit; the request was verified.
    TooMany {
        retry_after_seconds: u64,
    },
    Address,
    Unverified(Unverified),
    NotStored(Error),
}

impl Rejection {
    /// The words of the delivery log; `None` where no row can be written either.
    pub(crate) fn reason(&self) -> Option<String> {
        Some(match self {
            Self::TooLarge => "the body is larger than 1,048,576 bytes".to_owned(),
            Self::BrokenOff => "the body broke off".to_owned(),
            Self::Unsupported(what) => what.to_string(),
            Self::Unreadable(why) => format!("the body cannot be read: {why}"),
            Self::TooMany { .. } => "the rate limit of the minute was reached".to_owned(),
            Self::Address => "it came from an address that is not allowed".to_owned(),
            Self::Unverified(why) => why.to_string(),
            Self::NotStored(_) => return None,
        })
    }

    /// The same as a sentence for the operator who asked for a test.
    pub(crate) fn sentence(&self) -> String {
        match self.reason() {
            Some(reason) => format!("The sample event was not taken: {reason}."),
            None => "The sample event could not be stored; try again.".to_owned(),
        }
    }
}

impl<E: Into<Error>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self::NotStored(error.into())
    }
}

/// Takes a request: everything between a known endpoint and the 202. The row of one that is not taken is written by then,
/// if it can be.
pub(crate) async fn accept(
    webhooks: &Webhooks,
    endpoint: &Endpoint,
    incoming: IncomingRequest<'_>,
    body: Body,
) -> Received {
    let mut progress = Progress::default();
    let taken = take(webhooks, endpoint, incoming, body, &mut progress).await;
    let Progress { bytes, rate_limit } = progress;
    if let Err(rejection) = &taken
        && let Some(reason) = rejection.reason()
    {
        let is_verified = matches!(rejection, Rejection::TooMany { .. } | Rejection::Unreadable(_));
        // Kept by the service that verifies. Where they cannot be opened, no header is shown that might be one of them.
        let secrets = endpoint.secrets(&webhooks.inner.credentials).await;
        let headers = secrets.map(|secrets| rules::shown_headers(incoming.headers, &secrets)).unwrap_or_default();
        let refused = Delivery { is_verified, ..refused(endpoint, incoming, headers, &bytes, reason) };
        let minute = minute_of(incoming.counted_at);
        if let Err(error) = endpoint.refusals.record(&webhooks.inner.db, endpoint.tenant, minute, refused).await {
            tracing::error!(error = %Chain(&error), webhook = %endpoint.webhook.id, "a refused request could not be written down");
        }
    }
    Received { taken, rate_limit }
}

async fn take(
    webhooks: &Webhooks,
    endpoint: &Endpoint,
    incoming: IncomingRequest<'_>,
    body: Body,
    progress: &mut Progress,
) -> Result<Taken, Rejection> {
    let bytes = &mut progress.bytes;
    let inner = &webhooks.inner;
    let webhook = &endpoint.webhook;
    let headers = incoming.headers;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits::WEBHOOK_BODY_BYTES_MAX) {
        return Err(Rejection::TooLarge);
    }
    let format = Format::announced(headers).map_err(Rejection::Unsupported)?;
    if !allowed(endpoint, incoming.peer) {
        return Err(Rejection::Address);
    }
    read(body, announced.unwrap_or(0), bytes).await?;
    let secrets = endpoint.secrets(&inner.credentials).await?;
    let verifier = webhook.scheme.verifier();
    let verified = verifier.verify(headers, bytes, &secrets, incoming.received_at);
    let verified = verified.map_err(Rejection::Unverified)?;
    let policy = Policy { name: "webhook", per_minute: webhook.rate_limit_per_minute };
    let rate_limit = endpoint.limit.take(&inner.db, &endpoint.source, policy, incoming.counted_at).await;
    progress.rate_limit = Some(rate_limit);
    if rate_limit.is_exceeded {
        return Err(Rejection::TooMany { retry_after_seconds: rate_limit.reset_seconds });
    }
    let places = Places { event_id: webhook.event_id.clone(), correlation: webhook.correlation.clone() };
    let ReadBody { content, event_id, correlation } = read_body(format, bytes.clone(), headers, places).await?;
    let event_id = verified.signed_event_id.or(event_id);
    let note = rules::not_found(webhook, event_id.as_deref(), correlation.as_deref());
    let envelope = Envelope {
        headers: rules::shown_headers(headers, &secrets),
        media_type: content.media_type,
        event_id,
        correlation,
        replay_of: None,
        note,
        body: content.text,
    };
    let (event, body_hash) = event(endpoint, &envelope, incoming);
    let delivery = DeliveryId::from_uuid(event.id);
    let appended = inner.intake.append(event).await;
    let outcome = match &appended {
        Ok(Accepted::Stored) => "accepted",
        Ok(Accepted::Duplicate { .. }) => "duplicate",
        Err(_) => "not_stored",
    };
    inner.metrics.received.with_label_values(&[outcome]).inc();
    match appended? {
        Accepted::Stored => Ok(Taken::Stored { delivery }),
        Accepted::Duplicate { id, same_body } => {
            let first = DeliveryId::from_uuid(id);
            let row = duplicate(endpoint, incoming, (delivery, first), same_body, &envelope, body_hash);
            let mut tx = inner.db.write(endpoint.tenant).await?;
            store::deliveries_insert(&mut tx, std::slice::from_ref(&row)).await?;
            tx.commit().await?;
            Ok(Taken::Duplicate { delivery, first })
        }
    }
}

fn event(endpoint: &Endpoint, envelope: &Envelope, incoming: IncomingRequest<'_>) -> (Event, [u8; 32]) {
    let id = match incoming.peer {
        Peer::Ourselves(id) => id.uuid(),
        Peer::Address(_) => DeliveryId::new().uuid(),
    };
    let body_hash = crypto::sha256(&envelope.body);
    let event = Event {
        id,
        tenant: endpoint.tenant,
        source: endpoint.source.clone(),
        dedupe_key: rules::dedupe_key(&endpoint.webhook.scheme, envelope.event_id.as_deref(), id),
        order_key: rules::order_key(envelope.correlation.as_deref()),
        body: envelope.encode(),
        body_hash,
        received_at: incoming.received_at,
    };
    (event, body_hash)
}

/// Whether the webhook takes requests from there. An address that nobody knows is not allowed.
fn allowed(endpoint: &Endpoint, peer: Peer) -> bool {
    let networks = &endpoint.webhook.allowed_cidrs;
    match peer {
        Peer::Ourselves(_) => true,
        Peer::Address(address) => {
            networks.is_empty()
                || address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
        }
    }
}

/// Where the operator said that the event's id and its key are.
struct Places {
    event_id: Option<Locator>,
    correlation: Option<Locator>,
}

/// A verified body as text, and what was found in the request.
struct ReadBody {
    content: Content,
    event_id: Option<String>,
    correlation: Option<String>,
}

impl ReadBody {
    fn read(format: &Format, sent: &Bytes, headers: &HeaderMap, places: &Places) -> Result<Self, Unreadable> {
        let content = format.read(sent)?;
        let body = rules::Body::new(&content.media_type, &content.text);
        let find = |place: &Option<Locator>| place.as_ref().and_then(|place| place.find(headers, &body));
        let event_id = find(&places.event_id);
        let correlation = find(&places.correlation);
        Ok(Self { content, event_id, correlation })
    }
}

/// Reads what was verified. A large body has a thread of its own, and so has a compressed one, since it can become large.
async fn read_body(format: Format, sent: Bytes, headers: &HeaderMap, places: Places) -> Result<ReadBody, Rejection> {
    if !format.is_compressed() && sent.len() <= INLINE_BYTES_MAX {
        return ReadBody::read(&format, &sent, headers, &places).map_err(Rejection::Unreadable);
    }
    let headers = headers.clone();
    let reading = tokio::task::spawn_blocking(move || ReadBody::read(&format, &sent, &headers, &places));
    reading.await.map_err(|_| Rejection::BrokenOff)?.map_err(Rejection::Unreadable)
}

/// Reads the body. One that came in one piece is not copied; others are gathered in a buffer as large as was announced,
/// which was checked to be within the limit. What was read stays in `bytes` also where the request is refused.
async fn read(body: Body, announced: usize, bytes: &mut Bytes) -> Result<(), Rejection> {
    let mut chunks = body.into_data_stream();
    let mut gathered = BytesMut::new();
    let ended = loop {
        let chunk = match chunks.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(_)) => break Err(Rejection::BrokenOff),
            None => break Ok(()),
        };
        let before = bytes.len().max(gathered.len());
        if before.saturating_add(chunk.len()) > limits::WEBHOOK_BODY_BYTES_MAX {
            break Err(Rejection::TooLarge);
        }
        if before == 0 {
            *bytes = chunk;
            continue;
        }
        if gathered.is_empty() {
            gathered.reserve(announced);
            gathered.extend_from_slice(bytes);
        }
        gathered.extend_from_slice(&chunk);
    };
    if !gathered.is_empty() {
        *bytes = gathered.freeze();
    }
    ended
}

fn refused(
    endpoint: &Endpoint,
    incoming: IncomingRequest<'_>,
    headers: Vec<(String, String)>,
    body: &[u8],
    reason: String,
) -> Delivery {
    Delivery {
        id: DeliveryId::new(),
        webhook: endpoint.webhook.id,
        received_at: incoming.received_at,
        is_verified: false,
        result: DeliveryResult::Refused,
        reason: Some(reason),
        thread: None,
        turn: None,
        duplicate_of: None,
        headers,
        body_preview: Some(rules::preview(body)),
        body_bytes: i64::try_from(body.len()).unwrap_or(i64::MAX),
        body_hash: crypto::sha256(body).to_vec(),
        event_id: None,
        applied_at: None,
        count: 1,
    }
}

fn duplicate(
    endpoint: &Endpoint,
    incoming: IncomingRequest<'_>,
    (id, first): (DeliveryId, DeliveryId),
    same_body: bool,
    envelope: &Envelope,
    body_hash: [u8; 32],
) -> Delivery {
    let (result, reason) = if same_body {
        (DeliveryResult::Duplicate, None)
    } else {
        (DeliveryResult::Conflict, Some("the same event id came with another body; the first one counts".to_owned()))
    };
    Delivery {
        id,
        is_verified: true,
        result,
        reason,
        duplicate_of: Some(first),
        event_id: envelope.event_id.clone(),
        body_hash: body_hash.to_vec(),
        ..refused(endpoint, incoming, envelope.headers.clone(), &envelope.body, String::new())
    }
}
