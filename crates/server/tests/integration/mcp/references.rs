//! No field of the API takes a reference to a stored secret.

use serde_json::{Value, json};

use super::{McpFixture, said, text};
use crate::guards::fixture::Fixture;
use crate::guards::operations::{body, described};
use crate::guards::tables;

/// Names under which such a reference was accepted elsewhere.
const REFERENCES: [&str; 10] = [
    "secret_ref",
    "secret_id",
    "secret_arn",
    "credential",
    "credential_id",
    "credential_ref",
    "key_ref",
    "token_ref",
    "vault_path",
    "secret_name",
];

fn is_reference(name: &str) -> bool {
    let holds = |word: &str| name.contains(word);
    let of_a_secret = ["secret", "credential", "token", "key", "password"].into_iter().any(holds);
    let ends = ["_ref", "_reference", "_id", "_arn", "_path", "_name", "_uri"];
    holds("credential") || holds("vault") || of_a_secret && ends.iter().any(|end| name.ends_with(end))
}

/// Every object that can stand in a request body, by where it stands.
fn objects<'a>(document: &'a Value, schema: &'a Value, place: &str, found: &mut Vec<(String, &'a Value)>) {
    if found.len() > 2_000 {
        return;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let inner = document.pointer(name.trim_start_matches('#')).unwrap();
        return objects(document, inner, place, found);
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        for inner in schema[kind].as_array().into_iter().flatten() {
            objects(document, inner, &format!("{place}|"), found);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        found.push((place.to_owned(), schema));
        for (name, inner) in properties {
            objects(document, inner, &format!("{place}.{name}"), found);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            objects(document, &schema[inner], &format!("{place}[]"), found);
        }
    }
}

#[test]
fn references_are_recognised() {
    for name in REFERENCES {
        assert!(is_reference(name), "{name}");
    }
    for name in ["secret", "client_secret", "api_key", "client_id", "space_id", "event_id", "connection_id", "name"] {
        assert!(!is_reference(name), "{name}");
    }
}

#[tokio::test]
async fn l30_no_body_of_the_openapi_document_has_a_field_for_a_stored_secret() {
    let world = McpFixture::new().await;
    let document = world.app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let mut bodies = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(!is_reference(parameter["name"].as_str().unwrap()), "{method} {path}: {parameter}");
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            if body.is_null() {
                continue;
            }
            bodies += 1;
            let mut found = Vec::new();
            objects(&document, body, "body", &mut found);
            assert!(!found.is_empty(), "{method} {path} describes no body");
            for (place, object) in found {
                // Of several shapes the document does not say it; the next test tries them.
                let closed = object["additionalProperties"] == false || place.contains('|');
                assert!(closed, "{method} {path}: {place} takes unknown fields");
                for name in object["properties"].as_object().unwrap().keys() {
                    assert!(!is_reference(name), "{method} {path}: {place}.{name} could name a stored secret");
                }
            }
        }
    }
    assert!(bodies > 15, "only {bodies} bodies are described");
}

/// The pointers of all objects in a body.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(object) = value.as_object() {
        found.push(at.to_owned());
        for (name, inner) in object {
            places(inner, &format!("{at}/{name}"), found);
        }
    }
}

#[tokio::test]
async fn l30_a_reference_in_any_place_of_any_body_is_refused_before_anything_happens() {
    let scene = Fixture::new().await;
    let before = tables::dump(&scene.app).await;
    let mut tried = 0;
    for operation in described(&scene.app).await.into_iter().filter(|operation| operation.takes_body) {
        let path = scene.fill(&operation.path);
        let valid = body(&operation.name, &scene);
        let mut objects = Vec::new();
        places(&valid, "", &mut objects);
        for (place, name) in objects.iter().flat_map(|place| REFERENCES.map(|name| (place, name))) {
            let mut changed = valid.clone();
            changed.pointer_mut(place).unwrap()[name] = json!("crd_00000000000000000000000000");
            let answer = scene.owner.with_json(&operation.method, &path, changed).await;
            assert_eq!(answer.status, 422, "{} {place}/{name}: {}", operation.name, answer.text);
            assert!(answer.json["error"]["fields"].is_object(), "{}", answer.text);
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried} were tried");
    // Where a place is one of several shapes, each of them.
    for correlation in [json!({ "pointer": "/id", "secret_ref": "x" }), json!({ "header": "x-id", "secret_ref": "x" })]
    {
        let verification = json!({ "scheme": "bearer" });
        let webhook = json!({ "name": "w", "space_id": scene.id("spaces"), "verification": verification, "correlation": correlation });
        scene.owner.post("/v1/webhooks", webhook).await.expect(422);
    }
    assert_eq!(tables::changes(&before, &tables::dump(&scene.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l30_a_stored_model_key_stays_with_the_host_it_was_entered_for() {
    let world = McpFixture::new().await;
    let put = async |base: &str, key: Value| {
        let body = json!({ "model_base_url": base, "model": "any", "instructions": "", "api_key": key });
        world.owner.put("/v1/agent", body).await
    };
    let before = put("http://127.0.0.1:4001/v1", json!("the-first-providers-key")).await.expect(200).json;
    let moved = put("http://127.0.0.1:4002/v1", Value::Null).await.expect(422);
    assert!(text(&moved.json["error"]["fields"], "api_key").contains("again"), "{}", moved.text);
    assert_eq!(world.owner.get("/v1/agent").await.expect(200).json, before, "nothing was changed");
    put("http://127.0.0.1:4001/v2", Value::Null).await.expect(200);
    put("http://127.0.0.1:4002/v1", json!("the-second-providers-key")).await.expect(200);
}

#[tokio::test]
async fn l30_a_stored_secret_goes_nowhere_but_where_it_was_entered_for() {
    let world = McpFixture::new().await;
    let key = "the-first-servers-own-key";
    let first = world.usable("first", json!({ "mode": "tenant_key", "secret": key })).await;
    let id = first.parse().unwrap();
    let stored = world.app.slices().mcp.find(world.app.tenant, id).await.unwrap().credential.unwrap().to_string();
    let url = world.upstream.url();
    let listing = world.owner.get("/v1/mcp-servers").await.expect(200).text;
    assert!(!listing.contains(&stored), "not even its id is shown");
    for auth in [
        json!({ "mode": "tenant_key", "secret_ref": stored }),
        json!({ "mode": "tenant_key", "credential_id": stored }),
        json!({ "mode": "tenant_key", "secret": { "ref": stored } }),
        json!({ "mode": "tenant_key", "secret": { "credential_id": stored } }),
        json!({ "mode": "tenant_key", "secret": [stored] }),
        json!({ "mode": "user_oauth", "client_id": "x", "client_secret_ref": stored }),
    ] {
        let body = json!({ "name": "thief", "url": url, "auth": auth });
        world.owner.post("/v1/mcp-servers", body).await.expect(422);
        world.owner.patch(&format!("/v1/mcp-servers/{first}"), json!({ "auth": auth })).await.expect(422);
    }
    // As a secret it is the text that it is; a changed address asks for the secret again.
    let before = world.upstream.seen().len();
    world.usable("second", json!({ "mode": "tenant_key", "secret": stored })).await;
    let agent = world.agent(&world.owner).await;
    assert_eq!(said(&world.call(&agent, "second__echo").await), "done");
    for request in &world.upstream.seen()[before..] {
        assert_eq!(request.bearer(), Some(stored.as_str()));
    }
    let other = super::Upstream::start(&world.issuer).await;
    let moved = world.owner.patch(&format!("/v1/mcp-servers/{first}"), json!({ "url": other.url() })).await.expect(422);
    assert!(text(&moved.json["error"], "message").contains("again"), "{}", moved.text);
    assert!(other.seen().is_empty());
}
