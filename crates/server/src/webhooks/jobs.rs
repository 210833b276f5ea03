//! Applies accepted events: the worker's half of the inbound flow.
//!
//! Invariants: thread, message, queued turn, delivery and the event's end are one transaction; what was true at the
//! request is asked again here (webhook enabled, Space of this tenant), and where it no longer is, the delivery says so
//! and no thread comes of it; applying the same event again changes nothing.

use serde_json::json;
use thinkwork_database::Tx;
use thinkwork_intake::Event;
use thinkwork_primitives::{Channel, CredentialSubject, DeliveryId, Marks, Requester, Timestamp, WebhookId, limits};

use super::envelope::Envelope;
use super::{Delivery, Error, Outcome, SOURCE_PREFIX, Webhook, Webhooks, rules, store};
use crate::threads::{self, Inbound, MessageRole, Received};

impl Webhooks {
    /// Applies one accepted event in the worker's transaction: delivery row, `threads.receive`, audit.
    ///
    /// # Errors
    /// What may be otherwise at the next try; what may not becomes a `failed` delivery.
    pub async fn apply(&self, tx: &mut Tx, event: &Event, now: Timestamp) -> Result<(), Error> {
        if store::delivery_find(tx, DeliveryId::from_uuid(event.id)).await?.is_some() {
            return Ok(());
        }
        let id: WebhookId = event
            .source
            .strip_prefix(SOURCE_PREFIX)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::Invalid(format!("{} is no webhook's source", event.source)))?;
        let Some(envelope) = Envelope::decode(&event.body) else {
            return Err(Error::Invalid(format!(
                "the event {} is written in a format this thinkwork does not know",
                event.id
            )));
        };
        let outcome = self.receive(tx, id, event, &envelope).await?;
        let mut delivery = accepted(event, id, &envelope);
        match outcome {
            Ok(received) => {
                delivery.result = Outcome::Applied;
                delivery.thread = Some(received.thread.id);
                delivery.turn = Some(received.turn);
                delivery.applied_at = Some(now);
            }
            Err(reason) => {
                delivery.result = Outcome::Failed;
                delivery.reason = Some(reason);
            }
        }
        store::delivery_insert(tx, &delivery).await?;
        store::envelope_insert(tx, delivery.id, event.body.clone()).await
    }

    /// The thread's side. The inner error is final: the words for the delivery.
    async fn receive(
        &self,
        tx: &mut Tx,
        id: WebhookId,
        event: &Event,
        envelope: &Envelope,
    ) -> Result<Result<Received, String>, Error> {
        let Some(webhook) = store::webhook_find(tx, id).await? else {
            return Ok(Err("the webhook was deleted before the event could be applied".to_owned()));
        };
        if !webhook.enabled {
            return Ok(Err("the webhook was disabled before the event could be applied; replay it".to_owned()));
        }
        if self.parts.spaces.find_for_work(tx, webhook.space).await?.is_none() {
            return Ok(Err("the Space of the webhook is gone; choose another one and replay".to_owned()));
        }
        match self.parts.threads.receive(tx, inbound(&webhook, event, envelope)).await {
            Ok(received) => Ok(Ok(received)),
            Err(threads::Error::Invalid(_, reason)) => Ok(Err(reason.to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

/// An event as work. Everything the sender wrote is in `text`; `data` is the server's own.
fn inbound(webhook: &Webhook, event: &Event, envelope: &Envelope) -> Inbound {
    let (text, cut) = rules::text_of(&envelope.body);
    let title: String = webhook.name.chars().take(limits::NAME_CHARS_MAX).collect();
    Inbound {
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
        subject: CredentialSubject::None,
        correlation: envelope.correlation.as_ref().map(|key| (event.source.clone(), key.clone())),
        priority: webhook.default_priority,
        marks: Marks { private: false, untrusted: true },
        source_event: Some(event.id),
    }
}

/// The instruction that the operator gave for events of a webhook, as [`inbound`] wrote it beside the message. Only of
/// messages whose requester is a webhook, since their `data` is the server's own.
pub fn prompt_of(message: &threads::Message) -> Option<&str> {
    let ours = matches!(message.requester, Requester::Webhook(_)) && message.role == MessageRole::Data;
    if ours { message.data.as_ref()?.get("prompt")?.as_str() } else { None }
}

/// A delivery that is accepted and not applied.
pub(super) fn accepted(event: &Event, webhook: WebhookId, envelope: &Envelope) -> Delivery {
    Delivery {
        id: DeliveryId::from_uuid(event.id),
        webhook,
        received_at: event.received_at,
        result: Outcome::Accepted,
        reason: envelope.replay_of.map(|first| format!("replay of {first}")),
        thread: None,
        turn: None,
        duplicate_of: None,
        headers: envelope.headers.clone(),
        body_preview: rules::preview(&envelope.body),
        body_bytes: i64::try_from(envelope.body.len()).unwrap_or(i64::MAX),
        body_hash: event.body_hash.to_vec(),
        event_id: envelope.event_id.clone(),
        applied_at: None,
        count: 1,
    }
}
