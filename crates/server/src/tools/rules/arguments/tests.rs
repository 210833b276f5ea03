//! Tests of the check of arguments.

use super::*;
use serde_json::json;

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
