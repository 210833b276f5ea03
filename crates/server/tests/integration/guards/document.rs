//! The OpenAPI document names each type once, and every operation pages and refuses alike.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::operations::described;
use super::source;

/// The names of types that a document shows, in a Rust file: those after a derive of `ToSchema`.
fn schema_names(code: &str) -> Vec<String> {
    let after = code.match_indices("ToSchema").filter_map(|(at, _)| code.get(at..)?.split_once(")]"));
    let names = after.filter_map(|(_, rest)| {
        let words: Vec<&str> = rest.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).collect();
        let place = words.iter().position(|word| ["struct", "enum"].contains(word))?;
        words.get(place + 1).map(|name| (*name).to_owned())
    });
    names.collect()
}

#[test]
fn no_two_types_of_the_document_share_a_name() {
    assert_eq!(schema_names("#[derive(Serialize, ToSchema)]\n#[serde(x)]\npub(super) struct One {"), ["One"]);
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in source::product() {
        for name in schema_names(&file.code) {
            let places = places.entry(name).or_default();
            if !places.contains(&file.path) {
                places.push(file.path.clone());
            }
        }
    }
    assert!(places.len() > 40, "only {} types were found", places.len());
    let twice: Vec<_> = places.into_iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(twice.is_empty(), "one of each would stand in the document for both; rename: {twice:#?}");
}

/// Path and method of each operation of the document that lists.
fn lists(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        if schema.as_str().is_some_and(|name| name.starts_with("#/components/schemas/List_")) {
            found.push(path.clone());
        }
    }
    assert!(found.len() > 15, "only {} lists were found", found.len());
    found
}

#[tokio::test]
async fn every_list_is_paged_and_refuses_what_is_no_page() {
    let fixture = Fixture::new().await;
    let document = fixture.app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let mut wrong = Vec::new();
    for path in lists(&document) {
        let path = fixture.fill(&path);
        // Who has what the path names.
        let who = if path.starts_with("/v1/me/") { &fixture.ana } else { &fixture.owner };
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=many", "limit"),
            ("limit=1&limit=2", "limit"),
            ("after=nonsense", "after"),
            ("limit=1&colour=red", "colour"),
        ] {
            let answer = who.get(&format!("{path}?{query}")).await;
            if answer.status != 422 || !answer.json["error"]["fields"][field].is_string() {
                wrong.push(format!("{path}?{query}: {} {}", answer.status, answer.text));
            }
        }
        let page = who.get(&format!("{path}?limit=1")).await;
        if page.status != 200 || page.json["items"].as_array().is_none_or(|items| items.len() > 1) {
            wrong.push(format!("{path}: {} {}", page.status, page.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_an_error_object_with_those_it_takes() {
    let fixture = Fixture::new().await;
    let mut paths: Vec<String> = described(&fixture.app).await.iter().map(|one| fixture.fill(&one.path)).collect();
    paths.extend([format!("/hooks/{}", fixture.id("webhooks")), "/oauth/callback/x".to_owned()]);
    for path in paths {
        let answer = fixture.owner.send(fixture.owner.request("OPTIONS", &path)).await.expect(405);
        assert_eq!(answer.code(), "method_not_allowed", "{path}: {}", answer.text);
        assert!(!answer.header("allow").is_empty(), "{path}");
    }
}

/// Of each `utoipa::path` of a file: its attribute and the arguments of its handler.
fn handlers(code: &str) -> Vec<(&str, &str)> {
    let attributes = code.match_indices("#[utoipa::path(").filter_map(|(at, _)| code.get(at..));
    let parts = attributes.filter_map(|rest| {
        let (attribute, handler) = rest.split_once("async fn ")?;
        Some((attribute, handler.split_once(") ->")?.0))
    });
    parts.collect()
}

#[test]
fn the_document_says_what_a_handler_takes_beside_its_body() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in source::product() {
        for (attribute, arguments) in handlers(&file.code) {
            for word in ["Pagination", "IfMatch", "IdempotencyKey"] {
                let takes = arguments.contains(&format!(": {word}"));
                seen += usize::from(takes);
                if takes != attribute.contains(word) {
                    wrong.push(format!("{}: {word}: {attribute}", file.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 25, "only {seen} such arguments were found");
}

#[tokio::test]
async fn the_document_says_of_each_operation_who_may_call_it_how_it_refuses_and_where_a_new_thing_is() {
    let fixture = Fixture::new().await;
    let document = fixture.app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let mut names = BTreeMap::new();
    for (name, operation) in operations(&document) {
        let expected = match operation["x-caller"].as_str().unwrap() {
            "public" => json!([]),
            "consent" => json!([{ "session": [] }]),
            _ => json!([{ "token": [] }, { "session": [] }]),
        };
        assert_eq!(operation["security"], expected, "{name}");
        let refusal = &operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(refusal, "#/components/schemas/Error", "{name}");
        let made = &operation["responses"]["201"];
        assert!(made.is_null() || made["headers"]["Location"].is_object(), "{name}");
        let other = names.insert(operation["operationId"].as_str().unwrap().to_owned(), name.clone());
        assert_eq!(other, None, "{name} has the operationId of another");
    }
    for scheme in ["token", "session"] {
        assert!(document["components"]["securitySchemes"][scheme]["description"].is_string(), "{scheme}");
    }
    let answer = fixture.app.anonymous().get("/v1/me").await.expect(401).json;
    let shape = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"];
    for field in answer["error"].as_object().unwrap().keys() {
        assert!(shape[field].is_object(), "{field} is not in {shape}");
    }
}

/// The last part of each operation id: the usual verbs, then those of the product.
const VERBS: &[&str] = &[
    "list",
    "get",
    "create",
    "update",
    "set",
    "delete",
    "accept",
    "approve",
    "cancel",
    "connect",
    "disconnect",
    "export",
    "invite",
    "refresh_tools",
    "reject",
    "renew_invitation",
    "replay",
    "revoke",
    "rotate",
    "share",
    "stream",
    "test",
];

/// Whether it is `<resource>.<verb>`, where a resource has one part or more.
fn is_operation_id(id: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|char| char.is_ascii_lowercase() || char == '_');
    let is_verb = |(_, verb): (&str, &str)| VERBS.contains(&verb);
    id.split('.').all(is_part) && id.rsplit_once('.').is_some_and(is_verb)
}

#[tokio::test]
async fn every_operation_id_is_a_resource_and_a_verb() {
    for (id, expected) in [
        ("threads.list", true),
        ("me.mcp_servers.connect", true),
        ("list", false),
        (".list", false),
        ("threads..list", false),
        ("threads.show", false),
        ("Threads.list", false),
        ("threads-list", false),
    ] {
        assert_eq!(is_operation_id(id), expected, "{id}");
    }
    let fixture = Fixture::new().await;
    let document = fixture.app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let ids = operations(&document).map(|(_, operation)| operation["operationId"].as_str().unwrap());
    let wrong: Vec<&str> = ids.filter(|id| !is_operation_id(id)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Method and path of each operation, and what the document says of it.
fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

fn says(thing: &Value) -> bool {
    thing["description"].as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Where a schema and all that is in it says too little: each property needs a description and an example. One that
/// refers to another schema has the examples of that.
fn unexplained(place: &str, schema: &Value, wrong: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let refers = property.to_string().contains("#/components/schemas/")
            || property["properties"].is_object()
            || property["items"]["properties"].is_object();
        if !says(property) {
            wrong.push(format!("{place} has no description"));
        }
        if !refers && property["example"].is_null() && property["examples"].is_null() {
            wrong.push(format!("{place} has no example"));
        }
        unexplained(&place, property, wrong);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        for part in schema[word].as_array().into_iter().flatten() {
            unexplained(place, part, wrong);
        }
    }
    if !schema["items"].is_null() {
        unexplained(&format!("{place}[]"), &schema["items"], wrong);
    }
}

#[tokio::test]
async fn every_operation_parameter_and_field_is_explained() {
    let fixture = Fixture::new().await;
    let document = fixture.app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let schemas = &document["components"]["schemas"];
    let mut wrong = Vec::new();
    for (name, schema) in schemas.as_object().unwrap() {
        unexplained(name, schema, &mut wrong);
        if schema["enum"].is_array() && schema["example"].is_null() {
            wrong.push(format!("{name} has no example"));
        }
    }
    for (name, operation) in operations(&document) {
        if operation["summary"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{name} has no summary"));
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if !says(parameter) {
                wrong.push(format!("{name}: {} has no description", parameter["name"]));
            }
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            if !says(response) {
                wrong.push(format!("{name}: {status} has no description"));
            }
        }
        if !operation["requestBody"].is_null() {
            let body = &operation["requestBody"]["content"]["application/json"];
            let schema = body["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let needed = schemas[schema]["required"].as_array().into_iter().flatten();
            let missing: Vec<_> = needed.filter(|field| body["example"][field.as_str().unwrap()].is_null()).collect();
            if !body["example"].is_object() || !missing.is_empty() {
                wrong.push(format!("{name}: the example of its body lacks {missing:?}: {}", body["example"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
