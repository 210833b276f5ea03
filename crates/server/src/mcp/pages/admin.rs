//! `/admin/mcp-servers`: the list, and every act on one server.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use thinkwork_primitives::{McpServerId, Secret, SpaceId};

use super::review::page;
use super::{error_notice, parse_names};
use crate::edge::{
    ConfirmForm, EmptyForm, Flash, Layout, List, OperatorForm, Page, PageError, PageOperator, Pagination, Path,
};
use crate::mcp::review::EffectDecision;
use crate::mcp::{ApprovalDecision, Error, Mcp, ServerUpdate};
use crate::spaces::SourcePolicy;

struct Row {
    id: String,
    name: String,
    url: String,
    status: &'static str,
    authentication: &'static str,
    last_error: String,
}

#[derive(Template)]
#[template(path = "mcp/templates/servers.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
    next: String,
}

/// Every server of the tenant.
pub(super) async fn list(
    PageOperator(caller): PageOperator,
    State(mcp): State<Mcp>,
    paging: Pagination,
) -> Result<impl IntoResponse, PageError> {
    let servers = mcp.list(caller.tenant(), paging.fetch_limit(), paging.after_id()?).await?;
    let page = List::cut(servers, &paging, |server| server.id.to_string());
    let next = page.next_href("/admin/mcp-servers");
    let rows = page.items.into_iter().map(|server| Row {
        id: server.id.to_string(),
        status: server.effective_status().as_str(),
        authentication: server.auth.description().name,
        last_error: server.last_error.unwrap_or_default(),
        name: server.name,
        url: server.url,
    });
    Ok(Page(ListPage { layout: Layout::admin(&caller, "MCP servers", "mcp-servers"), rows: rows.collect(), next }))
}

/// Back to the server's page with what was done, or that page with why not.
async fn settle<T>(
    mcp: &Mcp,
    caller: &crate::edge::PageCaller,
    id: McpServerId,
    done: &str,
    result: Result<T, Error>,
) -> Result<Response, PageError> {
    match result {
        Ok(_) => Ok(Flash::success(done).redirect(&format!("/admin/mcp-servers/{id}"))),
        // Who may not act here any more does not see the page either, and a Space that they do not see is not there.
        Err(error @ (Error::NotFound | Error::Spaces(crate::spaces::Error::NotFound) | Error::Access(_))) => {
            Err(error.into())
        }
        Err(error) => {
            let page = page(mcp, caller, id, Some(error_notice(error))).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

/// The registration's fields that may be changed here.
#[derive(Deserialize)]
pub(super) struct ChangeForm {
    name: String,
    tool_allowlist: Option<String>,
}

/// Changes name and allowlist.
pub(super) async fn update(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<ChangeForm>,
) -> Result<Response, PageError> {
    let change = ServerUpdate {
        name: Some(form.name),
        tool_allowlist: Some(parse_names(form.tool_allowlist.as_deref())),
        ..ServerUpdate::default()
    };
    let result = mcp.update(id, change, &caller.principal).await;
    settle(&mcp, &caller, id, "Saved. If the definition changed, the server needs approval again.", result).await
}

/// Approves what the form shows: the hash, and of each tool its definition (`seen.<tool>`), effect (`effect.<tool>`)
/// and whether it may be repeated (`idempotent.<tool>`).
pub(super) async fn approve(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<BTreeMap<String, String>>,
) -> Result<Response, PageError> {
    let mut tools = BTreeMap::new();
    let mut effects = BTreeMap::new();
    for (field, value) in &form {
        if let Some(tool) = field.strip_prefix("seen.") {
            tools.insert(tool.to_owned(), value.clone());
        } else if let Some(tool) = field.strip_prefix("effect.") {
            let idempotent = form.contains_key(&format!("idempotent.{tool}"));
            let effect =
                value.parse().map_err(|_| crate::edge::ApiError::invalid(field, "choose an effect from the list."))?;
            effects.insert(tool.to_owned(), EffectDecision { effect, idempotent });
        }
    }
    let definition_hash = form.get("definition_hash").cloned().unwrap_or_default();
    let decision = ApprovalDecision { definition_hash, tools, effects };
    let result = mcp.approve(id, decision, &caller.principal).await;
    settle(&mcp, &caller, id, "Server approved. Add it to Spaces below.", result).await
}

/// Why a server is refused.
#[derive(Deserialize)]
pub(super) struct RejectForm {
    reason: String,
}

pub(super) async fn reject(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<RejectForm>,
) -> Result<Response, PageError> {
    let result = mcp.reject(id, &form.reason, &caller.principal).await;
    settle(&mcp, &caller, id, "Server rejected. All connections to it were removed.", result).await
}

#[derive(Deserialize)]
pub(super) struct SecretForm {
    secret: Secret,
}

/// Puts a new secret in place.
pub(super) async fn secret(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<SecretForm>,
) -> Result<Response, PageError> {
    let result = mcp.secret_set(id, &form.secret, &caller.principal).await;
    settle(&mcp, &caller, id, "The secret was replaced.", result).await
}

/// Which Space, and with which tools.
#[derive(Deserialize)]
pub(super) struct SpaceForm {
    space: String,
    tool_allowlist: Option<String>,
}

/// Lets the server serve a Space that the operator sees, or changes with what.
pub(super) async fn space_add(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<SpaceForm>,
) -> Result<Response, PageError> {
    let space: SpaceId = form.space.parse().map_err(|_| Error::NotFound)?;
    let allowlist = parse_names(form.tool_allowlist.as_deref());
    let result = mcp.space_serve(&caller.principal, id, space, allowlist).await;
    settle(&mcp, &caller, id, "The Spaces were updated.", result).await
}

/// Ends that the server serves a Space.
pub(super) async fn space_remove(
    State(mcp): State<Mcp>,
    Path((id, space)): Path<(McpServerId, SpaceId)>,
    OperatorForm { caller, .. }: OperatorForm<EmptyForm>,
) -> Result<Response, PageError> {
    let result = mcp.space_leave(&caller.principal, id, space).await;
    settle(&mcp, &caller, id, "The Spaces were updated.", result).await
}

/// Deletes, if the name is the server's.
pub(super) async fn delete(
    State(mcp): State<Mcp>,
    Path(id): Path<McpServerId>,
    OperatorForm { caller, form }: OperatorForm<ConfirmForm>,
) -> Result<Response, PageError> {
    let server = mcp.find(caller.tenant(), id).await?;
    if !form.matches(&server.name) {
        let error =
            Error::NotNow("Nothing was deleted. The name does not match; enter it exactly as shown.".to_owned());
        return settle(&mcp, &caller, id, "", Err::<(), _>(error)).await;
    }
    mcp.delete(id, &caller.principal).await?;
    let done = "Server deleted. Its secret and all connections to it were deleted. Its history is kept.";
    Ok(Flash::success(done).redirect("/admin/mcp-servers"))
}

impl Mcp {
    /// Lets a server serve a Space that the caller sees; approvals stay as they are.
    async fn space_serve(
        &self,
        by: &thinkwork_primitives::Principal,
        id: McpServerId,
        space: SpaceId,
        tool_allowlist: Option<Vec<String>>,
    ) -> Result<(), Error> {
        let mut tx = self.access.write_as(by).await?;
        crate::mcp::registry::find(&mut tx, id).await?;
        self.spaces.visible(&mut tx, space, by).await?;
        let served = self.spaces.sources(&mut tx, space).await?;
        let before = served.into_iter().find(|served| served.source == id.into()).map(|served| served.policy);
        let policy = SourcePolicy { tool_allowlist, ..before.unwrap_or_default() };
        self.spaces.source_set(&mut tx, space, id.into(), &policy, &by.actor()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends that a server serves a Space that the caller sees.
    async fn space_leave(
        &self,
        by: &thinkwork_primitives::Principal,
        id: McpServerId,
        space: SpaceId,
    ) -> Result<(), Error> {
        let mut tx = self.access.write_as(by).await?;
        self.spaces.visible(&mut tx, space, by).await?;
        self.spaces.source_delete(&mut tx, space, id.into(), &by.actor()).await?;
        tx.commit().await?;
        Ok(())
    }
}
