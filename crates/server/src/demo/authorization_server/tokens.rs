//! What Sample ID's clients ask without a person: tokens, revocation, what happened so far.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::json;

use super::SampleId;
use super::grants::{Issued, Refusal};

#[derive(Deserialize)]
pub(super) struct TokenRequest {
    grant_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    code_verifier: String,
    #[serde(default)]
    refresh_token: String,
    resource: Option<String>,
}

pub(super) async fn token(State(id): State<SampleId>, Form(asked): Form<TokenRequest>) -> Result<Response, Refusal> {
    let now = id.clock.now();
    let resource = asked.resource.as_deref();
    let mut books = id.books();
    let issued = match asked.grant_type.as_str() {
        "authorization_code" => {
            books.exchange(&asked.code, &asked.client_id, &asked.redirect_uri, &asked.code_verifier, resource, now)
        }
        "refresh_token" => books.refresh(&asked.refresh_token, &asked.client_id, resource, now),
        _ => Err(Refusal { code: "unsupported_grant_type", description: "authorization_code or refresh_token" }),
    };
    if issued.is_err() {
        books.refused();
    }
    let Issued { access, refresh, scope, account } = issued?;
    let body = json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": id.access_life.as_secs(),
        "refresh_token": refresh,
        "scope": scope,
        "account": account,
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

#[derive(Deserialize)]
pub(super) struct Revocation {
    token: String,
    #[serde(default)]
    client_id: String,
}

pub(super) async fn revoke(State(id): State<SampleId>, Form(asked): Form<Revocation>) -> StatusCode {
    id.books().revoke(&asked.token, &asked.client_id);
    StatusCode::OK
}

/// What happened so far, in numbers.
pub(super) async fn log(State(id): State<SampleId>) -> Response {
    Json(id.books().counts).into_response()
}
