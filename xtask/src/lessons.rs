//! Every number of `docs/lessons.md` names the test that holds it, and that test exists.
//!
//! The file has tables whose first cell is the number (`L07`, `s03`) and whose last cell is the names of one or
//! more tests in backticks, or the word `later`. A test's name begins with its number: `l07_…`, `s03_…`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::session::Session;

const FILE: &str = "docs/lessons.md";
const FOLDERS: &[&str] = &["crates", "examples", "xtask"];

/// The security tests are numbered without a gap, so a row that was lost is seen.
const SECURITY_TESTS: std::ops::RangeInclusive<u32> = 1..=25;

/// How far above its `fn` line a test's attribute may stand, other attributes and comments between them.
const ATTRIBUTE_LINES: usize = 8;

/// What a row says of its number.
#[derive(PartialEq, Eq, Debug)]
enum Row {
    Tests(Vec<String>),
    Later,
}

pub(crate) fn check(session: &Session) -> Result<(), Failure> {
    let (text, tests) = read(session)?;
    let (rows, mut findings) = rows(&text);
    findings.extend(unmet(&rows, &tests));
    if !findings.is_empty() {
        return Err(Failure::new(format!("{FILE}:\n    {}", findings.join("\n    "))));
    }
    let later = rows.values().filter(|row| **row == Row::Later).count();
    println!("    {} numbers have their tests, {later} are for later", rows.len() - later);
    Ok(())
}

/// Writes the names of all numbered tests into their rows. A number that loses its last test keeps the old names, so
/// that [`check`] fails rather than a proof going quietly.
pub(crate) fn write(session: &Session) -> Result<(), Failure> {
    let (text, tests) = read(session)?;
    let path = session.root().join(FILE);
    fs::write(&path, with_tests(&text, &tests)).map_err(Failure::file(&path))
}

/// The file, and the names of the tests in the workspace.
fn read(session: &Session) -> Result<(String, BTreeSet<String>), Failure> {
    let path = session.root().join(FILE);
    let text = fs::read_to_string(&path).map_err(Failure::file(&path))?;
    let mut tests = BTreeSet::new();
    for folder in FOLDERS {
        let folder = session.root().join(folder);
        if folder.is_dir() {
            tests_in_folder(&folder, &mut tests)?;
        }
    }
    Ok((text, tests))
}

/// The table with the last cell of each numbered row filled from the tests.
fn with_tests(text: &str, tests: &BTreeSet<String>) -> String {
    let line_with_tests = |line: &str| {
        let number = line.trim_matches('|').split('|').next().unwrap_or_default().trim().to_lowercase();
        let prefix = format!("{number}_");
        let names: Vec<String> =
            tests.iter().filter(|name| name.starts_with(&prefix)).map(|name| format!("`{name}`")).collect();
        match line.trim_end_matches(['|', ' ']).rsplit_once('|') {
            Some((before, _)) if is_number(&number) && !names.is_empty() => {
                format!("{before}| {} |\n", names.join(", "))
            }
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line_with_tests).collect()
}

/// The rows by number in lower case, and what is wrong with the table itself.
fn rows(text: &str) -> (BTreeMap<String, Row>, Vec<String>) {
    let mut rows = BTreeMap::new();
    let mut findings = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
            continue;
        };
        let number = first.trim_matches(['*', '`']).to_lowercase();
        if cells.len() < 2 || !is_number(&number) {
            continue;
        }
        let Some(row) = row(last) else {
            findings.push(format!("{number} names no test in backticks and does not say `later`"));
            continue;
        };
        if rows.insert(number.clone(), row).is_some() {
            findings.push(format!("{number} has two rows"));
        }
    }
    if !rows.keys().any(|number| number.starts_with('l')) {
        findings.push("no row with a lesson's number was found".to_owned());
    }
    for wanted in SECURITY_TESTS.map(|number| format!("s{number:02}")) {
        if !rows.contains_key(&wanted) {
            findings.push(format!("{wanted} has no row"));
        }
    }
    (rows, findings)
}

/// Rows whose tests are missing or wrongly named.
fn unmet(rows: &BTreeMap<String, Row>, tests: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, row) in rows {
        let Row::Tests(names) = row else { continue };
        for name in names {
            if !name.starts_with(&format!("{number}_")) {
                findings.push(format!("{number}: the name `{name}` does not begin with `{number}_`"));
            } else if !tests.contains(name) {
                findings.push(format!("{number}: there is no test `{name}`"));
            }
        }
    }
    findings
}

fn row(cell: &str) -> Option<Row> {
    let names: Vec<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    if !names.is_empty() {
        return Some(Row::Tests(names));
    }
    let says_later = cell.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "later");
    says_later.then_some(Row::Later)
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['l', 's']);
    digits.is_some_and(|digits| matches!(digits.len(), 2 | 3) && digits.chars().all(|digit| digit.is_ascii_digit()))
}

fn tests_in_folder(folder: &Path, found: &mut BTreeSet<String>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(Failure::file(folder))? {
        let path = entry.map_err(Failure::file(folder))?.path();
        if path.is_dir() {
            tests_in_folder(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(Failure::file(&path))?;
            tests_in(&text, found);
        }
    }
    Ok(())
}

/// The numbered functions that carry a test attribute (`#[test]`, `#[tokio::test]`).
fn tests_in(text: &str, found: &mut BTreeSet<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (position, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let above = lines.iter().take(position).rev().take(ATTRIBUTE_LINES);
        let is_test = above
            .take_while(|line| line.starts_with('#') || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]") || line.contains("::test"));
        if is_test && name.split('_').next().is_some_and(is_number) {
            found.insert(name.to_owned());
        }
    }
}

fn function_name(line: &str) -> Option<&str> {
    let after = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
    after.split(['(', '<']).next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    // No line of this file begins as a test in it does, or they would be taken for tests of the workspace.
    const SOURCE: &str = "\
        \n #[test]\
        \n fn l01_the_user_is_the_starters() {}\
        \n #[tokio::test(flavor = \"current_thread\")]\
        \n // A comment between them.\
        \n async fn l02_nothing_from_the_query() {}\
        \n fn l03_no_test_at_all() {}\
        \n";

    fn security_rows() -> String {
        SECURITY_TESTS.map(|number| format!("| s{number:02} | later |\n")).collect()
    }

    fn findings(table: &str) -> Vec<String> {
        let mut tests = BTreeSet::new();
        tests_in(SOURCE, &mut tests);
        let (rows, mut findings) = rows(&(security_rows() + table));
        findings.extend(unmet(&rows, &tests));
        findings
    }

    #[test]
    fn tables() {
        let check = |table: &str, expect: &[&str]| assert_eq!(findings(table), expect, "{table}");
        check("| L01 | words | `l01_the_user_is_the_starters` |\n| L02 | `l02_nothing_from_the_query` |", &[]);
        check("| **L01** | later, with the connectors |", &[]);
        check(
            "| L01 | words | |",
            &["l01 names no test in backticks and does not say `later`", "no row with a lesson's number was found"],
        );
        check("| L03 | `l03_no_test_at_all` |", &["l03: there is no test `l03_no_test_at_all`"]);
        check(
            "| L03 | `l01_the_user_is_the_starters` |",
            &["l03: the name `l01_the_user_is_the_starters` does not begin with `l03_`"],
        );
        check("| L01 | later |\n| L01 | later |", &["l01 has two rows"]);
    }

    #[test]
    fn names_are_written_and_a_lost_test_is_not_hidden() {
        let tests = BTreeSet::from(["l01_b".to_owned(), "l01_a".to_owned()]);
        let table = "| L01 | words | later |\n| L02 | words | `l02_gone` |\ntext\n";
        let written = with_tests(table, &tests);
        assert_eq!(written, "| L01 | words | `l01_a`, `l01_b` |\n| L02 | words | `l02_gone` |\ntext\n");
        assert_eq!(with_tests(&written, &tests), written);
    }

    #[test]
    fn a_lost_security_row_is_seen() {
        let (_, findings) = rows(&(security_rows().replace("| s07 | later |\n", "") + "| L01 | later |"));
        assert_eq!(findings, ["s07 has no row"]);
    }
}
