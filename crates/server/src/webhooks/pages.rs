//! The operator's pages of webhooks and deliveries.
//!
//! Invariant: a secret is on the one page that the form which created it leads to, once, and on no other.

mod forms;
mod views;

use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use thinkwork_primitives::{DeliveryId, SpaceId, WebhookId};

use super::{DeliveryFilter, Error, OVERLAP_DEFAULT, ReplayMode, WebhookUpdate, WebhookWithSecret, Webhooks};
use crate::edge::{
    ApiError, ConfirmForm, DisplayTime, EmptyForm, Flash, Idempotency, IdempotencyKey, InvalidField, Layout, List,
    NewSecret, Notice, OperatorForm, OperatorFormWithoutReauth, Page, PageCaller, PageError, PageOperator, Pagination,
    Path, time_cursor,
};
use forms::EditForm;
pub(super) use forms::NewForm;
use views::{DeliveryPage, DetailPage, FirstPage, ListPage, ListRow, NewPage, Row, SecretPage};

/// `/admin/webhooks…` and `/admin/deliveries…`.
pub fn routes(webhooks: &Webhooks) -> Router {
    Router::new()
        .route("/admin/webhooks", get(list).post(create))
        .route("/admin/webhooks/new", get(new))
        .route("/admin/webhooks/{id}", get(detail))
        .route("/admin/webhooks/{id}/secret", get(secret))
        .route("/admin/webhooks/{id}/first", get(first))
        .route("/admin/webhooks/{id}/edit", post(edit))
        .route("/admin/webhooks/{id}/rotate", post(rotate))
        .route("/admin/webhooks/{id}/test", post(test))
        .route("/admin/webhooks/{id}/replay", post(replay_failed))
        .route("/admin/webhooks/{id}/enable", post(enable))
        .route("/admin/webhooks/{id}/disable", post(disable))
        .route("/admin/webhooks/{id}/delete", post(delete))
        .route("/admin/deliveries/{id}", get(delivery))
        .route("/admin/deliveries/{id}/replay", post(replay))
        .with_state(webhooks.clone())
}

/// One press of the replay button.
#[derive(Deserialize)]
struct Replay {
    key: Option<String>,
}

/// How to rotate.
#[derive(Deserialize)]
struct Rotate {
    overlap_hours: Option<u64>,
}

/// The secret that was just created, and the page to go on to.
fn new_secret(created: &WebhookWithSecret, next: String) -> NewSecret {
    let scheme = created.webhook.scheme.verifier().description();
    NewSecret {
        label: scheme.secret_label.to_owned(),
        value: created.secret.expose_str().unwrap_or_default().to_owned(),
        help: scheme.secret_help.to_owned(),
        next,
    }
}

/// The Spaces that the operator may choose from, and the name of one.
async fn spaces(webhooks: &Webhooks, caller: &PageCaller) -> Result<Vec<(String, String)>, ApiError> {
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let found = webhooks.inner.spaces.list(&mut tx, &caller.principal, 200, None).await.map_err(Error::from)?;
    Ok(found.into_iter().map(|space| (space.id.to_string(), space.name)).collect())
}

fn space_name(spaces: &[(String, String)], id: SpaceId) -> String {
    let id = id.to_string();
    let unknown = || "Private Space".to_owned();
    spaces.iter().find(|(known, _)| *known == id).map_or_else(unknown, |(_, name)| name.clone())
}

async fn list(
    PageOperator(caller): PageOperator,
    State(webhooks): State<Webhooks>,
    paging: Pagination,
) -> Result<Response, PageError> {
    let spaces = spaces(&webhooks, &caller).await?;
    let now = webhooks.inner.clock.now();
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let found = webhooks.list(&mut tx, &caller.principal, paging.fetch_limit(), paging.after_id()?).await?;
    let page = List::cut(found, &paging, |(webhook, _)| webhook.id.to_string());
    let next = page.next_href("/admin/webhooks");
    let mut rows = Vec::new();
    for (webhook, _) in page.items {
        let last = webhooks.last_delivery(&mut tx, webhook.id).await?;
        rows.push(ListRow {
            href: format!("/admin/webhooks/{}", webhook.id),
            space: space_name(&spaces, webhook.space),
            scheme: webhook.scheme.verifier().description().name,
            enabled: webhook.enabled,
            last: last.map(|delivery| Row::new(&delivery, now)),
            name: webhook.name,
        });
    }
    Ok(Page(ListPage { layout: Layout::admin(&caller, "Webhooks", "webhooks"), rows, next }).into_response())
}

async fn new(PageOperator(caller): PageOperator, State(webhooks): State<Webhooks>) -> Result<Response, PageError> {
    let spaces = spaces(&webhooks, &caller).await?;
    let layout = Layout::admin(&caller, "New webhook", "webhooks");
    Ok(Page(NewPage { layout, form: NewForm::default(), problem: None, spaces }).into_response())
}

async fn create(
    State(webhooks): State<Webhooks>,
    OperatorForm { caller, form }: OperatorForm<NewForm>,
) -> Result<Response, PageError> {
    let made = async {
        let new = form.parsed()?;
        let mut tx = webhooks.inner.access.write_as(&caller.principal).await?;
        let shown = webhooks.create(&mut tx, new, &caller.principal).await?;
        tx.commit().await?;
        Ok(shown)
    };
    match made.await {
        Ok(created) => {
            let base = format!("/admin/webhooks/{}", created.webhook.id);
            let secret = new_secret(&created, format!("{base}/first"));
            Ok(Flash::secret(secret).redirect(&format!("{base}/secret")))
        }
        Err(Error::Invalid(error)) => {
            let spaces = spaces(&webhooks, &caller).await?;
            let layout = Layout::admin(&caller, "New webhook", "webhooks");
            let page = Page(NewPage { layout, form, problem: Some(error), spaces });
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct DetailQuery {
    result: Option<String>,
}

async fn detail(
    PageOperator(caller): PageOperator,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    paging: Pagination,
    Query(query): Query<DetailQuery>,
) -> Result<Response, PageError> {
    let filter = DeliveryFilter {
        result: query.result.as_deref().and_then(|word| word.parse().ok()),
        ..DeliveryFilter::default()
    };
    show(&webhooks, &caller, id, &paging, filter, None).await
}

async fn show(
    webhooks: &Webhooks,
    caller: &PageCaller,
    id: WebhookId,
    paging: &Pagination,
    filter: DeliveryFilter,
    notice: Option<Notice>,
) -> Result<Response, PageError> {
    let spaces = spaces(webhooks, caller).await?;
    let now = webhooks.inner.clock.now();
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let (webhook, secret) = webhooks.find(&mut tx, id, &caller.principal).await?;
    let counts = webhooks.delivery_counts_of(&mut tx, id).await?;
    let found = webhooks.deliveries(&mut tx, id, filter, paging.fetch_limit(), paging.after_cursor()?).await?;
    let page = List::cut(found, paging, |delivery| time_cursor(delivery.received_at, delivery.id));
    let result = filter.result.map_or("", super::DeliveryResult::as_str);
    let next = page.next.map(|next| match result {
        "" => format!("/admin/webhooks/{id}?after={next}"),
        result => format!("/admin/webhooks/{id}?result={result}&after={next}"),
    });
    Ok(Page(DetailPage {
        layout: Layout::admin(caller, &webhook.name, "webhooks").with_notice(notice),
        base: format!("/admin/webhooks/{id}"),
        url: webhooks.url(id),
        space: space_name(&spaces, webhook.space),
        edit: EditForm::of(&webhook),
        secret: secret.map(|secret| views::SecretView::new(&secret, now)),
        created: DisplayTime::of(webhook.created_at, now),
        chart: views::Chart::new(&counts),
        rows: page.items.iter().map(|delivery| Row::new(delivery, now)).collect(),
        next: next.unwrap_or_default(),
        result,
        replay_key: uuid::Uuid::now_v7().to_string(),
        webhook,
    })
    .into_response())
}

/// The second step of the set-up: what to enter in the sending system.
async fn secret(
    PageOperator(caller): PageOperator,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<Response, PageError> {
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let (webhook, _) = webhooks.find(&mut tx, id, &caller.principal).await?;
    Ok(Page(SecretPage {
        layout: Layout::admin(&caller, &webhook.name, "webhooks"),
        base: format!("/admin/webhooks/{id}"),
        url: webhooks.url(id),
    })
    .into_response())
}

async fn first(
    PageOperator(caller): PageOperator,
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
) -> Result<Response, PageError> {
    let now = webhooks.inner.clock.now();
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let (webhook, _) = webhooks.find(&mut tx, id, &caller.principal).await?;
    let last = webhooks.last_delivery(&mut tx, id).await?;
    Ok(Page(FirstPage {
        layout: Layout::admin(&caller, &webhook.name, "webhooks"),
        base: format!("/admin/webhooks/{id}"),
        example: webhook.scheme.verifier().example(&webhooks.url(id)),
        delivery: last.map(|delivery| Row::new(&delivery, now)),
    })
    .into_response())
}

async fn edit(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorForm { caller, form }: OperatorForm<EditForm>,
) -> Result<Response, PageError> {
    let changed = async {
        let change = form.parsed()?;
        webhooks.update(id, None, change, &caller.principal).await
    };
    match changed.await {
        Ok(_) => {
            Ok(Flash::success("Saved. Changes apply to the next request.").redirect(&format!("/admin/webhooks/{id}")))
        }
        Err(error) => refused(&webhooks, &caller, id, error).await,
    }
}

/// The webhook's page, with a sentence about what did not fit.
async fn refused(webhooks: &Webhooks, caller: &PageCaller, id: WebhookId, error: Error) -> Result<Response, PageError> {
    let sentence = match error {
        Error::Invalid(InvalidField { field, problem }) => {
            format!("Nothing was saved. {}: {problem}", field.replace('_', " "))
        }
        Error::TestRefused(why) => why,
        Error::NotReplayable(why) => why.to_owned(),
        error => return Err(error.into()),
    };
    let notice = Some(Notice::error(sentence));
    let page = show(webhooks, caller, id, &Pagination::default(), DeliveryFilter::default(), notice).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

async fn rotate(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorForm { caller, form }: OperatorForm<Rotate>,
) -> Result<Response, PageError> {
    let hours = |hours: u64| Duration::from_secs(hours.saturating_mul(3_600));
    let overlap = form.overlap_hours.map_or(OVERLAP_DEFAULT, hours);
    match webhooks.rotate(id, None, overlap, &caller.principal).await {
        Ok(rotated) => {
            let page = format!("/admin/webhooks/{id}");
            let flash = Flash::secret(new_secret(&rotated, page.clone()));
            let has_previous = rotated.secret_state.is_some_and(|secret| secret.previous_ends_at.is_some());
            let notice = if has_previous {
                "The secret was rotated. The previous one stays valid until it expires, as shown below."
            } else {
                "The secret was rotated. The previous one no longer works."
            };
            Ok(flash.with_notice(Notice::success(notice)).redirect(&page))
        }
        Err(error) => refused(&webhooks, &caller, id, error).await,
    }
}

async fn test(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorFormWithoutReauth { caller, .. }: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Response, PageError> {
    let unkeyed = Idempotency::unkeyed(webhooks.inner.clock.now());
    match webhooks.test(id, &unkeyed, &caller.principal).await {
        Ok(delivery) => Ok(Redirect::to(&format!("/admin/deliveries/{}", delivery.id)).into_response()),
        Err(error) => refused(&webhooks, &caller, id, error).await,
    }
}

/// Replays what failed; the key of the page makes a second press harmless.
async fn replay_failed(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorFormWithoutReauth { caller, form }: OperatorFormWithoutReauth<Replay>,
) -> Result<Response, PageError> {
    let principal = &caller.principal;
    let now = webhooks.inner.clock.now();
    let idempotency = Idempotency::new(IdempotencyKey(form.key), principal, "webhooks.replay", &id.to_string(), now);
    let filter = DeliveryFilter { result: Some(super::DeliveryResult::Failed), ..DeliveryFilter::default() };
    let replayed = webhooks.replay_all(id, filter, ReplayMode::Execute(&idempotency), principal).await;
    let text = match replayed {
        Ok(0) => "There are no failed deliveries to replay.".to_owned(),
        Ok(1) => "1 delivery will be replayed.".to_owned(),
        Ok(count) => format!("{count} deliveries will be replayed."),
        Err(error) => return refused(&webhooks, &caller, id, error).await,
    };
    Ok(Flash::success(text).redirect(&format!("/admin/webhooks/{id}")))
}

async fn enable(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorForm { caller, .. }: OperatorForm<EmptyForm>,
) -> Result<Response, PageError> {
    switch(&webhooks, &caller, id, WebhookUpdate { enabled: Some(true), ..WebhookUpdate::default() }).await
}

async fn disable(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorForm { caller, .. }: OperatorForm<EmptyForm>,
) -> Result<Response, PageError> {
    switch(&webhooks, &caller, id, WebhookUpdate { enabled: Some(false), ..WebhookUpdate::default() }).await
}

async fn switch(
    webhooks: &Webhooks,
    caller: &PageCaller,
    id: WebhookId,
    change: WebhookUpdate,
) -> Result<Response, PageError> {
    let (webhook, _) = webhooks.update(id, None, change, &caller.principal).await?;
    let done = if webhook.enabled {
        "The webhook was enabled. Requests are accepted again."
    } else {
        "The webhook was disabled. Requests are rejected until it is enabled."
    };
    Ok(Flash::success(done).redirect(&format!("/admin/webhooks/{id}")))
}

async fn delete(
    State(webhooks): State<Webhooks>,
    Path(id): Path<WebhookId>,
    OperatorForm { caller, form }: OperatorForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let (webhook, _) = webhooks.find(&mut tx, id, &caller.principal).await?;
    drop(tx);
    if !form.matches(&webhook.name) {
        let problem = "the name does not match; enter it exactly as shown.";
        return refused(&webhooks, &caller, id, InvalidField::new("name", problem).into()).await;
    }
    webhooks.delete(id, &caller.principal).await?;
    Ok(Flash::success("The webhook was deleted. Its threads and deliveries are kept.").redirect("/admin/webhooks"))
}

async fn delivery(
    PageOperator(caller): PageOperator,
    State(webhooks): State<Webhooks>,
    Path(id): Path<DeliveryId>,
) -> Result<Response, PageError> {
    let now = webhooks.inner.clock.now();
    let mut tx = webhooks.inner.db.read(caller.tenant()).await?;
    let delivery = webhooks.delivery(&mut tx, id, &caller.principal).await?;
    let webhook = match webhooks.find(&mut tx, delivery.webhook, &caller.principal).await {
        Ok((webhook, _)) => Some(webhook),
        Err(Error::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    let layout = Layout::admin(&caller, "Delivery", "webhooks");
    Ok(Page(DeliveryPage::new(layout, delivery, webhook, now)).into_response())
}

async fn replay(
    State(webhooks): State<Webhooks>,
    Path(id): Path<DeliveryId>,
    OperatorFormWithoutReauth { caller, .. }: OperatorFormWithoutReauth<EmptyForm>,
) -> Result<Redirect, PageError> {
    let unkeyed = Idempotency::unkeyed(webhooks.inner.clock.now());
    let again = webhooks.replay(id, &unkeyed, &caller.principal).await?;
    Ok(Redirect::to(&format!("/admin/deliveries/{}", again.id)))
}
