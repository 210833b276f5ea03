//! Applies accepted events: the worker's half of the inbound flow.
//!
//! Invariants: thread, message, queued turn, delivery and the event's end are one transaction; what was true at the
//! request is asked again here (webhook enabled, Space of this tenant), and where it no longer is, the delivery says so
//! and no thread comes of it; applying the same event again changes nothing.

use serde_json::json;
use thinkwork_database::{Topic, Tx};
use thinkwork_intake::Event;
use thinkwork_primitives::{
    ActingClient, Channel, CredentialSubject, DeliveryId, Marks, Requester, Timestamp, WebhookId, limits,
};

use super::envelope::Envelope;
use super::{Delivery, DeliveryResult, Error, SOURCE_PREFIX, Webhook, Webhooks, rules, store};
use crate::threads::{self, IncomingMessage, MessageRole, ReceivedMessage};

/// An accepted event, read.
struct AcceptedEvent<'a> {
    event: &'a Event,
    webhook: WebhookId,
    envelope: Envelope,
}

impl<'a> AcceptedEvent<'a> {
    fn read(event: &'a Event) -> Result<Self, Error> {
        let webhook = event.source.strip_prefix(SOURCE_PREFIX).and_then(|text| text.parse().ok());
        let webhook = webhook.ok_or_else(|| Error::BadEvent(format!("{} is no webhook's source", event.source)))?;
        let envelope = Envelope::decode(&event.body).ok_or_else(|| {
            Error::BadEvent(format!("the event {} is written in a format this thinkwork does not know", event.id))
        })?;
        Ok(Self { event, webhook, envelope })
    }
}

impl Webhooks {
    /// Applies accepted events of one tenant in the worker's transaction, in their order: threads, deliveries, audit.
    ///
    /// # Errors
    /// What may be otherwise at the next try; what may not becomes a `failed` delivery.
    pub async fn apply(&self, tx: &mut Tx, events: &[&Event], now: Timestamp) -> Result<(), Error> {
        let ids: Vec<DeliveryId> = events.iter().map(|event| DeliveryId::from_uuid(event.id)).collect();
        let known = store::deliveries_known(tx, &ids).await?;
        let new = events.iter().filter(|event| !known.contains(&DeliveryId::from_uuid(event.id)));
        let arrivals = new.map(|event| AcceptedEvent::read(event)).collect::<Result<Vec<_>, _>>()?;
        if arrivals.is_empty() {
            return Ok(());
        }
        let outcomes = self.receive(tx, &arrivals).await?;
        let mut deliveries = Vec::with_capacity(arrivals.len());
        let mut envelopes = Vec::with_capacity(arrivals.len());
        let mut webhooks: Vec<WebhookId> = Vec::new();
        for (arrival, outcome) in arrivals.iter().zip(outcomes) {
            let body = &arrival.envelope.body;
            let mut delivery = accepted(arrival.event, arrival.webhook, &arrival.envelope);
            let mut envelope = arrival.event.body.clone();
            match outcome {
                Ok(received) => {
                    if rules::is_whole_text(body) {
                        // The message holds the body, and once is enough.
                        delivery.body_preview = None;
                        envelope = Envelope::without_body(&envelope, body.len());
                    }
                    delivery.result = DeliveryResult::Applied;
                    delivery.thread = Some(received.thread.id);
                    delivery.turn = Some(received.turn);
                    delivery.applied_at = Some(now);
                }
                Err(reason) => {
                    delivery.result = DeliveryResult::Failed;
                    delivery.reason = Some(reason);
                }
            }
            envelopes.push((delivery.id, envelope));
            deliveries.push(delivery);
            if !webhooks.contains(&arrival.webhook) {
                webhooks.push(arrival.webhook);
            }
        }
        store::deliveries_insert(tx, &deliveries).await?;
        store::envelopes_insert(tx, envelopes).await?;
        for webhook in webhooks {
            tx.wake(Topic::Webhook, webhook.uuid());
        }
        Ok(())
    }

    /// The threads' side. The inner errors are final: the words for the delivery.
    async fn receive(
        &self,
        tx: &mut Tx,
        arrivals: &[AcceptedEvent<'_>],
    ) -> Result<Vec<Result<ReceivedMessage, String>>, Error> {
        let mut ids: Vec<WebhookId> = arrivals.iter().map(|arrival| arrival.webhook).collect();
        ids.sort_unstable();
        ids.dedup();
        let webhooks = store::webhooks_find(tx, &ids).await?;
        let mut inbounds = Vec::with_capacity(arrivals.len());
        let mut refusals = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let webhook = webhooks.iter().find(|webhook| webhook.id == arrival.webhook);
            refusals.push(refusal(webhook));
            inbounds.extend(webhook.filter(|webhook| webhook.enabled).map(|webhook| inbound(webhook, arrival)));
        }
        let mut received = self.inner.threads.receive_many(tx, inbounds).await?.into_iter();
        let outcome = |refusal: Option<&str>| match refusal {
            Some(reason) => Ok(Err(reason.to_owned())),
            None => match received.next() {
                Some(Ok(received)) => Ok(Ok(received)),
                Some(Err(threads::Error::Invalid(error))) => Ok(Err(error.problem.into_owned())),
                // An inbound event names no thread and has no person, so this is its Space.
                Some(Err(threads::Error::NotFound)) => {
                    Ok(Err("the Space of the webhook is gone; choose another one and replay".to_owned()))
                }
                Some(Err(error)) => Err(error.into()),
                None => Err(threads::Error::Damaged("thread").into()),
            },
        };
        refusals.into_iter().map(outcome).collect()
    }
}

/// Why events of this webhook are no longer applied, if so.
fn refusal(webhook: Option<&Webhook>) -> Option<&'static str> {
    match webhook {
        None => Some("the webhook was deleted before the event could be applied"),
        Some(webhook) if !webhook.enabled => {
            Some("the webhook was disabled before the event could be applied; replay it")
        }
        Some(_) => None,
    }
}

/// An event as work. Everything the sender wrote is in `text`; `data` is the server's own.
fn inbound(webhook: &Webhook, arrival: &AcceptedEvent<'_>) -> IncomingMessage {
    let AcceptedEvent { event, envelope, .. } = arrival;
    let (text, cut) = rules::text_of(&envelope.body);
    let title: String = webhook.name.chars().take(limits::NAME_CHARS_MAX).collect();
    IncomingMessage {
        space: webhook.space,
        thread: None,
        channel: Channel::Hook,
        title: Some(title),
        role: MessageRole::Data,
        text,
        data: Some(json!({
            "webhook_id": webhook.id,
            "webhook_name": webhook.name,
            // The operator's instruction for this event: the one part of it that is no data.
            "prompt": webhook.prompt,
            "delivery_id": DeliveryId::from_uuid(event.id),
            "event_id": envelope.event_id,
            "media_type": envelope.media_type,
            "body_bytes": envelope.body.len(),
            "text_cut": cut,
        })),
        requester: Requester::Webhook(webhook.id),
        client: ActingClient::System,
        subject: CredentialSubject::None,
        correlation: envelope.correlation.as_ref().map(|key| (event.source.clone(), key.clone())),
        priority: webhook.default_priority,
        marks: Marks { untrusted: true, ..Marks::default() },
        source_event: Some(event.id),
    }
}

/// The instruction that the operator gave for events of a webhook, as [`inbound`] wrote it beside the message. Only of
/// messages whose requester is a webhook, since their `data` is the server's own.
pub fn prompt_of(message: &threads::Message) -> Option<&str> {
    let ours = matches!(message.requester, Requester::Webhook(_)) && message.role == MessageRole::Data;
    if ours { message.data.as_ref()?.get("prompt")?.as_str() } else { None }
}

/// What is said of a delivery that nothing went wrong with.
fn note(envelope: &Envelope) -> Option<String> {
    match (envelope.replay_of, &envelope.note) {
        (Some(first), Some(note)) => Some(format!("replay of {first}; {note}")),
        (Some(first), None) => Some(format!("replay of {first}")),
        (None, note) => note.clone(),
    }
}

/// A delivery that is accepted and not applied.
pub(super) fn accepted(event: &Event, webhook: WebhookId, envelope: &Envelope) -> Delivery {
    Delivery {
        id: DeliveryId::from_uuid(event.id),
        webhook,
        received_at: event.received_at,
        is_verified: true,
        result: DeliveryResult::Accepted,
        reason: note(envelope),
        thread: None,
        turn: None,
        duplicate_of: None,
        headers: envelope.headers.clone(),
        body_preview: Some(rules::preview(&envelope.body)),
        body_bytes: i64::try_from(envelope.body.len()).unwrap_or(i64::MAX),
        body_hash: event.body_hash.to_vec(),
        event_id: envelope.event_id.clone(),
        applied_at: None,
        count: 1,
    }
}
