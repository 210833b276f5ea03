//! Whether arguments fit a tool: their size, what is required, and the JSON type of each at the top.
//!
//! The rest of JSON Schema is the tool's own to check; this spares it calls that cannot be meant.

use serde_json::{Map, Value};

/// Arguments of one call: more than a message a person writes, less than a file.
pub const ARGUMENTS_BYTES_MAX: usize = 131_072;

/// Checks arguments against a schema.
///
/// # Errors
/// A clause that says which argument is wrong; it names properties of the schema and quotes no value.
pub fn check(schema: &Map<String, Value>, arguments: &Map<String, Value>) -> Result<(), String> {
    let bytes = serde_json::to_vec(arguments).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(format!("they are larger than {ARGUMENTS_BYTES_MAX} bytes; send less"));
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !arguments.contains_key(name) {
            return Err(format!("`{name}` is missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(value) = arguments.get(name) else { continue };
        let kinds = kinds(property);
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_a(value, kind)) {
            return Err(format!("`{name}` must be of type {}", kinds.join(" or ")));
        }
    }
    Ok(())
}

/// The words of a property's `type`; none where it says nothing (JSON Schema 2020-12 validation, section 6.1.1).
fn kinds(property: &Value) -> Vec<&str> {
    match property.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "number" => value.is_number(),
        // 1.0 is an integer there, too.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        // A word that JSON Schema does not have says nothing about the value.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn fits(arguments: Value, expected: Result<(), &str>) {
        let schema = json!({"type": "object", "required": ["query"], "properties": {
            "query": {"type": "string"}, "limit": {"type": "integer"}, "deep": {"type": ["boolean", "null"]}, "any": {}}});
        let result = check(schema.as_object().unwrap(), arguments.as_object().unwrap());
        assert_eq!(result, expected.map_err(str::to_owned), "{arguments}");
    }

    #[test]
    fn what_is_required_and_the_type_of_each() {
        fits(json!({"query": "invoice"}), Ok(()));
        fits(json!({"query": "invoice", "limit": 3.0, "deep": null, "any": [1], "more": 1}), Ok(()));
        fits(json!({}), Err("`query` is missing"));
        fits(json!({"query": 1}), Err("`query` must be of type string"));
        fits(json!({"query": "", "limit": 1.5}), Err("`limit` must be of type integer"));
        fits(json!({"query": "", "deep": "yes"}), Err("`deep` must be of type boolean or null"));
    }

    #[test]
    fn a_hostile_schema_decides_nothing_and_too_much_is_refused() {
        let arguments = json!({"query": "x".repeat(ARGUMENTS_BYTES_MAX)});
        assert!(check(&Map::new(), arguments.as_object().unwrap()).unwrap_err().contains("larger than"));
        for schema in [json!({}), json!({"required": "query"}), json!({"properties": [1]})] {
            assert_eq!(check(schema.as_object().unwrap(), &Map::new()), Ok(()));
        }
    }
}
