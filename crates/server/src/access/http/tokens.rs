//! JSON routes of tokens.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use thinkwork_primitives::{Audience, Scope, Timestamp, TokenId, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::{Access, MintedToken, NewToken, Token, TokenKind, rules};
use super::location;
use crate::edge::{ApiError, Caller, Id, Json, List, Once, OnceKey, Paging};

pub(super) fn routes() -> OpenApiRouter<Access> {
    OpenApiRouter::new().routes(routes!(tokens, token_mint)).routes(routes!(token_show, token_revoke))
}

/// A token as it may be shown.
#[derive(Serialize, ToSchema)]
struct TokenBody {
    #[schema(value_type = String)]
    id: TokenId,
    name: String,
    kind: TokenKind,
    #[schema(value_type = String)]
    audience: Audience,
    /// The scopes it has, each holding those before it.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// The person of a personal token.
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    last_four: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// To the minute.
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    revoked_at: Option<Timestamp>,
}

impl From<Token> for TokenBody {
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

#[utoipa::path(get, path = "/v1/tokens", tag = "access", params(Paging),
    responses((status = 200, body = List<TokenBody>, description = "Your tokens, or the tenant's for operators.")),
    extensions(("x-caller" = json!("caller"))))]
async fn tokens(
    State(access): State<Access>,
    Caller(principal): Caller,
    paging: Paging,
) -> Result<Json<List<TokenBody>>, ApiError> {
    let tokens = access.tokens(&principal, &paging).await?;
    Ok(Json(List::cut(tokens, &paging, |token| token.id.to_string()).map(TokenBody::from)))
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MintBody {
    name: String,
    kind: TokenKind,
    #[schema(value_type = String)]
    audience: Audience,
    /// Each scope holds those before it: read, write, admin. With read alone the gateway offers and calls the tools that
    /// only read.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// 60 to 31,622,400; 90 days where it is left out.
    expires_in_seconds: Option<u64>,
}

/// A token with its text, shown this once.
#[derive(Serialize, ToSchema)]
struct MintedBody {
    #[serde(flatten)]
    described: TokenBody,
    /// The text to send as `Authorization: Bearer`.
    token: String,
}

impl From<MintedToken> for MintedBody {
    fn from(minted: MintedToken) -> Self {
        let token = minted.secret.expose_str().unwrap_or_default().to_owned();
        Self { described: minted.token.into(), token }
    }
}

#[utoipa::path(post, path = "/v1/tokens", tag = "access", params(OnceKey), request_body = MintBody,
    responses((status = 201, body = MintedBody, description = "The token, shown this once.")),
    extensions(("x-caller" = json!("caller"))))]
async fn token_mint(
    State(access): State<Access>,
    Caller(principal): Caller,
    key: OnceKey,
    Json(body): Json<MintBody>,
) -> Result<Response, ApiError> {
    let text = serde_json::to_string(&body).map_err(|error| ApiError::internal(&error))?;
    let once = Once::new(key, &principal, "tokens.create", &text, access.now());
    let new = NewToken {
        scope: rules::widest(&body.scopes)?,
        name: body.name,
        kind: body.kind,
        audience: body.audience,
        expires_in: body.expires_in_seconds.map(Duration::from_secs),
    };
    let minted = access.token_mint(&principal, new, &once).await?;
    let headers = location(format!("/v1/tokens/{}", minted.token.id));
    Ok((StatusCode::CREATED, headers, Json(MintedBody::from(minted))).into_response())
}

#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "A token of yours, or of the tenant for operators.")),
    responses((status = 200, body = TokenBody, description = "The token, without its text.")),
    extensions(("x-caller" = json!("caller"))))]
async fn token_show(
    State(access): State<Access>,
    Caller(principal): Caller,
    Id(id): Id<TokenId>,
) -> Result<Json<TokenBody>, ApiError> {
    Ok(Json(access.token(&principal, id).await?.into()))
}

#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "A token of yours, or of the tenant for operators.")),
    responses((status = 204, description = "It works no more.")), extensions(("x-caller" = json!("caller"))))]
async fn token_revoke(
    State(access): State<Access>,
    Caller(principal): Caller,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    access.token_revoke(&principal, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
