//! JSON routes of webhooks and deliveries, and their wire types. All are the operator's.

mod wire;

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use thinkwork_primitives::{DeliveryId, WebhookId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Error, OVERLAP_DEFAULT, Order, Webhooks};
use crate::edge::{ApiError, Id, IfVersion, Json, List, Once, OnceKey, Operator, Paging};
use wire::{
    DeliveryOut, DeliveryQuery, ReplayIn, ReplayOut, RotateIn, ShownOut, WebhookChangeBody, WebhookIn, WebhookOut,
};

/// `/v1/webhooks…` and `/v1/deliveries…`.
pub fn routes(webhooks: &Webhooks) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find, update, delete))
        .routes(routes!(rotate))
        .routes(routes!(test))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
        .routes(routes!(replay))
        .routes(routes!(replay_all))
        .with_state(webhooks.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::Invalid(problem) => Self::invalid("body", problem),
            Error::Field { field, problem } => Self::invalid(field, problem),
            Error::Changed(_) => IfVersion::changed(),
            Error::NotReplayable(why) => Self::conflict("not_replayable", why),
            Error::TestRefused(why) => Self::conflict("test_refused", why),
            Error::Once(error) => *error,
            Error::Random(error) => Self::internal(&error),
            Error::Database(error) => error.into(),
            Error::Credentials(error) => Self::internal(&error),
            Error::Threads(error) => Self::internal(&error),
            Error::Spaces(error) => Self::internal(&error),
            Error::Audit(error) => Self::internal(&error),
            Error::Intake(error) => {
                let mut answer = Self::unavailable(5, "The event could not be stored; try again later.");
                answer.log = Some(error.to_string().into());
                answer
            }
        }
    }
}

/// Lists the webhooks of the tenant, newest first.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(Paging), responses((status = 200, body = List<WebhookOut>)))]
async fn list(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    paging: Paging,
) -> Result<Json<List<WebhookOut>>, ApiError> {
    let mut tx = webhooks.parts.db.read(operator.tenant()).await?;
    let found = webhooks.list(&mut tx, paging.limit.saturating_add(1), paging.after_id()?).await?;
    let page = List::cut(found, &paging, |(webhook, _)| webhook.id.to_string());
    Ok(Json(page.map(|(webhook, secret)| WebhookOut::new(&webhooks, webhook, secret))))
}

/// Makes a webhook; its secret is in this answer and in no other.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(OnceKey), request_body = WebhookIn, responses((status = 201, body = ShownOut)))]
async fn create(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    key: OnceKey,
    Json(body): Json<WebhookIn>,
) -> Result<Response, ApiError> {
    let once = Once::new(key, &operator.0, "webhooks.create", &body.described(), webhooks.parts.clock.now());
    let new = body.parsed()?;
    let mut tx = webhooks.parts.db.write(operator.tenant()).await?;
    if let Some(id) = once.made_before(&mut tx).await? {
        return Err(Once::secret_already_shown(&id, "rotate its secret to get a new one."));
    }
    let shown = webhooks.create(&mut tx, new, &operator.0).await?;
    let id = shown.webhook.id.to_string();
    once.keep(&mut tx, &id).await?;
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/v1/webhooks/{id}"))];
    Ok((StatusCode::CREATED, location, Json(ShownOut::new(&webhooks, shown))).into_response())
}

/// Reads a webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path)), responses((status = 200, body = WebhookOut)))]
async fn find(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
) -> Result<Json<WebhookOut>, ApiError> {
    let mut tx = webhooks.parts.db.read(operator.tenant()).await?;
    let (webhook, secret) = webhooks.find(&mut tx, id).await?;
    Ok(Json(WebhookOut::new(&webhooks, webhook, secret)))
}

/// Changes what is named in the body; null takes a value away.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path), IfVersion), request_body = WebhookChangeBody,
    responses((status = 200, body = WebhookOut)))]
async fn update(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
    IfVersion(expected): IfVersion,
    Json(body): Json<WebhookChangeBody>,
) -> Result<Json<WebhookOut>, ApiError> {
    let change = body.parsed()?;
    let (webhook, secret) = webhooks.update(operator.tenant(), id, expected, change, &operator.requester()).await?;
    Ok(Json(WebhookOut::new(&webhooks, webhook, secret)))
}

/// Ends a webhook: its address answers 404 at once.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
) -> Result<StatusCode, ApiError> {
    webhooks.delete(operator.tenant(), id, &operator.requester()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a new secret in place under the same address; it is in this answer and in no other.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path)), request_body = RotateIn,
    responses((status = 200, body = ShownOut)))]
async fn rotate(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
    Json(body): Json<RotateIn>,
) -> Result<Json<ShownOut>, ApiError> {
    let overlap = body.overlap_seconds.map_or(OVERLAP_DEFAULT, Duration::from_secs);
    let shown = webhooks.rotate(operator.tenant(), id, body.secret, overlap, &operator.requester()).await?;
    Ok(Json(ShownOut::new(&webhooks, shown)))
}

/// Sends a signed sample event through the way that real ones take.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path), OnceKey), responses((status = 200, body = DeliveryOut)))]
async fn test(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
    key: OnceKey,
) -> Result<Json<DeliveryOut>, ApiError> {
    let once = Once::new(key, &operator.0, "webhooks.test", &id.to_string(), webhooks.parts.clock.now());
    Ok(Json(webhooks.test(operator.tenant(), id, &once, &operator.requester()).await?.into()))
}

/// Lists the deliveries of a webhook, newest first, accepted and refused ones included.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), DeliveryQuery, Paging),
    responses((status = 200, body = List<DeliveryOut>)))]
async fn deliveries(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<WebhookId>,
    paging: Paging,
    query: DeliveryQuery,
) -> Result<Json<List<DeliveryOut>>, ApiError> {
    let filter = query.parsed()?;
    let mut tx = webhooks.parts.db.read(operator.tenant()).await?;
    webhooks.find(&mut tx, id).await?;
    let limit = paging.limit.saturating_add(1);
    let found = webhooks.deliveries(&mut tx, id, filter, limit, paging.after_id()?).await?;
    Ok(Json(List::cut(found, &paging, |delivery| delivery.id.to_string()).map(DeliveryOut::from)))
}

/// Reads a delivery; an accepted one is there at once after its 202.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "webhooks", extensions(("x-caller" = json!("operator"))),
    params(("id" = String, Path)), responses((status = 200, body = DeliveryOut)))]
async fn delivery(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<DeliveryId>,
) -> Result<Json<DeliveryOut>, ApiError> {
    let mut tx = webhooks.parts.db.read(operator.tenant()).await?;
    Ok(Json(webhooks.delivery(&mut tx, id).await?.into()))
}

/// Applies a delivery again as a new one.
#[utoipa::path(post, path = "/v1/deliveries/{id}/replay", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), OnceKey),
    responses((status = 200, body = DeliveryOut)))]
async fn replay(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    Id(id): Id<DeliveryId>,
    key: OnceKey,
) -> Result<Json<DeliveryOut>, ApiError> {
    let once = Once::new(key, &operator.0, "deliveries.replay", &id.to_string(), webhooks.parts.clock.now());
    Ok(Json(webhooks.replay(operator.tenant(), id, &once, &operator.requester()).await?.into()))
}

/// Applies again what was applied or failed of a webhook and fits the filter, or only counts it.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", tag = "webhooks",
    extensions(("x-caller" = json!("operator"))), params(("id" = String, Path), OnceKey), request_body = ReplayIn,
    responses((status = 200, body = ReplayOut)))]
async fn replay_all(
    State(webhooks): State<Webhooks>,
    operator: Operator,
    key: OnceKey,
    Id(id): Id<WebhookId>,
    Json(body): Json<ReplayIn>,
) -> Result<Json<ReplayOut>, ApiError> {
    let asked = body.filter.unwrap_or_default();
    let text = format!("{id} {}", serde_json::to_string(&asked).unwrap_or_default());
    let once = Once::new(key, &operator.0, "webhooks.replay", &text, webhooks.parts.clock.now());
    let order = if body.dry_run.unwrap_or(false) { Order::Count } else { Order::Do(&once) };
    let filter = asked.parsed()?;
    let mut tx = webhooks.parts.db.read(operator.tenant()).await?;
    webhooks.find(&mut tx, id).await?;
    drop(tx);
    let count = webhooks.replay_all(operator.tenant(), id, filter, order, &operator.requester()).await?;
    Ok(Json(ReplayOut { count }))
}
