//! Replays: one delivery again, or all of a webhook that fit a filter.
//!
//! Invariants: what is replayed was verified when it was accepted, and what the webhook is now decides where it goes; a
//! replay of many has an id, and each delivery comes again once for it, however often it is asked for.

use futures_util::future::try_join_all;
use thinkwork_database::Tx;
use thinkwork_intake::{Accepted, Event};
use thinkwork_primitives::{DeliveryId, Principal, TenantId, Timestamp, WebhookId, crypto};
use uuid::Uuid;

use super::apply::accepted;
use super::envelope::{Envelope, KeptEnvelope};
use super::{Delivery, DeliveryFilter, DeliveryResult, Error, Webhooks, rules, store};
use crate::audit;
use crate::edge::{Idempotency, InvalidField};

/// Deliveries that one request replays: a minute's work, and more is rarely meant.
const REPLAY_MAX: usize = 1_000;
/// Deliveries read at once while looking for those that fit.
const PAGE: u64 = 200;
/// Events stored at the same time; they share a commit.
const TOGETHER: usize = 64;

/// Whether a replay of many is only counted or done.
pub enum ReplayMode<'a> {
    /// Counts what would come again.
    DryRun,
    /// Does it, once for this key.
    Execute(&'a Idempotency),
}

/// The way back into the log for a delivery's envelope.
fn again(
    tenant: TenantId,
    webhook: WebhookId,
    mut envelope: Envelope,
    of: DeliveryId,
    key: &str,
    now: Timestamp,
) -> Event {
    envelope.replay_of = Some(of);
    Event {
        id: DeliveryId::new().uuid(),
        tenant,
        source: Webhooks::source(webhook),
        dedupe_key: crypto::sha256(format!("replay\n{key}").as_bytes()).to_vec(),
        order_key: rules::order_key(envelope.correlation.as_deref()),
        body_hash: crypto::sha256(&envelope.body),
        body: envelope.encode(),
        received_at: now,
    }
}

impl Webhooks {
    /// Applies a delivery again, as a new event with an id of its own. It was verified when it was accepted; what the
    /// webhook is now decides where it goes.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotReplayable`] for what was never accepted or is a copy of another delivery.
    pub async fn replay(&self, id: DeliveryId, idempotency: &Idempotency, by: &Principal) -> Result<Delivery, Error> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.access.write_as(by).await?;
        let delivery = self.delivery(&mut tx, id, by).await?;
        match delivery.result {
            DeliveryResult::Applied | DeliveryResult::Failed => {}
            DeliveryResult::Accepted => {
                return Err(Error::NotReplayable(
                    "This delivery has not been processed yet. It will be processed without a replay.",
                ));
            }
            DeliveryResult::Refused => {
                return Err(Error::NotReplayable("This delivery was not verified, so it cannot be replayed."));
            }
            DeliveryResult::Duplicate | DeliveryResult::Conflict => {
                return Err(Error::NotReplayable("This delivery is a duplicate. Replay the original delivery."));
            }
        }
        self.check_enabled(&mut tx, delivery.webhook).await?;
        let envelope = self.kept_envelope(&mut tx, id).await?.ok_or(Error::NotReplayable(
            "The content of this delivery is no longer stored, so it cannot be replayed.",
        ))?;
        let before = idempotency.existing(&mut tx).await?;
        // A key of its own: a replay is wanted although the event is known.
        let run = before.clone().unwrap_or_else(|| DeliveryId::new().to_string());
        let event = again(by.tenant, delivery.webhook, envelope.clone(), id, &run, now);
        let shown = accepted(&event, delivery.webhook, &envelope);
        if before.is_none() {
            let event = audit::Event::by(by.actor(), "delivery.replayed").on("delivery", id);
            let event = event
                .detail("webhook_id", delivery.webhook.to_string())
                .detail("new_delivery_id", shown.id.to_string());
            audit::record(&mut tx, now, event)?;
            idempotency.keep(&mut tx, &run).await?;
        }
        // Committed first: an event without its audit event would be worse than an audit event without its event.
        tx.commit().await?;
        match self.inner.intake.append(event).await? {
            Accepted::Stored => Ok(shown),
            Accepted::Duplicate { id: first, .. } => {
                let mut tx = self.inner.db.read(by.tenant).await?;
                self.delivery(&mut tx, DeliveryId::from_uuid(first), by).await
            }
        }
    }

    /// Applies again what was applied or failed of a webhook and fits the filter, oldest first, and says how many it
    /// is. Deliveries that are replays themselves are left out: the first one stands for them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotReplayable`]; [`Error::Invalid`] where more fit than one request may replay.
    pub async fn replay_all(
        &self,
        id: WebhookId,
        filter: DeliveryFilter,
        mode: ReplayMode<'_>,
        by: &Principal,
    ) -> Result<usize, Error> {
        if filter.result.is_some_and(|result| !matches!(result, DeliveryResult::Applied | DeliveryResult::Failed)) {
            let problem = "only applied and failed deliveries can be replayed.";
            return Err(InvalidField::new("filter.result", problem).into());
        }
        let mut tx = self.inner.db.read(by.tenant).await?;
        self.find(&mut tx, id, by).await?;
        let idempotency = match mode {
            ReplayMode::DryRun => {
                self.check_enabled(&mut tx, id).await?;
                return Ok(self.replayable(&mut tx, id, filter, None).await?.len());
            }
            ReplayMode::Execute(idempotency) => idempotency,
        };
        drop(tx);
        let now = self.inner.clock.now();
        // Looked for before anything is written, since looking takes long and there may be one writer.
        let mut run = Uuid::now_v7();
        let mut found = self.replayable_until(by.tenant, id, filter, run).await?;
        let mut tx = self.inner.access.write_as(by).await?;
        self.check_enabled(&mut tx, id).await?;
        let before: Option<Uuid> = idempotency.existing(&mut tx).await?.and_then(|run| run.parse().ok());
        if let Some(before) = before {
            drop(tx);
            run = before;
            found = self.replayable_until(by.tenant, id, filter, run).await?;
        } else {
            let event = audit::Event::by(by.actor(), "webhook.replayed").on("webhook", id);
            let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
            audit::record(&mut tx, now, event.detail("count", count).detail("run", run.to_string()))?;
            idempotency.keep(&mut tx, &run.to_string()).await?;
            tx.commit().await?;
        }
        for some in found.chunks(TOGETHER) {
            let mut events = Vec::with_capacity(some.len());
            let mut tx = self.inner.db.read(by.tenant).await?;
            for of in some {
                let kept = self.kept_envelope(&mut tx, *of).await?;
                events.extend(kept.map(|envelope| again(by.tenant, id, envelope, *of, &format!("{run}\n{of}"), now)));
            }
            drop(tx);
            try_join_all(events.into_iter().map(|event| self.inner.intake.append(event))).await?;
        }
        Ok(found.len())
    }

    /// What was accepted as this delivery, where it is still kept.
    async fn kept_envelope(&self, tx: &mut Tx, id: DeliveryId) -> Result<Option<Envelope>, Error> {
        let Some(kept) = store::envelope_find(tx, id).await? else { return Ok(None) };
        let mut envelope = match KeptEnvelope::decode(&kept) {
            None => return Ok(None),
            Some(KeptEnvelope::Whole(envelope)) => return Ok(Some(envelope)),
            Some(KeptEnvelope::WithoutBody(envelope)) => envelope,
        };
        let messages = self.inner.threads.messages_of_events(tx, &[id.uuid()]).await?;
        let Some(message) = messages.get(&id.uuid()) else { return Ok(None) };
        envelope.body = message.text.clone().into();
        Ok(Some(envelope))
    }

    async fn check_enabled(&self, tx: &mut Tx, id: WebhookId) -> Result<(), Error> {
        match store::webhook_find(tx, id).await? {
            Some(webhook) if webhook.enabled => Ok(()),
            _ => Err(Error::NotReplayable("The webhook is disabled or deleted. Enable it first.")),
        }
    }

    /// The same of what was there when the replay `run` was asked for: sent again, it must not mean more.
    async fn replayable_until(
        &self,
        tenant: TenantId,
        id: WebhookId,
        filter: DeliveryFilter,
        run: Uuid,
    ) -> Result<Vec<DeliveryId>, Error> {
        let mut tx = self.inner.db.read(tenant).await?;
        self.check_enabled(&mut tx, id).await?;
        self.replayable(&mut tx, id, filter, Some(DeliveryId::from_uuid(run))).await
    }

    /// What fits and can be replayed, oldest first.
    async fn replayable(
        &self,
        tx: &mut Tx,
        id: WebhookId,
        filter: DeliveryFilter,
        run: Option<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, Error> {
        let is_ended = |one: &Delivery| matches!(one.result, DeliveryResult::Applied | DeliveryResult::Failed);
        let was_there = |one: &Delivery| run.is_none_or(|run| one.id < run);
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = store::delivery_list(tx, id, filter, PAGE, after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            for delivery in page.iter().filter(|one| is_ended(one) && was_there(one)) {
                let kept = store::envelope_find(tx, delivery.id).await?.as_deref().and_then(KeptEnvelope::decode);
                if kept.is_some_and(|kept| kept.head().replay_of.is_none()) {
                    found.push(delivery.id);
                }
            }
            if found.len() > REPLAY_MAX {
                let problem =
                    format!("more than {REPLAY_MAX} deliveries match; choose a shorter period with since and until.");
                return Err(InvalidField::new("filter", problem).into());
            }
        }
        found.reverse();
        Ok(found)
    }
}
