//! What `cargo xtask bench` measures over HTTP: `thinkwork-bench acceptance|drain|streams|hostile|gateway|lists BINARY FOLDER`
//! prints a line `name value` for each figure, and `lists` one for each list. `thinkwork-bench chaos ROUNDS BINARY FOLDER` breaks
//! something under load, round for round, and fails where an accepted event is lost, doubled or out of its order. With
//! the address of a PostgreSQL server behind it, the deployment keeps its rows there. The peers it compares with are the same program in another process: `bare` and
//! `echo`.
//!
//! Invariant: server, load and peer are three processes, and both sides of a ratio get the same load, in turns.

mod chaos;
mod deployment;
mod engine;
mod fill;
mod gateway;
mod hostile;
mod lists;
mod load;
mod peers;
mod process;
mod streams;
mod wait;
mod webhook;

use std::path::Path;
use std::process::ExitCode;

use engine::Engine;
use thinkwork_primitives::Chain;

const USAGE: &str = "say acceptance, drain, streams, hostile, gateway, lists or chaos ROUNDS with BINARY FOLDER [POSTGRESQL-SERVER], or bare or echo";

/// What went wrong, in one sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    thinkwork_outbound::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["bare"] => peers::bare().await,
        ["echo"] => peers::echo().await,
        ["chaos", rounds, binary, folder] => chaos(rounds, binary, folder, &Engine::of(None)).await,
        ["chaos", rounds, binary, folder, server] => chaos(rounds, binary, folder, &Engine::of(Some(server))).await,
        [part, binary, folder] => measure(part, binary, folder, &Engine::of(None)).await,
        [part, binary, folder, server] => measure(part, binary, folder, &Engine::of(Some(server))).await,
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thinkwork-bench: {}", Chain(failure.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn chaos(rounds: &str, binary: &str, folder: &str, engine: &Engine) -> Result<(), Failure> {
    chaos::intake(Path::new(binary), Path::new(folder), engine, rounds.parse()?).await
}

async fn measure(part: &str, binary: &str, folder: &str, engine: &Engine) -> Result<(), Failure> {
    let binary = Path::new(binary);
    let folder = Path::new(folder);
    match part {
        "acceptance" => webhook::acceptance(binary, folder, engine).await,
        "drain" => webhook::drain(binary, folder, engine).await,
        "streams" => streams::figures(binary, folder, engine).await,
        "hostile" => hostile::figures(binary, folder, engine).await,
        "gateway" => gateway::overhead(binary, folder, engine).await,
        "lists" => lists::figures(binary, folder, engine).await,
        _ => Err(USAGE.into()),
    }
}

/// Prints one figure.
fn figure(name: &str, value: f64) {
    println!("{name} {value}");
}

/// The middle one, which a single hiccup does not move.
fn median(mut values: Vec<f64>) -> Result<f64, Failure> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().ok_or_else(|| "nothing was measured".into())
}
