//! `thinkwork demo --check`, as somebody on a fresh machine runs it.

use std::process::Command;

use serde_json::Value;
use thinkwork::demo::STEPS;

#[test]
fn the_whole_demonstration_works_without_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.json");
    let ran = Command::new(env!("CARGO_BIN_EXE_thinkwork"))
        .args(["demo", "--check", "--json-summary"])
        .arg(&summary)
        .env_clear()
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    let log = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{printed}\n{log}");
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    for line in &lines {
        assert_eq!(line["ok"], true, "{line}");
        assert!(line["requester"]["kind"].is_string() && line["credential_subject"]["kind"].is_string(), "{line}");
    }
    let summary: Value = serde_json::from_slice(&std::fs::read(&summary).unwrap()).unwrap();
    assert_eq!((&summary["ok"], summary["steps"].as_array().map(Vec::len)), (&Value::Bool(true), Some(STEPS.len())));
    assert!(summary["seconds"].as_f64().unwrap() < 60.0, "{}", summary["seconds"]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["summary.json"], "the temporary folder is removed");
}
