//! What `cargo xtask bench` measures over HTTP: `thinkwork-bench acceptance BINARY FOLDER`, `drain` and `gateway` print a
//! line `name value` for each figure, and `lists BINARY FOLDER DATABASE` a line for each list. The peers it compares with are the same program in another process: `bare` and `echo`.
//!
//! Invariant: server, load and peer are three processes, and both sides of a ratio get the same load, in turns.

mod fill;
mod gateway;
mod lists;
mod load;
mod peers;
mod place;
mod process;
mod webhook;

use std::path::Path;
use std::process::ExitCode;

/// What went wrong, in one sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    thinkwork_outbound::install_crypto_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome =
        match words.as_slice() {
            ["bare"] => peers::bare().await,
            ["echo"] => peers::echo().await,
            ["acceptance", binary, folder] => webhook::acceptance(Path::new(binary), Path::new(folder)).await,
            ["drain", binary, folder] => webhook::drain(Path::new(binary), Path::new(folder)).await,
            ["gateway", binary, folder] => gateway::overhead(Path::new(binary), Path::new(folder)).await,
            ["lists", binary, folder, database] => lists::figures(Path::new(binary), Path::new(folder), database).await,
            _ => Err("say acceptance, drain or gateway with BINARY FOLDER, lists with a database too, or bare or echo"
                .into()),
        };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thinkwork-bench: {failure}");
            ExitCode::FAILURE
        }
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
