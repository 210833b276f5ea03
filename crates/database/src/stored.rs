//! Reading stored values back into types.
//!
//! Invariant: a word or JSON document that does not read back is an error that names table, column and row. It never
//! becomes a default, since a default could open what was closed.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Error;

/// The row that is being read.
#[derive(Clone, Copy, Debug)]
pub struct StoredRow {
    table: &'static str,
    id: Uuid,
}

impl StoredRow {
    /// The row `id` of `table`.
    pub const fn new(table: &'static str, id: Uuid) -> Self {
        Self { table, id }
    }

    /// A stored word, like a status.
    pub fn parse<T: FromStr>(self, column: &'static str, text: &str) -> Result<T, Error> {
        text.parse().map_err(|_| self.unreadable(column))
    }

    /// A stored word, or NULL.
    pub fn parse_or_null<T: FromStr>(self, column: &'static str, text: Option<&str>) -> Result<Option<T>, Error> {
        text.map(|text| self.parse(column, text)).transpose()
    }

    /// A stored JSON document.
    pub fn json<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|_| self.unreadable(column))
    }

    /// A stored JSON document, or NULL.
    pub fn json_or_null<T: DeserializeOwned>(
        self,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<Option<T>, Error> {
        text.map(|text| self.json(column, text)).transpose()
    }

    /// What several columns say together; `column` is the first of them.
    pub fn require<T>(self, column: &'static str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| self.unreadable(column))
    }

    /// This column of the row does not read back.
    pub const fn unreadable(self, column: &'static str) -> Error {
        Error::Unreadable { table: self.table, column, row: self.id }
    }
}
