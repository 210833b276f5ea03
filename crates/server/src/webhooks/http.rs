//! JSON routes of webhooks and deliveries, and their wire types. All are the operator's.

mod verification;
mod wire;

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use thinkwork_primitives::{Chain, DeliveryId, WebhookId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Delivery, Error, OVERLAP_DEFAULT, ReplayMode, Webhooks};
use crate::edge::{
    ApiError, Idempotency, IdempotencyKey, IfMatch, Json, List, Operator, OperatorWithoutReauth, Pagination, Path,
    idempotency, time_cursor,
};
use wire::{
    CreateWebhookRequest, DeliveryQuery, DeliveryResponse, ReplayRequest, ReplayResponse, RotateSecretRequest,
    UpdateWebhookRequest, WebhookResponse, WebhookWithSecretResponse,
};

/// `/v1/webhooks…` and `/v1/deliveries…`.
pub fn routes(webhooks: &Webhooks) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(rotate))
        .routes(routes!(test))
        .routes(routes!(deliveries_list))
        .routes(routes!(delivery_get))
        .routes(routes!(delivery_replay))
        .routes(routes!(replay))
        .with_state(webhooks.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::BadEvent(problem) => Self::invalid("body", problem),
            Error::Invalid(error) => error.into(),
            Error::VersionConflict(_) => IfMatch::precondition_failed(),
            Error::NotReplayable(why) => Self::conflict("not_replayable", why),
            Error::TestRefused(why) => Self::conflict("test_refused", why),
            Error::Idempotency(error) => error.into(),
            Error::Random(error) => Self::internal(&error),
            Error::Database(error) => error.into(),
            Error::Access(error) => error.into(),
            Error::Credentials(error) => Self::internal(&error),
            Error::Threads(error) => Self::internal(&error),
            Error::Spaces(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Intake(thinkwork_intake::Error::Database(error)) => error.into(),
            Error::Intake(error) => {
                let mut answer = Self::unavailable(5, "The event could not be stored. Try again later.");
                answer.log = Some(Chain(&error).to_string().into());
                answer
            }
        }
    }
}

/// Lists the webhooks of the tenant, newest first.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "webhooks.list", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(Pagination),
    responses((status = 200, body = List<WebhookResponse>)))]
async fn list(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    paging: Pagination,
) -> Result<Json<List<WebhookResponse>>, ApiError> {
    let mut tx = webhooks.inner.db.read(operator.tenant()).await?;
    let found = webhooks.list(&mut tx, &operator.0, paging.fetch_limit(), paging.after_id()?).await?;
    let page = List::cut(found, &paging, |(webhook, _)| webhook.id.to_string());
    Ok(Json(page.map(|(webhook, secret)| WebhookResponse::new(&webhooks, webhook, secret))))
}

/// Creates a webhook. Its secret is shown in this answer only.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "webhooks.create", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(IdempotencyKey), request_body = CreateWebhookRequest,
    responses((status = 201, body = WebhookWithSecretResponse)))]
async fn create(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    key: IdempotencyKey,
    Json(body): Json<CreateWebhookRequest>,
) -> Result<Response, ApiError> {
    let idempotency =
        Idempotency::new(key, &operator.0, "webhooks.create", &body.described(), webhooks.inner.clock.now());
    let new = body.parsed()?;
    let mut tx = webhooks.inner.access.write_as(&operator.0).await?;
    if let Some(id) = idempotency.existing(&mut tx).await? {
        return Err(idempotency::Error::SecretAlreadyShown { id, next: "rotate its secret to get a new one." }.into());
    }
    let shown = webhooks.create(&mut tx, new, &operator.0).await?;
    let id = shown.webhook.id.to_string();
    idempotency.keep(&mut tx, &id).await?;
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/webhooks/{id}"))];
    Ok((StatusCode::CREATED, location, Json(WebhookWithSecretResponse::new(&webhooks, shown))).into_response())
}

/// Gets a webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "webhooks.get", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path)),
    responses((status = 200, body = WebhookResponse)))]
async fn get(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<WebhookId>,
) -> Result<Json<WebhookResponse>, ApiError> {
    let mut tx = webhooks.inner.db.read(operator.tenant()).await?;
    let (webhook, secret) = webhooks.find(&mut tx, id, &operator.0).await?;
    Ok(Json(WebhookResponse::new(&webhooks, webhook, secret)))
}

/// Changes a webhook: what the body leaves out stays, null removes a value.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", operation_id = "webhooks.update", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), IfMatch),
    request_body = UpdateWebhookRequest, responses((status = 200, body = WebhookResponse)))]
async fn update(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<WebhookId>,
    IfMatch(expected): IfMatch,
    Json(body): Json<UpdateWebhookRequest>,
) -> Result<Json<WebhookResponse>, ApiError> {
    let change = body.parsed()?;
    let (webhook, secret) = webhooks.update(id, expected, change, &operator.0).await?;
    Ok(Json(WebhookResponse::new(&webhooks, webhook, secret)))
}

/// Deletes a webhook; its address answers 404 at once.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "webhooks.delete", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path)), responses((status = 204)))]
async fn delete(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode, ApiError> {
    webhooks.delete(id, &operator.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rotates the secret of a webhook. The address stays; the new secret is shown in this answer only.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", operation_id = "webhooks.rotate", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path)), request_body = RotateSecretRequest,
    responses((status = 200, body = WebhookWithSecretResponse)))]
async fn rotate(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<WebhookId>,
    Json(body): Json<RotateSecretRequest>,
) -> Result<Json<WebhookWithSecretResponse>, ApiError> {
    let overlap = body.overlap_seconds.map_or(OVERLAP_DEFAULT, Duration::from_secs);
    let shown = webhooks.rotate(id, body.secret, overlap, &operator.0).await?;
    Ok(Json(WebhookWithSecretResponse::new(&webhooks, shown)))
}

/// Sends a signed sample event the same way as real ones.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", operation_id = "webhooks.test", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), IdempotencyKey),
    responses((status = 200, body = DeliveryResponse)))]
async fn test(
    State(webhooks): State<Webhooks>,
    OperatorWithoutReauth(operator): OperatorWithoutReauth,
    Path(id): Path<WebhookId>,
    key: IdempotencyKey,
) -> Result<Json<DeliveryResponse>, ApiError> {
    let idempotency = Idempotency::new(key, &operator.0, "webhooks.test", &id.to_string(), webhooks.inner.clock.now());
    Ok(Json(webhooks.test(id, &idempotency, &operator.0).await?.into()))
}

/// Lists the deliveries of a webhook, newest first, accepted and refused ones included.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", operation_id = "webhooks.deliveries.list", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), DeliveryQuery, Pagination),
    responses((status = 200, body = List<DeliveryResponse>)))]
async fn deliveries_list(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<WebhookId>,
    paging: Pagination,
    query: DeliveryQuery,
) -> Result<Json<List<DeliveryResponse>>, ApiError> {
    let filter = query.parsed()?;
    let mut tx = webhooks.inner.db.read(operator.tenant()).await?;
    webhooks.find(&mut tx, id, &operator.0).await?;
    let found = webhooks.deliveries(&mut tx, id, filter, paging.fetch_limit(), paging.after_cursor()?).await?;
    let cursor = |delivery: &Delivery| time_cursor(delivery.received_at, delivery.id);
    Ok(Json(List::cut(found, &paging, cursor).map(DeliveryResponse::from)))
}

/// Gets a delivery. An accepted one can be read as soon as its 202 was answered.
#[utoipa::path(get, path = "/v1/deliveries/{id}", operation_id = "deliveries.get", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path)),
    responses((status = 200, body = DeliveryResponse)))]
async fn delivery_get(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Path(id): Path<DeliveryId>,
) -> Result<Json<DeliveryResponse>, ApiError> {
    let mut tx = webhooks.inner.db.read(operator.tenant()).await?;
    Ok(Json(webhooks.delivery(&mut tx, id, &operator.0).await?.into()))
}

/// Replays a delivery: applies it again as a new one.
#[utoipa::path(post, path = "/v1/deliveries/{id}/replay", operation_id = "deliveries.replay", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), IdempotencyKey),
    responses((status = 200, body = DeliveryResponse)))]
async fn delivery_replay(
    State(webhooks): State<Webhooks>,
    OperatorWithoutReauth(operator): OperatorWithoutReauth,
    Path(id): Path<DeliveryId>,
    key: IdempotencyKey,
) -> Result<Json<DeliveryResponse>, ApiError> {
    let idempotency =
        Idempotency::new(key, &operator.0, "deliveries.replay", &id.to_string(), webhooks.inner.clock.now());
    Ok(Json(webhooks.replay(id, &idempotency, &operator.0).await?.into()))
}

/// Replays the applied and failed deliveries of a webhook that match the filter, or only counts them.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", operation_id = "webhooks.replay", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), IdempotencyKey),
    request_body = ReplayRequest, responses((status = 200, body = ReplayResponse)))]
async fn replay(
    State(webhooks): State<Webhooks>,
    OperatorWithoutReauth(operator): OperatorWithoutReauth,
    key: IdempotencyKey,
    Path(id): Path<WebhookId>,
    Json(body): Json<ReplayRequest>,
) -> Result<Json<ReplayResponse>, ApiError> {
    let asked = body.filter.unwrap_or_default();
    let text = format!("{id} {}", serde_json::to_string(&asked).unwrap_or_default());
    let idempotency = Idempotency::new(key, &operator.0, "webhooks.replay", &text, webhooks.inner.clock.now());
    let mode = if body.dry_run.unwrap_or(false) { ReplayMode::DryRun } else { ReplayMode::Execute(&idempotency) };
    let filter = asked.parsed()?;
    let count = webhooks.replay_all(id, filter, mode, &operator.0).await?;
    Ok(Json(ReplayResponse { count }))
}
