//! ARCHITECTURE.md, enforced on the files themselves: arrows, sole owners, sizes, names. No server is started.
//!
//! Every message says what is wrong where, and what to do instead.

mod arrows;
mod owners;
mod shape;

/// Fails with all findings and the rule's reason.
#[track_caller]
fn expect_none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}
