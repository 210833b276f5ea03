//! What models are given of tools, and of their results, whatever servers and providers make of schemas (l96, l97).

use serde_json::{Value, json};

use super::outside::{Model, Upstream, answers, completion, defined};
use super::{TurnFixture, text, words};

/// A schema with alternatives at its top.
fn attachment() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "anyOf": [{ "properties": { "content": { "type": "string" } }, "required": ["content"] },
                  { "properties": { "source_url": { "type": "string", "format": "uri" } }, "required": ["source_url"] }],
    })
}

fn recursive() -> Value {
    json!({
        "type": "object", "properties": { "filter": { "$ref": "#/$defs/Filter" } },
        "$defs": { "Filter": { "type": "object", "properties": { "and": { "type": "array", "items": { "$ref": "#/$defs/Filter" } } } } },
    })
}

/// What OpenAI and Anthropic refuse, with their words.
fn refusal_of(tools: &[Value]) -> Option<Value> {
    tools.iter().enumerate().find_map(|(place, tool)| {
        let schema = &tool["function"]["parameters"];
        let name = &tool["function"]["name"];
        if ["anyOf", "oneOf", "allOf"].iter().any(|keyword| schema.get(keyword).is_some()) {
            let problem = "input_schema does not support oneOf, allOf, or anyOf at the top level";
            return Some(json!({ "message": format!("tools.{place}.custom.input_schema: {problem}") }));
        }
        schema.get("properties").is_none().then(|| {
            json!({ "param": format!("tools[{place}].function.parameters"),
                    "message": format!("Invalid schema for function {name}: object schema missing properties.") })
        })
    })
}

fn called(name: &str, arguments: &Value) -> Value {
    json!({ "role": "assistant", "content": null, "tool_calls": [
        { "id": "c1", "type": "function", "function": { "name": name, "arguments": arguments.to_string() } }] })
}

fn given(request: &Value) -> Vec<String> {
    let tools = request["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().map(|tool| text(&tool["function"], "name")).collect()
}

#[tokio::test]
async fn l96_a_schema_that_providers_refuse_is_adapted_or_left_out_by_name() {
    let fixture = TurnFixture::new().await;
    let tools = vec![
        defined("attach", &attachment()),
        defined("list", &json!({ "type": "object" })),
        defined("query", &recursive()),
    ];
    let upstream = Upstream::with(None, tools, |_| json!({ "content": [{ "type": "text", "text": "done" }] })).await;
    fixture.server(&upstream, "notes", json!({ "mode": "none" }), json!({})).await;
    let model = Model::with(|request| match refusal_of(request["tools"].as_array().unwrap()) {
        Some(error) => (400, json!({ "error": error })),
        None => (200, completion(&answers("Hello."), "stop")),
    })
    .await;
    fixture.agent(&model).await;
    let ana = fixture.app.member("ana").await;
    let turn = fixture.turn(&ana, "hello").await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    let requests = model.requests();
    assert_eq!(requests.len(), 1, "nothing was refused");
    assert_eq!(given(&requests[0]), ["notes__attach", "notes__list"]);
    let attach = &requests[0]["tools"][0]["function"];
    assert_eq!(
        attach["parameters"],
        json!({ "type": "object", "properties": {
            "content": { "type": "string" }, "source_url": { "type": "string", "format": "uri" } } })
    );
    let description = "Does it.\n\nGive one of these combinations of arguments: (1) content; (2) source_url.";
    assert_eq!(attach["description"], description);
    let left_out = &turn["tools_left_out"];
    let detail = "it refers to itself at #/$defs/Filter";
    assert_eq!(left_out.as_array().unwrap().len(), 1, "{left_out}");
    assert_eq!(
        (&left_out[0]["tool"], &left_out[0]["reason"], &left_out[0]["detail"], &left_out[0]["server"]),
        (&json!("notes__query"), &json!("schema_not_supported"), &json!(detail), &json!("notes"))
    );
    assert_eq!(crate::mcp::offered(&turn), ["notes__attach", "notes__list"]);
    let told = text(&requests[0]["messages"][0], "content");
    assert!(told.contains("- notes__query: the model cannot use its input schema\n"), "{told}");
    let page = ana.get(&format!("/me/threads/{}", text(&turn, "thread_id"))).await.expect(200).text;
    assert!(page.contains("<strong>notes__query</strong>"), "{page}");
    assert!(page.contains("the model cannot use its input schema: it refers to itself at #/$defs/Filter"), "{page}");
    let typed = fixture.turn(&ana, "/tool notes__query {\"filter\":{}}").await;
    assert_eq!(typed["status"], "succeeded", "a person who types it needs no model: {typed}");
}

#[tokio::test]
async fn l96_a_tool_that_a_provider_still_refuses_is_left_out_and_the_model_asked_again() {
    let fixture = TurnFixture::new().await;
    let names: Vec<String> = (0..12).map(|number| format!("tool{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let upstream = Upstream::start(None, &names, |_| "found".to_owned()).await;
    fixture.server(&upstream, "notes", json!({ "mode": "none" }), json!({})).await;
    let ana = fixture.app.member("ana").await;
    // One is named by its place, one by its name; afterwards the model is asked twice within the same turn.
    let model = Model::with(|request| {
        let names = given(request);
        if let Some(place) = names.iter().position(|name| name == "notes__tool03") {
            let words = format!("tools.{place}.custom.input_schema.properties: Property keys should match pattern");
            return (400, json!({ "type": "error", "error": { "type": "invalid_request_error", "message": words } }));
        }
        if names.iter().any(|name| name == "notes__tool07") {
            return (422, json!({ "detail": [{ "msg": "Function 'notes__tool07' has an invalid schema" }] }));
        }
        let last = request["messages"].as_array().unwrap().last().unwrap();
        let message =
            if last["role"] == "tool" { answers("Found.") } else { called("notes__tool01", &json!({ "text": "a" })) };
        (200, completion(&message, "stop"))
    })
    .await;
    fixture.agent(&model).await;
    let turn = fixture.turn(&ana, "hello").await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    assert_eq!(model.requests().len(), 4, "three times for the first answer, once for the second");
    let left_out = turn["tools_left_out"].as_array().unwrap();
    assert_eq!(words(left_out, "tool"), ["notes__tool03", "notes__tool07"]);
    assert_eq!(words(left_out, "reason"), ["schema_not_supported", "schema_not_supported"]);
    assert_eq!(crate::mcp::offered(&turn).len(), 10);
    assert_eq!(words(turn["steps"].as_array().unwrap(), "kind"), ["model", "tool", "model"]);
    // One that refuses everything is asked nine times and no more.
    let refuses = Model::with(|request| {
        let words = format!("Invalid schema for function '{}'", given(request)[0]);
        (400, json!({ "error": { "message": words } }))
    })
    .await;
    fixture.agent(&refuses).await;
    let turn = fixture.turn(&ana, "hello again").await;
    assert_eq!((&turn["status"], &turn["failure"]), (&json!("failed"), &json!("model_rejected")), "{turn}");
    assert_eq!(refuses.requests().len(), 9);
    assert_eq!(turn["tools_left_out"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn l96_arguments_are_checked_against_the_schema_of_the_server() {
    let fixture = TurnFixture::new().await;
    let tools = vec![defined("attach", &attachment())];
    let upstream =
        Upstream::with(None, tools, |_| json!({ "content": [{ "type": "text", "text": "attached" }] })).await;
    fixture.server(&upstream, "notes", json!({ "mode": "none" }), json!({})).await;
    let model = Model::start(|request| {
        let last = request["messages"].as_array().unwrap().last().unwrap();
        match last["content"].as_str() {
            Some(said) if said.contains("attached") => answers("It is attached."),
            Some(said) if said.contains("not valid") => called("notes__attach", &json!({ "content": "a" })),
            _ => called("notes__attach", &json!({ "name": "a" })),
        }
    })
    .await;
    fixture.agent(&model).await;
    let ana = fixture.app.member("ana").await;
    let turn = fixture.turn(&ana, "attach it").await;
    assert_eq!(turn["status"], "succeeded", "{turn}");
    let told = text(model.requests()[1]["messages"].as_array().unwrap().last().unwrap(), "content");
    let missing = "the arguments must fit one alternative, but `content` is missing; or `source_url` is missing";
    assert!(told.contains(missing), "{told}");
    let calls = upstream.calls();
    assert_eq!(calls.len(), 1, "what does not fit is not sent");
    assert_eq!(calls[0].arguments, json!({ "content": "a" }));
}

#[tokio::test]
async fn l97_the_model_and_the_person_get_structured_content_beside_a_summary() {
    let fixture = TurnFixture::new().await;
    let data = json!({ "projects": [{ "id": "prj_77", "name": "Alpha" }] });
    let schema = json!({ "type": "object", "properties": {} });
    let tools = ["empty", "same", "summary"].map(|name| defined(name, &schema)).to_vec();
    let upstream = Upstream::with(None, tools, move |call| {
        let content = match call.tool.as_str() {
            "empty" => json!([]),
            "same" => json!([{ "type": "text", "text": data.to_string() }]),
            _ => json!([{ "type": "text", "text": "Retrieved 1 project" }]),
        };
        json!({ "content": content, "structuredContent": data })
    })
    .await;
    fixture.server(&upstream, "notes", json!({ "mode": "none" }), json!({})).await;
    let model = Model::start(|request| {
        let messages = request["messages"].as_array().unwrap();
        let last = messages.last().unwrap();
        if last["role"] == "tool" { answers("Done.") } else { called(last["content"].as_str().unwrap(), &json!({})) }
    })
    .await;
    fixture.agent(&model).await;
    let ana = fixture.app.member("ana").await;
    let json_text = r#"{"projects":[{"id":"prj_77","name":"Alpha"}]}"#;
    let both = format!("Retrieved 1 project\n\nStructured content:\n{json_text}");
    for (tool, expected) in [("summary", both.as_str()), ("same", json_text), ("empty", json_text)] {
        let turn = fixture.turn(&ana, &format!("notes__{tool}")).await;
        let told = text(model.requests().last().unwrap()["messages"].as_array().unwrap().last().unwrap(), "content");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["outcome"], &told["result"]), (&json!("ok"), &json!(expected)), "{tool}");
        assert_eq!(turn["steps"][1]["output_preview"], expected, "{tool}");
    }
    let typed = fixture.turn(&ana, "/tool notes__summary {}").await;
    let said = fixture.messages(&ana, &text(&typed, "thread_id")).await;
    assert_eq!(said[1]["text"], both, "{said:?}");
}
