//! `/v1/agent`: the tenant platform agent's settings.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Secret, Timestamp};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{AgentShown, AgentUpdate, Error, Turns};
use crate::edge::{ApiError, Json, Operator};

/// The JSON routes of this slice.
pub fn routes(turns: &Turns) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(get, set)).with_state(turns.clone())
}

/// New settings of the agent; they replace those before, only a key that is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AgentRequest {
    /// The address below which `/chat/completions` is, like `https://api.openai.com/v1`. Null: no model.
    #[schema(example = "https://model.example.com/v1")]
    model_base_url: Option<String>,
    /// The model's name there.
    #[schema(example = "example-model")]
    model: Option<String>,
    /// What the agent is told in every turn.
    #[serde(default)]
    #[schema(example = "Answer in short sentences.")]
    instructions: String,
    /// The model's key. It is never shown again.
    #[schema(value_type = Option<String>, example = "sk-example-4f8a")]
    api_key: Option<Secret>,
}

/// The settings of the agent.
#[derive(Serialize, ToSchema)]
struct AgentResponse {
    /// The address below which `/chat/completions` is. Null: no model.
    #[schema(example = "https://model.example.com/v1")]
    model_base_url: Option<String>,
    /// The model's name there.
    #[schema(example = "example-model")]
    model: Option<String>,
    /// What the agent is told in every turn.
    #[schema(example = "Answer in short sentences.")]
    instructions: String,
    /// Whether a key is stored.
    #[schema(example = true)]
    has_secret: bool,
    /// Its last four characters, where it has 16 or more.
    last_four: Option<String>,
    /// When the present key was entered, RFC 3339.
    #[schema(value_type = Option<String>)]
    secret_rotated_at: Option<Timestamp>,
    /// When the settings were changed last, RFC 3339; null: never.
    #[schema(value_type = Option<String>)]
    updated_at: Option<Timestamp>,
    version: i64,
}

impl From<AgentShown> for AgentResponse {
    fn from(AgentShown { agent, key }: AgentShown) -> Self {
        let (model_base_url, model) = agent.model.map(|model| (model.base_url, model.name)).unzip();
        Self {
            model_base_url,
            model,
            instructions: agent.instructions,
            has_secret: key.is_some(),
            last_four: key.as_ref().and_then(|key| key.last_four.clone()),
            secret_rotated_at: key.map(|key| key.rotated_at),
            updated_at: agent.updated_at,
            version: agent.version,
        }
    }
}

/// Gets the settings of the tenant's agent.
#[utoipa::path(get, path = "/v1/agent", operation_id = "agent.get", tag = "turns",
    responses((status = 200, body = AgentResponse)), extensions(("x-caller" = json!("operator"))))]
async fn get(State(turns): State<Turns>, caller: Operator) -> Result<Json<AgentResponse>, ApiError> {
    Ok(Json(turns.agent(caller.tenant()).await?.into()))
}

/// Sets the model, instructions and key of the tenant's agent.
#[utoipa::path(put, path = "/v1/agent", operation_id = "agent.set", tag = "turns", request_body = AgentRequest,
    responses((status = 200, body = AgentResponse)), extensions(("x-caller" = json!("operator"))))]
async fn set(
    State(turns): State<Turns>,
    caller: Operator,
    Json(request): Json<AgentRequest>,
) -> Result<Json<AgentResponse>, ApiError> {
    let AgentRequest { model_base_url, model, instructions, api_key } = request;
    let change = AgentUpdate { model_base_url, model, instructions, api_key };
    Ok(Json(turns.agent_set(change, &caller.0).await?.into()))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(error) => error.into(),
            Error::Credentials(crate::credentials::Error::Refused(problem)) => Self::invalid("api_key", problem),
            Error::Access(error) => error.into(),
            Error::TakenOver
            | Error::Stopping
            | Error::ModelUnavailable(_)
            | Error::Record(_)
            | Error::Database(_)
            | Error::Threads(_)
            | Error::Spaces(_)
            | Error::Tools(_)
            | Error::Credentials(_)
            | Error::Audit(_) => Self::internal(&error),
        }
    }
}
