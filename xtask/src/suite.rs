//! `cargo xtask test`: the stages, in order, each with its duration.
//!
//! A stage that fails does not hide the ones after it: all are run, and the failures are named at the end.
//! The whole suite on SQLite comes last and prints its own closing lines, after which a good run says nothing.

use std::time::Instant;

use crate::failure::Failure;
use crate::session::{Engine, Session};
use crate::{bench, checks, conformance, dependencies, install, lessons, peers};

/// One stage: its name, what it holds, and the check.
struct Stage {
    name: &'static str,
    holds: &'static str,
    check: fn(&mut Session) -> Result<(), Failure>,
}

const STAGES: &[Stage] = &[
    Stage { name: "install", holds: "programs that the checks need are there", check: |_| install::missing() },
    Stage { name: "format", holds: "every file is as rustfmt leaves it", check: |session| checks::format(session) },
    Stage {
        name: "lessons",
        holds: "every number of docs/lessons.md has its test",
        check: |session| lessons::check(session),
    },
    Stage {
        name: "dependencies",
        holds: "no banned or doubled crate, licences, sources, their number",
        check: |session| dependencies::check(session),
    },
    Stage { name: "clippy", holds: "no warning in any target", check: |session| checks::clippy(session) },
    Stage {
        name: "docs",
        holds: "the documentation builds without a warning, examples run",
        check: |session| checks::docs(session),
    },
    Stage {
        name: "peers",
        holds: "the programs of others are installed and work with each other",
        check: peers::check,
    },
    Stage { name: "build", holds: "all targets build", check: |session| checks::build(session) },
    Stage {
        name: "generated",
        holds: "the generated files are up to date",
        check: |session| checks::generated(session),
    },
    Stage {
        name: "demo",
        holds: "`thinkwork demo --check` shows every step ok",
        check: |session| checks::demo(session),
    },
    Stage { name: "conformance", holds: "the official MCP suite passes as a client", check: conformance::client },
    Stage {
        name: "bench",
        holds: "no figure misses half of its goal",
        check: |session| bench::run(session, &["--gate"]),
    },
    Stage {
        name: "tests-postgres",
        holds: "all tests on PostgreSQL, with the peers",
        check: |session| checks::tests(session, Engine::Postgres),
    },
    Stage {
        name: "tests-sqlite",
        holds: "all tests on SQLite, with the peers",
        check: |session| checks::tests(session, Engine::Sqlite),
    },
];

pub(crate) fn test(flags: &[&str]) -> Result<(), Failure> {
    match flags {
        ["--list"] => {
            for stage in STAGES {
                println!("{:16} {}", stage.name, stage.holds);
            }
            Ok(())
        }
        [] => run(&STAGES.iter().collect::<Vec<_>>()),
        ["--only", names] => run(&chosen(names)?),
        _ => Err(Failure::new("say `test`, `test --list` or `test --only STAGE,…`")),
    }
}

/// The named stages, in the order of the table.
fn chosen(names: &str) -> Result<Vec<&'static Stage>, Failure> {
    let names: Vec<&str> = names.split(',').collect();
    let known = |name: &&str| STAGES.iter().any(|stage| stage.name == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(Failure::new(format!("there is no stage `{unknown}`: see `cargo xtask test --list`")));
    }
    Ok(STAGES.iter().filter(|stage| names.contains(&stage.name)).collect())
}

fn run(stages: &[&Stage]) -> Result<(), Failure> {
    let mut session = Session::new()?;
    let started = Instant::now();
    let mut failures = Vec::new();
    for (position, stage) in stages.iter().enumerate() {
        println!("==> {} ({}/{}): {}", stage.name, position + 1, stages.len(), stage.holds);
        let last = position + 1 == stages.len();
        if last {
            told_before_last(started, &failures);
        }
        let began = Instant::now();
        match (stage.check)(&mut session) {
            Ok(()) if last => {}
            Ok(()) => println!("    {} ok, {:.1} s", stage.name, began.elapsed().as_secs_f32()),
            Err(failure) => {
                println!("    {} FAILED, {:.1} s: {failure}", stage.name, began.elapsed().as_secs_f32());
                failures.push(stage.name);
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "failed: {}. Again with `cargo xtask test --only {}`",
        failures.join(", "),
        failures.join(",")
    )))
}

/// The last stage keeps the last word, so the sum so far is said before it.
fn told_before_last(started: Instant, failures: &[&str]) {
    let seconds = started.elapsed().as_secs();
    let failed = if failures.is_empty() { "none".to_owned() } else { failures.join(", ") };
    println!("    {} min {} s so far; failed: {failed}; the last stage:", seconds / 60, seconds % 60);
}
