//! Pages of MCP servers: `/admin/mcp-servers…` for operators, `/me/mcp-servers…` for members.

mod admin;
mod me;
mod register;
mod review;

use axum::Router;
use axum::routing::{get, post};
use serde::Deserialize;

use super::{Error, Mcp};
use crate::edge::{ApiError, Notice};
use crate::oauth::pages::reason_sentence;

/// Every page of the slice.
pub fn routes(mcp: &Mcp) -> Router {
    Router::new()
        .route("/admin/mcp-servers", get(admin::list).post(register::register))
        .route("/admin/mcp-servers/new", get(register::form))
        .route("/admin/mcp-servers/{id}", get(review::show))
        .route("/admin/mcp-servers/{id}/change", post(admin::update))
        .route("/admin/mcp-servers/{id}/approve", post(admin::approve))
        .route("/admin/mcp-servers/{id}/reject", post(admin::reject))
        .route("/admin/mcp-servers/{id}/test", post(review::test))
        .route("/admin/mcp-servers/{id}/secret", post(admin::secret))
        .route("/admin/mcp-servers/{id}/spaces", post(admin::space_add))
        .route("/admin/mcp-servers/{id}/spaces/{space_id}/remove", post(admin::space_remove))
        .route("/admin/mcp-servers/{id}/delete", post(admin::delete))
        .route("/me/mcp-servers", get(me::list))
        .route("/me/mcp-servers/{id}/connect", get(me::ask).post(me::connect))
        .with_state(mcp.clone())
}

/// How connecting an account ended, as the OAuth callback says in the address of a page.
#[derive(Deserialize)]
struct ConnectOutcome {
    status: Option<String>,
    reason: Option<String>,
}

impl ConnectOutcome {
    fn notice(&self) -> Option<Notice> {
        match self.status.as_deref() {
            Some("connected") => Some(Notice::success("Connected. The agent can use it for your requests.")),
            Some("error") => Some(Notice::error(reason_sentence(self.reason.as_deref().unwrap_or_default()))),
            _ => None,
        }
    }
}

/// The sentence of a refused form.
fn error_notice(error: Error) -> Notice {
    Notice::error(ApiError::from(error).sentence())
}

/// Names that somebody typed, one a line or with commas; nothing means no list.
fn parse_names(text: Option<&str>) -> Option<Vec<String>> {
    let names: Vec<String> =
        text?.split(['\n', ',']).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}
