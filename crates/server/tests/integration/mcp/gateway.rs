//! The gateway: `/mcp` and `/mcp/spaces/{id}` keep the Space's policy, and a token consents to nothing.

use serde_json::{Value, json};

use super::{McpFixture, call, decide, gateway_token, names, rpc, said, text};
use crate::harness::{Client, Response, approval};

fn code(answer: &Response) -> &str {
    assert_eq!(answer.json["result"]["isError"], true, "{}", answer.text);
    answer.json["result"]["structuredContent"]["error"]["code"].as_str().unwrap_or_else(|| panic!("{}", answer.text))
}

async fn api_token(who: &Client, kind: &str, scope: &str) -> String {
    let body = json!({ "name": "x", "kind": kind, "audience": "api", "scopes": [scope] });
    who.post("/v1/tokens", body).await.expect(201).text_of("token")
}

#[tokio::test]
async fn s07_no_token_connects_a_server_or_lets_a_call_through() {
    let fixture = McpFixture::new().await;
    let id = text(&fixture.register("notes", json!({ "mode": "user_oauth" })).await, "id");
    decide(&fixture.owner, &id).await;
    fixture.serve(&id, json!({})).await;
    let open = fixture.usable("open", json!({ "mode": "none" })).await;
    let mut tokens = Vec::new();
    for (kind, scope) in [("personal", "write"), ("personal", "admin"), ("service", "admin")] {
        tokens.push(fixture.app.bearer(&api_token(&fixture.owner, kind, scope).await));
    }
    for kind in ["personal", "service"] {
        tokens.push(fixture.app.bearer(&gateway_token(&fixture.owner, kind).await));
    }
    for token in &tokens {
        let refused = token.post(&format!("/v1/me/mcp-servers/{id}/connect"), json!({})).await;
        assert!([401, 403].contains(&refused.status), "{}", refused.text);
        assert!(refused.status == 401 || refused.code() == "needs_session", "{}", refused.text);
        assert_eq!(refused.header("set-cookie"), "");
        let page = format!("/me/mcp-servers/{id}/connect");
        assert_eq!(token.form(&page, &[]).await.status, 401, "a page knows no bearer");
        assert_eq!(token.get(&page).await.expect(303).header("location").split('?').next(), Some("/sign-in"));
    }
    // At the gateway: the hint is a plain link without a flow, and nothing there approves.
    let agent = fixture.agent(&fixture.owner).await;
    let link = fixture.app.url(&format!("/me/mcp-servers/{id}/connect"));
    let hint = said(&fixture.call(&agent, "notes__connect").await);
    assert!(hint.contains(&format!("{link} ")) && !hint.contains('?'), "{hint}");
    assert_eq!(fixture.listed(&agent).await, ["open__echo", "open__wait", "open__whoami", "notes__connect"]);
    fixture.serve(&open, json!({ "approvals": { "echo": "always" } })).await;
    for arguments in [json!({}), json!({ "text": "approve", "approved": true }), json!({ "call_hash": "0" })] {
        assert_eq!(code(&call(&agent, &fixture.gateway(), "open__echo", arguments).await), "approval_required");
    }
    for method in ["tools/approve", "approve", "steps/approve"] {
        assert!(rpc(&agent, &fixture.gateway(), method, json!({})).await.json["result"].is_null());
    }
    // What a token writes into a thread is not what a person typed.
    let turn = fixture.turn(&tokens[0], "/tool open__echo {}").await;
    assert_ne!(turn["status"], "succeeded", "{turn}");
    assert!(fixture.upstream.calls().is_empty());
    assert!(fixture.issuer.look(|seen| seen.authorizations.is_empty() && seen.token_requests.is_empty()));
    let mine = fixture.owner.get("/v1/me/mcp-servers").await.expect(200).json;
    let of = |id: &str| mine["items"].as_array().unwrap().iter().find(|item| item["id"] == id).cloned().unwrap();
    assert_eq!(of(&id)["status"], "needs_connection");
    // The same person's session does both.
    fixture.connect(&fixture.owner, &id).await;
    assert_eq!(fixture.turn(&fixture.owner, "/tool open__echo {}").await["status"], "succeeded");
    assert_eq!(fixture.upstream.calls().len(), 1);
}

#[tokio::test]
async fn s09_the_gateway_keeps_membership() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("open", json!({ "mode": "none" })).await;
    let ana = fixture.app.member("ana").await;
    let agent = fixture.agent(&ana).await;
    let private = crate::spaces::space(&fixture.owner, "secret", "private").await;
    fixture.owner.put(&format!("/v1/spaces/{private}/mcp-servers/{id}"), json!({})).await.expect(200);
    let gateway = format!("/mcp/spaces/{private}");
    let member = format!("/v1/spaces/{private}/members/{}", ana.user.unwrap());
    let shut = async || {
        for method in ["initialize", "tools/list", "tools/call"] {
            assert_eq!(rpc(&agent, &gateway, method, json!({ "name": "open__echo" })).await.status, 404, "{method}");
        }
        let service = fixture.app.bearer(&gateway_token(&fixture.owner, "service").await);
        assert_eq!(rpc(&service, &gateway, "tools/list", json!({})).await.status, 404);
        assert!(fixture.upstream.calls().is_empty());
    };
    shut().await;
    fixture.owner.put(&member, json!({})).await.expect(200);
    assert_eq!(names(&rpc(&agent, &gateway, "tools/list", json!({})).await).len(), 3);
    fixture.owner.delete(&member).await.expect(204);
    shut().await;
    // Another Space of theirs has what was put there, and a disabled person has nothing.
    assert_eq!(fixture.listed(&agent).await.len(), 3);
    fixture.owner.delete(&format!("/v1/spaces/{}/mcp-servers/{id}", fixture.space)).await.expect(204);
    assert_eq!(fixture.listed(&agent).await, Vec::<String>::new());
    assert!(fixture.call(&agent, "open__echo").await.json["error"].is_object());
    fixture.owner.patch(&format!("/v1/users/{}", ana.user.unwrap()), json!({ "disabled": true })).await.expect(200);
    assert_eq!(rpc(&agent, &fixture.gateway(), "tools/list", json!({})).await.status, 401);
}

#[tokio::test]
async fn s09_the_gateway_keeps_allow_lists_and_approvals() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("open", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    for word in ["always", "once"] {
        fixture.serve(&id, json!({ "tool_allowlist": ["echo", "wait"], "approvals": { "echo": word } })).await;
        assert_eq!(fixture.listed(&agent).await, ["open__echo", "open__wait"]);
        let answer = fixture.call(&agent, "open__echo").await;
        assert_eq!(code(&answer), "approval_required");
        assert!(said(&answer).contains(&fixture.app.url(&format!("/me/spaces/{}", fixture.space))), "{}", answer.text);
        assert!(fixture.call(&agent, "open__whoami").await.json["error"].is_object());
    }
    // What reaches others asks whatever the policy says, since nobody knows what the client has read.
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    let effects = json!({ "echo": { "effect": "send" } });
    let body = approval(&shown, &effects);
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/approve"), body).await.expect(200);
    for approvals in [json!({}), json!({ "echo": "never" })] {
        fixture.serve(&id, json!({ "approvals": approvals })).await;
        assert_eq!(code(&fixture.call(&agent, "open__echo").await), "approval_required");
    }
    assert!(fixture.upstream.calls().is_empty());
    decide(&fixture.owner, &id).await;
    assert_eq!(said(&fixture.call(&agent, "open__echo").await), "done");
}

#[tokio::test]
async fn s09_without_a_space_only_servers_marked_for_it_are_offered_and_effects_still_ask() {
    let fixture = McpFixture::new().await;
    let inside = fixture.usable("inside", json!({ "mode": "none" })).await;
    let body = json!({
        "name": "outside", "url": fixture.upstream.url(), "auth": { "mode": "none" },
        "tool_allowlist": ["echo", "wait"], "outside_spaces": true,
    });
    let outside = fixture.owner.post("/v1/mcp-servers", body).await.expect(201).text_of("id");
    let agent = fixture.agent(&fixture.owner).await;
    let listed = async || names(&rpc(&agent, "/mcp", "tools/list", json!({})).await);
    assert_eq!(listed().await, Vec::<String>::new(), "pending");
    let approve = async |effect: &str| {
        let shown = fixture.owner.get(&format!("/v1/mcp-servers/{outside}")).await.expect(200).json;
        let effects = json!({ "echo": { "effect": effect }, "wait": { "effect": "send" } });
        let body = approval(&shown, &effects);
        fixture.owner.post(&format!("/v1/mcp-servers/{outside}/approve"), body).await.expect(200);
    };
    approve("read").await;
    assert_eq!(listed().await, ["outside__echo", "outside__wait"]);
    assert_eq!(said(&call(&agent, "/mcp", "outside__echo", json!({})).await), "done");
    assert_eq!(code(&call(&agent, "/mcp", "outside__wait", json!({})).await), "approval_required");
    for name in ["inside__echo", "outside__whoami", "absent__echo"] {
        assert!(call(&agent, "/mcp", name, json!({})).await.json["error"].is_object(), "{name}");
    }
    assert_eq!(fixture.upstream.calls().len(), 1);
    // A server of a Space does not become one of `/mcp` by serving it, nor the other way round.
    assert_eq!(fixture.listed(&agent).await.len(), 3);
    fixture.owner.patch(&format!("/v1/mcp-servers/{inside}"), json!({ "outside_spaces": true })).await.expect(200);
    assert_eq!(listed().await, ["outside__echo", "outside__wait"], "that is another definition");
}

#[tokio::test]
async fn a_stranger_at_the_gateway_learns_where_to_be_authorised_and_nothing_else() {
    let fixture = McpFixture::new().await;
    let metadata = fixture.app.anonymous().get("/.well-known/oauth-protected-resource/mcp").await.expect(200).json;
    assert_eq!(metadata["resource"], fixture.app.url("/mcp"));
    let api = fixture.app.bearer(&api_token(&fixture.owner, "personal", "admin").await);
    for path in ["/mcp".to_owned(), fixture.gateway()] {
        for client in [&fixture.app.anonymous(), &fixture.app.bearer("twp_nonsense"), &api, &fixture.owner] {
            for method in ["POST", "GET", "DELETE"] {
                let answer = client.send(client.request(method, &path).header("accept", "text/event-stream")).await;
                assert_eq!(answer.status, 401, "{method} {path}");
                let place = fixture.app.url("/.well-known/oauth-protected-resource/mcp");
                assert!(answer.header("www-authenticate").contains(&place));
            }
        }
        let agent = fixture.agent(&fixture.owner).await;
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
        let greeted = rpc(&agent, &path, "initialize", hello).await.expect(200);
        assert_eq!(greeted.json["result"]["serverInfo"]["name"], "thinkwork");
        assert_ne!(greeted.json["result"]["capabilities"]["tools"], Value::Null);
        for method in ["GET", "DELETE"] {
            let answer = agent.send(agent.request(method, &path).header("accept", "text/event-stream")).await;
            assert_eq!(answer.status, 405, "{method}: there is no stream and no session to end: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn ending_ones_own_connection_says_no_more_than_that_it_is_done() {
    let fixture = McpFixture::new().await;
    let id = fixture.personal("notes").await;
    let path = format!("/v1/me/mcp-servers/{id}/connection");
    assert_eq!(fixture.owner.delete(&path).await.expect(204).text, "");
    fixture.owner.delete(&path).await.expect(404);
    assert!(fixture.issuer.look(|seen| seen.live_access.is_empty()));
}

#[tokio::test]
async fn a_token_with_scope_read_gets_tools_that_read_and_runs_no_other() {
    let fixture = McpFixture::new().await;
    let id = fixture.usable("open", json!({ "mode": "none" })).await;
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    let effects =
        json!({ "echo": { "effect": "read" }, "wait": { "effect": "write" }, "whoami": { "effect": "send" } });
    let body = approval(&shown, &effects);
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/approve"), body).await.expect(200);
    fixture.serve(&id, json!({ "approvals": { "wait": "never" } })).await;
    for kind in ["personal", "service"] {
        let writer = fixture.app.bearer(&gateway_token(&fixture.owner, kind).await);
        assert_eq!(fixture.listed(&writer).await, ["open__echo", "open__wait", "open__whoami"]);
        let body = json!({ "name": "reader", "kind": kind, "audience": "mcp", "scopes": ["read"] });
        let reader = fixture.owner.post("/v1/tokens", body).await.expect(201).text_of("token");
        let reader = fixture.app.bearer(&reader);
        assert_eq!(fixture.listed(&reader).await, ["open__echo"], "{kind}");
        let before = fixture.upstream.calls().len();
        for name in ["open__wait", "open__whoami"] {
            let answer = fixture.call(&reader, name).await;
            assert_eq!(answer.json["result"]["isError"], true, "{}", answer.text);
            assert!(said(&answer).contains("scope write"), "{}", answer.text);
        }
        assert_eq!(fixture.upstream.calls().len(), before, "{kind}");
        assert_eq!(said(&fixture.call(&reader, "open__echo").await), "done");
    }
}

#[tokio::test]
async fn what_is_no_message_or_of_no_known_version_is_told_as_json() {
    let fixture = McpFixture::new().await;
    let agent = fixture.agent(&fixture.owner).await;
    for (body, code) in [("{", -32700), ("", -32700), ("{}", -32600), ("[]", -32600), ("1", -32600)] {
        let answer = agent.send(super::rpc_request(&agent, &fixture.gateway()).body(body)).await.expect(400);
        assert_eq!(answer.json["error"]["code"], code, "{body:?}: {}", answer.text);
        assert!(answer.json["error"]["message"].as_str().is_some_and(|text| text.ends_with('.')));
    }
    let large = " ".repeat(thinkwork_primitives::limits::API_BODY_BYTES_MAX + 1);
    let answer = agent.send(super::rpc_request(&agent, &fixture.gateway()).body(large)).await.expect(413);
    assert_eq!(answer.code(), "body_too_large");
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let request = agent.request("POST", &fixture.gateway()).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream");
    let answer = agent.send(request.header("mcp-protocol-version", "1999-01-01").body(hello.clone())).await.expect(400);
    assert!(answer.json["error"]["message"].as_str().unwrap().contains("2025-11-25"), "{}", answer.text);
    let request = agent.request("POST", &fixture.gateway()).header("content-type", "text/plain");
    let request = request.header("accept", "application/json, text/event-stream");
    assert_eq!(agent.send(request.body(hello)).await.expect(415).code(), "unsupported_media_type");
}

#[tokio::test]
async fn a_page_says_no_reason_that_is_not_ours() {
    let fixture = McpFixture::new().await;
    let page = fixture.owner.get("/me/mcp-servers?status=error&reason=call_+1_555_now").await.expect(200).text;
    assert!(!page.contains("1_555_now") && page.contains("Nothing was connected"), "{page}");
    let page = fixture.owner.get("/me/mcp-servers?status=error&reason=access_denied").await.expect(200).text;
    assert!(page.contains("Access was denied"), "{page}");
}

#[tokio::test]
async fn l98_what_a_tool_says_of_itself_reaches_the_client() {
    let fixture = McpFixture::new().await;
    let schema = json!({ "type": "object", "properties": { "authorization": { "type": "string" } } });
    let told = json!({
        "name": "whoami", "title": "Who am I?", "description": "Says it.", "inputSchema": { "type": "object" },
        "outputSchema": schema,
        "annotations": { "title": "Who", "readOnlyHint": false, "destructiveHint": true, "openWorldHint": false },
        "icons": [{ "src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"] }],
        "_meta": { "ui": { "resourceUri": "ui://who" }, "io.modelcontextprotocol/x": 1 },
    });
    // Its hints are text, which is not MCP, and its icons are no list.
    let odd = json!({
        "name": "odd", "title": "Odd", "inputSchema": { "type": "object" },
        "annotations": { "readOnlyHint": "true" }, "icons": "none",
    });
    fixture.upstream.set(|ways| ways.tools = vec![told.clone(), odd]);
    let auth = json!({ "mode": "tenant_key", "header": "x-key", "secret": "a-key-of-the-company" });
    let id = fixture.usable("open", auth).await;
    let agent = fixture.agent(&fixture.owner).await;
    let listed = rpc(&agent, &fixture.gateway(), "tools/list", json!({})).await.expect(200).json;
    let tools = listed["result"]["tools"].as_array().unwrap();
    let of = |name: &str| tools.iter().find(|tool| tool["name"] == name).unwrap_or_else(|| panic!("{listed}"));
    let whoami = of("open__whoami");
    for field in ["title", "outputSchema", "icons"] {
        assert_eq!(whoami[field], told[field], "{field}");
    }
    assert_eq!(whoami["_meta"], json!({ "ui": { "resourceUri": "ui://who" } }));
    // The operator recorded `read`, whatever the server says.
    let hints = json!({
        "title": "Who", "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false,
    });
    assert_eq!(whoami["annotations"], hints);
    assert_eq!((&of("open__odd")["title"], &of("open__odd")["icons"]), (&json!("Odd"), &Value::Null));
    let answer = call(&agent, &fixture.gateway(), "open__whoami", json!({})).await.json;
    assert!(answer["result"]["structuredContent"]["authorization"].is_string(), "{answer}");
    assert!(answer["result"]["_meta"]["seen"].is_string(), "{answer}");
    assert!(!answer.to_string().contains("a-key-of-the-company"), "{answer}");
    // With another effect the hints change, and so does the review with the server's word.
    let shown = fixture.owner.get(&format!("/v1/mcp-servers/{id}")).await.expect(200).json;
    let found = shown["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "whoami").unwrap();
    assert_eq!((&found["title"], &found["output_schema"], &found["icons"]), (&told["title"], &schema, &told["icons"]));
    let body = approval(&shown, &json!({ "whoami": { "effect": "send" }, "odd": { "effect": "read" } }));
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/approve"), body).await.expect(200);
    let listed = rpc(&agent, &fixture.gateway(), "tools/list", json!({})).await.expect(200).json;
    let hints = json!({
        "title": "Who", "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": true,
    });
    assert_eq!(
        listed["result"]["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "open__whoami").unwrap()["annotations"],
        hints
    );
    let page = fixture.owner.get(&format!("/admin/mcp-servers/{id}")).await.expect(200).text;
    for words in ["Who am I?", "ui://who", "authorization"] {
        assert!(page.contains(words), "{words}");
    }
    // Another title is another definition: held until it is approved.
    fixture.upstream.set(|ways| ways.tools[0]["title"] = json!("Who are you?"));
    fixture.owner.post(&format!("/v1/mcp-servers/{id}/tools/refresh"), json!({})).await.expect(200);
    assert_eq!(fixture.listed(&agent).await, ["open__odd"]);
}

#[tokio::test]
async fn the_gateway_offers_the_versions_it_speaks_and_names_bad_parameters() {
    let fixture = McpFixture::new().await;
    fixture.usable("open", json!({ "mode": "none" })).await;
    let agent = fixture.agent(&fixture.owner).await;
    for (asked, offered) in [
        ("2024-11-05", "2025-11-25"),
        ("2025-03-26", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
    ] {
        let hello =
            json!({ "protocolVersion": asked, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
        let request = agent
            .request("POST", &fixture.gateway())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello }).to_string());
        let greeted = agent.send(request).await.expect(200);
        assert_eq!(greeted.json["result"]["protocolVersion"], offered, "{asked}: {}", greeted.text);
    }
    let bad =
        [json!({}), json!({ "name": 5 }), json!({ "name": "open__echo", "arguments": [] }), json!({ "name": "none" })];
    for params in bad {
        let answer = rpc(&agent, &fixture.gateway(), "tools/call", params.clone()).await;
        assert_eq!(answer.json["error"]["code"], -32_602, "{params}: {} {}", answer.status, answer.text);
    }
    let answer = rpc(&agent, &fixture.gateway(), "tools/none", json!({})).await;
    assert_eq!(answer.json["error"]["code"], -32_601, "{}", answer.text);
}
