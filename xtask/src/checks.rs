//! The checks that cargo and the product's own binary do. All use one selection of packages and features, so
//! that shared crates are compiled once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::{capture, cargo, command, run, run_within};
use crate::failure::Failure;
use crate::reference;
use crate::session::{Engine, Session};

const DEMO_LIMIT: Duration = Duration::from_secs(120);

/// The settings with their comments, from which the reference of the configuration is written.
const DEFAULTS: &str = "crates/server/src/default.toml";

pub(crate) fn format(session: &Session) -> Result<(), Failure> {
    run(&mut cargo(&["fmt", "--all", "--check"], session.root()))
}

pub(crate) fn clippy(session: &Session) -> Result<(), Failure> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run(&mut cargo(&arguments, session.root()))
}

/// The documentation, private items with it and so links to them too, and the examples in it. The latter are run here, apart from the tests, whose closing
/// lines are the last of the whole run.
pub(crate) fn docs(session: &Session) -> Result<(), Failure> {
    let arguments = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
    run(cargo(&arguments, session.root()).env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?;
    capture(&mut cargo(&["test", "--quiet", "--workspace", "--doc"], session.root())).map(drop)
}

pub(crate) fn build(session: &Session) -> Result<(), Failure> {
    run(&mut cargo(&["build", "--quiet", "--workspace", "--all-targets"], session.root()))
}

pub(crate) fn tests(session: &mut Session, engine: Engine) -> Result<(), Failure> {
    let environment = session.environment(engine)?;
    let arguments = ["test", "--workspace", "--all-targets", "--no-fail-fast"];
    run(cargo(&arguments, session.root()).envs(environment))
}

/// The demonstration without a person, as README has it; one JSON line per step is shown.
pub(crate) fn demo(session: &Session) -> Result<(), Failure> {
    let summary = session.target().join("demo.json");
    if summary.exists() {
        fs::remove_file(&summary).map_err(Failure::file(&summary))?;
    }
    let mut demo = command(session.binary()?, &["demo", "--check", "--json-summary"], session.root());
    run_within(demo.arg(&summary), DEMO_LIMIT)?;
    match fs::metadata(&summary) {
        Ok(file) if file.len() > 0 => Ok(()),
        _ => Err(Failure::new(format!("the demonstration wrote no {}", summary.display()))),
    }
}

/// Generated files equal what would be generated now, and no snapshot waits for a review.
pub(crate) fn generated(session: &Session) -> Result<(), Failure> {
    let mut stale = Vec::new();
    for (name, text) in generated_files(session)? {
        let committed = fs::read_to_string(session.root().join(name));
        if committed.ok().as_ref() != Some(&text) {
            stale.push(name);
        }
    }
    if !stale.is_empty() {
        return Err(Failure::new(format!("out of date: {}: run `cargo xtask generate`", stale.join(", "))));
    }
    let mut waiting = Vec::new();
    snapshots_waiting(&session.root().join("crates"), &mut waiting)?;
    if waiting.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("snapshots wait for a review: {}", waiting.join(", "))))
}

/// Rewrites the generated files.
pub(crate) fn generate(session: &Session) -> Result<(), Failure> {
    build(session)?;
    for (name, text) in generated_files(session)? {
        let path = session.root().join(name);
        fs::write(&path, text).map_err(Failure::file(&path))?;
    }
    Ok(())
}

/// Each generated file with what belongs into it now.
fn generated_files(session: &Session) -> Result<Vec<(&'static str, String)>, Failure> {
    let product = |arguments: &[&str]| capture(&mut command(session.binary()?, arguments, session.root()));
    let openapi = product(&["openapi"])?;
    let help = product(&["serve", "--help"])?;
    let path = session.root().join(DEFAULTS);
    let defaults = fs::read_to_string(&path).map_err(Failure::file(&path))?;
    Ok(vec![
        ("docs/api.md", reference::api(&openapi)?),
        ("docs/configuration.md", reference::configuration(&defaults, &help)?),
        // As it is, for readers and client generators.
        ("docs/openapi.json", openapi),
    ])
}

fn snapshots_waiting(folder: &Path, found: &mut Vec<String>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(Failure::file(folder))? {
        let path = entry.map_err(Failure::file(folder))?.path();
        let name = path.display().to_string();
        if path.is_dir() {
            snapshots_waiting(&path, found)?;
        } else if name.ends_with(".snap.new") || name.ends_with(".pending-snap") {
            found.push(name);
        }
    }
    Ok(())
}
