//! `GET /v1/audit` and `GET /v1/audit/export`.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thinkwork_primitives::{AuditId, TenantId, Timestamp};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Audit, Error, Filter, Recorded};
use crate::edge::{ApiError, Json, List, Operator, Paging, Query};

/// Events of one piece of the export.
const EXPORT_BATCH: u64 = 500;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::internal(&error)
    }
}

/// The JSON routes of the record.
pub fn routes(audit: &Audit) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(export)).with_state(audit.clone())
}

/// One event.
#[derive(Serialize, ToSchema)]
struct EventOut {
    #[schema(value_type = String)]
    id: AuditId,
    #[schema(value_type = String)]
    at: Timestamp,
    action: String,
    /// `{kind, id}`.
    requester: Value,
    /// `{kind, user_id, connection_id}`.
    credential_subject: Value,
    surface: Option<String>,
    /// `{kind, id}` or null.
    target: Value,
    thread_id: Option<String>,
    turn_id: Option<String>,
    detail: Value,
}

impl From<Recorded> for EventOut {
    fn from(event: Recorded) -> Self {
        Self {
            id: event.id,
            at: event.at,
            action: event.action,
            requester: json!({ "kind": event.requester.kind(), "id": event.requester.id() }),
            credential_subject: super::rules::subject(&event.subject),
            surface: event.surface,
            target: event.target.map_or(Value::Null, |(kind, id)| json!({ "kind": kind, "id": id })),
            thread_id: event.thread.map(|id| id.to_string()),
            turn_id: event.turn.map(|id| id.to_string()),
            detail: event.detail,
        }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterIn {
    /// At this time or later, RFC 3339.
    since: Option<String>,
    /// The id of who asked, like `usr_…` or `whk_…`.
    actor: Option<String>,
    /// The person whose credential was used.
    subject: Option<String>,
    /// The action, like `webhook.created`, or a beginning that ends with a dot, like `webhook.`.
    action: Option<String>,
    /// The thread.
    thread: Option<String>,
}

impl FilterIn {
    pub(super) fn parse(self) -> Result<Filter, ApiError> {
        fn read<T>(
            field: &str,
            text: Option<String>,
            parse: impl Fn(&str) -> Option<T>,
        ) -> Result<Option<T>, ApiError> {
            text.filter(|text| !text.is_empty())
                .map(|text| parse(&text).ok_or_else(|| ApiError::invalid(field, "it is not of this field's form.")))
                .transpose()
        }
        // PostgreSQL takes no zero character, and the record holds none.
        for (field, text) in [("actor", &self.actor), ("action", &self.action)] {
            if text.as_deref().is_some_and(|text| text.contains('\0')) {
                return Err(ApiError::invalid(field, "leave out the zero character."));
            }
        }
        Ok(Filter {
            since: read("since", self.since, Timestamp::parse)?,
            actor: self.actor.filter(|text| !text.is_empty()),
            subject: read("subject", self.subject, |text| text.parse().ok())?,
            action: self.action.filter(|text| !text.is_empty()),
            thread: read("thread", self.thread, |text| text.parse().ok())?,
        })
    }
}

/// The record of the tenant, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(FilterIn, Paging),
    responses((status = 200, body = List<EventOut>)), extensions(("x-caller" = json!("operator"))))]
async fn list(
    Operator(caller): Operator,
    State(audit): State<Audit>,
    paging: Paging,
    Query(filter): Query<FilterIn>,
) -> Result<Json<List<EventOut>>, ApiError> {
    let after = paging.after_id()?;
    let limit = paging.limit.saturating_add(1);
    let filter = filter.parse()?;
    let mut tx = audit.db.read(caller.tenant).await?;
    let events = audit.list(&mut tx, &filter, limit, after).await?;
    Ok(Json(List::cut(events, &paging, |event| event.id.to_string()).map(EventOut::from)))
}

/// The whole record as JSON lines, newest first, each exactly as it is hashed.
#[utoipa::path(get, path = "/v1/audit/export", tag = "audit", responses((status = 200, content_type = "application/x-ndjson")),
    extensions(("x-caller" = json!("operator"))))]
async fn export(Operator(caller): Operator, State(audit): State<Audit>) -> Response {
    let lines = stream::try_unfold(Some(None), move |place| {
        let audit = audit.clone();
        async move {
            let Some(after) = place else { return Ok::<_, Error>(None) };
            let (text, next) = piece(&audit, caller.tenant, after).await?;
            Ok(Some((Bytes::from(text), next.map(Some))))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

/// One piece of the export and where the next begins.
async fn piece(audit: &Audit, tenant: TenantId, after: Option<AuditId>) -> Result<(String, Option<AuditId>), Error> {
    let mut tx = audit.db.read(tenant).await?;
    let events = audit.list(&mut tx, &Filter::default(), EXPORT_BATCH, after).await?;
    let next = events.last().map(|event| event.id);
    let text = events.into_iter().map(|event| event.payload + "\n").collect();
    Ok((text, next))
}
