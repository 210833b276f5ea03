//! Pure decisions: what a definition's hash covers, what is taken as input, how tools are named, which are held.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use thinkwork_primitives::{Effect, Timestamp, crypto};

use super::{Error, McpServer, ServerTool};
use crate::edge::{InvalidField, validation};
use crate::tools::facts::ToolDetails;

/// A slug at most: leaves 38 characters of a full tool name for the tool.
const SLUG_CHARS_MAX: usize = 24;
/// Names of one allowlist: more than any server we know has tools.
const ALLOWLIST_NAMES_MAX: usize = 500;
/// An upstream's own tool name, as the specification recommends.
pub(super) const UPSTREAM_NAME_BYTES_MAX: usize = 128;
/// One tool's whole definition as JSON: a longer one is not meant for a model.
pub(super) const TOOL_DEFINITION_BYTES_MAX: usize = 65_536;

/// JSON with sorted keys and no spaces (RFC 8785 for text, whole numbers and flags).
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// Writes into one text, so that what lies deep is not copied once for each level.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (place, (key, value)) in members.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// The hash of what the operator decides about a server, and of nothing else: no secret, no client registration, no
/// name, no tools.
pub(super) fn definition_hash(server: &McpServer) -> String {
    let decided = json!({
        "url": server.url,
        "transport": "streamable_http",
        "auth": server.auth.definition(server.issuer.as_deref(), server.deviations()),
        "tool_allowlist": sorted(server.tool_allowlist.as_deref()),
        "outside_spaces": server.outside_spaces,
    });
    crypto::hex(&crypto::sha256(canonical(&decided).as_bytes()))
}

fn sorted(names: Option<&[String]>) -> Option<Vec<String>> {
    let mut names = names?.to_vec();
    names.sort();
    names.dedup();
    Some(names)
}

/// A name that people read.
pub(super) fn check_name(name: &str) -> Result<String, Error> {
    let name = validation::name(name).ok_or(InvalidField::new("name", "use 1 to 120 visible characters."))?;
    Ok(name.to_owned())
}

pub(super) fn check_slug(slug: &str) -> Result<String, Error> {
    if validation::is_slug(slug, SLUG_CHARS_MAX) {
        Ok(slug.to_owned())
    } else {
        Err(InvalidField::new("slug", "use 1 to 24 of a-z, 0-9 and hyphens, not at the ends.").into())
    }
}

/// A slug made of a name; `number` from 2 makes another one where the first is used.
pub(super) fn slug_from(name: &str, number: usize) -> String {
    let mut slug = String::new();
    for char in name.to_lowercase().chars() {
        if char.is_ascii_alphanumeric() {
            slug.push(char);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let suffix = if number < 2 { String::new() } else { format!("-{number}") };
    let mut cut: String = slug.chars().take(SLUG_CHARS_MAX.saturating_sub(suffix.len())).collect();
    while cut.ends_with('-') {
        cut.pop();
    }
    if cut.is_empty() {
        cut.push_str("server");
    }
    cut + &suffix
}

/// The names of an allowlist, without doubles.
pub(super) fn check_allowlist(names: Option<Vec<String>>) -> Result<Option<Vec<String>>, Error> {
    let Some(names) = names else { return Ok(None) };
    let bad = |name: &String| !is_upstream_name(name);
    if names.len() > ALLOWLIST_NAMES_MAX || names.iter().any(bad) {
        return Err(InvalidField::new(
            "tool_allowlist",
            "enter at most 500 tool names, exactly as the server names them.",
        )
        .into());
    }
    Ok(sorted(Some(&names)))
}

/// Whether an allowlist lets this tool through.
pub(super) fn is_listed(allowlist: &Option<Vec<String>>, name: &str) -> bool {
    allowlist.as_ref().is_none_or(|names| names.iter().any(|listed| listed == name))
}

/// Names of an allowlist that the server does not have.
pub(super) fn names_missing(allowlist: &Option<Vec<String>>, tools: &[ServerTool]) -> Vec<String> {
    let here = tools.iter().filter(|tool| tool.gone_at.is_none());
    let here: HashSet<&str> = here.map(|tool| tool.name.as_str()).collect();
    allowlist.iter().flatten().filter(|name| !here.contains(name.as_str())).cloned().collect()
}

/// An upstream's tool name that can be shown and sent in a header.
fn is_upstream_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= UPSTREAM_NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// A tool as an upstream described it just now; `None` where it is no usable definition. Its hash covers everything that
/// is kept, so that nothing is passed on which was not approved.
pub(super) fn tool_from(definition: &rmcp::model::Tool, now: Timestamp) -> Option<ServerTool> {
    let details = ToolDetails {
        title: definition.title.clone(),
        output_schema: definition.output_schema.clone(),
        annotations: serde_json::to_value(&definition.annotations).unwrap_or_default(),
        icons: definition.icons.as_ref().and_then(|icons| serde_json::to_value(icons).ok()),
        meta: definition.meta.clone().map(|meta| meta.0),
    };
    let whole = json!({
        "name": definition.name,
        "description": definition.description,
        "input_schema": *definition.input_schema,
        "details": details,
    });
    let text = canonical(&whole);
    if !is_upstream_name(&definition.name) || text.len() > TOOL_DEFINITION_BYTES_MAX {
        return None;
    }
    Some(ServerTool {
        name: definition.name.to_string(),
        // PostgreSQL takes no zero character.
        description: definition.description.as_deref().unwrap_or_default().replace('\0', "\u{FFFD}"),
        input_schema: Arc::clone(&definition.input_schema),
        details: Arc::new(details),
        definition_hash: crypto::hex(&crypto::sha256(text.as_bytes())),
        approved_hash: None,
        effect: None,
        idempotent: false,
        seen_at: now,
        gone_at: None,
    })
}

/// What a look at the server's tools changes.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Rows to write.
    pub write: Vec<ServerTool>,
    /// Tools that were not known.
    pub added: usize,
    /// Known tools with another definition: on hold now.
    pub changed: usize,
    /// Known tools that the server no longer has.
    pub gone: usize,
}

/// Whether nothing is known of the server's tools: none was seen, or all went with an earlier address.
pub(super) fn is_undiscovered(known: &[ServerTool]) -> bool {
    known.iter().all(|tool| tool.gone_at.is_some() && tool.approved_hash.is_none())
}

/// Merges what the server has now into what is known. `approve_first`: this is the first look at an approved server,
/// so the snapshot is taken as it is, with every effect unset.
pub(super) fn merge(known: &[ServerTool], seen: Vec<ServerTool>, approve_first: bool, now: Timestamp) -> Merged {
    let mut merged = Merged::default();
    let names: HashSet<String> = seen.iter().map(|new| new.name.clone()).collect();
    for old in known.iter().filter(|old| old.gone_at.is_none() && !names.contains(&old.name)) {
        merged.gone = merged.gone.saturating_add(1);
        merged.write.push(ServerTool { gone_at: Some(now), ..old.clone() });
    }
    let known: HashMap<&str, &ServerTool> = known.iter().map(|old| (old.name.as_str(), old)).collect();
    let mut written = HashSet::new();
    for mut new in seen {
        if written.contains(&new.name) {
            continue;
        }
        match known.get(new.name.as_str()) {
            Some(old) => {
                if old.definition_hash == new.definition_hash && old.gone_at.is_none() {
                    continue;
                }
                if old.definition_hash != new.definition_hash {
                    merged.changed = merged.changed.saturating_add(1);
                }
                new.approved_hash.clone_from(&old.approved_hash);
                new.effect = old.effect;
                new.idempotent = old.idempotent;
            }
            None => merged.added = merged.added.saturating_add(1),
        }
        if approve_first {
            new.approved_hash = Some(new.definition_hash.clone());
        }
        written.insert(new.name.clone());
        merged.write.push(new);
    }
    merged
}

/// What the server's own hints suggest; shown beside the choice, never taken without the operator.
pub(super) fn effect_suggested(annotations: &Value) -> Effect {
    let hint = |name: &str| annotations.get(name).and_then(Value::as_bool);
    match (hint("readOnlyHint"), hint("openWorldHint")) {
        (Some(true), None | Some(false)) => Effect::Read,
        (None | Some(false), Some(false)) => Effect::Write,
        _ => Effect::Send,
    }
}

/// What an operator reads of tools that were left out, with the first few by name.
pub(super) fn skipped_sentence(skipped: &[String], truncated: Option<&str>) -> Option<String> {
    const NAMED_MAX: usize = 5;
    let mut sentences: Vec<String> = truncated.map(str::to_owned).into_iter().collect();
    if !skipped.is_empty() {
        let named: Vec<&str> = skipped.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = match skipped.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        sentences.push(format!("Tools left out: {}{more}.", named.join("; ")));
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// A sentence of an upstream, made short and plain for people and models.
pub(super) fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let clean: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(CHARS_MAX).collect();
    clean.trim().to_owned()
}

/// Begins with a capital and ends with a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first: String = chars.next().map(|char| char.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

#[cfg(test)]
mod tests;
