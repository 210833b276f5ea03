//! Schemas of tools, written as model providers take them (L96).
//!
//! One schema that a provider refuses fails the whole request, so each is adapted first: references are inlined, what a
//! provider does not know is dropped, and alternatives at the top level become one object.
//!
//! Invariants: the adapted schema admits every argument that the original admits, with one exception: a property that
//! only some alternatives declare keeps the schema they give it. Arguments are checked against the original when a tool
//! is called. The work is bounded whatever the schema is.

mod alternatives;
mod cache;
mod conjunction;
mod dialect;
mod reader;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use reader::Reader;

pub(super) use cache::SchemaCache;
pub(super) use dialect::Dialect;

/// Schemas within one schema, counted after inlining: more than any tool we know has.
const NODES_MAX: usize = 4_096;
/// Schemas inside each other, where each reference counts as one: deeper ones are not meant for a model.
const DEPTH_MAX: usize = 32;
/// Bytes of an adapted schema, as of a whole definition that is registered.
const SCHEMA_BYTES_MAX: usize = 65_536;
/// Bytes of values and names that are copied while a schema is read: references can ask for the same ones many times.
const BYTES_READ_MAX: usize = 4 * SCHEMA_BYTES_MAX;
/// Longest text that is shown of a schema in one piece.
const SHOWN_CHARS_MAX: usize = 64;

/// A schema as a provider takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Adapted {
    /// The schema of the arguments; an object with `properties`.
    pub(super) parameters: Map<String, Value>,
    /// Which arguments belong together, where the original has alternatives: a sentence for the description.
    pub(super) alternatives: Option<String>,
    /// The size of `parameters` as JSON.
    pub(super) bytes: usize,
}

/// Why a schema cannot be adapted; to stand after "the model cannot use its input schema:".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaProblem {
    #[error("it refers to itself at {0}")]
    Recursive(String),
    #[error("the reference {0} leads nowhere in it")]
    Reference(String),
    #[error("its arguments are not an object")]
    NotAnObject,
    #[error("no arguments fit it")]
    NothingFits,
    #[error("it has more than {NODES_MAX} parts")]
    TooManyParts,
    #[error("it is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    #[error("it is larger than {SCHEMA_BYTES_MAX} bytes once its references are resolved")]
    TooLarge,
    #[error("the required argument {0} has a name that the model's provider does not accept")]
    PropertyName(String),
}

/// Adapts the schema of a tool's arguments.
///
/// # Errors
/// [`SchemaProblem`] where it cannot be written as this dialect takes it.
pub(super) fn adapt(schema: &Map<String, Value>, dialect: Dialect) -> Result<Adapted, SchemaProblem> {
    let root = Value::Object(schema.clone());
    let read = Reader::new(&root, dialect).read()?.ok_or(SchemaProblem::NothingFits)?;
    let (mut parameters, alternatives) = alternatives::merge(read)?;
    dialect.complete_arguments(&mut parameters)?;
    let bytes = serde_json::to_vec(&parameters).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > SCHEMA_BYTES_MAX {
        return Err(SchemaProblem::TooLarge);
    }
    Ok(Adapted { parameters, alternatives, bytes })
}

/// A name of a schema for an error: short, and without a character that could steer a page or a model.
fn shown(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "#/$_.-~%@".contains(char);
    name.chars().map(|char| if is_plain(char) { char } else { '?' }).take(SHOWN_CHARS_MAX).collect()
}
