//! Sizes, names and words: what keeps a small code base small.

use super::expect_none;
use crate::guards::source::{Source, files, product, root, shown, sources};

/// Longer files hold two stories.
const FILE_LINES_MAX: usize = 500;

#[test]
fn files_hold_one_story() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{} has {lines} lines", source.path))
    };
    expect_none(
        sources().iter().filter_map(long).collect(),
        &format!("A file has {FILE_LINES_MAX} lines at most; make a folder of its name and move a part there:"),
    );
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |source: &Source| (!source.text.starts_with("//!")).then(|| source.path.clone());
    expect_none(
        sources().iter().filter_map(silent).collect(),
        "Every module begins with `//!`: what it is, its invariants, who may call it:",
    );
}

#[test]
fn nothing_is_called_helper() {
    const VAGUE: [&str; 6] = ["utils", "util", "common", "helpers", "manager", "service"];
    let vague = |source: &Source| {
        let parts = source.path.trim_end_matches(".rs").split('/');
        let found = parts.clone().any(|part| VAGUE.contains(&part));
        found.then(|| source.path.clone())
    };
    expect_none(
        sources().iter().filter_map(vague).collect(),
        "A module is named after what it holds; everything is a helper, and a service:",
    );
}

#[test]
fn the_product_does_not_panic_by_intent() {
    const PANICS: [&str; 7] =
        [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!(", "dbg!("];
    let found = product().iter().flat_map(|source| PANICS.iter().flat_map(|word| source.places(word))).collect();
    expect_none(found, "Outside tests an error is returned, or the case cannot be written down in the types:");
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let sources = sources();
    let found = sources.iter().flat_map(|source| {
        let lines = source.text.lines().enumerate();
        let wrong = lines.filter(|(_, line)| {
            let line = line.trim_start();
            line.starts_with("#[allow(") || line.starts_with("#![allow(")
        });
        wrong.map(|(number, _)| format!("{}:{}", source.path, number + 1)).collect::<Vec<_>>()
    });
    expect_none(found.collect(), "Write #[expect(lint, reason = \"…\")]: it is reported when it is no longer needed:");
}

#[test]
fn pages_hold_no_inline_script_or_style() {
    let pages = files(&root().join("crates/server/src"), ".html");
    assert!(pages.len() > 10, "only {} templates were found", pages.len());
    let mut findings = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        // The sample servers of the demonstration stand for the outside, and message text is marked up by
        // `threads::text`, whose test holds that nothing outside its list of tags comes out.
        let name = shown(&page);
        if name.contains("/demo/templates/") || name.ends_with("threads/templates/entries.html") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(problem) = problem_of(line) {
                findings.push(format!("{}:{} {problem}", shown(&page), number + 1));
            }
        }
    }
    expect_none(
        findings,
        "The pages' Content-Security-Policy takes nothing inline, and nothing unescaped is safe; use app.css, app.js and \
         plain values:",
    );
}

/// What a line of a template must not hold.
fn problem_of(line: &str) -> Option<&'static str> {
    let lower = line.to_ascii_lowercase();
    let handler = lower.match_indices(" on").any(|(at, _)| {
        let name: String = lower[at + 3..].chars().take_while(char::is_ascii_alphabetic).collect();
        !name.is_empty() && lower[at + 3 + name.len()..].starts_with("=\"")
    });
    let script = lower.match_indices("<script").any(|(at, _)| !lower[at..].starts_with("<script src=\"/assets/"));
    match () {
        () if handler => Some("has an event handler"),
        () if script => Some("has a script that is not a file of ours"),
        () if lower.contains("<style") || lower.contains(" style=") => Some("has a style"),
        () if lower.contains("|safe") || lower.contains("| safe") => Some("marks a value as safe"),
        () if lower.contains("javascript:") => Some("has a javascript: address"),
        () => None,
    }
}

#[test]
fn inline_code_is_recognised() {
    for wrong in [
        "<a onclick=\"x()\">",
        "<script>x()</script>",
        "<script src=\"https://elsewhere/x.js\">",
        "<p style=\"color:red\">",
        "<style>",
        "{{ text|safe }}",
        "<a href=\"javascript:x()\">",
    ] {
        assert!(problem_of(wrong).is_some(), "{wrong}");
    }
    for right in ["<script src=\"/assets/app.js\" defer></script>", "<p>based on=it</p>", "<button class=\"on\">"] {
        assert!(problem_of(right).is_none(), "{right}");
    }
}
