//! What a JSON pointer (RFC 6901) points at, as it is written.
//!
//! Invariants: one pass over the document and no copy of it; a number keeps its digits, however many, since it is an id;
//! of a name that an object has twice the last counts, as in most parsers.

use std::fmt;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The text of the string, number or truth value at `pointer`; `None` where there is none, or no valid JSON.
pub(super) fn find(json: &str, pointer: &str) -> Option<String> {
    let path: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = Path(&path).deserialize(&mut reader).ok()??;
    reader.end().ok()?;
    match found.get() {
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        "null" => None,
        text if text.starts_with(['{', '[']) => None,
        text => Some(text.to_owned()),
    }
}

/// The rest of the way to a value.
#[derive(Clone, Copy)]
struct Path<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Path<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        match self.0.split_first() {
            None => <&RawValue>::deserialize(value).map(Some),
            Some((token, rest)) => value.deserialize_any(Step { token, rest: Path(rest) }),
        }
    }
}

/// One step into an object or an array.
struct Step<'p> {
    token: &'p str,
    rest: Path<'p>,
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_next) = members.next_key_seed(Name(self.token))? {
            if is_next {
                found = members.next_value_seed(self.rest)?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let is_index = self.token == "0" || !self.token.starts_with(['0', '+']);
        let index: Option<usize> = if is_index { self.token.parse().ok() } else { None };
        let mut found = None;
        let mut place = 0_usize;
        loop {
            if index == Some(place) {
                match items.next_element_seed(self.rest)? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            place = place.saturating_add(1);
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has this name.
struct Name<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
