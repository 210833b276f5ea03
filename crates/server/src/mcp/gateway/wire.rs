//! Tools and results as a foreign MCP client gets them.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, Icon, MetaObject, Tool as McpTool, ToolAnnotations};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use thinkwork_primitives::{Effect, SpaceId};

use crate::mcp::rules::plain;
use crate::tools::{LeftOut, LeftOutReason, Tool, ToolResult};

/// The upstream name of the tool that stands for a server which its user has not connected.
const CONNECT_TOOL: &str = "connect";

/// Prefix of the `_meta` keys that the protocol reserves for two direct peers (MCP, "General fields").
const RESERVED_META_PREFIX: &str = "io.modelcontextprotocol/";

/// A tool with the details that its server gave, and the hints that follow from the operator's decision.
pub(super) fn tool(tool: &Tool) -> McpTool {
    let details = &tool.details;
    let mut listed = McpTool::new(tool.name.clone(), tool.description.clone(), Arc::clone(&tool.input_schema));
    listed.title.clone_from(&details.title);
    listed.output_schema.clone_from(&details.output_schema);
    listed.annotations = Some(annotations(tool));
    listed.icons = details.icons.clone().and_then(|icons| serde_json::from_value::<Vec<Icon>>(icons).ok());
    listed.meta = details.meta.clone().and_then(upstream_meta);
    listed
}

fn annotations(tool: &Tool) -> ToolAnnotations {
    let mut hints: ToolAnnotations = serde_json::from_value(tool.details.annotations.clone()).unwrap_or_default();
    let is_destructive = match tool.effect {
        Effect::Read => false,
        Effect::Write => hints.destructive_hint.unwrap_or(true),
        Effect::Send => true,
    };
    hints.read_only_hint = Some(tool.effect == Effect::Read);
    hints.destructive_hint = Some(is_destructive);
    hints.idempotent_hint = Some(tool.idempotent || tool.effect == Effect::Read);
    if tool.effect == Effect::Send {
        hints.open_world_hint = Some(true);
    }
    hints
}

/// The `_meta` of an upstream without the keys that are reserved for the protocol.
fn upstream_meta(mut meta: Map<String, Value>) -> Option<MetaObject> {
    meta.retain(|key, _| !key.starts_with(RESERVED_META_PREFIX));
    (!meta.is_empty()).then_some(MetaObject(meta))
}

/// The one tool of a server that its user has not connected: it says where to connect it.
pub(super) fn connect_tool(left_out: &LeftOut) -> Option<McpTool> {
    let description =
        format!("{} is not connected for you. Call this for the link where you connect it.", left_out.server);
    let schema = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), json!({})),
        ("additionalProperties".to_owned(), json!(false)),
    ]);
    let hints = ToolAnnotations::new().read_only(true).open_world(false);
    Some(McpTool::new(connect_tool_name(left_out)?, description, schema).with_annotations(hints))
}

fn connect_tool_name(left_out: &LeftOut) -> Option<String> {
    left_out.connect_url.as_ref()?;
    let mends = matches!(left_out.reason, LeftOutReason::NeedsConnection | LeftOutReason::Expired);
    mends.then(|| format!("{}__{CONNECT_TOOL}", left_out.server))
}

/// What the tool answered; a block that is no known content is shown as its JSON.
pub(super) fn result(outcome: ToolResult) -> CallToolResult {
    let blocks = outcome
        .content
        .into_iter()
        .map(|block| ContentBlock::deserialize(&block).unwrap_or_else(|_| ContentBlock::text(block.to_string())));
    let mut result = if outcome.is_error {
        CallToolResult::error(blocks.collect())
    } else {
        CallToolResult::success(blocks.collect())
    };
    result.structured_content = outcome.structured;
    result.meta = outcome.meta.and_then(upstream_meta);
    result
}

/// A call of a server that is left out: the tool that connects it answers with the link, any other name says why there
/// is no tool.
pub(super) fn left_out(left_out: &LeftOut, name: &str) -> CallToolResult {
    let server = &left_out.server;
    match (&left_out.connect_url, connect_tool_name(left_out)) {
        (Some(url), Some(connect_tool)) if connect_tool == name => {
            let text = format!("Open {url} in a browser, sign in and connect {server}. Then try again.");
            CallToolResult::success(vec![ContentBlock::text(text)])
        }
        (Some(url), _) => {
            error(&format!("{server} is not available: {}. Connect it at {url}", left_out.reason.plain()))
        }
        (None, _) => {
            let next = if left_out.reason.is_passing() { " Try again in a minute." } else { "" };
            error(&format!("{server} is not available: {}.{next}", left_out.reason.plain()))
        }
    }
}

/// A call that a person has to approve: nothing was sent, and where that person can make it.
pub(super) fn approval_required(base: &str, space: Option<SpaceId>, name: &str) -> CallToolResult {
    let url = match space {
        Some(space) => format!("{base}/me/spaces/{space}"),
        None => format!("{base}/me"),
    };
    let message = format!(
        "This call needs a person's approval, so nothing was sent. Open {url} , write a message that begins with \
         /tool {} and its arguments: typed there by the person, it is the approval of that call.",
        plain(name)
    );
    let mut result = error(&message);
    result.structured_content =
        Some(json!({ "error": { "code": "approval_required", "message": message, "url": url } }));
    result
}

/// A call of a tool that does more than read, with a token that has the scope `read`.
pub(super) fn reads_only() -> CallToolResult {
    error(
        "Nothing was sent: this tool does more than read, and your token has the scope read. Make a token with the scope \
         write for it.",
    )
}

pub(super) fn bad_arguments(problem: &str) -> CallToolResult {
    error(&format!("The arguments are not valid: {problem}"))
}

pub(super) fn upstream_failed(message: &str, unknown_outcome: bool) -> CallToolResult {
    let unknown = if unknown_outcome { " It is not known whether the action was completed." } else { "" };
    error(&format!("{message}.{unknown}"))
}

fn error(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

#[cfg(test)]
mod tests {
    use thinkwork_linear_time::assert_linear_in;
    use thinkwork_primitives::CredentialSubject;

    use super::*;
    use crate::tools::UsedCredential;

    #[test]
    fn l108_a_result_is_passed_on_in_linear_time() {
        const RESULT_BYTES: usize = 262_144;
        let used = UsedCredential { subject: CredentialSubject::None, credential: None, version: None };
        for block in [json!({ "type": "text", "text": "a" }), json!({ "type": "?", "a": ["b"] }), json!([[]])] {
            let of_size = |bytes: usize| {
                let content = vec![block.clone(); bytes / block.to_string().len()];
                ToolResult { content, structured: None, meta: None, is_error: false, used }
            };
            assert_linear_in(RESULT_BYTES, of_size, |outcome| result(outcome.clone()));
        }
        let whole = |bytes: usize| {
            let content = vec![json!({ "type": "text", "text": "<\\\"".repeat(bytes / 3) })];
            ToolResult { content, structured: None, meta: None, is_error: false, used }
        };
        assert_linear_in(RESULT_BYTES, whole, |outcome| result(outcome.clone()));
    }
}
