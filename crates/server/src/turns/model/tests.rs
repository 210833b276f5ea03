//! Reading what models and their providers answer.

use proptest::prelude::*;
use serde_json::{Value, json};
use thinkwork_linear_time::assert_linear;

use super::failure::{ModelError, of_response};
use super::{FailureCode, completion};

fn read(body: &Value) -> Result<String, ModelError> {
    completion::read(body.to_string().as_bytes()).map(|answer| answer.content)
}

#[test]
fn answers_are_read_in_all_their_forms() {
    let answer = |message: Value| read(&json!({"choices": [{"message": message, "finish_reason": "stop"}]})).unwrap();
    assert_eq!(answer(json!({"content": "Yes."})), "Yes.");
    assert_eq!(answer(json!({"content": [{"type": "text", "text": "Y"}, {"type": "text", "text": "es."}]})), "Yes.");
    assert_eq!(answer(json!({"content": "Yes.", "refusal": "", "reasoning": "Hm."})), "Yes.");
    let call = json!({"content": null, "tool_calls": [{"function": {"name": "a__b", "arguments": {"c": 1}}}]});
    let body = json!({"error": null, "choices": [{"message": call}]}).to_string();
    let answer = completion::read(body.as_bytes()).unwrap();
    assert_eq!((answer.tool_calls[0].id.as_str(), answer.tool_calls[0].arguments.as_str()), ("call0", "{\"c\":1}"));
}

#[test]
fn l96_what_is_no_answer_says_what_it_is() {
    let check = |body: Value, code: FailureCode, transient: bool| {
        let error = read(&body).unwrap_err();
        assert_eq!((error.code, error.transient), (code, transient), "{body}");
    };
    let choice = |choice: Value| json!({ "choices": [choice] });
    check(json!([]), FailureCode::Failed, false);
    check(json!({"error": "busy"}), FailureCode::Failed, false);
    check(json!({"error": {"type": "overloaded_error"}}), FailureCode::Failed, true);
    check(json!({"error": {"code": 403}}), FailureCode::Rejected, false);
    check(choice(json!({"error": {"code": 502}, "finish_reason": "error"})), FailureCode::Failed, true);
    check(choice(json!({"message": {}, "stop_reason": "refusal"})), FailureCode::Declined, false);
    check(choice(json!({"message": {"content": "I"}, "native_finish_reason": "SAFETY"})), FailureCode::Declined, false);
    let part = json!({"message": {"content": [{"type": "refusal", "refusal": "No."}]}});
    check(choice(part), FailureCode::Declined, false);
    check(choice(json!({"message": {"content": " \n"}})), FailureCode::NoAnswer, false);
}

#[test]
fn l96_an_error_is_about_the_tool_that_it_names() {
    let names = ["notes__look", "notes__look_up", "mail__send"];
    let check = |status: u16, error: Value, expected: Option<&str>| {
        let found = of_response(status, error.to_string().as_bytes()).naming_tool(&names);
        assert_eq!(found.refused_tool.as_deref(), expected, "{error}");
    };
    let said = |message: &str| json!({"error": {"message": message}});
    check(400, said("Invalid schema for function 'notes__look_up': no items"), Some("notes__look_up"));
    check(400, said("Bad functions:\nnotes__look, others"), Some("notes__look"));
    check(400, said("tools.2.custom.input_schema: no oneOf"), Some("mail__send"));
    check(400, json!({"error": {"message": "Bad.", "param": "tools[1].function.parameters"}}), Some("notes__look_up"));
    let gemini = "Unknown name \"const\" at 'tools[0].function_declarations[2].parameters'";
    check(400, json!([{"error": {"code": 400, "message": gemini}}]), Some("mail__send"));
    check(422, json!({"detail": [{"msg": "mail__send is wrong"}]}), Some("mail__send"));
    check(400, said("tools.7 is too much"), None);
    check(400, said("my_notes__look is unknown"), None);
    check(429, said("notes__look"), None);
    check(400, said("the context is too long"), None);
}

proptest! {
    #[test]
    fn l96_no_answer_of_a_provider_panics_or_leaves_its_quotation(
        status in 300_u16..600,
        said in any::<String>(),
        body in any::<Vec<u8>>(),
    ) {
        let _ = completion::read(&body);
        let _ = of_response(status, &body);
        let error = of_response(status, json!({"error": {"message": said}}).to_string().as_bytes());
        let quoted = error.text.split_once(" It says: `").map(|(_, quoted)| quoted);
        if let Some(quoted) = quoted {
            let inner = quoted.strip_suffix('`').unwrap_or("`");
            prop_assert!(!inner.contains(['`', '\n', '\u{202e}']), "{}", error.text);
            prop_assert!(inner.chars().count() <= 301);
        }
    }
}

#[test]
fn l108_answers_of_providers_are_read_in_linear_time() {
    /// A part of the largest answer: it keeps the test short, and what is quadratic takes seconds for it.
    const ANSWER_BYTES: usize = thinkwork_primitives::limits::UPSTREAM_BODY_BYTES_MAX / 128;
    let names: Vec<String> = (0..50).map(|number| format!("tools.{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let marks = ["[", "{\"error\":", "\"", "{\"choices\":["];
    assert_linear(&marks, ANSWER_BYTES, |body| {
        (completion::read(body.as_bytes()).is_ok(), of_response(400, body.as_bytes()).naming_tool(&names))
    });
    assert_linear(&["tools.", "1", "`", "\u{202e}"], ANSWER_BYTES, |said| {
        let body = json!({"error": {"message": said}}).to_string();
        let answer = json!({"choices": [{"message": {"content": said, "refusal": said}}]}).to_string();
        (of_response(400, body.as_bytes()).naming_tool(&names), completion::read(answer.as_bytes()).is_ok())
    });
    let call = r#"{"id":"a","function":{"name":"b","arguments":"{}"}},"#;
    assert_linear(&[call, r#"{"id":"","function":{"name":"b"}},"#], ANSWER_BYTES, |calls| {
        let calls = calls.trim_end_matches(',');
        completion::read(format!(r#"{{"choices":[{{"message":{{"tool_calls":[{calls}]}}}}]}}"#).as_bytes()).is_ok()
    });
}
