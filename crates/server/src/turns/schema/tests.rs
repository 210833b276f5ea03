//! The adapter over examples, over generated schemas against a validator that others wrote, and over hostile ones.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use serde_json::json;

use super::*;
use crate::tools::rules::check_arguments;
use crate::turns::agent::Model;

const ALL: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];

#[track_caller]
fn check(dialect: Dialect, schema: Value, expected: Value) {
    let adapted = adapt(schema.as_object().unwrap(), dialect).map(|adapted| Value::Object(adapted.parameters));
    assert_eq!(adapted, Ok(expected), "{schema}");
}

#[track_caller]
fn refused(dialect: Dialect, schema: Value, expected: &str) {
    let adapted = adapt(schema.as_object().unwrap(), dialect).map_err(|problem| problem.to_string());
    assert_eq!(adapted.map(|adapted| adapted.parameters), Err(expected.to_owned()), "{schema}");
}

#[test]
fn l96_what_no_provider_knows_is_dropped_and_what_all_ask_for_is_added() {
    let empty = json!({"type": "object", "properties": {}});
    check(Dialect::OpenAi, json!({}), empty.clone());
    check(
        Dialect::OpenAi,
        json!({"type": "object", "$schema": "x", "$id": "y", "$defs": {"a": {}}, "x-own": 1}),
        empty,
    );
    check(
        Dialect::OpenAi,
        json!({"type": "object", "required": ["a", "b", "a", 1], "properties": {
            "a": {"type": "array"}, "c": true, "d": false, "e": {"const": 1}, "f": {"type": "array", "items": [{}, {}]},
            "g": {"oneOf": [{"type": "string"}, {"type": "null"}]}, "h": {"pattern": "^(?!a)", "type": "string"},
            "i": {"not": {}, "if": {}, "then": {}}, "j": {"anyOf": [{}, {"type": "string"}]}, "k": "malformed"}}),
        json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "array", "items": {}}, "b": {}, "c": {}, "e": {"enum": [1]}, "f": {"type": "array", "items": {}},
            "g": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "h": {"type": "string"}, "i": {}, "j": {}, "k": {}}}),
    );
}

#[test]
fn l96_references_are_inlined_and_recursion_is_refused() {
    check(
        Dialect::OpenAi,
        json!({"$ref": "#/definitions/Of%3CA%3E", "$schema": "http://json-schema.org/draft-07/schema#", "definitions": {
            "Of<A>": {"type": "object", "properties": {"a": {"$ref": "#/definitions/b", "description": "Own.", "type": "null"}}},
            "b": {"type": "string", "description": "Other."}}}),
        json!({"type": "object", "properties": {"a": {"type": "string", "description": "Own."}}}),
    );
    check(
        Dialect::OpenAi,
        json!({"type": "object", "allOf": [{"$ref": "#/$defs/a", "required": ["x"]}], "$defs": {
            "a": {"properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "required": ["y"]}}}),
        json!({"type": "object", "required": ["y", "x"], "properties": {"x": {"type": "string"}, "y": {"type": "string"}}}),
    );
    for (reference, problem) in [
        ("#", "it refers to itself at #"),
        ("#/properties/a", "it refers to itself at #/properties/a"),
        ("#/$defs/gone", "the reference #/$defs/gone leads nowhere in it"),
        ("https://x.test/[a](b) c", "the reference https?//x.test/?a??b??c leads nowhere in it"),
        ("#anchor", "the reference #anchor leads nowhere in it"),
    ] {
        refused(Dialect::OpenAi, json!({"type": "object", "properties": {"a": {"$ref": reference}}}), problem);
    }
}

#[test]
fn l96_alternatives_at_the_top_become_one_object() {
    let by_kind = json!({"type": "object", "required": ["kind"], "properties": {"note": {"type": "string"}}, "oneOf": [
        {"properties": {"kind": {"const": "mail"}, "to": {"type": "string"}}, "required": ["kind", "to"]},
        {"properties": {"kind": {"const": "chat"}, "to": {"type": "integer"}}, "required": ["kind"]},
        {"type": "string"}]});
    let adapted = adapt(by_kind.as_object().unwrap(), Dialect::OpenAi).unwrap();
    assert_eq!(
        Value::Object(adapted.parameters),
        json!({"type": "object", "required": ["kind"], "properties": {
            "note": {"type": "string"}, "kind": {"enum": ["mail", "chat"]},
            "to": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}})
    );
    let told = "Give one of these combinations of arguments: (1) kind = \"mail\", to; (2) kind = \"chat\".";
    assert_eq!(adapted.alternatives.as_deref(), Some(told));
    check(
        Dialect::OpenAi,
        json!({"type": "object", "anyOf": [
            {"properties": {"a": {}}, "additionalProperties": false}, {"properties": {"b": {}}, "additionalProperties": false}]}),
        json!({"type": "object", "additionalProperties": false, "properties": {"a": {}, "b": {}}}),
    );
    refused(Dialect::OpenAi, json!({"type": "string"}), "its arguments are not an object");
    refused(Dialect::OpenAi, json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), "no arguments fit it");
    refused(Dialect::OpenAi, json!({"allOf": [false]}), "no arguments fit it");
}

#[test]
fn l96_each_dialect_has_its_own_rules() {
    let names = json!({"type": "object", "additionalProperties": false, "properties": {"filter[id]": {}, "a.b-c": {}}});
    check(Dialect::OpenAi, names.clone(), names.clone());
    check(Dialect::Anthropic, names, json!({"type": "object", "properties": {"a.b-c": {}}}));
    let required = json!({"type": "object", "required": ["$top"], "properties": {"$top": {"type": "integer"}}});
    refused(
        Dialect::Anthropic,
        required,
        "the required argument $top has a name that the model's provider does not accept",
    );
    check(
        Dialect::Gemini,
        json!({"type": "object", "additionalProperties": false, "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", null], "default": "x"},
            "b": {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "multipleOf": 2}, {"type": "null"}]},
            "c": {"type": "string", "format": "uri"}, "d": {"type": "string", "format": "date-time"},
            "e": {"enum": [1, 2]}, "f": {"type": ["string", "array"]}, "g": {"type": "null"}}}),
        json!({"type": "object", "properties": {
            "a": {"type": "string", "enum": ["x"], "nullable": true},
            "b": {"type": "number", "minimum": 0, "nullable": true},
            "c": {"type": "string"}, "d": {"type": "string", "format": "date-time"},
            "e": {}, "f": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}, "g": {"type": "null"}}}),
    );
    assert!(!Dialect::Gemini.takes_name("24__a") && Dialect::OpenAi.takes_name("24__a"));
    for (base_url, name, dialect) in [
        ("https://api.openai.com/v1", "gpt-5", Dialect::OpenAi),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "any", Dialect::Gemini),
        ("https://api.anthropic.com/v1", "any", Dialect::Anthropic),
        ("https://router.example.com/v1", "anthropic/claude-sonnet", Dialect::Anthropic),
        ("https://router.example.com/v1", "google/Gemini-pro", Dialect::Gemini),
    ] {
        let model = Model { base_url: base_url.to_owned(), name: name.to_owned() };
        assert_eq!(Dialect::of(&model), dialect, "{base_url} {name}");
    }
}

/// Whether a schema keeps the rules of its dialect.
fn conforms(schema: &Value, dialect: Dialect) -> Result<(), String> {
    let root = schema.as_object().ok_or("no object")?;
    if root.get("type") != Some(&json!("object")) || !root.get("properties").is_some_and(Value::is_object) {
        return Err(format!("the top level is {schema}"));
    }
    if let Some(name) = root.keys().find(|name| ["anyOf", "oneOf", "allOf", "enum", "not"].contains(&name.as_str())) {
        return Err(format!("{name} at the top level"));
    }
    let plain = |name: &String| {
        name.len() <= 64 && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let names = root["properties"].as_object().ok_or("no properties")?;
    if dialect == Dialect::Anthropic && !names.keys().all(plain) {
        return Err("a name of an argument".to_owned());
    }
    conforms_below(root, dialect)
}

fn conforms_below(schema: &Map<String, Value>, dialect: Dialect) -> Result<(), String> {
    const KNOWN: &str = "type enum title description default examples properties required additionalProperties items \
        anyOf minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems \
        minProperties maxProperties uniqueItems format pattern nullable";
    const GEMINI: &str = "type enum title description properties required items anyOf minimum maximum minLength \
        maxLength minItems maxItems minProperties maxProperties format nullable";
    let known = if dialect == Dialect::Gemini { GEMINI } else { KNOWN };
    if let Some(keyword) = schema.keys().find(|keyword| !known.split_whitespace().any(|known| known == *keyword)) {
        return Err(format!("keyword {keyword}"));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(required) = schema.get("required") {
        let names = required.as_array().ok_or("required is no list")?;
        let mut unique: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        unique.sort_unstable();
        unique.dedup();
        if names.is_empty() || unique.len() != names.len() {
            return Err(format!("required {required}"));
        }
        if !unique.iter().all(|name| properties.is_some_and(|properties| properties.contains_key(*name))) {
            return Err(format!("required and not declared: {required}"));
        }
    }
    let kind = schema.get("type");
    if kind.is_some_and(|kind| kind.to_string().contains("\"array\""))
        && !schema.get("items").is_some_and(Value::is_object)
    {
        return Err("an array without items".to_owned());
    }
    if dialect == Dialect::Gemini && kind.is_some_and(|kind| !kind.is_string()) {
        return Err("several types".to_owned());
    }
    if let (Dialect::Gemini, Some(Value::Array(values))) = (dialect, schema.get("enum"))
        && !values.iter().all(|value| value.as_str().is_some_and(|text| !text.is_empty()))
    {
        return Err("an enum that is not of texts".to_owned());
    }
    let alternatives =
        schema.get("anyOf").map(|all| all.as_array().filter(|all| !all.is_empty()).ok_or("an empty anyOf"));
    let below = properties.into_iter().flat_map(Map::values).chain(schema.get("items"));
    let below = below.chain(alternatives.transpose()?.into_iter().flatten());
    for schema in below.chain(schema.get("additionalProperties").filter(|schema| schema.is_object())) {
        conforms_below(schema.as_object().ok_or("a schema that is no object")?, dialect)?;
    }
    Ok(())
}

/// Gemini's `nullable` as JSON Schema says it.
fn without_nullable(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(without_nullable).collect(),
        Value::Object(members) => {
            let mut plain: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), without_nullable(value))).collect();
            if plain.remove("nullable") == Some(json!(true)) {
                return json!({"anyOf": [{"type": "null"}, plain]});
            }
            Value::Object(plain)
        }
        other => other.clone(),
    }
}

fn fits(schema: &Value, arguments: &Map<String, Value>) -> bool {
    check_arguments(schema.as_object().unwrap(), arguments) == Ok(())
}

/// Whether each argument is declared by the schema, or by one of its alternatives that the arguments fit.
fn is_declared(schema: &Value, arguments: &Map<String, Value>) -> bool {
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
    let mut declaring = vec![schema.clone()];
    for alternative in alternatives {
        // Its references lead into the whole schema.
        let mut alternative = alternative.clone();
        alternative["$defs"] = schema["$defs"].clone();
        if fits(&alternative, arguments) {
            declaring.push(alternative);
        }
    }
    let is_declared = |name: &String| declaring.iter().any(|part| part["properties"].get(name).is_some());
    declaring.len() == 1 || arguments.keys().all(is_declared)
}

const NAMES: [&str; 4] = ["a", "b", "c", "d[]"];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(1)),
        Just(json!(2.5)),
        Just(json!(1.0)),
        Just(json!("")),
        Just(json!("x")),
        Just(json!("ab")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            members(inner).prop_map(Value::Object),
        ]
    })
}

fn members(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let all = prop::collection::vec(inner, NAMES.len());
    (subsequence(NAMES.to_vec(), 0..=NAMES.len()), all)
        .prop_map(|(names, values)| names.into_iter().map(str::to_owned).zip(values).collect())
}

fn kind() -> impl Strategy<Value = Value> {
    let names = vec!["string", "integer", "number", "object", "array", "null", "boolean"];
    prop_oneof![
        select(names.clone()).prop_map(|name| json!(name)),
        subsequence(names, 1..4).prop_map(|names| json!(names)),
    ]
}

/// A schema of a value in the arguments.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({})),
        kind().prop_map(|kind| json!({"type": kind})),
        prop::collection::vec(value(), 1..3).prop_map(|values| json!({"enum": values})),
        value().prop_map(|value| json!({"const": value, "description": "One."})),
        Just(json!({"minimum": 1, "maximum": 2})),
        Just(json!({"exclusiveMinimum": 1})),
        Just(json!({"minLength": 1})),
        Just(json!({"type": "string", "pattern": "^a", "format": "date-time"})),
        Just(json!({"maxItems": 1})),
        Just(json!({"$ref": "#/$defs/x"})),
        // What stands beside a reference is not read by the check that this is compared with.
        Just(json!({"$ref": "#/$defs/y", "description": "One."})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            2 => object(inner.clone(), prop_oneof![
                3 => Just(None), 1 => Just(Some(json!(false))), 1 => inner.clone().prop_map(Some)]),
            1 => inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            1 => inner.clone().prop_map(|first| json!({"prefixItems": [first], "items": false})),
            2 => (select(vec!["anyOf", "oneOf", "allOf"]), list).prop_map(|(word, list)| json!({word: list})),
            1 => inner.clone().prop_map(|inner| json!({"not": inner})),
            1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| json!({"if": one, "then": two, "type": ["object", "string"]})),
            1 => (inner.clone(), inner).prop_map(|(one, two)| {
                json!({"patternProperties": {"^a": one}, "properties": {"b": two}, "additionalProperties": false})
            }),
        ]
    })
}

fn object(
    inner: impl Strategy<Value = Value>,
    additional: impl Strategy<Value = Option<Value>>,
) -> impl Strategy<Value = Value> {
    let required = subsequence(NAMES.to_vec(), 0..2);
    (members(inner), required, additional, any::<bool>()).prop_map(|(properties, required, additional, typed)| {
        let mut schema = json!({"properties": properties, "required": required});
        if let Some(additional) = additional {
            schema["additionalProperties"] = additional;
        }
        if typed {
            schema["type"] = json!("object");
        }
        schema
    })
}

/// A schema of arguments, with alternatives or without.
fn arguments_schema() -> impl Strategy<Value = Value> {
    let closed = || prop_oneof![2 => Just(None), 1 => Just(Some(json!(false)))];
    let part = object(schema(), closed());
    let parts = prop::collection::vec(part, 0..4);
    let combined = (select(vec!["anyOf", "oneOf", "allOf"]), parts);
    let definitions = (schema(), schema());
    (object(schema(), closed()), prop::option::of(combined), definitions).prop_map(|(mut root, combined, (x, y))| {
        if let Some((word, parts)) = combined.filter(|(_, parts)| !parts.is_empty()) {
            root[word] = Value::Array(parts);
        }
        root["$defs"] = json!({"x": x, "y": y});
        root
    })
}

/// Anything that could be sent as a schema.
fn hostile() -> impl Strategy<Value = Value> {
    let keywords = "type enum const properties required additionalProperties items prefixItems anyOf oneOf allOf not $ref \
        $schema $defs description default minimum exclusiveMinimum minLength pattern format patternProperties nullable a";
    let keywords: Vec<&str> = keywords.split_whitespace().collect();
    let leaf = prop_oneof![
        value(),
        any::<String>().prop_map(Value::String),
        kind(),
        Just(json!("#")),
        Just(json!("#/$defs/a")),
        Just(json!("object")),
        Just(json!(["a", "b"])),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        let name = prop_oneof![4 => select(keywords.clone()).prop_map(str::to_owned), 1 => any::<String>()];
        let members = prop::collection::vec((name, inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn l96_any_schema_is_adapted_to_its_dialect_or_refused(schema in hostile(), arguments in value()) {
        let within = json!({"type": "object", "properties": {"a": schema}, "$defs": {"a": {"type": ["array", "null"]}}});
        for keywords in [&schema, &within].into_iter().filter_map(Value::as_object) {
            for dialect in ALL {
                if let Ok(adapted) = adapt(keywords, dialect) {
                    prop_assert_eq!(conforms(&Value::Object(adapted.parameters), dialect), Ok(()));
                }
            }
            if let Some(arguments) = arguments.as_object() {
                let _ = check_arguments(keywords, arguments);
            }
        }
    }

    #[test]
    fn l96_what_a_schema_admits_the_adapted_one_admits(
        schema in arguments_schema(),
        arguments in prop::collection::vec(members(value()), 1..12),
    ) {
        let keywords = schema.as_object().unwrap();
        let mut adapted = Vec::new();
        for dialect in ALL {
            if let Ok(found) = adapt(keywords, dialect) {
                let found = Value::Object(found.parameters);
                prop_assert_eq!(conforms(&found, dialect), Ok(()));
                adapted.push(without_nullable(&found));
            }
        }
        for arguments in arguments {
            if fits(&schema, &arguments) && is_declared(&schema, &arguments) {
                for adapted in &adapted {
                    prop_assert!(fits(adapted, &arguments), "{:?} is refused by {}", arguments, adapted);
                }
            }
        }
    }
}

/// Each is as large as a definition may be, or unfolds without end; a quadratic adapter would take minutes for them.
#[test]
fn l96_hostile_schemas_take_little_time() {
    let names: Vec<String> = (0..12_000).map(|number| format!("n{number}")).collect();
    let alternatives: Vec<Value> =
        (0..1_500).map(|number| json!({"properties": {"a": {"const": number}}, "required": ["a"]})).collect();
    let parts: Vec<Value> = (0..1_500).map(|number| json!({"required": [format!("n{number}")]})).collect();
    let mut doubling = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {}});
    for number in 0..10 {
        let next = json!({"$ref": format!("#/$defs/d{}", number + 1)});
        doubling["$defs"][format!("d{number}")] = json!({"properties": {"a": next, "b": next, "c": next}});
    }
    doubling["$defs"]["d10"] = json!({});
    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"anyOf": [deep, {"type": "null"}]});
    }
    let refs: Vec<Value> = vec![json!({"$ref": "#/$defs/a"}); 2_000];
    let hostile = [
        json!({"required": names}),
        json!({"anyOf": alternatives}),
        json!({"allOf": parts}),
        json!({"properties": {"a": deep}}),
        json!({"anyOf": refs, "$defs": {"a": {"required": (0..2_000).map(|n| n.to_string()).collect::<Vec<_>>()}}}),
        doubling,
    ];
    for (place, schema) in hostile.iter().enumerate() {
        let began = Instant::now();
        for dialect in ALL {
            let _ = adapt(schema.as_object().unwrap(), dialect);
        }
        let _ = check_arguments(schema.as_object().unwrap(), &Map::new());
        assert!(began.elapsed() < Duration::from_secs(10), "{place} took {:?}", began.elapsed());
    }
    let problem = |schema: &Value| adapt(schema.as_object().unwrap(), Dialect::OpenAi).unwrap_err();
    assert_eq!((problem(&hostile[3]), problem(&hostile[5])), (SchemaProblem::TooDeep, SchemaProblem::TooManyParts));
    let long = json!({"type": "object", "description": "x".repeat(SCHEMA_BYTES_MAX)});
    assert_eq!(problem(&long), SchemaProblem::TooLarge);
}
