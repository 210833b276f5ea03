//! Deliveries: list, detail, counts.
//!
//! Invariant: an accepted delivery is there from the 202 on: what is not applied yet is read from the intake log.

use std::time::Duration;

use thinkwork_database::Tx;
use thinkwork_intake::{Event, Pending};
use thinkwork_primitives::{DeliveryId, Principal, Timestamp, WebhookId};

use super::apply::accepted;
use super::envelope::Envelope;
use super::{Delivery, DeliveryCount, DeliveryCursor, DeliveryResult, Error, SOURCE_PREFIX, Webhooks, rules, store};

/// The window of the pictures on pages.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Which deliveries to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryFilter {
    /// Only with this result.
    pub result: Option<DeliveryResult>,
    /// Only those that arrived then or later.
    pub since: Option<Timestamp>,
    /// Only those that arrived before.
    pub until: Option<Timestamp>,
}

fn webhook_of(source: &str) -> Option<WebhookId> {
    source.strip_prefix(SOURCE_PREFIX)?.parse().ok()
}

fn shown(event: &Event) -> Option<Delivery> {
    Some(accepted(event, webhook_of(&event.source)?, &Envelope::decode(&event.body)?))
}

impl Webhooks {
    /// Deliveries of one webhook, newest first, accepted ones included; at most `limit`, only those behind `after`.
    pub async fn deliveries(
        &self,
        tx: &mut Tx,
        webhook: WebhookId,
        filter: DeliveryFilter,
        limit: u64,
        after: Option<DeliveryCursor>,
    ) -> Result<Vec<Delivery>, Error> {
        let DeliveryFilter { result, since, until } = filter;
        let mut items = Vec::new();
        // First what waits, then what has a row: an event that is applied between the two is seen twice, never missed.
        if result.is_none_or(|result| result == DeliveryResult::Accepted) {
            let which = Pending { before: after.map(|(at, id)| (at, id.uuid())), since, until, count: limit };
            let rows = self.inner.intake.list_pending(tx, &Self::source(webhook), which).await?;
            items.extend(rows.iter().filter_map(shown));
        }
        if result != Some(DeliveryResult::Accepted) {
            let mut rows = store::delivery_list(tx, webhook, filter, limit, after).await?;
            self.read_previews(tx, &mut rows).await?;
            items.retain(|item| !rows.iter().any(|row| row.id == item.id));
            items.extend(rows);
        }
        items.sort_by_key(|item| std::cmp::Reverse(item.cursor()));
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(items)
    }

    /// One delivery of a webhook whose Space this caller sees.
    pub async fn delivery(&self, tx: &mut Tx, id: DeliveryId, by: &Principal) -> Result<Delivery, Error> {
        let delivery = match self.inner.intake.find_pending(tx, id.uuid()).await?.as_ref().and_then(shown) {
            Some(waits) => waits,
            None => {
                let mut stored = store::delivery_find(tx, id).await?.ok_or(Error::NotFound)?;
                self.read_previews(tx, std::slice::from_mut(&mut stored)).await?;
                stored
            }
        };
        let space = store::webhook_space(tx, delivery.webhook).await?.ok_or(Error::NotFound)?;
        self.check_visible(tx, space, by).await?;
        Ok(delivery)
    }

    /// Reads the beginnings of those bodies that messages hold.
    async fn read_previews(&self, tx: &mut Tx, deliveries: &mut [Delivery]) -> Result<(), Error> {
        let in_messages = deliveries.iter().filter(|delivery| delivery.body_preview.is_none());
        let events: Vec<_> = in_messages.map(|delivery| delivery.id.uuid()).collect();
        let messages = self.inner.threads.messages_of_events(tx, &events).await?;
        for delivery in deliveries {
            if let Some(message) = messages.get(&delivery.id.uuid()) {
                delivery.body_preview = Some(rules::preview(message.text.as_bytes()));
            }
        }
        Ok(())
    }

    /// Deliveries of the last 24 hours by result, of the webhooks of the Spaces that this caller sees.
    pub async fn delivery_counts(&self, tx: &mut Tx, by: &Principal) -> Result<Vec<DeliveryCount>, Error> {
        let spaces = self.inner.spaces.visible_ids(tx, by).await?;
        let all = store::webhooks_of_spaces(tx, &spaces).await?;
        store::delivery_counts(tx, &all, self.inner.clock.now().minus(DAY)).await
    }

    /// The same of one webhook.
    pub async fn delivery_counts_of(&self, tx: &mut Tx, webhook: WebhookId) -> Result<Vec<DeliveryCount>, Error> {
        store::delivery_counts(tx, &[webhook], self.inner.clock.now().minus(DAY)).await
    }
}
