//! How answers read on a terminal: aligned tables and lines of label and value.
//!
//! Invariant: what others wrote (names of tools, texts of messages) reaches the terminal without control characters.

use serde_json::Value;

/// What stands where there is nothing.
const NOTHING: &str = "-";
/// Two spaces between columns.
const GAP: &str = "  ";

/// A cell's or line's text, on one line.
fn words(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => NOTHING.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) if items.is_empty() => NOTHING.to_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| words(Some(item))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(fields)) => {
            fields.iter().map(|(name, value)| format!("{name} {}", words(Some(value)))).collect::<Vec<_>>().join(", ")
        }
        Some(number @ Value::Number(_)) => number.to_string(),
    };
    if text.is_empty() { NOTHING.to_owned() } else { one_line(&text) }
}

fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// A text of several lines, without what could move a terminal's cursor.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control() || matches!(char, '\n' | '\t')).collect()
}

/// The list of this name in an answer; an empty one where there is none.
pub(super) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The `items` of a list, one line each; `empty` where there are none; the cursor where there are more.
pub(super) fn table(answer: &Value, columns: &[(&str, &str)], empty: &str) {
    let items = list(answer, "items");
    if items.is_empty() {
        say!("{empty}");
    } else {
        rows(items, columns).iter().for_each(|line| say!("{line}"));
    }
    if let Some(next) = answer.get("next").and_then(Value::as_str) {
        say!("\nMore results: repeat with --after {}", one_line(next));
    }
}

/// The heading and one line per item, in columns as wide as they need to be.
pub(super) fn rows(items: &[Value], columns: &[(&str, &str)]) -> Vec<String> {
    let heading: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let cells = |item: &Value| columns.iter().map(|(_, pointer)| words(item.pointer(pointer))).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(items.iter().map(cells)).collect();
    let width = |place: usize| lines.iter().filter_map(|line| line.get(place)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|place| width(place).unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

/// One thing, a line per label.
pub(super) fn lines(answer: &Value, labels: &[(&str, &str)]) {
    let width = labels.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    for (label, pointer) in labels {
        say!("{label:width$}{GAP}{}", words(answer.pointer(pointer)));
    }
}

/// A secret that was just made. It is not to be had again, and that is said.
pub(super) fn once(what: &str, secret: Option<&Value>) {
    say!("\n{what} (shown only once; copy it now):\n\n{GAP}{}\n", words(secret));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let items =
            [json!({"id": "a", "tools": ["x", "y"], "on": true}), json!({"id": "long one", "tools": [], "on": null})];
        let lines = rows(&items, &[("ID", "/id"), ("TOOLS", "/tools"), ("ON", "/on")]);
        assert_eq!(lines, ["ID        TOOLS  ON", "a         x, y   yes", "long one  -      -"]);
    }

    #[test]
    fn hostile_text_cannot_move_the_cursor() {
        assert_eq!(words(Some(&json!("a\u{1b}[2Jb\nc"))), "a [2Jb c");
        assert_eq!(plain("a\u{1b}[2J\nb\u{9b}c"), "a[2J\nbc");
    }
}
