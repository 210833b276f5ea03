//! Acts of consent need a person's session. No token of any kind or scope consents.

use serde_json::{Value, json};

use super::call;
use crate::guards::fixture::Fixture;
use crate::guards::operations::{Described, Who, described};
use crate::guards::tables;
use crate::harness::{Client, Response};

/// The acts that need consent, each with what its operations have in their path.
const ACTS: [(&str, &[&str]); 7] = [
    ("approve or deny a call", &["/v1/steps/"]),
    ("connect", &["/connect", "/connections/start", "/connections/complete"]),
    ("give or end a standing permission", &["permission"]),
    ("make or change a trigger", &["/v1/me/triggers"]),
    ("share what one's account read", &["/v1/messages/{id}/share"]),
    ("change the own password", &["/v1/me/password"]),
    ("end this very session", &["/v1/sessions/current"]),
];

/// Reading and ending what one consented to is no consent.
fn is_act(operation: &Described) -> bool {
    let names = |part: &&str| {
        if part.starts_with("/connect") { operation.path.ends_with(*part) } else { operation.path.contains(*part) }
    };
    operation.is_change() && ACTS.iter().any(|(_, parts)| parts.iter().any(names))
}

async fn minted(fixture: &Fixture, who: &Client, kind: &str, audience: &str, scope: &str) -> Client {
    let body = json!({ "name": "x", "kind": kind, "audience": audience, "scopes": [scope] });
    let token = who.post("/v1/tokens", body).await.expect(201).text_of("token");
    fixture.app.bearer(&token)
}

/// A client per kind of token that there is.
async fn tokens(fixture: &Fixture) -> Vec<(&'static str, Client)> {
    let owner = &fixture.owner;
    vec![
        ("personal api admin", minted(fixture, owner, "personal", "api", "admin").await),
        ("personal api write", minted(fixture, owner, "personal", "api", "write").await),
        ("personal api read", minted(fixture, owner, "personal", "api", "read").await),
        ("service api admin", minted(fixture, owner, "service", "api", "admin").await),
        ("personal mcp write", minted(fixture, owner, "personal", "mcp", "write").await),
        ("service mcp write", minted(fixture, owner, "service", "mcp", "write").await),
    ]
}

#[track_caller]
fn refused(kind: &str, act: &str, answer: &Response) {
    let expect = match kind {
        "personal api read" => (403, "scope"),
        kind if kind.contains("mcp") => (401, "not_signed_in"),
        _ => (403, "needs_session"),
    };
    assert_eq!((answer.status, answer.code()), expect, "{kind}: {act}: {}", answer.text);
}

#[tokio::test]
async fn s07_no_token_consents() {
    let fixture = Fixture::new().await;
    let operations = described(&fixture.app).await;
    let acts: Vec<&Described> = operations.iter().filter(|operation| is_act(operation)).collect();
    assert!(acts.len() >= 2, "the acts of consent are gone");
    for operation in &operations {
        let consents = operation.who() == Who::Consent;
        assert_eq!(consents, is_act(operation), "{} is an act of consent or it is not: see ACTS", operation.name);
    }
    for (kind, token) in tokens(&fixture).await {
        for operation in &acts {
            refused(kind, &operation.name, &call(&fixture, &token, operation, &fixture.fill(&operation.path)).await);
        }
    }
}

/// Whether a server may be used is for operators: of tokens those with scope `admin` may say so (`configure`), no other.
/// What was consented to is ended by its person alone.
#[tokio::test]
async fn s07_a_token_decides_about_servers_only_with_scope_admin_and_about_grants_only_for_its_person() {
    let fixture = Fixture::new().await;
    let tokens = tokens(&fixture).await;
    let server = fixture.id("mcp-servers").to_owned();
    let mine = fixture.id("me/mcp-servers").to_owned();
    fixture.connect(&fixture.owner, &mine).await;
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{server}")).await.expect(200).json;
    let decision = json!({ "definition_hash": shown["definition_hash"] });
    let approve = format!("/v1/mcp-servers/{server}/approve");
    let reject = format!("/v1/mcp-servers/{server}/reject");
    let grant = format!("/v1/me/mcp-servers/{mine}/connection");
    let connected = async || {
        let all = fixture.owner.get("/v1/connections").await.expect(200).json;
        all["items"].as_array().unwrap().iter().filter(|item| item["status"] == "connected").count()
    };
    assert_eq!(connected().await, 2, "Ana's and the owner's");
    let before = tables::dump(&fixture.app).await;
    for (kind, token) in tokens.iter().filter(|(kind, _)| !kind.contains("admin")) {
        let expect = match *kind {
            "personal api write" => (403, "needs_operator"),
            "personal api read" => (403, "scope"),
            _ => (401, "not_signed_in"),
        };
        let reason = json!({ "reason": "no" });
        for answer in [token.post(&approve, decision.clone()).await, token.post(&reject, reason).await] {
            assert_eq!((answer.status, answer.code()), expect, "{kind}: {}", answer.text);
        }
    }
    for (kind, token) in tokens.iter().filter(|(kind, _)| !["personal api admin", "personal api write"].contains(kind))
    {
        let answer = token.delete(&grant).await;
        let expect = match *kind {
            "service api admin" => (403, "needs_person"),
            "personal api read" => (403, "scope"),
            _ => (401, "not_signed_in"),
        };
        assert_eq!((answer.status, answer.code()), expect, "{kind}: {}", answer.text);
    }
    let trace = tables::changes(&before, &tables::dump(&fixture.app).await);
    let trace: Vec<_> = trace.iter().filter(|row| !row.starts_with("token ")).collect();
    assert!(trace.is_empty(), "{trace:?}");
    let of = |wanted: &str| tokens.iter().find(|(kind, _)| *kind == wanted).map(|(_, token)| token).unwrap();
    of("service api admin").post(&approve, decision.clone()).await.expect(200);
    of("personal api admin").post(&approve, decision).await.expect(200);
    of("personal api write").delete(&grant).await.expect(204);
    assert_eq!(connected().await, 1, "the owner's own is ended, Ana's stays");
}

/// The two acts that are part of a wider operation: widening a Space, and a token that acts as a person.
#[tokio::test]
async fn s07_no_token_widens_a_space_or_makes_a_token_that_acts_as_a_person() {
    let fixture = Fixture::new().await;
    let tokens = tokens(&fixture).await;
    let before = tables::dump(&fixture.app).await;
    let space = format!("/v1/spaces/{}", fixture.id("spaces"));
    let personal =
        |audience: &str| json!({ "name": "x", "kind": "personal", "audience": audience, "scopes": ["read"] });
    for (kind, token) in &tokens {
        for audience in ["mcp", "api"] {
            refused(kind, "mint", &token.post("/v1/tokens", personal(audience)).await);
        }
        let answer = token.patch(&space, json!({ "access": "public" })).await;
        match *kind {
            // A Space that a service token does not see, and an operation for operators.
            "service api admin" => assert_eq!(answer.status, 404),
            "personal api write" => assert_eq!(answer.code(), "needs_operator"),
            kind => refused(kind, "widen", &answer),
        }
    }
    // A service token sees a public Space; there is nothing to widen in it. Nothing of the above left a trace.
    let trace = tables::changes(&before, &tables::dump(&fixture.app).await);
    let trace: Vec<_> = trace.iter().filter(|row| !row.starts_with("token ")).collect();
    assert!(trace.is_empty(), "{trace:?}");
    fixture.owner.patch(&space, json!({ "access": "public" })).await.expect(200);
    assert_eq!(
        fixture.owner.post("/v1/tokens", personal("mcp")).await.expect(201).json["audience"],
        Value::from("mcp")
    );
}
