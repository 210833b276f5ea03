//! Webhooks: make, read, change, rotate, delete, test.
//!
//! Invariants: the Space of a webhook is visible to whoever reads or changes it or its deliveries, operators included; a secret is returned by the call that made it and by no
//! other; after a change's commit this process forgets what it remembered, and others hear of it.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use serde_json::json;
use thinkwork_database::{Topic, Tx, tenant_lookup};
use thinkwork_primitives::{DeliveryId, Principal, Secret, SpaceId, WebhookId};

use super::ingress::{self, IncomingRequest, Peer, Received, Taken};
use super::{
    Delivery, Error, NewWebhook, OVERLAP_MAX, Webhook, WebhookUpdate, WebhookWithSecret, Webhooks, rules,
    secret_meaning, store,
};
use crate::audit::{self, Event};
use crate::credentials::CredentialInfo;
use crate::edge::{Idempotency, InvalidField};
use crate::spaces::NO_SUCH_SPACE;

impl Webhooks {
    /// Makes a webhook in `tx`. Its address takes requests after the commit.
    ///
    /// # Errors
    /// [`Error::Invalid`]; a Space that the maker does not see is one.
    pub async fn create(&self, tx: &mut Tx, new: NewWebhook, by: &Principal) -> Result<WebhookWithSecret, Error> {
        rules::check_new(&new)?;
        match self.check_visible(tx, new.space, by).await {
            Ok(()) => {}
            Err(Error::NotFound) => return Err(InvalidField::new("space_id", NO_SUCH_SPACE).into()),
            Err(error) => return Err(error),
        }
        let now = self.inner.clock.now();
        let id = WebhookId::new();
        let actor = by.actor();
        let secret = match new.secret {
            Some(secret) => secret,
            None => new.scheme.verifier().secret()?,
        };
        let meaning = secret_meaning(id, new.space, &new.scheme);
        let credential = self.inner.credentials.create(tx, &meaning, &secret, &actor).await?;
        let webhook = Webhook {
            id,
            space: new.space,
            name: new.name,
            scheme: new.scheme,
            credential,
            event_id: new.event_id,
            correlation: new.correlation,
            prompt: new.prompt,
            rate_limit_per_minute: new.rate_limit_per_minute,
            allowed_cidrs: new.allowed_cidrs,
            default_priority: new.default_priority,
            enabled: true,
            created_at: now,
            version: 1,
        };
        store::webhook_insert(tx, &webhook, &actor.requester.id()).await?;
        tenant_lookup::add(tx, ingress::LOOKUP, &id.to_string(), id.uuid()).await?;
        let event = Event::by(actor, "webhook.created").on("webhook", id);
        let event = event.detail("space_id", webhook.space.to_string()).detail("scheme", webhook.scheme.as_str());
        audit::record(tx, now, event)?;
        let secret_state = self.inner.credentials.describe(tx, credential).await?;
        Ok(WebhookWithSecret { webhook, secret_state, secret })
    }

    /// A webhook whose Space this caller sees; to others there is none.
    pub async fn find(
        &self,
        tx: &mut Tx,
        id: WebhookId,
        by: &Principal,
    ) -> Result<(Webhook, Option<CredentialInfo>), Error> {
        let webhook = store::webhook_find(tx, id).await?.ok_or(Error::NotFound)?;
        self.check_visible(tx, webhook.space, by).await?;
        let secret = self.inner.credentials.describe(tx, webhook.credential).await?;
        Ok((webhook, secret))
    }

    /// Fails with [`Error::NotFound`] where the caller does not see the Space.
    pub(super) async fn check_visible(&self, tx: &mut Tx, space: SpaceId, by: &Principal) -> Result<(), Error> {
        match self.inner.spaces.visible(tx, space, by).await {
            Ok(_) => Ok(()),
            Err(crate::spaces::Error::NotFound) => Err(Error::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// Webhooks of the Spaces that this caller sees, newest first.
    pub async fn list(
        &self,
        tx: &mut Tx,
        by: &Principal,
        limit: u64,
        after: Option<WebhookId>,
    ) -> Result<Vec<(Webhook, Option<CredentialInfo>)>, Error> {
        let mut items = Vec::new();
        let spaces = self.inner.spaces.visible_ids(tx, by).await?;
        for webhook in store::webhook_list(tx, &spaces, limit, after).await? {
            let secret = self.inner.credentials.describe(tx, webhook.credential).await?;
            items.push((webhook, secret));
        }
        Ok(items)
    }

    /// The newest delivery of a webhook, one that waits included.
    pub async fn last_delivery(&self, tx: &mut Tx, id: WebhookId) -> Result<Option<Delivery>, Error> {
        Ok(self.deliveries(tx, id, super::deliveries::DeliveryFilter::default(), 1, None).await?.pop())
    }

    /// Changes a webhook; holds for the next request.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`]; [`Error::VersionConflict`] where `expected` is not the version.
    pub async fn update(
        &self,
        id: WebhookId,
        expected: Option<i64>,
        change: WebhookUpdate,
        by: &Principal,
    ) -> Result<(Webhook, Option<CredentialInfo>), Error> {
        let mut tx = self.inner.access.write_as(by).await?;
        let (webhook, secret) = self.find(&mut tx, id, by).await?;
        if expected.is_some_and(|expected| expected != webhook.version) {
            return Err(Error::VersionConflict(webhook.version));
        }
        rules::check_change(&webhook.scheme, &change)?;
        let mut event = Event::by(by.actor(), "webhook.updated").on("webhook", id);
        if let Some(enabled) = change.enabled {
            event = event.detail("enabled", enabled);
        }
        let webhook = changed(webhook, change);
        if !store::webhook_update(&mut tx, &webhook).await? {
            return Err(Error::VersionConflict(webhook.version));
        }
        audit::record(&mut tx, self.inner.clock.now(), event.detail("version", webhook.version))?;
        tx.wake(Topic::Credential, webhook.credential.uuid());
        tx.commit().await?;
        self.inner.cache.forget(id, webhook.credential);
        Ok((webhook, secret))
    }

    /// Puts a new secret in place: `secret`, or a fresh one. The one before verifies for `overlap` more.
    pub async fn rotate(
        &self,
        id: WebhookId,
        secret: Option<Secret>,
        overlap: Duration,
        by: &Principal,
    ) -> Result<WebhookWithSecret, Error> {
        if overlap > OVERLAP_MAX {
            let problem = format!("use at most {} seconds.", OVERLAP_MAX.as_secs());
            return Err(InvalidField::new("overlap_seconds", problem).into());
        }
        let mut tx = self.inner.access.write_as(by).await?;
        let (webhook, _) = self.find(&mut tx, id, by).await?;
        let secret = match secret {
            Some(secret) => {
                rules::check_secret(&webhook.scheme, &secret)?;
                secret
            }
            None => webhook.scheme.verifier().secret()?,
        };
        let meaning = webhook.secret_meaning();
        self.inner.credentials.rotate(&mut tx, webhook.credential, &meaning, &secret, overlap, &by.actor()).await?;
        let seconds = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX);
        let event = Event::by(by.actor(), "webhook.rotated").on("webhook", id).detail("overlap_seconds", seconds);
        audit::record(&mut tx, self.inner.clock.now(), event)?;
        let secret_state = self.inner.credentials.describe(&mut tx, webhook.credential).await?;
        tx.commit().await?;
        self.inner.cache.forget(id, webhook.credential);
        Ok(WebhookWithSecret { webhook, secret_state, secret })
    }

    /// Ends a webhook: its address answers 404 at once, its secret is erased, its deliveries stay.
    pub async fn delete(&self, id: WebhookId, by: &Principal) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.access.write_as(by).await?;
        let (webhook, _) = self.find(&mut tx, id, by).await?;
        store::webhook_delete(&mut tx, id, now).await?;
        tenant_lookup::remove(&mut tx, ingress::LOOKUP, id.uuid()).await?;
        self.inner.credentials.revoke(&mut tx, webhook.credential, &by.actor()).await?;
        audit::record(&mut tx, now, Event::by(by.actor(), "webhook.deleted").on("webhook", id))?;
        tx.wake(Topic::Credential, webhook.credential.uuid());
        tx.commit().await?;
        self.inner.cache.forget(id, webhook.credential);
        Ok(())
    }

    /// Sends a signed sample event through the way that real ones take, and returns its delivery.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for a disabled webhook; [`Error::TestRefused`] where a real one would be refused too.
    pub async fn test(&self, id: WebhookId, idempotency: &Idempotency, by: &Principal) -> Result<Delivery, Error> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.access.write_as(by).await?;
        self.find(&mut tx, id, by).await?;
        let before = idempotency.existing(&mut tx).await?;
        let before: Option<DeliveryId> = before.and_then(|id| id.parse().ok());
        // The id is kept before the event is sent: asked again, it leads to that event or sends it after all.
        let sent = before.unwrap_or_else(DeliveryId::new);
        if before.is_some() {
            match self.delivery(&mut tx, sent, by).await {
                Err(Error::NotFound) => {}
                found => return found,
            }
        } else {
            audit::record(&mut tx, now, Event::by(by.actor(), "webhook.tested").on("webhook", id))?;
            idempotency.keep(&mut tx, &sent.to_string()).await?;
        }
        tx.commit().await?;
        let disabled = || Error::TestRefused("The webhook is disabled. Enable it first.".to_owned());
        let endpoint = self.inner.cache.find(id, now).await?.ok_or_else(disabled)?;
        let secrets = endpoint.secrets(&self.inner.credentials).await?;
        let event_id = format!("test_{sent}");
        let body = json!({ "type": "thinkwork.test", "id": event_id, "sent_at": now }).to_string();
        let verifier = endpoint.webhook.scheme.verifier();
        let signed = secrets.first().and_then(|secret| verifier.sign(secret, &event_id, body.as_bytes(), now));
        let signed =
            signed.ok_or_else(|| Error::TestRefused("The secret cannot be read. Rotate the secret.".to_owned()))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("ThinkWork test"));
        headers.extend(signed);
        let incoming = IncomingRequest {
            headers: &headers,
            peer: Peer::Ourselves(sent),
            received_at: now,
            counted_at: self.inner.clock.steady(),
        };
        let Received { taken, .. } = ingress::accept(self, &endpoint, incoming, Body::from(body)).await;
        let (Taken::Stored { delivery } | Taken::Duplicate { delivery, .. }) =
            taken.map_err(|rejection| Error::TestRefused(rejection.sentence()))?;
        let mut tx = self.inner.db.read(by.tenant).await?;
        self.delivery(&mut tx, delivery, by).await
    }
}

fn changed(webhook: Webhook, change: WebhookUpdate) -> Webhook {
    Webhook {
        name: change.name.unwrap_or(webhook.name),
        enabled: change.enabled.unwrap_or(webhook.enabled),
        prompt: change.prompt.unwrap_or(webhook.prompt),
        rate_limit_per_minute: change.rate_limit_per_minute.unwrap_or(webhook.rate_limit_per_minute),
        allowed_cidrs: change.allowed_cidrs.unwrap_or(webhook.allowed_cidrs),
        event_id: change.event_id.unwrap_or(webhook.event_id),
        correlation: change.correlation.unwrap_or(webhook.correlation),
        default_priority: change.default_priority.unwrap_or(webhook.default_priority),
        version: webhook.version.saturating_add(1),
        ..webhook
    }
}
