//! What each family of providers takes as the schema of a tool's arguments, beyond what all of them take.
//!
//! Sources: OpenAI "Function calling" (an object without combinations at the top level, arrays with `items`);
//! Anthropic "Tool use" (names of arguments); Gemini API `Schema` (an OpenAPI 3.0 subset, whose parser refuses a
//! request for a keyword that it does not know). Whoever speaks the same format is taken for OpenAI.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use url::Url;

use super::SchemaProblem;
use super::conjunction::conjoin;
use crate::turns::agent::Model;

/// Longest name of an argument that Anthropic takes.
const ARGUMENT_NAME_CHARS_MAX: usize = 64;
/// What Gemini's `Schema` has of JSON Schema.
const GEMINI_KEYWORDS: [&str; 18] = [
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "properties",
    "required",
    "title",
    "type",
];
/// The formats that Gemini takes.
const GEMINI_FORMATS: [&str; 2] = ["date-time", "enum"];

/// A family of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::turns) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

impl Dialect {
    /// The dialect of a model, by its host or, behind a proxy, by its name.
    pub(in crate::turns) fn of(model: &Model) -> Self {
        let url = Url::parse(&model.base_url).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let name = model.name.to_ascii_lowercase();
        if host.ends_with(".googleapis.com") || name.contains("gemini") {
            Self::Gemini
        } else if host == "api.anthropic.com" || name.contains("claude") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// Whether it takes `default` and `examples`.
    pub(super) const fn keeps_examples(self) -> bool {
        !matches!(self, Self::Gemini)
    }

    /// Whether it takes a tool of this name, which is one of `[A-Za-z0-9_-]` and not too long.
    pub(in crate::turns) fn takes_name(self, name: &str) -> bool {
        self != Self::Gemini || !name.starts_with(|first: char| first.is_ascii_digit() || first == '-')
    }

    /// Adds and takes away what this dialect asks for, in the schema of all arguments.
    pub(super) fn complete_arguments(self, schema: &mut Map<String, Value>) -> Result<(), SchemaProblem> {
        self.complete(schema);
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        if self == Self::Anthropic {
            let refused: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
            let refused = refused.into_iter().filter(|name| !is_argument_name(name)).collect();
            remove_arguments(schema, refused)?;
        }
        Ok(())
    }

    /// The same within a schema and all below it.
    fn complete(self, schema: &mut Map<String, Value>) {
        if self == Self::Gemini {
            as_gemini(schema);
        }
        declare_required(schema);
        if has_type(schema, "array") {
            schema.entry("items").or_insert_with(|| json!({}));
        }
        for (keyword, value) in schema.iter_mut() {
            match (keyword.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    properties.values_mut().filter_map(Value::as_object_mut).for_each(|below| self.complete(below));
                }
                ("items" | "additionalProperties", Value::Object(below)) => self.complete(below),
                ("anyOf", Value::Array(alternatives)) => {
                    alternatives.iter_mut().filter_map(Value::as_object_mut).for_each(|below| self.complete(below));
                }
                _ => {}
            }
        }
    }
}

fn has_type(schema: &Map<String, Value>, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == wanted,
        Some(Value::Array(names)) => names.iter().any(|name| name == wanted),
        _ => false,
    }
}

/// Declares every required property: providers refuse a required name that is not declared.
fn declare_required(schema: &mut Map<String, Value>) {
    let Some(Value::Array(names)) = schema.remove("required") else { return };
    let mut seen = HashSet::new();
    let names: Vec<String> = names
        .into_iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .filter(|name| seen.insert(name.clone()))
        .collect();
    if names.is_empty() {
        return;
    }
    if let Value::Object(properties) = schema.entry("properties").or_insert_with(|| json!({})) {
        for name in &names {
            properties.entry(name.clone()).or_insert_with(|| json!({}));
        }
    }
    schema.insert("required".to_owned(), json!(names));
}

fn is_argument_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && name.len() <= ARGUMENT_NAME_CHARS_MAX && name.bytes().all(is_plain)
}

/// Takes optional arguments of these names away. They may still be given, so no closed list of arguments remains.
fn remove_arguments(schema: &mut Map<String, Value>, refused: Vec<String>) -> Result<(), SchemaProblem> {
    if refused.is_empty() {
        return Ok(());
    }
    let required = schema.get("required").and_then(Value::as_array);
    let required: HashSet<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(name) = refused.iter().find(|name| required.contains(name.as_str())) {
        return Err(SchemaProblem::PropertyName(super::shown(name)));
    }
    schema.remove("additionalProperties");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for name in refused {
            properties.remove(&name);
        }
    }
    Ok(())
}

/// A schema as Gemini's `Schema` can say it.
fn as_gemini(schema: &mut Map<String, Value>) {
    while take_null_alternative(schema) {}
    for (exclusive, inclusive) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(bound) = schema.remove(exclusive) {
            schema.entry(inclusive).or_insert(bound);
        }
    }
    gemini_type(schema);
    gemini_enum(schema);
    let knows_format = |format: &Value| format.as_str().is_some_and(|format| GEMINI_FORMATS.contains(&format));
    if schema.get("format").is_some_and(|format| !knows_format(format)) {
        schema.remove("format");
    }
    schema.retain(|keyword, _| GEMINI_KEYWORDS.contains(&keyword.as_str()));
}

/// One type, with `nullable`; several become alternatives.
fn gemini_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(names)) = schema.get("type") else { return };
    let (nulls, mut others): (Vec<Value>, Vec<Value>) = names.iter().cloned().partition(|name| name == "null");
    schema.remove("type");
    match (others.pop(), others.as_slice()) {
        (None, _) => {
            schema.insert("type".to_owned(), json!("null"));
            return;
        }
        (Some(only), []) => {
            schema.insert("type".to_owned(), only);
        }
        (Some(last), _) => {
            others.push(last);
            let alternatives: Vec<Value> = others.into_iter().map(|name| json!({ "type": name })).collect();
            schema.entry("anyOf").or_insert(Value::Array(alternatives));
        }
    }
    if !nulls.is_empty() {
        schema.insert("nullable".to_owned(), json!(true));
    }
}

/// Writes an alternative that is only null as `nullable`. Whether there was one.
fn take_null_alternative(schema: &mut Map<String, Value>) -> bool {
    let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") else { return false };
    let before = alternatives.len();
    alternatives.retain(|alternative| alternative.get("type").is_none_or(|name| name != "null"));
    if alternatives.len() == before {
        return false;
    }
    let last = if alternatives.len() < 2 { alternatives.pop() } else { None };
    if alternatives.is_empty() {
        schema.remove("anyOf");
    }
    match last {
        Some(Value::Object(only)) => conjoin(schema, only),
        Some(_) => {}
        None if !schema.contains_key("anyOf") => {
            schema.entry("type").or_insert_with(|| json!("null"));
        }
        None => {}
    }
    schema.insert("nullable".to_owned(), json!(true));
    true
}

/// Values are texts that are not empty, and say that the type is `string`.
fn gemini_enum(schema: &mut Map<String, Value>) {
    let Some(Value::Array(values)) = schema.get("enum") else { return };
    let is_nullable = schema.get("nullable") == Some(&Value::Bool(true));
    let texts: Vec<Value> = values.iter().filter(|value| !(is_nullable && value.is_null())).cloned().collect();
    let all_texts = texts.iter().all(|value| value.as_str().is_some_and(|text| !text.is_empty()));
    let is_text = schema.get("type").is_none_or(|name| name == "string") && !schema.contains_key("anyOf");
    if !all_texts || texts.is_empty() || !is_text {
        schema.remove("enum");
        return;
    }
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(texts));
}
