//! How long lists, filters, searches and homes take on a full database. It is filled for minutes, so this is measured when
//! asked for and not by the checks.

use super::Bench;
use super::http::measure;
use crate::failure::Failure;
use crate::session::Engine;

/// What every list, and the start on that database, has to keep within.
const LIST_P99_MS: f64 = 20.0;
const START_MS: f64 = 100.0;

/// Prints a row for each list, then the slowest and the starts.
pub(super) fn print(bench: &mut Bench<'_>, engine: Engine) -> Result<(), Failure> {
    let printed = measure(bench, "lists", engine)?;
    println!("| List | Items | p50 | p99 |\n|---|---|---|---|");
    let mut lists = 0;
    let mut slow = 0;
    for line in printed.lines() {
        match line.split('|').collect::<Vec<_>>().as_slice() {
            [name, items, p50, p99] => {
                println!("| {name} | {items} | {p50} ms | {p99} ms |");
                lists += 1;
                slow += usize::from(p99.parse::<f64>().is_ok_and(|p99| p99 > LIST_P99_MS));
            }
            _ => println!("{line}"),
        }
    }
    println!("{slow} of {lists} lists are above {LIST_P99_MS} ms at p99; a start has {START_MS} ms");
    Ok(())
}
