//! An error with everything that caused it, as one line for the log.

use std::error::Error;
use std::fmt;

/// Shows an error and its sources, outermost first, separated by colons. A source whose text the error before it already
/// quotes is left out.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("the disk says: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(Middle(std::io::Error::other("it is full")));
        assert_eq!(Chain(&error).to_string(), "the file cannot be read: the disk says: it is full");
    }
}
