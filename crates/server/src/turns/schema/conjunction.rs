//! Two schemas that hold both, as one.
//!
//! Where both say something of the same keyword and it cannot be written as one, the first stands: that admits more.

use serde_json::{Map, Value};

/// Adds what `other` says to `schema`.
pub(super) fn conjoin(schema: &mut Map<String, Value>, other: Map<String, Value>) {
    for (keyword, theirs) in other {
        let Some(ours) = schema.get_mut(&keyword) else {
            schema.insert(keyword, theirs);
            continue;
        };
        match (keyword.as_str(), ours, theirs) {
            ("properties", Value::Object(ours), Value::Object(theirs)) => conjoin_properties(ours, theirs),
            ("items", Value::Object(ours), Value::Object(theirs)) => conjoin(ours, theirs),
            ("required", Value::Array(ours), Value::Array(theirs)) => ours.extend(theirs),
            _ => {}
        }
    }
}

fn conjoin_properties(ours: &mut Map<String, Value>, theirs: Map<String, Value>) {
    for (name, schema) in theirs {
        match (ours.get_mut(&name), schema) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => conjoin(ours, theirs),
            (Some(_), _) => {}
            (None, schema) => {
                ours.insert(name, schema);
            }
        }
    }
}
