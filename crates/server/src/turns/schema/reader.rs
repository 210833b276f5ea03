//! Reads a JSON Schema (2020-12, and draft 7 where it says so) into the keywords that models are given.
//!
//! Dropping a keyword admits more, as long as no keyword that negates is kept: `not`, `if` and the exclusiveness of
//! `oneOf` are dropped for that reason.

use serde_json::{Map, Value, json};

use super::conjunction::conjoin;
use super::{BYTES_READ_MAX, DEPTH_MAX, Dialect, NODES_MAX, SchemaProblem, shown};
use crate::tools::rules::reference_pointer;

/// The types of JSON Schema 2020-12 core, section 4.2.1, and `integer`.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
/// Regular expressions that look around are unknown to linear engines, and providers use them.
const LOOKAROUNDS: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];

/// A schema as JSON; `None` where it admits nothing.
type Node = Option<Map<String, Value>>;

pub(super) struct Reader<'a> {
    root: &'a Value,
    dialect: Dialect,
    /// Whether the keywords beside a `$ref` say nothing, as until draft 7.
    ref_stands_alone: bool,
    /// What is being inlined now, outermost first.
    inlining: Vec<&'a Value>,
    nodes_left: usize,
    bytes_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Value, dialect: Dialect) -> Self {
        let version = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let ref_stands_alone = ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|old| version.contains(old));
        Self {
            root,
            dialect,
            ref_stands_alone,
            inlining: Vec::new(),
            nodes_left: NODES_MAX,
            bytes_left: BYTES_READ_MAX,
        }
    }

    /// The whole schema, with its references inlined.
    pub(super) fn read(mut self) -> Result<Node, SchemaProblem> {
        self.node(self.root, 0)
    }

    fn node(&mut self, schema: &'a Value, depth: usize) -> Result<Node, SchemaProblem> {
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(SchemaProblem::TooManyParts)?;
        if depth > DEPTH_MAX {
            return Err(SchemaProblem::TooDeep);
        }
        match schema {
            Value::Bool(false) => Ok(None),
            Value::Object(keywords) => match keywords.get("$ref").and_then(Value::as_str) {
                Some(reference) => self.inline(keywords, reference, depth),
                None => self.keywords(keywords, depth),
            },
            // `true`, and what is no schema at all.
            _ => Ok(Some(Map::new())),
        }
    }

    /// What a reference leads to, with the description that stands beside it.
    fn inline(
        &mut self,
        keywords: &'a Map<String, Value>,
        reference: &str,
        depth: usize,
    ) -> Result<Node, SchemaProblem> {
        let target = self.resolve(reference)?;
        if self.inlining.iter().any(|open| std::ptr::eq(*open, target)) {
            return Err(SchemaProblem::Recursive(shown(reference)));
        }
        let mut node = self.annotations(keywords)?;
        self.inlining.push(target);
        let found = self.node(target, depth.saturating_add(1))?;
        self.inlining.pop();
        let Some(found) = found else { return Ok(None) };
        conjoin(&mut node, found);
        if !self.ref_stands_alone {
            let Some(own) = self.keywords(keywords, depth)? else { return Ok(None) };
            conjoin(&mut node, own);
        }
        Ok(Some(node))
    }

    /// The schema that a reference names.
    fn resolve(&self, reference: &str) -> Result<&'a Value, SchemaProblem> {
        let nowhere = || SchemaProblem::Reference(shown(reference));
        let pointer = reference_pointer(reference).ok_or_else(nowhere)?;
        self.root.pointer(&pointer).ok_or_else(nowhere)
    }

    /// Counts bytes that are copied from the schema.
    fn read_bytes(&mut self, count: usize) -> Result<(), SchemaProblem> {
        self.bytes_left = self.bytes_left.checked_sub(count).ok_or(SchemaProblem::TooLarge)?;
        Ok(())
    }

    fn annotations(&mut self, keywords: &Map<String, Value>) -> Result<Map<String, Value>, SchemaProblem> {
        let mut node = Map::new();
        for (keyword, value) in keywords {
            let is_kept = match keyword.as_str() {
                "title" | "description" => value.is_string(),
                "default" | "examples" => self.dialect.keeps_examples(),
                _ => false,
            };
            if is_kept {
                self.read_bytes(size_of(value))?;
                node.insert(keyword.clone(), value.clone());
            }
        }
        Ok(node)
    }

    /// What a schema says besides its `$ref`.
    fn keywords(&mut self, keywords: &'a Map<String, Value>, depth: usize) -> Result<Node, SchemaProblem> {
        let mut node = self.annotations(keywords)?;
        for (keyword, value) in keywords {
            if is_listed(keyword) {
                self.read_bytes(size_of(value))?;
            }
            if let Some(kept) = assertion(keyword, value) {
                node.insert(keyword.clone(), kept);
            }
        }
        if let Some(value) = keywords.get("const") {
            self.read_bytes(size_of(value))?;
            node.insert("enum".to_owned(), json!([value]));
        }
        let deeper = depth.saturating_add(1);
        self.object_keywords(&mut node, keywords, deeper)?;
        self.array_keywords(&mut node, keywords, deeper)?;
        self.combine(node, keywords, deeper)
    }

    fn object_keywords(
        &mut self,
        node: &mut Map<String, Value>,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<(), SchemaProblem> {
        if let Some(Value::Object(declared)) = keywords.get("properties") {
            let mut properties = Map::new();
            for (name, schema) in declared {
                // One that admits nothing is a property that is never given.
                self.read_bytes(name.len())?;
                if let Some(property) = self.node(schema, depth)? {
                    properties.insert(name.clone(), Value::Object(property));
                }
            }
            node.insert("properties".to_owned(), Value::Object(properties));
        }
        // Names that match a pattern are no additional ones, and patterns of names are dropped.
        let has_patterns = keywords.contains_key("patternProperties");
        match keywords.get("additionalProperties").filter(|_| !has_patterns) {
            Some(Value::Bool(allowed)) => {
                node.insert("additionalProperties".to_owned(), Value::Bool(*allowed));
            }
            Some(schema @ Value::Object(_)) => {
                let additional = self.node(schema, depth)?.map_or(Value::Bool(false), Value::Object);
                node.insert("additionalProperties".to_owned(), additional);
            }
            _ => {}
        }
        Ok(())
    }

    fn array_keywords(
        &mut self,
        node: &mut Map<String, Value>,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<(), SchemaProblem> {
        // Items that differ by their place are not told to models.
        let is_tuple = keywords.contains_key("prefixItems");
        if let Some(items) = keywords.get("items").filter(|items| items.is_object() && !is_tuple) {
            let items = self.node(items, depth)?.unwrap_or_default();
            node.insert("items".to_owned(), Value::Object(items));
        }
        Ok(())
    }

    /// Adds `anyOf`, `oneOf` and `allOf`.
    fn combine(
        &mut self,
        mut node: Map<String, Value>,
        keywords: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Node, SchemaProblem> {
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(schemas)) = keywords.get(keyword) else { continue };
            let mut alternatives = Vec::new();
            for schema in schemas {
                alternatives.extend(self.node(schema, depth)?.map(Value::Object));
            }
            let admits_all = alternatives.iter().any(|schema| *schema == json!({}));
            match alternatives.pop() {
                None => return Ok(None),
                Some(_) if admits_all => {}
                Some(Value::Object(only)) if alternatives.is_empty() => conjoin(&mut node, only),
                Some(last) => {
                    alternatives.push(last);
                    conjoin(&mut node, Map::from_iter([("anyOf".to_owned(), Value::Array(alternatives))]));
                }
            }
        }
        if let Some(Value::Array(schemas)) = keywords.get("allOf") {
            for schema in schemas {
                let Some(part) = self.node(schema, depth)? else { return Ok(None) };
                conjoin(&mut node, part);
            }
        }
        Ok(Some(node))
    }
}

/// Whether an assertion is a list, or a text, of any length.
fn is_listed(keyword: &str) -> bool {
    matches!(keyword, "enum" | "required" | "pattern" | "format")
}

/// About the size of a value as JSON.
fn size_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len().saturating_add(2),
        Value::Array(items) => items.iter().map(size_of).fold(2, usize::saturating_add),
        Value::Object(members) => {
            let sizes = members.iter().map(|(name, value)| size_of(value).saturating_add(name.len()));
            sizes.fold(2, usize::saturating_add)
        }
        _ => 8,
    }
}

/// What an assertion of a single value becomes; `None` where models are not told it, or it is malformed.
fn assertion(keyword: &str, value: &Value) -> Option<Value> {
    match keyword {
        "type" => types(value),
        "enum" => value.as_array().filter(|values| !values.is_empty()).map(|_| value.clone()),
        "required" => {
            let names: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
            Some(json!(names))
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            value.is_number().then(|| value.clone())
        }
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            value.is_u64().then(|| value.clone())
        }
        "uniqueItems" => value.is_boolean().then(|| value.clone()),
        "format" => value.is_string().then(|| value.clone()),
        "pattern" => {
            let pattern = value.as_str()?;
            (!LOOKAROUNDS.iter().any(|look| pattern.contains(look))).then(|| value.clone())
        }
        _ => None,
    }
}

/// The types that a schema names; `None` where one is unknown or there is none.
fn types(value: &Value) -> Option<Value> {
    match value {
        Value::String(name) if TYPES.contains(&name.as_str()) => Some(value.clone()),
        Value::Array(names) => {
            let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
            match names.as_slice() {
                [only] if known(only) => Some(only.clone()),
                [_, _, ..] if names.iter().all(known) => Some(value.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}
