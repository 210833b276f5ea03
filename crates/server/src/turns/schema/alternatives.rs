//! Alternatives at the top level as one object: no provider takes `anyOf` there.
//!
//! All properties of all alternatives are declared, and those are required that each alternative requires. Which belong
//! together is told in the description, and checked when the tool is called.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::conjunction::conjoin;
use super::{SHOWN_CHARS_MAX, SchemaProblem};

/// What may be said of the arguments as a whole.
const KEYWORDS: [&str; 8] = [
    "additionalProperties",
    "description",
    "maxProperties",
    "minProperties",
    "properties",
    "required",
    "title",
    "type",
];
/// Alternatives that a description names.
const NAMED_MAX: usize = 8;
/// Arguments that a description names for one alternative.
const ARGUMENTS_NAMED_MAX: usize = 8;

/// One object schema, and the sentence that says which arguments belong together.
pub(super) fn merge(root: Map<String, Value>) -> Result<(Map<String, Value>, Option<String>), SchemaProblem> {
    if !admits_objects(&root) {
        return Err(SchemaProblem::NotAnObject);
    }
    let common = names_of(&root, "required");
    let (mut root, alternatives) = flatten(root).ok_or(SchemaProblem::NothingFits)?;
    root.retain(|keyword, _| KEYWORDS.contains(&keyword.as_str()));
    root.insert("type".to_owned(), json!("object"));
    Ok((root, sentence(&alternatives, &common)))
}

fn admits_objects(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => true,
    }
}

/// The schema without `anyOf`, and what its alternatives require; `None` where none admits an object.
fn flatten(mut schema: Map<String, Value>) -> Option<(Map<String, Value>, Vec<Alternative>)> {
    let Some(Value::Array(schemas)) = schema.remove("anyOf") else { return Some((schema, Vec::new())) };
    let mut alternatives: Vec<Map<String, Value>> = Vec::new();
    for alternative in schemas {
        let Value::Object(alternative) = alternative else { continue };
        if admits_objects(&alternative) {
            alternatives.extend(flatten(alternative).map(|(alternative, _)| alternative));
        }
    }
    if alternatives.len() < 2 {
        conjoin(&mut schema, alternatives.pop()?);
        return Some((schema, Vec::new()));
    }
    let described = alternatives.iter().take(NAMED_MAX).map(Alternative::of).collect();
    let all_closed = alternatives.iter().all(is_closed);
    let required = required_by_all(&alternatives);
    let properties = union(alternatives, schema.get("properties"));
    let mut merged = Map::from_iter([("properties".to_owned(), Value::Object(properties))]);
    if !required.is_empty() {
        merged.insert("required".to_owned(), json!(required));
    }
    if all_closed && !schema.contains_key("additionalProperties") {
        merged.insert("additionalProperties".to_owned(), json!(false));
    }
    conjoin(&mut schema, merged);
    Some((schema, described))
}

fn is_closed(schema: &Map<String, Value>) -> bool {
    schema.get("additionalProperties") == Some(&Value::Bool(false))
}

fn names_of(schema: &Map<String, Value>, keyword: &str) -> HashSet<String> {
    match schema.get(keyword) {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::Object(named)) => named.keys().cloned().collect(),
        _ => HashSet::new(),
    }
}

fn required_by_all(alternatives: &[Map<String, Value>]) -> Vec<String> {
    let mut all = alternatives.iter().map(|alternative| names_of(alternative, "required"));
    let first = all.next().unwrap_or_default();
    let mut common: Vec<String> = all.fold(first, |common, names| &common & &names).into_iter().collect();
    common.sort();
    common
}

/// Every property of any alternative; where they differ, what one of them admits. What `common` declares for all stays
/// as it is where an alternative adds nothing to it.
fn union(alternatives: Vec<Map<String, Value>>, common: Option<&Value>) -> Map<String, Value> {
    let count = alternatives.len();
    let mut names: Vec<String> = Vec::new();
    let mut variants: HashMap<String, Variants> = HashMap::new();
    for mut alternative in alternatives {
        let Some(Value::Object(properties)) = alternative.remove("properties") else { continue };
        for (name, schema) in properties {
            if !variants.contains_key(&name) {
                names.push(name.clone());
            }
            variants.entry(name).or_default().add(schema);
        }
    }
    let merged = names.into_iter().filter_map(|name| {
        let found = variants.remove(&name)?;
        let is_common = common.is_some_and(|common| common.get(&name).is_some());
        (!is_common || found.count == count).then(|| (name, found.into_schema()))
    });
    merged.collect()
}

/// The different schemas of one property.
#[derive(Default)]
struct Variants {
    /// How many alternatives declare it.
    count: usize,
    schemas: Vec<Value>,
    seen: HashSet<String>,
}

impl Variants {
    fn add(&mut self, schema: Value) {
        self.count = self.count.saturating_add(1);
        if self.seen.insert(schema.to_string()) {
            self.schemas.push(schema);
        }
    }

    fn into_schema(mut self) -> Value {
        if self.schemas.len() < 2 {
            return self.schemas.pop().unwrap_or_else(|| json!({}));
        }
        if self.schemas.iter().any(|schema| *schema == json!({})) {
            return json!({});
        }
        one_enum(&self.schemas).unwrap_or_else(|| json!({ "anyOf": self.schemas }))
    }
}

/// Lists of values of the same type, as one list.
fn one_enum(schemas: &[Value]) -> Option<Value> {
    let first = schemas.first()?;
    let mut values: Vec<Value> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    for schema in schemas {
        let has_more = schema.as_object()?.keys().any(|keyword| !matches!(keyword.as_str(), "enum" | "type"));
        if has_more || schema.get("type") != first.get("type") {
            return None;
        }
        let listed = schema.get("enum")?.as_array()?;
        values.extend(listed.iter().filter(|value| seen.insert(value.to_string())).cloned());
    }
    let mut merged = Map::from_iter([("enum".to_owned(), Value::Array(values))]);
    if let Some(kind) = first.get("type") {
        merged.insert("type".to_owned(), kind.clone());
    }
    Some(Value::Object(merged))
}

/// What one alternative asks for, to be told.
struct Alternative {
    /// Its arguments, with the value where only one is possible.
    arguments: Vec<(String, Option<String>)>,
}

impl Alternative {
    fn of(schema: &Map<String, Value>) -> Self {
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let declared = schema.get("properties").and_then(Value::as_object);
        let names = if required.is_empty() {
            declared.into_iter().flat_map(Map::keys).map(String::as_str).collect()
        } else {
            required
        };
        let value_of = |name: &str| match declared?.get(name)?.get("enum")?.as_array()?.as_slice() {
            [only] => Some(shown(&only.to_string())),
            _ => None,
        };
        let arguments = names.into_iter().map(|name| (name.to_owned(), value_of(name))).collect();
        Self { arguments }
    }

    /// Its arguments without those that are always required, unless their value tells it apart.
    fn text(&self, common: &HashSet<String>) -> String {
        let own = self.arguments.iter().filter(|(name, value)| value.is_some() || !common.contains(name));
        let named = own.map(|(name, value)| match value {
            Some(value) => format!("{} = {value}", shown(name)),
            None => shown(name),
        });
        let named: Vec<String> = named.take(ARGUMENTS_NAMED_MAX).collect();
        if named.is_empty() { "nothing more".to_owned() } else { named.join(", ") }
    }
}

fn sentence(alternatives: &[Alternative], common: &HashSet<String>) -> Option<String> {
    if alternatives.is_empty() {
        return None;
    }
    let texts = (1_usize..).zip(alternatives).map(|(number, one)| format!("({number}) {}", one.text(common)));
    Some(format!("Give one of these combinations of arguments: {}.", texts.collect::<Vec<_>>().join("; ")))
}

fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SHOWN_CHARS_MAX).collect()
}
