//! The guides name only what is there: labels of pages, commands with their flags, settings, addresses and measurements.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Those that people write; the others in `docs/` are generated, or about the project.
const GUIDES: [&str; 4] = ["quick-start.md", "member-guide.md", "operator-guide.md", "connect-an-mcp-client.md"];

/// Roles on PostgreSQL, which no measurement is called like.
const ROLES: [&str; 3] = ["thinkwork_app", "thinkwork_owner", "thinkwork_serving"];

/// Variables beside the settings.
const VARIABLES: [&str; 4] = ["THINKWORK_CONFIG", "THINKWORK_TOKEN", "THINKWORK_URL", "THINKWORK_MCP_TOKEN"];

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// Each guide's name with its text.
fn guides() -> Vec<(&'static str, String)> {
    GUIDES.map(|name| (name, std::fs::read_to_string(folder("../../docs").join(name)).unwrap())).into()
}

/// The sources and templates of the server in one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "html") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// What stands between two marks, on one line each.
fn between<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().flat_map(move |line| line.split(mark).skip(1).step_by(2))
}

/// The commands in blocks of code and in backticks: what follows the word `thinkwork`, continued lines joined.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let mut lines: Vec<&str> = between(&text, "`").collect();
    lines.extend(text.lines());
    let first = |line: &str| {
        let line = line.trim_start_matches("sudo -u thinkwork ").split([';', '|', '>']).next().unwrap_or_default();
        Some(line.strip_prefix("thinkwork ")?.split_whitespace().map(str::to_owned).collect())
    };
    lines.into_iter().filter_map(first).collect()
}

/// What the binary says of a command; none where there is no such command.
fn help(words: &[String]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_thinkwork")).args(words).arg("--help").env_clear().output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Whether a label stands by itself: between quotes, tags or values, or before a full stop.
fn stands(pages: &str, label: &str) -> bool {
    let mut ends = ["\"", "<", "{", "."].into_iter();
    ends.any(|after| ["\"", ">", "}"].iter().any(|before| pages.contains(&format!("{before}{label}{after}"))))
}

#[test]
fn every_label_in_bold_stands_on_a_page() {
    let mut pages = String::new();
    sources(&folder("src"), &mut pages);
    let pages = pages.to_lowercase();
    for (name, text) in guides() {
        // What begins a point of a list is a word of the guide.
        let labels = text.lines().filter(|line| !line.starts_with("- **") && !line.starts_with("- The **"));
        for label in labels.flat_map(|line| line.split("**").skip(1).step_by(2)) {
            // A badge makes its word of the status.
            let status = label.replace(' ', "_");
            let is_there = [label, &status].into_iter().any(|label| stands(&pages, &label.to_lowercase()));
            assert!(is_there || label == "bold", "docs/{name}: no page has the label {label:?}");
        }
    }
}

#[test]
fn every_command_is_there_with_its_flags() {
    let mut seen = 0;
    let mut known: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    for (name, text) in guides() {
        for words in commands(&text) {
            // The subcommands are the plain words at the beginning that the binary knows.
            let is_plain =
                |word: &&String| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
            let plain: Vec<String> = words.iter().take_while(is_plain).take(2).cloned().collect();
            let help = (1..=plain.len()).rev().find_map(|count| {
                let path = plain.get(..count).unwrap_or_default().to_vec();
                known.entry(path.clone()).or_insert_with(|| help(&path)).clone()
            });
            let help =
                help.unwrap_or_else(|| panic!("docs/{name}: there is no command `thinkwork {}`", words.join(" ")));
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let is_known = help.split([' ', ',', '\n']).any(|word| word == flag);
                assert!(is_known, "docs/{name}: `thinkwork {}` has no {flag}", words.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} commands were found");
}

#[test]
fn every_variable_address_and_measurement_is_there() {
    let mut server = String::new();
    sources(&folder("src"), &mut server);
    sources(&folder("../database/src"), &mut server);
    sources(&folder("../outbound/src"), &mut server);
    let settings: BTreeSet<String> = std::fs::read_to_string(folder("../../docs/configuration.md"))
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("- Environment variable: `")?.trim_end_matches('`').to_owned()))
        .collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    for (name, text) in guides() {
        for variable in text.split(word).filter(|word| word.starts_with("THINKWORK_")) {
            let is_there = settings.contains(variable) || VARIABLES.contains(&variable);
            assert!(is_there, "docs/{name}: there is no setting {variable}");
        }
        for measured in text.split(word).filter(|word| word.starts_with("thinkwork_") && !ROLES.contains(word)) {
            let metric = measured.trim_end_matches("_count").trim_end_matches("_bucket");
            let is_there = metric == "thinkwork_outbound" || server.contains(&format!("\"{metric}\""));
            assert!(is_there, "docs/{name}: {metric} is not measured");
        }
        for address in between(&text, "`").filter(|code| code.starts_with("/me") || code.starts_with("/admin")) {
            let pattern = address.replace("spc_…", "{id}");
            let is_there = server.contains(&format!("\"{pattern}\""));
            assert!(is_there, "docs/{name}: there is no page {address}");
        }
    }
}
