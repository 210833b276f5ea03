//! Arguments that a tool wants as headers too: `x-mcp-header` in its schema becomes `Mcp-Param-…` (MCP 2026-07-28,
//! SEP-2243).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The keyword of the annotation.
const ANNOTATION: &str = "x-mcp-header";

/// The keywords whose value maps names to schemas.
const SCHEMA_MAPS: [&str; 5] = ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties"];

/// The keywords whose value is data and no schema.
const DATA: [&str; 5] = ["default", "const", "enum", "examples", "dependentRequired"];

/// What is wrong with the annotations of a tool, if anything is: a client has to leave such a tool out.
pub(super) fn problem(schema: &Map<String, Value>) -> Option<String> {
    if is_annotated_elsewhere(schema, Place::OnPath) || schema.contains_key(ANNOTATION) {
        return Some(format!("{ANNOTATION} stands where no argument has a name"));
    }
    let mut names = HashSet::new();
    annotated(schema).into_iter().find_map(|found| {
        let Some(name) = found.schema.get(ANNOTATION).and_then(Value::as_str).filter(|name| is_token(name)) else {
            return Some(format!("{ANNOTATION} of {} is no header name", found.path.join(".")));
        };
        if !names.insert(name.to_ascii_lowercase()) {
            return Some(format!("two arguments have the {ANNOTATION} {name}"));
        }
        let kind = found.schema.get("type").and_then(Value::as_str);
        let is_simple = matches!(kind, Some("string" | "integer" | "boolean"));
        (!is_simple).then(|| format!("{ANNOTATION} of {} is on no text, whole number or flag", found.path.join(".")))
    })
}

/// The headers of a call with these arguments: name and value.
pub(super) fn headers(schema: &Map<String, Value>, arguments: &Map<String, Value>) -> Vec<(String, String)> {
    let annotated = annotated(schema).into_iter();
    let pairs = annotated.filter_map(|found| {
        let name = found.schema.get(ANNOTATION)?.as_str()?;
        let mut steps = found.path.iter();
        let first = arguments.get(*steps.next()?)?;
        let value = steps.try_fold(first, |value, step| value.get(step))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return None,
        };
        Some((format!("mcp-param-{}", name.to_ascii_lowercase()), header_text(&text)))
    });
    pairs.collect()
}

/// A value as a header can carry it; others in base64 within `=?base64?…?=`.
pub(super) fn header_text(value: &str) -> String {
    let is_plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && value.trim() == value;
    if is_plain && !value.starts_with("=?base64?") {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}

struct Annotated<'a> {
    /// The names from the root to the argument.
    path: Vec<&'a str>,
    schema: &'a Map<String, Value>,
}

/// The annotated arguments that are reached from the root by `properties` alone. The depth is that of JSON that was
/// parsed, which is limited.
fn annotated(schema: &Map<String, Value>) -> Vec<Annotated<'_>> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    found
}

fn collect<'a>(schema: &'a Map<String, Value>, path: &mut Vec<&'a str>, found: &mut Vec<Annotated<'a>>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let Some(schema) = schema.as_object() else { continue };
        path.push(name);
        if schema.contains_key(ANNOTATION) {
            found.push(Annotated { path: path.clone(), schema });
        }
        collect(schema, path, found);
        path.pop();
    }
}

/// Whether a schema is reached by `properties` alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    OnPath,
    Elsewhere,
}

fn is_annotated_elsewhere(schema: &Map<String, Value>, place: Place) -> bool {
    schema.iter().any(|(keyword, value)| match keyword.as_str() {
        ANNOTATION => place == Place::Elsewhere,
        "properties" => in_map(value, place),
        map if SCHEMA_MAPS.contains(&map) => in_map(value, Place::Elsewhere),
        data if DATA.contains(&data) => false,
        _ => in_schema(value),
    })
}

fn in_map(map: &Value, place: Place) -> bool {
    let schemas = map.as_object().into_iter().flatten().filter_map(|(_, schema)| schema.as_object());
    schemas.into_iter().any(|schema| is_annotated_elsewhere(schema, place))
}

fn in_schema(value: &Value) -> bool {
    match value {
        Value::Object(schema) => is_annotated_elsewhere(schema, Place::Elsewhere),
        Value::Array(items) => items.iter().any(in_schema),
        _ => false,
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[track_caller]
    fn check(schema: Value, expected: Option<&str>) {
        assert_eq!(problem(&object(schema)).as_deref(), expected);
    }

    #[test]
    fn annotations_are_checked() {
        let region = |annotation: Value| json!({ "properties": { "region": annotation } });
        check(json!({ "properties": { "region": { "type": "string" } } }), None);
        check(region(json!({ "type": "string", "x-mcp-header": "Region" })), None);
        check(region(json!({ "type": "string", "default": { "x-mcp-header": 1 } })), None);
        let no_name = Some("x-mcp-header of region is no header name");
        check(region(json!({ "type": "string", "x-mcp-header": "" })), no_name);
        check(region(json!({ "type": "string", "x-mcp-header": "a b" })), no_name);
        check(region(json!({ "type": "string", "x-mcp-header": { "a": 1 } })), no_name);
        let no_text = Some("x-mcp-header of region is on no text, whole number or flag");
        check(region(json!({ "type": "number", "x-mcp-header": "Region" })), no_text);
        check(region(json!({ "x-mcp-header": "Region" })), no_text);
        let elsewhere = Some("x-mcp-header stands where no argument has a name");
        check(json!({ "x-mcp-header": "Region" }), elsewhere);
        check(region(json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "Item" } })), elsewhere);
        check(json!({ "anyOf": [{ "properties": { "a": { "type": "string", "x-mcp-header": "A" } } }] }), elsewhere);
        check(json!({ "$defs": { "a": { "type": "string", "x-mcp-header": "A" } } }), elsewhere);
        let twice = json!({ "properties": {
            "a": { "type": "string", "x-mcp-header": "Same" },
            "b": { "properties": { "c": { "type": "integer", "x-mcp-header": "same" } } },
        } });
        check(twice, Some("two arguments have the x-mcp-header same"));
    }

    #[test]
    fn annotated_arguments_become_headers() {
        let schema = object(json!({ "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "where": { "properties": { "shard": { "type": "integer", "x-mcp-header": "Shard" } } },
            "dry": { "type": "boolean", "x-mcp-header": "Dry" },
            "other": { "type": "string", "x-mcp-header": "Other" },
        } }));
        let arguments = object(json!({ "region": "Zürich\n", "where": { "shard": 7 }, "dry": true }));
        let mut found = headers(&schema, &arguments);
        found.sort();
        let expected = [
            ("mcp-param-dry", "true".to_owned()),
            ("mcp-param-region", format!("=?base64?{}?=", STANDARD.encode("Zürich\n"))),
            ("mcp-param-shard", "7".to_owned()),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(header_text("eu west"), "eu west");
        assert_eq!(header_text(" eu"), format!("=?base64?{}?=", STANDARD.encode(" eu")));
        assert_eq!(header_text("=?base64?x"), format!("=?base64?{}?=", STANDARD.encode("=?base64?x")));
    }

    #[test]
    fn l108_annotations_are_read_in_linear_time() {
        let wide = |bytes: usize| {
            let one = |number: usize| {
                (format!("p{number}"), json!({ "type": "string", "x-mcp-header": format!("H{number}") }))
            };
            let properties: Map<String, Value> = (0..bytes / 48).map(one).collect();
            // As deep as a JSON document may be.
            let properties = (0..60).fold(properties, |inner, _| object(json!({ "a": { "properties": inner } })));
            let arguments: Map<String, Value> =
                (0..bytes / 48).map(|number| (format!("p{number}"), json!("a"))).collect();
            let arguments = (0..60).fold(arguments, |inner, _| object(json!({ "a": inner })));
            (object(json!({ "properties": properties })), arguments)
        };
        thinkwork_linear_time::assert_linear_in(65_536, wide, |(schema, arguments)| {
            (problem(schema), headers(schema, arguments))
        });
    }
}
