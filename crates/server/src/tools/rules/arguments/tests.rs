//! Tests of the check of arguments.

use std::time::Duration;

use super::*;
use serde_json::json;
use thinkwork_linear_time::{assert_linear_in, processor_time};

#[track_caller]
fn check_of(schema: &Value, arguments: &Value, expected: Result<(), &str>) {
    let result = check(schema.as_object().unwrap(), arguments.as_object().unwrap());
    assert_eq!(result, expected.map_err(str::to_owned), "{arguments}");
}

#[track_caller]
fn fits(arguments: Value, expected: Result<(), &str>) {
    let schema = json!({"type": "object", "required": ["query"], "properties": {
        "query": {"type": "string"}, "limit": {"type": "integer"}, "deep": {"type": ["boolean", "null"]}, "any": {}}});
    check_of(&schema, &arguments, expected);
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
fn l96_null_for_an_optional_argument_is_no_value() {
    let schema = json!({"type": "object", "required": ["query"], "properties": {
        "query": {"type": "string"}, "limit": {"$ref": "#/$defs/limit"}, "deep": {"type": ["boolean", "null"]}, "any": {}},
        "$defs": {"limit": {"type": "integer"}}});
    let schema = schema.as_object().unwrap();
    let given = json!({"query": null, "limit": null, "deep": null, "any": null, "other": null});
    let left = without_absent(schema, given.as_object().unwrap().clone());
    assert_eq!(Value::Object(left), json!({"query": null, "deep": null, "any": null, "other": null}));
}

#[test]
fn l96_arguments_that_fit_no_alternative_say_what_is_missing() {
    let schema = json!({"type": "object", "anyOf": [
        {"properties": {"content": {"type": "string"}}, "required": ["content"]},
        {"properties": {"source_url": {"type": "string"}}, "required": ["source_url"]}]});
    check_of(&schema, &json!({"content": "a"}), Ok(()));
    check_of(&schema, &json!({"source_url": "a"}), Ok(()));
    let neither = "the arguments must fit one alternative, but `content` is missing; or `source_url` is missing";
    check_of(&schema, &json!({"name": "a"}), Err(neither));
}

#[test]
fn what_lies_deeper_is_checked_where_it_is_plain() {
    let schema = json!({"type": "object", "additionalProperties": false, "properties": {
        "filter": {"$ref": "#/$defs/a~1filter"}, "sort": {"enum": ["up", "down", 1]}, "tags": {"items": {"const": "x"}}},
        "$defs": {"a/filter": {"type": "object", "required": ["field"], "properties": {
            "and": {"type": "array", "items": {"$ref": "#/$defs/a~1filter"}}}}}});
    check_of(&schema, &json!({"filter": {"field": 1, "and": [{"field": 2}]}, "sort": 1.0, "tags": ["x"]}), Ok(()));
    check_of(&schema, &json!({"filter": {"field": 1, "and": [{}]}}), Err("`filter.and[0].field` is missing"));
    check_of(&schema, &json!({"filter": 1}), Err("`filter` must be of type object"));
    check_of(&schema, &json!({"sort": "left"}), Err("`sort` must be one of \"up\", \"down\", 1"));
    check_of(&schema, &json!({"tags": ["x", "y"]}), Err("`tags[1]` must be \"x\""));
    check_of(&schema, &json!({"other": 1}), Err("`other` is not known to it"));
}

#[test]
fn a_hostile_schema_decides_nothing_and_too_much_is_refused() {
    let arguments = json!({"query": "x".repeat(ARGUMENTS_BYTES_MAX)});
    assert!(check(&Map::new(), arguments.as_object().unwrap()).unwrap_err().contains("larger than"));
    for schema in [
        json!({}),
        json!({"required": "query"}),
        json!({"properties": [1]}),
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/gone"}),
        json!({"$ref": "https://schemas.example.com/other"}),
        json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}),
        json!({"patternProperties": {"^a": {}}, "additionalProperties": false}),
    ] {
        check_of(&schema, &json!({"a": 1}), Ok(()));
    }
}

/// Checks this schema against as many equal items as there may be. The bound of steps alone does not show in how the time
/// grows, so the time itself is held: a step that reads all of the schema takes many seconds.
#[track_caller]
fn check_is_fast(schema: impl Fn(usize) -> Value, item: &str) {
    const SCHEMA_BYTES: usize = 65_536;
    let schema = json!({"properties": {"items": {"items": schema(SCHEMA_BYTES)}}});
    let count = ARGUMENTS_BYTES_MAX / (item.len() + 1) - 10;
    let items = format!("{{\"items\":[{item}{}]}}", format!(",{item}").repeat(count));
    let arguments: Value = serde_json::from_str(&items).unwrap();
    let taken = processor_time(|| check(schema.as_object().unwrap(), arguments.as_object().unwrap()));
    assert!(taken < Duration::from_secs(1), "{taken:?}");
}

#[test]
fn l108_a_large_schema_and_large_arguments_take_bounded_time() {
    let many = |value: Value, bytes: usize| vec![value.clone(); bytes / (value.to_string().len() + 1)];
    check_is_fast(|bytes| json!({"type": many(json!("null"), bytes), "enum": []}), "1");
    check_is_fast(|bytes| json!({"enum": many(json!(2), bytes)}), "1");
    check_is_fast(|bytes| json!({"$ref": format!("#/{}", "a".repeat(bytes))}), "1");
    check_is_fast(|bytes| json!({"$ref": format!("#/{}", "%61".repeat(bytes / 3))}), "1");
    check_is_fast(|bytes| json!({"allOf": many(json!(true), bytes)}), "1");
    check_is_fast(|bytes| json!({"anyOf": [{"anyOf": many(json!(false), bytes)}, true]}), "1");
    check_is_fast(|bytes| json!({"anyOf": [{"const": "a".repeat(bytes)}, true]}), "1");
    check_is_fast(|bytes| json!({"anyOf": [{"enum": ["\u{1}".repeat(bytes / 6)]}, true]}), "1");
    check_is_fast(|bytes| json!({"required": many(json!("a"), bytes)}), "{}");
    check_is_fast(|bytes| json!({"anyOf": [{"required": many(json!("a"), bytes)}, true]}), "{\"a\":1}");
}

#[test]
fn l108_absent_arguments_share_one_bound() {
    // Each property's schema alone would take every step that there is.
    let of_size = |bytes: usize| {
        let names: Vec<String> = (0..bytes / 24).map(|number| format!("p{number}")).collect();
        let properties: Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"$ref": "#/$defs/a"}))).collect();
        let twice = json!({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]});
        let schema = json!({"properties": properties, "required": names, "$defs": {"a": twice}});
        let arguments: Map<String, Value> = names.into_iter().map(|name| (name, Value::Null)).collect();
        (schema, arguments)
    };
    assert_linear_in(65_536, of_size, |(schema, arguments)| {
        without_absent(schema.as_object().unwrap(), arguments.clone())
    });
    let optional = |bytes: usize| {
        let (mut schema, arguments) = of_size(bytes);
        schema.as_object_mut().unwrap().remove("required");
        (schema, arguments)
    };
    let (schema, arguments) = optional(65_536);
    let taken = processor_time(|| without_absent(schema.as_object().unwrap(), arguments.clone()));
    assert!(taken < Duration::from_secs(2), "{taken:?}");
}

#[test]
fn l108_a_problem_deep_within_alternatives_stays_short() {
    let mut schema = json!({"type": "null"});
    for _ in 0..20 {
        schema = json!({"anyOf": [schema, {"const": "a".repeat(1_000)}]});
    }
    let schema = json!({"properties": {"a".repeat(200): schema}});
    let arguments = json!({"a".repeat(200): 1});
    let problem = check(schema.as_object().unwrap(), arguments.as_object().unwrap()).unwrap_err();
    assert!(problem.len() <= PROBLEM_BYTES_MAX && problem.contains("must fit one alternative, but"), "{problem}");
}
