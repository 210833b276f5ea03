//! `GET /v1/data-retention`.

use axum::extract::State;
use serde::Serialize;
use thinkwork_primitives::Timestamp;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{DataRetention, Error, StoredKind};
use crate::edge::{ApiError, Json, Operator};

/// The JSON route of this slice.
pub fn routes(retention: &DataRetention) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get)).with_state(retention.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::internal(&error)
    }
}

/// How long data of the tenant is kept, and how much of it there is.
#[derive(Serialize, ToSchema)]
struct DataRetentionResponse {
    /// Every kind of data that is kept for a time of its own.
    kinds: Vec<DataKindResponse>,
}

/// One kind of data.
#[derive(Serialize, ToSchema)]
struct DataKindResponse {
    /// Which one: `delivery_contents`, `deliveries`, `thread_events`, `steps`, `ended_connections`, `revoked_tokens`,
    /// `erased_credentials`, `intake_events`, `threads` or `audit_log`.
    #[schema(example = "deliveries")]
    kind: &'static str,
    /// What people call it.
    #[schema(example = "Deliveries")]
    name: &'static str,
    /// What it is for.
    #[schema(example = "Each request to a webhook with its result, headers and the beginning of its body.")]
    description: &'static str,
    /// How long it is kept, in words.
    #[schema(example = "90 days")]
    retention: String,
    /// After how many days it is deleted; null if it is kept forever, or not by days alone.
    #[schema(example = 90)]
    retention_days: Option<u32>,
    /// The setting of the server that says so; null if there is none.
    #[schema(example = "retention.deliveries_days")]
    setting: Option<&'static str>,
    /// How many rows of the tenant there are, at most 100,000.
    #[schema(example = 1_250)]
    rows: u64,
    /// Whether there are more rows than were counted.
    #[schema(example = false)]
    has_more_rows: bool,
    /// When the oldest was created, or ended if that is what counts, RFC 3339; null if there is none or it is not known.
    #[schema(value_type = Option<String>)]
    oldest_at: Option<Timestamp>,
}

impl From<StoredKind> for DataKindResponse {
    fn from(one: StoredKind) -> Self {
        Self {
            kind: one.kind.as_str(),
            name: one.kind.name(),
            description: one.kind.description(),
            retention: one.retention.words(),
            retention_days: one.retention.days(),
            setting: one.retention.setting(),
            rows: one.stored.rows,
            has_more_rows: one.stored.is_more,
            oldest_at: one.stored.oldest,
        }
    }
}

/// Gets how long each kind of data is kept, and how much of it the tenant has.
#[utoipa::path(get, path = "/v1/data-retention", operation_id = "data_retention.get", tag = "data_retention",
    responses((status = 200, body = DataRetentionResponse)), extensions(("x-caller" = json!("operator"))))]
async fn get(
    State(retention): State<DataRetention>,
    caller: Operator,
) -> Result<Json<DataRetentionResponse>, ApiError> {
    let kinds = retention.list(caller.tenant()).await?.into_iter().map(DataKindResponse::from).collect();
    Ok(Json(DataRetentionResponse { kinds }))
}
