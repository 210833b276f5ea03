//! The project's own files, read for the rules about them. Rust is read without comments, literals and test modules.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder with the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A Rust file.
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Comments, literals and `#[cfg(test)]` modules blanked; every line keeps its number.
    pub code: String,
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let code = without_tests(&blanked(&text));
        Self { path, text, code }
    }

    /// Whether the whole file is for tests.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Lines on which this stands in code, as `path:line`. Where it begins or ends with a letter, whole words count.
    pub fn places(&self, words: &str) -> Vec<String> {
        let is_word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let found = |line: &str| {
            line.match_indices(words).any(|(at, _)| {
                let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
                let after = line.as_bytes().get(at + words.len()).copied();
                let first = words.bytes().next();
                let last = words.bytes().last();
                !(is_word(first) && is_word(before) || is_word(last) && is_word(after))
            })
        };
        let lines = self.code.lines().enumerate().filter(|(_, line)| found(line));
        lines.map(|(number, _)| format!("{}:{}", self.path, number + 1)).collect()
    }

    /// The slice or file below `crates/server/src` that this belongs to.
    pub fn slice(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("crates/server/src/")?;
        inside.split('/').next().map(|name| name.trim_end_matches(".rs"))
    }
}

/// Files below `folder` with this ending, sorted; `target` folders and vendored ones are not there.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A path from the root, with `/`.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Every Rust file of the workspace.
pub fn sources() -> Vec<Source> {
    let all = ["crates", "xtask"].into_iter().flat_map(|folder| files(&root().join(folder), ".rs"));
    all.map(|path| Source::new(shown(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// The Rust files of the product that are not for tests.
pub fn product() -> Vec<Source> {
    let wanted = |source: &Source| source.path.starts_with("crates/") && !source.is_test();
    sources().into_iter().filter(wanted).collect()
}

/// The same text with comments and the insides of literals replaced by spaces.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => until(&chars, at, |rest| rest[0] == '\n'),
            ('/', Some('*')) => until(&chars, at + 2, |rest| rest.starts_with(&['*', '/'])) + 2,
            ('"', _) => string_end(&chars, at + 1),
            ('r', Some('"' | '#')) if !after_word(&chars, at) => raw_string_end(&chars, at),
            ('\'', Some('\\')) => until(&chars, at + 3, |rest| rest[0] == '\'') + 1,
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            let end = end.min(chars.len());
            out.extend(chars[at..end].iter().map(|char| if *char == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn after_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn until(chars: &[char], from: usize, end: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| end(&chars[*at..])).unwrap_or(chars.len())
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// After the closing quote of `r#"…"#`; the same place where it is no raw string but a raw name.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|char| **char == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    until(chars, at + 2 + hashes, |rest| rest.starts_with(&closing)) + closing.len()
}

/// Blanks `#[cfg(test)] mod name { … }`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find("#[cfg(test)]").map(|at| from + at) {
        let item = out[at + "#[cfg(test)]".len()..].trim_start();
        let end = if item.starts_with("mod ") || item.starts_with("fn ") || item.starts_with("impl ") {
            block_end(&out, at).unwrap_or(out.len())
        } else {
            at + 1
        };
        let blank: String = out[at..end].chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect();
        out = format!("{}{blank}{}", &out[..at], &out[end..]);
        from = end;
    }
    out
}

/// After the brace that closes the first one opened from here on; the `;` where that comes first.
pub fn block_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut nested = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b'{' => depth += 1,
            b'}' if depth <= 1 => return Some(at + 1),
            b'}' => depth -= 1,
            b';' if depth == 0 && nested == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    let text = "use a; // use b;\nlet x = \"use c; \\\" \"; let r = r#\"use d\"#; let q = '\"'; /* use e; */ fn f<'a>() {}\n#[cfg(test)]\nmod tests {\n  fn g() { panic!() }\n}\nuse z;";
    let source = Source::new("x.rs".to_owned(), text.to_owned());
    for gone in ["use b", "use c", "use d", "use e", "panic"] {
        assert!(!source.code.contains(gone), "{gone} in {}", source.code);
    }
    for kept in ["use a;", "fn f<'a>() {}", "use z;"] {
        assert!(source.code.contains(kept), "{kept} in {}", source.code);
    }
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert_eq!(source.places("use z"), ["x.rs:7"]);
    assert!(source.places("us").is_empty());
}
