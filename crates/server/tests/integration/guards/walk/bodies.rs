//! Bodies that no operation takes: broken, of another shape, with a field too many, of another type, too large.

use serde_json::{Value, json};

use super::Findings;
use crate::guards::fixture::Fixture;
use crate::guards::operations::{body, described};
use crate::guards::tables;
use crate::harness::Response;

async fn send(fixture: &Fixture, method: &str, path: &str, kind: &str, text: &str) -> Response {
    let request = fixture.owner.request(method, path).header("content-type", kind).body(text.to_owned());
    fixture.owner.send(request).await
}

impl Findings {
    /// Notes an answer that does not name this field.
    fn names(&mut self, field: &str, answer: &Response) {
        let fields = answer.json["error"]["fields"].as_object();
        let named = |name: &String| name == field || name.starts_with(&format!("{field}."));
        if !fields.is_some_and(|fields| fields.keys().any(named)) {
            self.0.push(format!("{field} is not named: {}", answer.text));
        }
    }
}

/// Every field of the valid body in turn with a value of another shape.
fn misshapen(valid: &Value) -> Vec<(String, Value)> {
    let fields = valid.as_object().unwrap();
    let other = |value: &Value| if value.is_object() { json!("text") } else { json!({ "unexpected": [1] }) };
    let one = |name: &String| {
        let mut changed = fields.clone();
        changed.insert(name.clone(), other(&fields[name]));
        (name.clone(), Value::Object(changed))
    };
    fields.keys().map(one).collect()
}

#[tokio::test]
async fn l81_a_malformed_body_is_422_with_its_field_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    for operation in described(&fixture.app).await.iter().filter(|operation| operation.takes_body) {
        let path = fixture.fill(&operation.path);
        let valid = body(&operation.name, &fixture);
        let broken = ["", "{", "[]", "null", "\"text\"", "7", "\u{0}", "{,}"].map(str::to_owned);
        let mut unknown = valid.clone();
        unknown["surprise"] = json!(true);
        // What is right as far as it goes, with more behind it.
        let followed = [format!("{valid} {valid}"), format!("{valid}}}")];
        for text in broken.into_iter().chain(followed) {
            let answer = send(&fixture, &operation.method, &path, "application/json", &text).await;
            findings.expect(&format!("{} with {text}", operation.name), &answer, 422, "invalid");
            findings.names("body", &answer);
        }
        for (field, body) in misshapen(&valid).into_iter().chain([("surprise".to_owned(), unknown)]) {
            let answer = send(&fixture, &operation.method, &path, "application/json", &body.to_string()).await;
            findings.expect(&format!("{} with {body}", operation.name), &answer, 422, "invalid");
            findings.names(&field, &answer);
            assert!(!answer.text.contains("canary"), "{}: {}", operation.name, answer.text);
        }
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l81_another_content_type_is_415_and_too_much_is_413() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    for operation in described(&fixture.app).await.iter().filter(|operation| operation.takes_body) {
        let path = fixture.fill(&operation.path);
        let valid = body(&operation.name, &fixture);
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            let answer = send(&fixture, &operation.method, &path, kind, &valid.to_string()).await;
            findings.expect(&format!("{} {kind}", operation.name), &answer, 415, "unsupported_media_type");
        }
        let mut large = valid;
        large["surprise"] = json!("x".repeat(300_000));
        let answer = send(&fixture, &operation.method, &path, "application/json", &large.to_string()).await;
        findings.expect(&operation.name, &answer, 413, "body_too_large");
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}
