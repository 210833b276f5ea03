//! What a tool answered as one text: its content, and the structured content that the content leaves out (L97).

use serde_json::Value;

/// What stands between content and structured content.
const HEADING: &str = "\n\nStructured content:\n";

/// The texts of a result and its structured content, in `bytes_max` at most. Where both do not fit, each keeps at least
/// half of the room that it needs.
pub(crate) fn result_text(texts: &[String], structured: Option<&Value>, bytes_max: usize) -> String {
    let mut text = texts.join("\n");
    let structured = structured.filter(|value| !value.is_null() && !repeats(texts, &text, value, bytes_max));
    let Some(structured) = structured.map(Value::to_string) else {
        truncate(&mut text, bytes_max);
        return text;
    };
    if text.trim().is_empty() {
        let mut text = structured;
        truncate(&mut text, bytes_max);
        return text;
    }
    let room = bytes_max.saturating_sub(HEADING.len());
    let half = room.checked_div(2).unwrap_or_default();
    truncate(&mut text, room.saturating_sub(structured.len()).max(half));
    text.push_str(HEADING);
    text.push_str(&structured);
    truncate(&mut text, bytes_max);
    text
}

/// Whether a text is the structured content again, written as JSON, or the only thing that is in it. SDKs put a result
/// that is no object under `result`.
fn repeats(texts: &[String], whole: &str, structured: &Value, bytes_max: usize) -> bool {
    let wrapped = match structured.as_object() {
        Some(members) if members.len() == 1 => members.get("result"),
        _ => None,
    };
    let is_same = |text: &str| {
        if wrapped.and_then(Value::as_str) == Some(text) {
            return true;
        }
        // What is longer is cut anyway, and is not parsed for this.
        let parsed = if text.len() <= bytes_max { serde_json::from_str::<Value>(text).ok() } else { None };
        parsed.is_some_and(|parsed| parsed == *structured || Some(&parsed) == wrapped)
    };
    is_same(whole) || (texts.len() > 1 && texts.iter().any(|text| is_same(text)))
}

fn truncate(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(texts: &[&str], structured: Value, expected: &str) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(result_text(&texts, Some(&structured), 1_000), expected);
    }

    #[test]
    fn l97_structured_content_follows_a_summary_and_is_not_told_twice() {
        let data = json!({"projects": [{"id": "prj_77"}]});
        check(&["2 projects"], data.clone(), "2 projects\n\nStructured content:\n{\"projects\":[{\"id\":\"prj_77\"}]}");
        check(&[], data.clone(), "{\"projects\":[{\"id\":\"prj_77\"}]}");
        check(&[" "], data.clone(), "{\"projects\":[{\"id\":\"prj_77\"}]}");
        check(
            &["{ \"projects\": [ {\"id\": \"prj_77\"} ] }"],
            data.clone(),
            "{ \"projects\": [ {\"id\": \"prj_77\"} ] }",
        );
        check(
            &["Found:", "{\"projects\":[{\"id\":\"prj_77\"}]}"],
            data,
            "Found:\n{\"projects\":[{\"id\":\"prj_77\"}]}",
        );
        check(&["sunny"], json!({"result": "sunny"}), "sunny");
        check(&["[1, 2]"], json!({"result": [1, 2]}), "[1, 2]");
        check(&["sunny"], json!({"result": "rain"}), "sunny\n\nStructured content:\n{\"result\":\"rain\"}");
        check(&["sunny"], Value::Null, "sunny");
    }

    #[test]
    fn l97_a_long_text_leaves_room_for_the_structured_content() {
        let text = result_text(&["a".repeat(500)], Some(&json!({"b": "c".repeat(500)})), 200);
        assert_eq!(text.len(), 200);
        assert!(text.starts_with(&"a".repeat(80)) && text.contains("{\"b\":\"ccc"), "{text}");
        let text = result_text(&["a".repeat(500)], Some(&json!({"b": 1})), 200);
        assert!(text.ends_with("Structured content:\n{\"b\":1}"), "{text}");
    }

    proptest! {
        #[test]
        fn l97_no_result_is_longer_than_its_room(
            texts in prop::collection::vec(any::<String>(), 0..4),
            data in any::<String>(),
            bytes_max in 0_usize..300,
        ) {
            let text = result_text(&texts, Some(&json!({"data": data})), bytes_max);
            prop_assert!(text.len() <= bytes_max);
        }
    }

    #[test]
    fn l108_a_result_becomes_text_in_linear_time() {
        const RESULT_BYTES: usize = 131_072;
        const ROOM: usize = 65_536;
        let same = |piece: &str, bytes: usize| vec![piece.to_owned(); bytes / piece.len()];
        for piece in ["a", "{\"result\":1}", "\"", "\u{1f600}"] {
            let texts = |bytes: usize| (same(piece, bytes), json!({ "result": same(piece, bytes) }));
            thinkwork_linear_time::assert_linear_in(RESULT_BYTES, texts, |(texts, structured)| {
                result_text(texts, Some(structured), ROOM)
            });
            let text = |bytes: usize| (vec![piece.repeat(bytes / piece.len())], json!({ "result": "a" }));
            thinkwork_linear_time::assert_linear_in(RESULT_BYTES, text, |(texts, structured)| {
                result_text(texts, Some(structured), ROOM)
            });
        }
    }
}
