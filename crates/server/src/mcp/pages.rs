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

/// What just happened, as the address of a page names it.
#[derive(Deserialize)]
struct Done {
    done: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

impl Done {
    fn notice(&self) -> Option<Notice> {
        let good = |text| Some(Notice::success(text));
        match (self.done.as_deref(), self.status.as_deref()) {
            (Some("registered"), _) => {
                good("Server registered. Review it below. The agent cannot use it until you approve it.")
            }
            (Some("changed"), _) => good("Saved. If the definition changed, the server needs approval again."),
            (Some("approved"), _) => good("Server approved. Add it to Spaces below."),
            (Some("rejected"), _) => good("Server rejected. All connections to it were removed."),
            (Some("secret"), _) => good("The secret was replaced."),
            (Some("spaces"), _) => good("The Spaces were updated."),
            (Some("deleted"), _) => {
                good("Server deleted. Its secret and all connections to it were deleted. Its history is kept.")
            }
            (_, Some("connected")) => good("Connected. The agent can use it for your requests."),
            (_, Some("error")) => Some(Notice::error(reason_sentence(self.reason.as_deref().unwrap_or_default()))),
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
