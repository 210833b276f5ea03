//! `/tool name {json}`: what a person types to run one tool.
//!
//! Only a message that begins with the word is a command; anywhere else it is text.

use serde_json::{Map, Value};

const WORD: &str = "/tool";

/// What was typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The tool's full name.
    pub name: String,
    /// Its arguments; empty where none were typed.
    pub arguments: Map<String, Value>,
}

/// Why it cannot be run. The texts are for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is nothing behind the word.
    #[error("Name the tool after /tool, like: /tool notes__search {{\"query\":\"invoice\"}}")]
    NoName,
    /// What follows the name is no JSON.
    #[error("The arguments are not JSON: {0}. Write an object after the name, like {{\"query\":\"invoice\"}}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("The arguments must be one JSON object, like {{\"query\":\"invoice\"}}")]
    NotAnObject,
}

/// The command in a message, if it is one. The arguments may span lines.
///
/// # Errors
/// [`CommandError`] where the message is meant as a command and cannot be run.
pub fn parse_command(text: &str) -> Option<Result<Command, CommandError>> {
    let rest = text.trim_start().strip_prefix(WORD)?;
    if rest.starts_with(|c: char| !c.is_whitespace()) {
        return None;
    }
    let rest = rest.trim();
    let end = rest.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(rest.len());
    let (name, arguments) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if name.is_empty() {
        return Some(Err(CommandError::NoName));
    }
    Some(parse_arguments(arguments.trim()).map(|arguments| Command { name: name.to_owned(), arguments }))
}

fn parse_arguments(text: &str) -> Result<Map<String, Value>, CommandError> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err(CommandError::NotAnObject),
        Err(error) => Err(CommandError::NotJson(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expected: Option<Result<(&str, Value), &str>>) {
        let parsed = parse_command(text).map(|parsed| match parsed {
            Ok(command) => Ok((command.name, Value::Object(command.arguments))),
            Err(error) => Err(error.to_string().chars().take(26).collect::<String>()),
        });
        let expected =
            expected.map(|expected| expected.map(|(name, json)| (name.to_owned(), json)).map_err(str::to_owned));
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn what_is_a_command_and_what_is_text() {
        check("/tool notes__search {\"query\":\"invoice\"}", Some(Ok(("notes__search", json!({"query": "invoice"})))));
        check("  /tool notes__list", Some(Ok(("notes__list", json!({})))));
        check("/tool a__b\n{\n \"n\": 1\n}\n", Some(Ok(("a__b", json!({"n": 1})))));
        check("/tool a__b{\"n\":1}", Some(Ok(("a__b", json!({"n": 1})))));
        check("/tool", Some(Err("Name the tool after /tool,")));
        check("/tool {\"n\":1}", Some(Err("Name the tool after /tool,")));
        check("/tool a__b {n:1}", Some(Err("The arguments are not JSON")));
        check("/tool a__b {} and more", Some(Err("The arguments are not JSON")));
        check("/tool a__b [1]", Some(Err("The arguments must be one ")));
        check("/toolbox open", None);
        check("please run /tool a__b {}", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_a_written_command_reads_back(
            text in any::<String>(),
            name in "[A-Za-z0-9_-]{1,64}",
            values in prop::collection::btree_map(any::<String>(), any::<Option<i64>>(), 0..6),
            pretty in any::<bool>(),
        ) {
            let _ = parse_command(&text);
            let _ = parse_command(&format!("/tool {text}"));
            let arguments: Map<String, Value> = values.into_iter().map(|(key, value)| (key, json!(value))).collect();
            let written = if pretty { serde_json::to_string_pretty(&arguments) } else { serde_json::to_string(&arguments) };
            let typed = format!("/tool {name} {}", written.unwrap());
            prop_assert_eq!(parse_command(&typed), Some(Ok(Command { name, arguments })));
        }
    }

    #[test]
    fn l108_a_command_is_read_in_linear_time() {
        let marks = ["/tool ", " ", "{", "[", "\"", "\\", "\n", "a"];
        thinkwork_linear_time::assert_linear(&marks, thinkwork_primitives::limits::MESSAGE_TEXT_BYTES_MAX, |text| {
            (
                parse_command(text).is_some(),
                parse_command(&format!("/tool {text}")),
                parse_command(&format!("/tool a {text}")),
            )
        });
    }
}
