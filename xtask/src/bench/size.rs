//! How large the product is: the stripped release binary, and how many packages it is built from.

use std::fs;

use super::{Bench, Figure, Goal, number};
use crate::dependencies;
use crate::failure::Failure;

const MEBIBYTE: f64 = 1_048_576.0;

pub(super) fn figures(bench: &mut Bench<'_>) -> Result<Vec<Figure>, Failure> {
    let file = fs::metadata(&bench.binary).map_err(Failure::file(&bench.binary))?;
    let packages = dependencies::package_count(bench.session)?;
    Ok(vec![
        Figure { name: "release binary", value: number(file.len())? / MEBIBYTE, unit: "MiB", goal: Goal::AtMost(60.0) },
        Figure {
            name: "packages",
            value: number(u64::try_from(packages).unwrap_or(u64::MAX))?,
            unit: "packages",
            goal: Goal::AtMost(420.0),
        },
    ])
}
