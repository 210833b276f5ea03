//! Pure decisions about tools: which are offered, their names, whether a call may run, whether its arguments fit.
//!
//! Invariant: nothing here reads a clock or a database; what an upstream says of itself decides nothing.

mod approval;
mod arguments;
mod naming;
mod offer;

pub use approval::{Decision, decide, default_approval};
pub use arguments::{ARGUMENTS_BYTES_MAX, check as check_arguments, reference_pointer, without_absent};
pub use naming::{FullName, NAME_CHARS_MAX, names, slug_of};
pub(super) use offer::{is_in_reach, needs_discovery, offer};
