//! The OpenAPI document names each type once, and every operation pages and refuses alike.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::operations::described;
use super::scene::Scene;
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
    let scene = Scene::new().await;
    let document = scene.app.anyone().get("/v1/openapi.json").await.expect(200).json;
    let mut wrong = Vec::new();
    for path in lists(&document) {
        let path = scene.fill(&path);
        // Who has what the path names.
        let who = if path.starts_with("/v1/me/") { &scene.ana } else { &scene.owner };
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
    let scene = Scene::new().await;
    let mut paths: Vec<String> = described(&scene.app).await.iter().map(|one| scene.fill(&one.path)).collect();
    paths.extend([format!("/hooks/{}", scene.id("webhooks")), "/oauth/callback/x".to_owned()]);
    for path in paths {
        let answer = scene.owner.send(scene.owner.request("OPTIONS", &path)).await.expect(405);
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
            for word in ["Paging", "IfVersion", "OnceKey"] {
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
    let scene = Scene::new().await;
    let document = scene.app.anyone().get("/v1/openapi.json").await.expect(200).json;
    let mut names = BTreeMap::new();
    let operations = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    for (name, operation) in operations {
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
    let answer = scene.app.anyone().get("/v1/me").await.expect(401).json;
    let shape = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"];
    for field in answer["error"].as_object().unwrap().keys() {
        assert!(shape[field].is_object(), "{field} is not in {shape}");
    }
}
