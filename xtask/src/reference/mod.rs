//! The references in `docs/`, written from what the product is made of: the settings from their commented default file,
//! the API from its OpenAPI document.
//!
//! Invariant: each is a pure function of its sources, so that `generated` can compare and `generate` can write.

mod api;
mod configuration;
mod example;

pub(crate) use api::api;
pub(crate) use configuration::configuration;

/// The first lines of a generated file.
fn head(title: &str, source: &str) -> String {
    format!("# {title}\n\n<!-- Written by `cargo xtask generate` from {source}. Change that instead. -->\n\n")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
