//! Pure decisions about tools: their names, whether a call may run, whether its arguments fit.
//!
//! Invariant: nothing here reads a clock or a database; what an upstream says of itself decides nothing.

mod approval;
mod arguments;
mod naming;

pub use approval::{Decision, decide};
pub use arguments::{ARGUMENTS_BYTES_MAX, check as check_arguments};
pub use naming::{FullName, NAME_CHARS_MAX, names, slug_of};
