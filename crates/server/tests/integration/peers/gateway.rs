//! npm `server-everything` behind the gateway, called by our client, the MCP inspector and the official SDKs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Deployment, Peer, run, variable};
use crate::harness::Client;

/// One request to the gateway as a plain HTTP client writes it.
async fn rpc(client: &Client, path: &str, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = client
        .request("POST", path)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25");
    client.send(request.body(body.to_string())).await.expect(200).json
}

/// The inspector's command line as a foreign client; what it learns stays in a home of its own.
async fn inspect(url: &str, token: &str, arguments: &[&str]) -> Result<Value, String> {
    let home = tempfile::tempdir().unwrap();
    let header = format!("Authorization: Bearer {token}");
    let mut all = vec!["--cli", url, "--transport", "http", "--header", &header];
    all.extend(arguments);
    let launcher = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js";
    let ran = run(launcher, &all, &[("CI", "true"), ("HOME", home.path().to_str().unwrap())]).await;
    if ran.code != Some(0) {
        return Err(format!("{}{}", ran.err, ran.out));
    }
    Ok(serde_json::from_str(&ran.out).unwrap())
}

/// What a foreign client lists and hears from the tool `everything__echo`.
async fn list_and_call(client: &str, url: &str, token: &str) -> Value {
    let arguments = json!({ "message": "hello from a client" }).to_string();
    // The Python SDK 1.x cannot stand beside 2.x, so it has a folder of its own.
    let older = PathBuf::from(variable("THINKWORK_TEST_PEERS")).join("mcp1").display().to_string();
    let environment: &[(&str, &str)] = if client.ends_with("python1.py") { &[("PYTHONPATH", &older)] } else { &[] };
    let ran = run(client, &[url, token, "everything__echo", &arguments], environment).await;
    assert_eq!(ran.code, Some(0), "{client}: {}{}", ran.err, ran.out);
    serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_server_is_called_through_the_gateway_by_foreign_clients() {
    let everything = Peer::start("everything.mjs", &[]).await;
    let place = Deployment::new().await;
    let body = json!({
        "name": "Everything",
        "url": everything.url,
        "transport": "streamable_http",
        "auth": { "mode": "none" },
    });
    place.server(body, json!({ "echo": { "effect": "read", "idempotent": true } })).await;
    let minted = json!({ "name": "inspector", "kind": "personal", "audience": "mcp", "scopes": ["write"] });
    let token = place.operator.post("/v1/tokens", minted).await.expect(201).text_of("token");
    let path = format!("/mcp/spaces/{}", place.space);

    let client = place.app.bearer(&token);
    let tools = rpc(&client, &path, "tools/list", json!({})).await;
    let names: Vec<&str> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"everything__echo"), "{names:?}");
    let call = json!({ "name": "everything__echo", "arguments": { "message": "hello from afar" } });
    let called = rpc(&client, &path, "tools/call", call).await;
    let text = called["result"]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("hello from afar"), "{called}");

    let url = place.app.url(&path);
    let echo = ["--method", "tools/call", "--tool-name", "everything__echo", "--tool-arg", "message=hello"];
    let answer = inspect(&url, &token, &echo).await.unwrap();
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("hello"), "{answer}");
    let modern: Vec<&str> = ["--protocol-era", "modern"].into_iter().chain(echo).collect();
    let answer = inspect(&url, &token, &modern).await.unwrap();
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("hello"), "{answer}");
    for client in [
        "clients/npm1.mjs",
        "clients/npm2.mjs",
        "clients/python1.py",
        "clients/python2.py",
        "clients/fastmcp_client.py",
    ] {
        let said = list_and_call(client, &url, &token).await;
        assert!(said["tools"].as_array().unwrap().contains(&json!("everything__echo")), "{client}: {said}");
        assert!(said["text"].as_str().unwrap().contains("hello from a client"), "{client}: {said}");
    }
    let refused = inspect(&url, "twp_not-a-token", &["--method", "tools/list"]).await.unwrap_err();
    assert!(!refused.contains("everything__echo"), "{refused}");
    place.end().await;
}
