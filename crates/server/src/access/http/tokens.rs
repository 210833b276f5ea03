//! JSON routes of tokens.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Audience, Scope, Timestamp, TokenId, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::{Access, CreatedToken, NewToken, Token, TokenKind, rules};
use crate::edge::{ApiError, Caller, Idempotency, IdempotencyKey, Json, List, Pagination, Path};

pub(super) fn routes() -> OpenApiRouter<Access> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, revoke))
}

/// A token as it may be shown.
#[derive(Serialize, ToSchema)]
struct TokenResponse {
    #[schema(value_type = String, example = "tok_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: TokenId,
    /// What the token is for.
    #[schema(example = "Reports")]
    name: String,
    /// Whether it acts as its person or as the tenant's own system.
    kind: TokenKind,
    /// What it is for: `api` for `/v1`, `mcp` for `/mcp`.
    #[schema(value_type = String, example = "api")]
    audience: Audience,
    /// The scopes it has, each holding those before it.
    #[schema(value_type = Vec<String>, example = json!(["read", "write"]))]
    scopes: Vec<Scope>,
    /// The person of a personal token; null for a service token.
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    last_four: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// When it stops working, RFC 3339; null if never.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// When it was last used, RFC 3339, to the minute; null if never.
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked, RFC 3339; null if it was not.
    #[schema(value_type = Option<String>)]
    revoked_at: Option<Timestamp>,
}

impl From<Token> for TokenResponse {
    fn from(token: Token) -> Self {
        let scopes = [Scope::Read, Scope::Write, Scope::Admin].into_iter().filter(|scope| *scope <= token.scope);
        Self {
            id: token.id,
            name: token.name,
            kind: token.kind,
            audience: token.audience,
            scopes: scopes.collect(),
            user_id: token.user,
            last_four: token.last_four,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// Lists your tokens; for operators, all tokens of the tenant.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "tokens.list", tag = "access", params(Pagination),
    responses((status = 200, body = List<TokenResponse>, description = "Your tokens, or the tenant's for operators.")),
    extensions(("x-caller" = json!("caller"))))]
async fn list(
    State(access): State<Access>,
    Caller(principal): Caller,
    paging: Pagination,
) -> Result<Json<List<TokenResponse>>, ApiError> {
    let tokens = access.tokens(&principal, paging.fetch_limit(), paging.after_id()?).await?;
    Ok(Json(List::cut(tokens, &paging, |token| token.id.to_string()).map(TokenResponse::from)))
}

/// A token to create.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTokenRequest {
    /// What the token is for.
    #[schema(example = "Reports")]
    name: String,
    /// Whether it acts as you or as the tenant's own system.
    kind: TokenKind,
    /// What it is for: `api` for `/v1`, `mcp` for `/mcp`.
    #[schema(value_type = String, example = "api")]
    audience: Audience,
    /// Each scope holds those before it: read, write, admin. With read alone the gateway offers and calls the tools that
    /// only read.
    #[schema(value_type = Vec<String>, example = json!(["read", "write"]))]
    scopes: Vec<Scope>,
    /// Its lifetime in seconds, 60 to 31,622,400; 90 days if absent.
    #[schema(example = 7_776_000)]
    expires_in_seconds: Option<u64>,
}

/// A token with its text, shown this once.
#[derive(Serialize, ToSchema)]
struct CreatedTokenResponse {
    #[serde(flatten)]
    described: TokenResponse,
    /// The text to send as `Authorization: Bearer`.
    #[schema(example = "twp_2mB7xQe9RkT4")]
    token: String,
}

impl From<CreatedToken> for CreatedTokenResponse {
    fn from(created: CreatedToken) -> Self {
        let token = created.secret.expose_str().unwrap_or_default().to_owned();
        Self { described: created.token.into(), token }
    }
}

/// Creates a token. Its text is shown in this answer only.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "tokens.create", tag = "access", params(IdempotencyKey),
    request_body = CreateTokenRequest,
    responses((status = 201, body = CreatedTokenResponse, description = "The token, shown this once.")),
    extensions(("x-caller" = json!("caller"))))]
async fn create(
    State(access): State<Access>,
    Caller(principal): Caller,
    key: IdempotencyKey,
    Json(body): Json<CreateTokenRequest>,
) -> Result<Response, ApiError> {
    let text = serde_json::to_string(&body).map_err(|error| ApiError::internal(&error))?;
    let idempotency = Idempotency::new(key, &principal, "tokens.create", &text, access.now());
    let new = NewToken {
        scope: rules::widest(&body.scopes)?,
        name: body.name,
        kind: body.kind,
        audience: body.audience,
        expires_in: body.expires_in_seconds.map(Duration::from_secs),
    };
    let created = access.token_create(&principal, new, &idempotency).await?;
    let location = [(header::LOCATION, format!("/v1/tokens/{}", created.token.id))];
    Ok((StatusCode::CREATED, location, Json(CreatedTokenResponse::from(created))).into_response())
}

/// Gets a token, without its text.
#[utoipa::path(get, path = "/v1/tokens/{id}", operation_id = "tokens.get", tag = "access",
    params(("id" = String, Path, description = "A token of yours, or of the tenant for operators.")),
    responses((status = 200, body = TokenResponse, description = "The token, without its text.")),
    extensions(("x-caller" = json!("caller"))))]
async fn get(
    State(access): State<Access>,
    Caller(principal): Caller,
    Path(id): Path<TokenId>,
) -> Result<Json<TokenResponse>, ApiError> {
    Ok(Json(access.token(&principal, id).await?.into()))
}

/// Revokes a token; it stops working at once.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "tokens.revoke", tag = "access",
    params(("id" = String, Path, description = "A token of yours, or of the tenant for operators.")),
    responses((status = 204, description = "It works no more.")), extensions(("x-caller" = json!("caller"))))]
async fn revoke(
    State(access): State<Access>,
    Caller(principal): Caller,
    Path(id): Path<TokenId>,
) -> Result<StatusCode, ApiError> {
    access.token_revoke(&principal, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
