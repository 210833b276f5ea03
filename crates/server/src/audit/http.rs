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

use super::{Audit, AuditEvent, Error, EventCursor, Filter};
use crate::edge::NameMap;
use crate::edge::identity::ActingClientResponse;
use crate::edge::{ApiError, Json, List, Operator, Pagination, Query, time_cursor};

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
struct AuditEventResponse {
    #[schema(value_type = String, example = "aud_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: AuditId,
    #[schema(value_type = String)]
    at: Timestamp,
    /// What was done: the kind of thing, a dot and the verb.
    #[schema(example = "webhook.created")]
    action: String,
    /// On whose request it happened: `{kind, id}`.
    requester: Value,
    acting_client: ActingClientResponse,
    /// Whose credential was used: `{kind, user_id, connection_id}`.
    credential_subject: Value,
    /// What opened the credential: `tool_call`, `connector`, `webhook_verification`, `oauth`, `model_call` or
    /// `extension`; null if none was opened.
    #[schema(example = "tool_call")]
    surface: Option<String>,
    /// What it was done to: `{kind, id}`, or null.
    target: Value,
    /// The thread in which it happened, if in one.
    thread_id: Option<String>,
    /// The turn in which it happened, if in one.
    turn_id: Option<String>,
    /// What else is known, by the kind of action; never a secret.
    detail: Value,
    /// Whether it is shown as it was recorded; false: somebody changed the database, see `thinkwork audit verify`.
    #[schema(example = true)]
    authentic: bool,
}

impl AuditEventResponse {
    fn new(event: AuditEvent, names: &NameMap, changed: &[AuditId]) -> Self {
        Self {
            authentic: !changed.contains(&event.id),
            id: event.id,
            at: event.at,
            action: event.action,
            requester: json!({ "kind": event.requester.kind(), "id": event.requester.id() }),
            acting_client: ActingClientResponse::new(event.client, names),
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
pub(super) struct AuditEventQuery {
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

impl AuditEventQuery {
    pub(super) fn parse(self) -> Result<Filter, ApiError> {
        fn read<T>(
            field: &str,
            text: Option<String>,
            parse: impl Fn(&str) -> Option<T>,
        ) -> Result<Option<T>, ApiError> {
            text.filter(|text| !text.is_empty())
                .map(|text| parse(&text).ok_or_else(|| ApiError::invalid(field, "the value has the wrong format.")))
                .transpose()
        }
        // PostgreSQL takes no zero character, and the record holds none.
        for (field, text) in [("actor", &self.actor), ("action", &self.action)] {
            if text.as_deref().is_some_and(|text| text.contains('\0')) {
                return Err(ApiError::invalid(field, "remove the null character."));
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

/// Lists the audit events of the tenant, newest first.
///
/// A page of several filters may hold fewer events than `limit`, or none, while `next` goes on.
#[utoipa::path(get, path = "/v1/audit", operation_id = "audit.list", tag = "audit", params(AuditEventQuery, Pagination),
    responses((status = 200, body = List<AuditEventResponse>)), extensions(("x-caller" = json!("operator"))))]
async fn list(
    Operator(caller): Operator,
    State(audit): State<Audit>,
    paging: Pagination,
    Query(filter): Query<AuditEventQuery>,
) -> Result<Json<List<AuditEventResponse>>, ApiError> {
    let filter = filter.parse()?;
    let after = paging.after_cursor()?;
    let mut tx = audit.db.read(caller.tenant).await?;
    let page = audit.list(&mut tx, &filter, paging.limit, after).await?;
    let clients: Vec<_> = page.events.iter().map(|event| event.client).collect();
    let names = audit.names.of_clients(&mut tx, &clients).await?;
    let items = page.events.into_iter().map(|event| AuditEventResponse::new(event, &names, &page.changed)).collect();
    Ok(Json(List { items, next: page.next.map(|(at, id)| time_cursor(at, id)) }))
}

/// Exports all audit events as JSON lines, newest first, each exactly as it is hashed.
#[utoipa::path(get, path = "/v1/audit/export", operation_id = "audit.export", tag = "audit",
    responses((status = 200, content_type = "application/x-ndjson")), extensions(("x-caller" = json!("operator"))))]
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
async fn piece(
    audit: &Audit,
    tenant: TenantId,
    after: Option<EventCursor>,
) -> Result<(String, Option<EventCursor>), Error> {
    let mut tx = audit.db.read(tenant).await?;
    let page = audit.list(&mut tx, &Filter::default(), EXPORT_BATCH, after).await?;
    let text = page.events.into_iter().map(|event| event.payload + "\n").collect();
    Ok((text, page.next))
}
