//! What the agent can use in a Space, for whom and why: the JSON route and the wire shape of an offered tool.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{
    ActingClient, CredentialSubject, Effect, Principal, Requester, Scope, SpaceId, Timestamp, ToolSourceId, UserId,
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Error, GrantAct, LeftOut, Narrowing, OfferedSource, OfferedTools, Provenance, ToolContext, Tools};
use crate::edge::caller::may_configure;
use crate::edge::identity::{CredentialSubjectResponse, RequesterResponse};
use crate::edge::{ApiError, Caller, Json, Path, Query};
use crate::spaces::Approval;

pub fn routes(tools: &Tools) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(effective_tools_get)).with_state(tools.clone())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotAdmitted => Self::conflict(
                "not_admitted",
                "This person is disabled or does not have access to this Space, so the agent has no tools for them here. \
                 Add them as a member.",
            ),
            error => Self::internal(&error),
        }
    }
}

/// One tool that is offered.
#[derive(Serialize, ToSchema)]
pub struct OfferedToolResponse {
    /// Its full name: the source's slug, two underscores, and its own name.
    #[schema(example = "notes__search")]
    name: String,
    /// Where it comes from.
    source: ToolSourceResponse,
    /// The act that lets it be offered.
    granted_by: GrantedByResponse,
    /// What limits the source's tools; absent if nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    narrowed_by: Vec<Narrowing>,
    /// What it does to the world: `read`, `write` or `send`.
    #[schema(value_type = String, example = "read")]
    effect: Effect,
    /// When a person is asked before it runs.
    approval: Approval,
}

/// Where a tool comes from.
#[derive(Serialize, ToSchema)]
struct ToolSourceResponse {
    /// `mcp_server`, `built_in_set` or `extension`.
    #[schema(example = "mcp_server")]
    kind: &'static str,
    #[schema(value_type = String, example = "mcp_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: ToolSourceId,
    /// The short name in its tools' names.
    #[schema(example = "notes")]
    slug: String,
}

/// The act that lets a tool be offered, and whose credential a call would use.
#[derive(Serialize, ToSchema)]
struct GrantedByResponse {
    /// The kind of act.
    act: GrantAct,
    /// Who did it.
    requester: RequesterResponse,
    /// When they did it, RFC 3339.
    #[schema(value_type = String)]
    at: Timestamp,
    /// Whose credential a call would use.
    credential_subject: CredentialSubjectResponse,
}

impl OfferedToolResponse {
    /// The tools of these sources, one by one.
    pub fn each_of(sources: Vec<OfferedSource>) -> Vec<Self> {
        let tools = sources.into_iter().flat_map(|OfferedSource { source, slug, provenance, tools }| {
            tools.into_iter().map(move |tool| Self {
                name: tool.name,
                source: ToolSourceResponse { kind: source.kind(), id: source, slug: slug.clone() },
                granted_by: (&provenance).into(),
                narrowed_by: provenance.narrowed_by.clone(),
                effect: tool.effect,
                approval: tool.approval,
            })
        });
        tools.collect()
    }
}

impl From<&Provenance> for GrantedByResponse {
    fn from(provenance: &Provenance) -> Self {
        let granted = &provenance.granted_by;
        Self {
            act: granted.act,
            requester: (&granted.requester).into(),
            at: granted.at,
            credential_subject: granted.credential_subject.into(),
        }
    }
}

/// What the agent can use, and what it cannot and why.
#[derive(Serialize, ToSchema)]
struct EffectiveToolsResponse {
    /// The tools that the agent can use.
    offered: Vec<OfferedToolResponse>,
    /// The sources whose tools it cannot use, and why.
    left_out: Vec<LeftOut>,
}

impl From<OfferedTools> for EffectiveToolsResponse {
    fn from(tools: OfferedTools) -> Self {
        Self { offered: OfferedToolResponse::each_of(tools.by_source()), left_out: tools.left_out }
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EffectiveToolsRequest {
    /// For whom; the caller where it is left out. For others: operators only.
    #[param(value_type = Option<String>)]
    user: Option<UserId>,
    /// As a token with this scope would get them: `read` leaves only tools that read.
    #[param(value_type = Option<String>)]
    scope: Option<Scope>,
}

/// Gets the tools that the agent can use in a Space for a person.
///
/// It shows names and reasons, never content. No server is asked and no secret is opened for it.
#[utoipa::path(get, path = "/v1/spaces/{id}/effective-tools", operation_id = "spaces.effective_tools.get",
    tag = "spaces", extensions(("x-caller" = json!("caller"))), params(("id" = String, Path), EffectiveToolsRequest),
    responses((status = 200, body = EffectiveToolsResponse)))]
async fn effective_tools_get(
    State(tools): State<Tools>,
    Caller(caller): Caller,
    Path(space): Path<SpaceId>,
    Query(asked): Query<EffectiveToolsRequest>,
) -> Result<Json<EffectiveToolsResponse>, ApiError> {
    let mut context = tools.context_of(&caller, space, asked.user).await?;
    context.reads_only = asked.scope == Some(Scope::Read);
    Ok(Json(tools.inspect(&context).await?.into()))
}

impl Tools {
    /// The context of a turn of this person in a Space that the caller sees: the caller's own, for operators anyone's.
    pub(super) async fn context_of(
        &self,
        caller: &Principal,
        space: SpaceId,
        user: Option<UserId>,
    ) -> Result<ToolContext, ApiError> {
        let mut tx = self.db.read(caller.tenant).await?;
        self.spaces.visible(&mut tx, space, caller).await?;
        let requester = match user {
            Some(user) if caller.user() != Some(user) => {
                if !may_configure(caller) {
                    return Err(ApiError::forbidden(
                        "needs_operator",
                        "You can view this only for yourself. Operators can view it for others.",
                    ));
                }
                let names =
                    self.access.user_names(&mut tx, &[user]).await.map_err(|error| ApiError::internal(&error))?;
                names.first().ok_or_else(ApiError::not_found)?;
                Requester::User(user)
            }
            _ => caller.requester(),
        };
        let may_use = match requester.user() {
            Some(user) => CredentialSubject::User { user, connection: None },
            None => CredentialSubject::None,
        };
        Ok(ToolContext {
            tenant: caller.tenant,
            space: Some(space),
            requester,
            client: ActingClient::Agent,
            may_use,
            reads_only: false,
            thread: None,
            turn: None,
            trace: None,
            cancellation: tokio_util::sync::CancellationToken::new(),
        })
    }
}
