//! `cargo xtask`: what a developer or a build machine runs. A table of contents.
//!
//! Invariants: everything that is installed, started or cached lives in the target folder, Debian packages
//! aside; only this crate starts the peers' installation and the tests' PostgreSQL; nothing of the product
//! depends on it.

mod command;
mod failure;
mod hold;
mod suite;

mod checks;
mod conformance;
mod dependencies;
mod install;
mod lessons;
mod licences;
mod peers;
mod postgres;
mod reference;
mod session;

mod bench;

use std::process::ExitCode;

use failure::Failure;
use session::Session;

const USAGE: &str = "\
cargo xtask test [--only STAGE,…]   every check of the project, installing what is missing
cargo xtask test --list             the stages, in order
cargo xtask peers                   install the test peers and print the environment that tests use
cargo xtask with sqlite|postgres COMMAND…
                                    run one command, such as `cargo test -p thinkwork`, in that environment
cargo xtask conformance client      the official MCP suite against the debug binary as a client
cargo xtask generate                rewrite the generated files
cargo xtask lessons [--write]       docs/lessons.md against the tests; with --write, their names into it
cargo xtask chaos intake [ROUNDS]   kill, stop and cut off processes under load, on both engines
cargo xtask bench [--gate]          measure; with --gate, fail where half of a goal is missed
cargo xtask bench --lists sqlite|postgres
                                    measure lists, searches and starts on a database that is full";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", flags @ ..] => suite::test(flags),
        ["peers"] => peers::install_and_print(&mut Session::new()?),
        ["with", engine, command @ ..] => session::run_with(&mut Session::new()?, engine.parse()?, command),
        ["conformance", "client"] => conformance::client(&mut Session::new()?),
        ["generate"] => checks::generate(&Session::new()?),
        ["lessons", "--write"] => lessons::write(&Session::new()?),
        ["lessons"] => lessons::check(&Session::new()?),
        ["chaos", "intake"] => bench::chaos::intake(&mut Session::new()?, bench::chaos::ROUNDS),
        ["chaos", "intake", rounds] => match rounds.parse() {
            Ok(rounds) => bench::chaos::intake(&mut Session::new()?, rounds),
            Err(_) => Err(Failure::new(format!("`{rounds}` is no number of rounds"))),
        },
        ["bench", flags @ ..] => bench::run(&mut Session::new()?, flags),
        _ => Err(Failure::new(format!("usage:\n{USAGE}"))),
    }
}
