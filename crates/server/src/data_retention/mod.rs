//! What is kept and for how long: the kinds of data.
//!
//! Invariant: every kind is in [`DataKind`], which `thinkwork retention` reads; the deletion is in `worker/sweep.rs`.

mod kinds;

pub use kinds::{DataKind, Retention};
