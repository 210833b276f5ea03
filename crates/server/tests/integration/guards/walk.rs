//! Every operation of the OpenAPI document, called by whom it is not for and with what it does not take.

mod bodies;
mod consent;
mod freshness;
mod kinds;
mod operations_by_kind;
pub mod pages;
mod pages_by_kind;
mod premises;
mod things;

use serde_json::Value;

use super::fixture::Fixture;
use super::operations::{Described, OPERATIONS, Who, body, described};
use super::tables;
use crate::harness::{Client, Response, TestApp};

/// Calls an operation at this path, with the body that it takes.
async fn call(fixture: &Fixture, who: &Client, operation: &Described, path: &str) -> Response {
    match body(&operation.name, fixture) {
        Value::Null if operation.takes_body => panic!("{}: give it a body in guards/operations.rs", operation.name),
        Value::Null => who.send(who.request(&operation.method, path)).await,
        body => who.with_json(&operation.method, path, body).await,
    }
}

/// What was found, told at once in the end.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// Notes an answer that has not this status and, where it is named, this code.
    fn expect(&mut self, what: &str, answer: &Response, status: u16, code: &str) {
        if let Some(problem) = unclear(answer) {
            self.0.push(format!("{what}: {problem}: {}", answer.text));
        }
        if answer.status != status || !code.is_empty() && answer.code() != code {
            let text: String = answer.text.chars().take(300).collect();
            self.0.push(format!("{what}: {} instead of {status} {code}: {text}", answer.status));
        }
    }

    /// Notes an answer that tells its caller what is hidden from them.
    fn keeps(&mut self, what: &str, hidden: &[String], answer: &Response) {
        let text = answer.text.to_lowercase();
        let told = hidden.iter().filter(|hidden| text.contains(&hidden.to_lowercase()));
        let start: String = answer.text.chars().take(300).collect();
        self.0.extend(told.map(|hidden| format!("{what}: shows {hidden}: {start}")));
    }

    #[track_caller]
    fn end(self) {
        let shown: Vec<&str> = self.0.iter().take(20).map(String::as_str).collect();
        assert!(self.0.is_empty(), "{} findings, the first are:\n  {}", self.0.len(), shown.join("\n  "));
    }
}

/// What is wrong with the sentence of an error: it is one for people, with what to do, and tells nothing of the inside.
fn unclear(answer: &Response) -> Option<&'static str> {
    let message = answer.json["error"]["message"].as_str()?;
    let inside = [
        "::",
        " struct ",
        " enum ",
        "Err(",
        "Some(",
        "panicked",
        "sqlx",
        "sea_orm",
        "SELECT ",
        "stack backtrace",
        ".rs:",
    ];
    let checks = [
        (!message.starts_with(char::is_uppercase) || !message.ends_with('.'), "no sentence"),
        (message.len() > 600, "too long"),
        (inside.iter().any(|word| message.contains(word)), "tells of the inside"),
        (!answer.json["error"]["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "no request id"),
    ];
    checks.into_iter().find_map(|(is_wrong, problem)| is_wrong.then_some(problem))
}

#[tokio::test]
async fn l80_every_operation_says_who_may_call_it_and_is_known_here() {
    let app = TestApp::new().await;
    let described = described(&app).await;
    for operation in &described {
        assert_eq!(operation.caller, operation.who().as_str(), "{}: x-caller and guards/operations.rs", operation.name);
    }
    for (name, _) in OPERATIONS {
        assert!(described.iter().any(|operation| operation.name == *name), "{name} is gone: take it off the list");
    }
}

#[tokio::test]
async fn l80_a_session_without_its_csrf_token_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let mut owner = fixture.owner.clone();
    for csrf in [None, Some("wrong".to_owned()), fixture.ana.csrf.clone()] {
        owner.csrf = csrf;
        for operation in described(&fixture.app).await {
            if operation.is_change() && !matches!(operation.who(), Who::Public(_)) {
                let answer = call(&fixture, &owner, &operation, &fixture.fill(&operation.path)).await;
                findings.expect(&operation.name, &answer, 403, "csrf");
            }
        }
    }
    findings.end();
}

#[tokio::test]
async fn l80_nothing_of_ours_comes_into_another_tenants_space() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    let mixes =
        |operation: &&Described| operation.path.starts_with("/v1/spaces/{id}") && operation.path.contains("_id}");
    for operation in described(&fixture.app).await.iter().filter(mixes) {
        // Their own Space with our person or server in it.
        let path = fixture.filled(&operation.path, |kind| match kind {
            "spaces" => fixture.other_space.clone(),
            kind => fixture.id(kind).to_owned(),
        });
        let answer = call(&fixture, &fixture.other, operation, &path).await;
        findings.expect(&format!("{} {path}", operation.method), &answer, 404, "not_found");
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l81_what_is_no_id_is_not_found_and_never_an_error_inside() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let wrong = [
        "secluded",
        "1",
        "null",
        "undefined",
        "%00",
        "%F0%28%8C%28",
        "..%2f..%2fetc",
        "spc_",
        "usr_%20",
        "*",
        "spc_0000000000000000000000000!",
        "00000000-0000-0000-0000-000000000000",
        "CHAT-",
        "'%20OR%201=1--",
    ];
    let long = "a".repeat(4_000);
    let before = tables::dump(&fixture.app).await;
    for operation in described(&fixture.app).await {
        for place in operation.path.matches('{').enumerate().map(|(place, _)| place) {
            let others =
                [fixture.id("spaces").to_owned(), fixture.id("users").to_owned(), fixture.id("threads").to_lowercase()];
            let texts = wrong.iter().map(|text| (*text).to_owned()).chain([long.clone()]);
            let texts = texts.chain(others.into_iter().filter(|id| !fixture.fill(&operation.path).contains(id)));
            for text in texts {
                let at = std::cell::Cell::new(0);
                let path = fixture.filled(&operation.path, |kind| {
                    let here = at.replace(at.get() + 1) == place;
                    if here { text.clone() } else { fixture.id(kind).to_owned() }
                });
                let answer = call(&fixture, &fixture.owner, &operation, &path).await;
                findings.expect(&format!("{} {path}", operation.method), &answer, 404, "not_found");
            }
        }
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}
