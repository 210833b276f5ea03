//! Checks of what people enter that more than one slice makes.

use std::borrow::Cow;

use thinkwork_primitives::limits;

use super::ApiError;
use super::visible::is_unfit_for_names;

/// A field that does not hold what it must: 422.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// As the API spells it.
    pub field: &'static str,
    /// What to enter instead.
    pub problem: Cow<'static, str>,
}

impl InvalidField {
    pub fn new(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl From<InvalidField> for ApiError {
    fn from(error: InvalidField) -> Self {
        Self::invalid(error.field, error.problem)
    }
}

/// A name without outer spaces, if it is one line of 1 to 120 characters that can all be seen.
pub fn name(text: &str) -> Option<&str> {
    let name = text.trim();
    let fits = (1..=limits::NAME_CHARS_MAX).contains(&name.chars().count());
    (fits && !name.chars().any(is_unfit_for_names)).then_some(name)
}

/// Whether a slug fits an address: 1 to `chars_max` of a-z, 0-9 and hyphens, which are not at the ends.
pub fn is_slug(text: &str, chars_max: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends_well = !text.starts_with('-') && !text.ends_with('-');
    (1..=chars_max).contains(&text.len()) && text.bytes().all(fits) && ends_well
}
