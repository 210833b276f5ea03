//! Every operation of the OpenAPI document, called by whom it is not for and with what it does not take.

mod bodies;
mod consent;
mod freshness;
pub mod pages;

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
async fn l80_a_stranger_gets_nowhere() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    let mut forged = fixture.app.anonymous();
    forged.cookie = Some("__Host-tw_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
    let strangers =
        [fixture.app.anonymous(), forged, fixture.app.bearer("twp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];
    for operation in described(&fixture.app).await {
        if matches!(operation.who(), Who::Public(_)) {
            continue;
        }
        for stranger in &strangers {
            let answer = call(&fixture, stranger, &operation, &fixture.fill(&operation.path)).await;
            findings.expect(&operation.name, &answer, 401, "not_signed_in");
        }
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
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
async fn l80_a_member_is_refused_what_operators_do_and_sees_nothing_of_others() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let token = serde_json::json!({ "name": "x", "kind": "personal", "audience": "api", "scopes": ["write"] });
    let token = fixture.carl.post("/v1/tokens", token).await.expect(201).text_of("token");
    let before = tables::dump(&fixture.app).await;
    for member in [fixture.carl.clone(), fixture.app.bearer(&token)] {
        for operation in described(&fixture.app).await {
            let answer = match operation.who() {
                Who::Operator => call(&fixture, &member, &operation, &fixture.fill(&operation.path)).await,
                // Ana's session, token, connection, her Space and her thread in it.
                Who::Caller | Who::Member if operation.path.contains('{') && !is_of_the_tenant(&operation) => {
                    call(&fixture, &member, &operation, &fixture.fill(&operation.path)).await
                }
                _ => continue,
            };
            let status = if operation.who() == Who::Operator { 403 } else { 404 };
            findings.expect(&operation.name, &answer, status, "");
        }
    }
    findings.end();
    let changed = tables::changes(&before, &tables::dump(&fixture.app).await);
    let changed: Vec<_> = changed.iter().filter(|row| !row.starts_with("token ")).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// Operations of a person on something that everyone of the tenant has: MCP servers.
fn is_of_the_tenant(operation: &Described) -> bool {
    operation.path.starts_with("/v1/me/mcp-servers/")
}

#[tokio::test]
async fn l80_another_tenants_owner_finds_nothing_here_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let before = tables::dump(&fixture.app).await;
    for operation in described(&fixture.app).await {
        let mut paths = Vec::new();
        if operation.path.contains('{') {
            paths.push(fixture.fill(&operation.path));
            // Their own Space with our person or server in it.
            paths.push(fixture.filled(&operation.path, |kind| match kind {
                "spaces" => fixture.other_space.clone(),
                kind => fixture.id(kind).to_owned(),
            }));
        } else if operation.name == "POST /v1/threads" {
            paths.push(operation.path.clone());
        } else if operation.name == "POST /v1/webhooks" {
            // 422 about the field, as for a Space that is nowhere.
            let mut nowhere = body(&operation.name, &fixture);
            nowhere["space_id"] = serde_json::json!(thinkwork_primitives::SpaceId::new());
            let nowhere = fixture.other.post(&operation.path, nowhere).await.expect(422);
            let ours = call(&fixture, &fixture.other, &operation, &operation.path).await.expect(422);
            assert_eq!(ours.json["error"]["fields"], nowhere.json["error"]["fields"]);
        }
        if operation.path.starts_with("/v1/spaces/{id}") && !operation.path.contains("_id}") {
            paths.truncate(1);
        }
        for path in paths {
            let answer = call(&fixture, &fixture.other, &operation, &path).await;
            findings.expect(&format!("{} {path}", operation.method), &answer, 404, "not_found");
        }
    }
    findings.end();
    assert_eq!(tables::changes(&before, &tables::dump(&fixture.app).await), Vec::<String>::new());
}

#[tokio::test]
async fn l80_no_list_of_another_tenant_names_anything_here() {
    let fixture = Fixture::new().await;
    // A tenant has one agent, which no id leads to.
    fixture.owner.put("/v1/agent", body("PUT /v1/agent", &fixture)).await.expect(200);
    let shown = fixture.owner.get("/v1/agent").await.expect(200);
    assert!(shown.text.to_lowercase().contains("marker"), "{}", shown.text);
    for operation in described(&fixture.app).await {
        if operation.is_change() || operation.path.contains('{') {
            continue;
        }
        let answer = call(&fixture, &fixture.other, &operation, &operation.path).await.expect(200);
        for (kind, id) in &fixture.ids {
            assert!(!answer.text.contains(id.as_str()), "{} shows {kind}: {}", operation.name, answer.text);
        }
        assert!(!answer.text.to_lowercase().contains("marker"), "{}: {}", operation.name, answer.text);
        let ours = call(&fixture, &fixture.owner, &operation, &operation.path).await.expect(200);
        assert!(ours.text.len() > 2, "{}", operation.name);
    }
}

#[tokio::test]
async fn l81_what_is_no_id_is_not_found_and_never_an_error_inside() {
    let fixture = Fixture::new().await;
    let mut findings = Findings::default();
    let wrong = [
        "closed",
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
