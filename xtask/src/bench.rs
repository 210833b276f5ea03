//! `cargo xtask bench`: measurements of the release binary, each against its goal, printed as a table for
//! `docs/performance.md`.
//!
//! A measurement is a function of [`MEASUREMENTS`] that returns figures. All are taken in one run on one
//! machine, since only then their ratios mean something.

pub(crate) mod chaos;
mod http;
mod lists;
mod size;
mod start;

use std::fs;
use std::path::PathBuf;

use crate::command;
use crate::failure::Failure;
use crate::session::Session;

/// A build machine may be slower and busier than the one the goals were set on.
const GATE_FACTOR: f64 = 2.0;

/// What a figure is held against.
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Told beside the others, without a goal.
    Reported,
}

/// One measured number.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

/// What measurements work on: the release binary and a folder of their own.
struct Bench<'a> {
    session: &'a mut Session,
    binary: PathBuf,
    folder: PathBuf,
}

type Measurement = fn(&mut Bench<'_>) -> Result<Vec<Figure>, Failure>;

const MEASUREMENTS: &[Measurement] = &[size::figures, start::figures, http::figures];

/// Measures and prints; with `--gate`, fails where a figure misses half of its goal twice. With `--lists`, measures
/// long lists instead.
pub(crate) fn run(session: &mut Session, flags: &[&str]) -> Result<(), Failure> {
    let gate = match flags {
        [] => false,
        ["--gate"] => true,
        ["--lists", engine] => return lists::print(&mut prepare(session)?, engine.parse()?),
        _ => return Err(Failure::new("say `bench`, `bench --gate` or `bench --lists sqlite|postgres`")),
    };
    let missed = measured(session)?;
    if !gate || missed.is_empty() {
        return Ok(());
    }
    println!("half of a goal is missed; once more, since something else may have kept the machine busy");
    let again: Vec<&str> = measured(session)?.into_iter().filter(|name| missed.contains(name)).collect();
    if again.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("half of the goal is missed twice: {}", again.join(", "))))
}

/// Measures, prints the table and returns the figures that miss half of their goal.
fn measured(session: &mut Session) -> Result<Vec<&'static str>, Failure> {
    let mut bench = prepare(session)?;
    let mut figures = Vec::new();
    for measure in MEASUREMENTS {
        figures.extend(measure(&mut bench)?);
    }
    println!("| Figure | Measured | Goal |\n|---|---|---|");
    for figure in &figures {
        println!("{}", row(figure));
    }
    Ok(figures.iter().filter(|figure| misses_gate(figure)).map(|figure| figure.name).collect())
}

/// Builds as the README does and empties the folder.
fn prepare(session: &mut Session) -> Result<Bench<'_>, Failure> {
    // Together, so that what both stand on is compiled once.
    let packages = ["build", "--release", "--package", "thinkwork", "--package", "thinkwork-bench"];
    command::run(&mut command::cargo(&packages, session.root()))?;
    let folder = session.target().join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Failure::file(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
    let binary = session.target().join("release").join("thinkwork");
    Ok(Bench { session, binary, folder })
}

fn row(figure: &Figure) -> String {
    let goal = match figure.goal {
        Goal::AtMost(most) => format!("at most {most} {}", figure.unit),
        Goal::AtLeast(least) => format!("at least {least} {}", figure.unit),
        Goal::Reported => "reported".to_owned(),
    };
    format!("| {} | {} {} | {goal} |", figure.name, shown(figure.value), figure.unit)
}

/// Three digits that mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        medium if medium < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Whether the figure fails the stage. A time or a rate never does: a shared machine that is busy with other work makes
/// every time longer, and only ratios, sizes and counts stay what they are.
fn misses_gate(figure: &Figure) -> bool {
    match figure.goal {
        _ if matches!(figure.unit, "ms" | "a second") => false,
        Goal::AtMost(most) => figure.value > most * GATE_FACTOR,
        Goal::AtLeast(least) => figure.value < least / GATE_FACTOR,
        Goal::Reported => false,
    }
}

/// A count as a number that figures are made of; counts beyond `u32` do not occur here.
fn number(count: u64) -> Result<f64, Failure> {
    u32::try_from(count).map(f64::from).map_err(|_| Failure::new(format!("{count} is too large to be measured")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_half_the_goal() {
        let check_unit = |unit, value: f64, goal: Goal, expect: bool| {
            let figure = Figure { name: "n", value, unit, goal };
            assert_eq!(misses_gate(&figure), expect, "{}", row(&figure));
        };
        let check = |value, goal, expect| check_unit("MiB", value, goal, expect);
        check_unit("ms", 1e9, Goal::AtMost(10.0), false);
        check_unit("a second", 0.0, Goal::AtLeast(10.0), false);
        check(10.0, Goal::AtMost(10.0), false);
        check(20.0, Goal::AtMost(10.0), false);
        check(20.1, Goal::AtMost(10.0), true);
        check(1e9, Goal::Reported, false);
        check(0.3, Goal::AtLeast(0.3), false);
        check(0.15, Goal::AtLeast(0.3), false);
        check(0.14, Goal::AtLeast(0.3), true);
    }
}
