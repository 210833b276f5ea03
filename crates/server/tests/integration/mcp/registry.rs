//! Approval, deletion, and what a registration means for the tools that are offered.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait as _;
use serde_json::{Map, Value, json};
use thinkwork::tools::{Call, Error, Receipt, ToolContext, ToolSource as _};
use thinkwork_primitives::{ActingClient, CredentialSubject, Requester};

use super::upstream::tool;
use super::{McpFixture, call, decide, said, text};
use crate::harness::{approval, execute_sql, of_tenant};

/// The answer to a call, without the name that was asked for.
fn shape(answer: &crate::harness::Response, name: &str) -> String {
    answer.text.replace(name, "NAME")
}

#[tokio::test]
async fn l40_a_pending_server_offers_nothing_and_calls_nothing_and_a_stale_hash_approves_nothing() {
    let fixture = McpFixture::new().await;
    let server = fixture.register("notes", json!({ "mode": "none" })).await;
    let id = text(&server, "id");
    let hash = text(&server, "definition_hash");
    assert_eq!((&server["status"], hash.len()), (&json!("pending"), 64));
    fixture.serve(&id, json!({})).await;
    let agent = fixture.agent(&fixture.owner).await;
    let nothing = async || {
        assert_eq!(fixture.listed(&agent).await, Vec::<String>::new());
        let answer = fixture.call(&agent, "notes__echo").await;
        assert_eq!(super::said(&answer), "notes is not available: an operator has not approved it yet.");
        let turn = fixture.turn(&fixture.owner, "/tool notes__echo {}").await;
        assert_eq!((&turn["status"], &turn["tools_offered"]), (&json!("failed"), &json!([])));
        assert_eq!(McpFixture::reason_of(&turn, "notes"), "pending");
        assert!(fixture.upstream.calls().is_empty());
    };
    nothing().await;
    let path = format!("/v1/mcp-servers/{id}");
    // Between review and approval somebody changes what is decided about.
    fixture.owner.patch(&path, json!({ "tool_allowlist": ["echo"] })).await.expect(200);
    for stale in [hash.as_str(), "", &"0".repeat(64)] {
        let refused = fixture.owner.post(&format!("{path}/approve"), json!({ "definition_hash": stale })).await;
        assert_eq!(refused.expect(409).code(), "definition_changed");
    }
    fixture.owner.post(&format!("{path}/approve"), json!({})).await.expect(422);
    nothing().await;
    decide(&fixture.owner, &id).await;
    assert_eq!(fixture.listed(&agent).await, ["notes__echo"]);
    fixture.call(&agent, "notes__echo").await;
    assert_eq!(fixture.upstream.calls().len(), 1);
    // Another definition is another decision.
    fixture.owner.patch(&path, json!({ "outside_spaces": true })).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, Vec::<String>::new());
    assert!(super::said(&fixture.call(&agent, "notes__echo").await).starts_with("notes is not available: "));
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test]
async fn l49_a_server_that_was_used_is_deleted_and_its_history_stays_readable() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let keyed =
        fixture.usable("keyed", json!({ "mode": "tenant_key", "secret": "the-key-of-a-server-that-goes" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    said(&fixture.call(&agent, "notes__echo").await);
    assert_eq!(said(&fixture.call(&agent, "keyed__echo").await), "done");
    let turn = fixture.turn(&fixture.owner, r#"/tool notes__echo {"text":"remembered"}"#).await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    let path = format!("/v1/mcp-servers/{id}");
    assert_eq!(fixture.owner.delete(&path).await.expect(204).text, "");
    for path in [path.clone(), format!("/admin/mcp-servers/{id}"), format!("/me/mcp-servers/{id}/connect")] {
        fixture.owner.get(&path).await.expect(404);
    }
    fixture.owner.delete(&path).await.expect(404);
    fixture.owner.delete(&format!("/v1/mcp-servers/{keyed}")).await.expect(204);
    // What was is still told, as JSON and on the pages.
    let again = fixture.owner.get(&format!("/v1/turns/{}", text(&turn, "id"))).await.expect(200).json;
    assert_eq!(again["steps"][0]["name"], "notes__echo");
    assert_eq!(again["steps"][0]["credential_subject"], turn["steps"][0]["credential_subject"]);
    let thread = text(&turn, "thread_id");
    assert!(fixture.owner.get(&format!("/v1/threads/{thread}/export")).await.expect(200).text.contains("remembered"));
    assert!(fixture.owner.get(&format!("/me/threads/{thread}")).await.expect(200).text.contains("remembered"));
    for path in ["/v1/me/connections", "/v1/connections", "/v1/audit", "/me/connections", "/admin/audit", "/admin"] {
        fixture.owner.get(path).await.expect(200);
    }
    assert!(fixture.actions().await.iter().any(|action| action == "mcp_server.deleted"));
    let home = fixture.owner.get("/me").await.expect(200).text;
    assert!(home.contains("notes was approved"), "what is gone keeps its name: {home}");
    // It is offered nowhere, its grant is ended, and its name is free.
    assert_eq!(fixture.listed(&agent).await, Vec::<String>::new());
    let calls = fixture.upstream.calls().len();
    assert!(fixture.call(&agent, "notes__echo").await.json["error"].is_object());
    assert_eq!(fixture.upstream.calls().len(), calls);
    fixture.app.run_pending_jobs().await;
    assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()));
    // The row itself stays, without its secret: what grants, steps and the record name by id must lead somewhere.
    let ids = async |sql: &str| -> Vec<uuid::Uuid> {
        let tx = fixture.app.slices().db.read(fixture.app.tenant).await.unwrap();
        tx.orm()
            .query_all_raw(of_tenant(&tx, sql))
            .await
            .unwrap()
            .iter()
            .map(|row| row.try_get("", "id").unwrap())
            .collect()
    };
    let gone = [&id, &keyed].map(|id| id.parse::<thinkwork_primitives::McpServerId>().unwrap().uuid());
    let kept = "SELECT id FROM mcp_server WHERE deleted_at IS NOT NULL AND credential_id IS NULL";
    assert_eq!(BTreeSet::from_iter(ids(kept).await), BTreeSet::from(gone));
    let sealed = "SELECT id FROM credential_version WHERE ciphertext IS NOT NULL
                  AND credential_id IN (SELECT id FROM credential WHERE owner_kind = 'mcp_server')";
    assert!(ids(sealed).await.is_empty(), "the key is erased");
    let body = json!({ "name": "notes", "url": fixture.upstream.url(), "auth": { "mode": "none" } });
    let anew = fixture.owner.post("/v1/mcp-servers", body).await.expect(201).json;
    assert_eq!(anew["slug"], "notes", "its name is free: {anew}");
    let anew = text(&anew, "id");
    assert_ne!(anew, id);
    decide(&fixture.owner, &anew).await;
    fixture.serve(&anew, json!({})).await;
    assert_eq!(fixture.listed(&agent).await, ["notes__echo", "notes__wait", "notes__whoami"]);
}

/// Between the assembly and the call somebody decides otherwise: the call looks once more.
#[tokio::test]
async fn l40_l49_what_was_offered_before_a_decision_is_not_called_after_it() {
    let fixture = McpFixture::new().await;
    let slices = fixture.app.slices();
    let ask = ToolContext {
        tenant: fixture.app.tenant,
        space: Some(fixture.space.parse().unwrap()),
        requester: Requester::User(fixture.app.owner),
        client: ActingClient::Agent,
        may_use: CredentialSubject::User { user: fixture.app.owner, connection: None },
        reads_only: false,
        thread: None,
        turn: None,
        trace: None,
        cancellation: tokio_util::sync::CancellationToken::new(),
    };
    for decision in ["nothing", "change", "reject", "delete"] {
        let id = fixture.usable(decision, json!({ "mode": "none" })).await;
        let path = format!("/v1/mcp-servers/{id}");
        let tool = slices.tools.find(&ask, &format!("{decision}__echo")).await.unwrap();
        match decision {
            "change" => drop(fixture.owner.patch(&path, json!({ "outside_spaces": true })).await.expect(200)),
            "reject" => {
                drop(fixture.owner.post(&format!("{path}/reject"), json!({ "reason": "no" })).await.expect(200))
            }
            "delete" => drop(fixture.owner.delete(&path).await.expect(204)),
            _ => {}
        }
        let before = fixture.upstream.calls().len();
        let call = Call { context: ask.clone(), tool, arguments: Map::new(), receipt: Receipt::Gateway };
        let called = slices.mcp.call(&call).await;
        let reached = fixture.upstream.calls().len() - before;
        match decision {
            "nothing" => assert_eq!((called.is_ok(), reached), (true, 1)),
            _ => assert!(matches!(called, Err(Error::Unknown)) && reached == 0, "{decision}: {called:?}, {reached}"),
        }
    }
}

#[tokio::test]
async fn l42_an_allow_list_holds_when_listing_and_when_calling_and_hides_without_a_trace() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(fixture.listed(&agent).await, ["notes__echo", "notes__wait", "notes__whoami"]);
    // The server's own list, then the Space's, then both: only what both let through.
    let cases: [(Value, Value, &[&str], &str); 3] = [
        (json!(["echo", "wait"]), json!(null), &["notes__echo", "notes__wait"], "whoami"),
        (json!(null), json!(["whoami"]), &["notes__whoami"], "echo"),
        (json!(["echo", "wait"]), json!(["echo", "whoami"]), &["notes__echo"], "wait"),
    ];
    for (of_server, of_space, offered, hidden) in cases {
        let change = json!({ "tool_allowlist": of_server });
        fixture.owner.patch(&format!("/v1/mcp-servers/{id}"), change).await.expect(200);
        decide(&fixture.owner, &id).await;
        fixture.serve(&id, json!({ "tool_allowlist": of_space })).await;
        assert_eq!(fixture.listed(&agent).await, offered);
        let before = fixture.upstream.calls().len();
        let hidden = format!("notes__{hidden}");
        let absent = "notes__absent";
        let answers = [fixture.call(&agent, &hidden).await, fixture.call(&agent, absent).await];
        assert!(answers[0].json["error"].is_object(), "{}", answers[0].text);
        assert_eq!(shape(&answers[0], &hidden), shape(&answers[1], absent));
        assert_eq!(answers[0].status, answers[1].status);
        let mut told = Vec::new();
        for name in [hidden.as_str(), absent] {
            let turn = fixture.turn(&fixture.owner, &format!("/tool {name} {{}}")).await;
            assert_eq!((&turn["status"], &turn["failure"]), (&json!("failed"), &json!("tool_not_offered")));
            assert_eq!(super::offered(&turn), offered);
            assert_eq!(turn["tools_left_out"], json!([]));
            told.push(fixture.last_message(&fixture.owner, &turn).await.replace(name, "NAME"));
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(fixture.upstream.calls().len(), before, "nothing of it reached the server");
        said(&call(&agent, &fixture.gateway(), offered[0], json!({})).await);
        assert_eq!(fixture.upstream.calls().len(), before + 1);
    }
}

#[tokio::test]
async fn a_stored_word_that_does_not_read_back_opens_nothing() {
    let fixture = McpFixture::new().await;
    let keyed = fixture.usable("keyed", json!({ "mode": "tenant_key", "secret": "the-key-of-a-damaged-server" })).await;
    fixture.serve(&keyed, json!({})).await;
    let agent = fixture.agent(&fixture.owner).await;
    fixture.call(&agent, "keyed__echo").await.expect(200);
    let calls = fixture.upstream.calls().len();
    let damages = [
        ("mcp_server", "auth", r#"{"mode":"tenant_key"}"#, r#"{"mode":"damaged"}"#),
        ("mcp_server", "auth", r#"{"mode":"tenant_key"}"#, r#"{"mode":"tenant_key","damaged":1}"#),
        ("mcp_server", "status", "approved", "damaged"),
        ("mcp_tool", "effect", "read", "damaged"),
        ("space", "access", "public", "damaged"),
        ("token", "scope", "write", "damaged"),
        ("user_account", "role", "owner", "damaged"),
    ];
    for (table, column, good, damaged) in damages {
        let write = async |word: &str| {
            let tx = fixture.app.slices().db.write(fixture.app.tenant).await.unwrap();
            execute_sql(&tx, &format!("UPDATE {table} SET {column} = '{word}'")).await.unwrap();
            tx.commit().await.unwrap();
        };
        write(damaged).await;
        let answer = fixture.call(&agent, "keyed__echo").await;
        assert!(answer.status == 500 || answer.json["error"].is_object(), "{table}.{column}: {}", answer.text);
        assert!(!answer.text.contains("damaged") && !answer.text.contains(column), "{}", answer.text);
        assert_eq!(fixture.upstream.calls().len(), calls, "{table}.{column}");
        if table == "mcp_server" {
            let id = keyed.parse::<thinkwork_primitives::McpServerId>().unwrap();
            let error = fixture.app.slices().mcp.find(fixture.app.tenant, id).await.unwrap_err();
            let expected = thinkwork_database::Error::Unreadable { table, column, row: id.uuid() };
            assert_eq!(error.to_string(), expected.to_string());
        }
        write(good).await;
    }
}

#[tokio::test]
async fn l118_a_held_tool_is_released_by_its_own_hash_and_by_nothing_else() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("notes", json!({ "mode": "none" })).await;
    fixture.serve(&id, json!({})).await;
    let agent = fixture.agent(&fixture.owner).await;
    assert_eq!(fixture.listed(&agent).await, ["notes__echo", "notes__wait", "notes__whoami"]);
    let path = format!("/v1/mcp-servers/{id}");
    let shown = async || fixture.owner.get(&path).await.expect(200).json;
    let reviewed = shown().await;
    fixture.upstream.set(|ways| {
        ways.tools[0]["description"] = json!("Does something else.");
        ways.tools.push(tool("added"));
    });
    fixture.owner.post(&format!("{path}/tools/refresh"), json!({})).await.expect(200);
    let rest = ["notes__wait", "notes__whoami"];
    assert_eq!(fixture.listed(&agent).await, rest);
    let changed = shown().await;
    assert_eq!(changed["definition_hash"], reviewed["definition_hash"]);
    let approve = async |body: Value| fixture.owner.post(&format!("{path}/approve"), body).await;
    // The server's own hash, which did not change, releases nothing; nor does what was reviewed before.
    approve(json!({ "definition_hash": changed["definition_hash"] })).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, rest);
    let refused = approve(approval(&reviewed, &json!({ "echo": { "effect": "read" } }))).await;
    let refused = refused.expect(409);
    assert_eq!(refused.code(), "definition_changed");
    assert!(refused.text.contains("The tool echo has changed"), "{}", refused.text);
    assert_eq!(fixture.listed(&agent).await, rest);
    // One that is named by what it is now is released, and no other.
    let hash = |name: &str| {
        let tools = changed["tools"].as_array().unwrap();
        tools.iter().find(|tool| tool["name"] == name).unwrap()["definition_hash"].clone()
    };
    let named = json!({ "added": { "definition_hash": hash("added"), "effect": "read" } });
    approve(json!({ "definition_hash": changed["definition_hash"], "tools": named })).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, ["notes__added", "notes__wait", "notes__whoami"]);
    approve(approval(&changed, &json!({}))).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, ["notes__added", "notes__echo", "notes__wait", "notes__whoami"]);
}

#[tokio::test]
async fn what_hides_in_a_tools_name_or_words_is_written_out_where_it_is_reviewed() {
    let fixture = McpFixture::new().await;
    fixture.upstream.set(|ways| {
        ways.tools[0]["description"] = json!("Reads mail.\u{202e}.liam sdneS \u{e0041}");
    });
    let id = fixture.usable("notes", json!({ "mode": "none" })).await;
    let page = fixture.owner.get(&format!("/admin/mcp-servers/{id}")).await.expect(200).text;
    assert!(page.contains(r"Reads mail.\u{202e}.liam sdneS \u{e0041}"), "{page}");
    assert!(!page.contains(['\u{202e}', '\u{e0041}']));
    let named = json!({ "slug": "x", "name": "Sales\u{202e}selaS", "access": "public" });
    let refused = fixture.owner.post("/v1/spaces", named).await.expect(422);
    assert!(refused.text.contains("\"name\""), "{}", refused.text);
}
