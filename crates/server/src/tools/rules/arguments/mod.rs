//! Whether arguments fit a tool's own schema: their size, and what most of JSON Schema says of them.
//!
//! Invariants: arguments that fit the schema are never refused: a keyword that is not read here says nothing, and the
//! tool checks it itself. The work is bounded, whatever schema and arguments are; what is beyond the bound fits. It can
//! still take milliseconds, so it is done on a thread for blocking work.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Arguments of one call: more than a message a person writes, less than a file.
pub const ARGUMENTS_BYTES_MAX: usize = 131_072;

/// Schemas, members, values and names that are looked at in one check: some milliseconds.
const STEPS_MAX: usize = 50_000;
/// Longest reference that is followed; each use reads all of it.
const REFERENCE_BYTES_MAX: usize = 512;
/// Problems that are put into words in one check.
const PROBLEMS_TOLD_MAX: usize = 64;
/// Schemas within each other: references make no end by themselves.
const DEPTH_MAX: usize = 48;
/// Problems of alternatives that one sentence tells.
const ALTERNATIVES_TOLD_MAX: usize = 4;
/// Longest sentence: what is deep within alternatives has many problems.
const PROBLEM_BYTES_MAX: usize = 2_000;
/// Longest name or value of a schema in a sentence.
const SHOWN_CHARS_MAX: usize = 64;
/// Allowed values that one sentence tells.
const VALUES_TOLD_MAX: usize = 12;

/// Checks arguments against a schema.
///
/// # Errors
/// A clause that says which argument is wrong; it quotes names and the schema, and no value that was given.
pub fn check(schema: &Map<String, Value>, arguments: &Map<String, Value>) -> Result<(), String> {
    let bytes = serde_json::to_vec(arguments).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(format!("they are larger than {ARGUMENTS_BYTES_MAX} bytes; send less"));
    }
    let mut check = Check::new(schema, Mode::Explain);
    let place = Place { parent: None, name: Name::Arguments };
    check.object_schema(schema, Given::Arguments(arguments), &place, 0).map_err(|mut problem| {
        problem.truncate(problem.floor_char_boundary(PROBLEM_BYTES_MAX));
        if problem.is_empty() { "they do not fit the schema of the tool".to_owned() } else { problem }
    })
}

/// Leaves out arguments that are null where the schema takes no null: models say so that they give an optional argument
/// no value. A required one stays, and [`check`] says what is wrong with it.
pub fn without_absent(schema: &Map<String, Value>, mut arguments: Map<String, Value>) -> Map<String, Value> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return arguments };
    let required = schema.get("required").and_then(Value::as_array);
    let required: HashSet<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut check = Check::new(schema, Mode::Probe);
    arguments.retain(|name, value| {
        let Some(property) = properties.get(name).filter(|_| value.is_null()) else { return true };
        let place = Place { parent: None, name: Name::Property(name) };
        required.contains(name.as_str()) || check.schema(property, Given::Value(value), &place, 0).is_ok()
    });
    arguments
}

/// What is checked: all arguments, or a value in them.
#[derive(Clone, Copy)]
enum Given<'a> {
    Arguments(&'a Map<String, Value>),
    Value(&'a Value),
}

impl<'a> Given<'a> {
    fn members(self) -> Option<&'a Map<String, Value>> {
        match self {
            Self::Arguments(members) => Some(members),
            Self::Value(value) => value.as_object(),
        }
    }

    fn is_a(self, kind: &str) -> bool {
        match self {
            Self::Arguments(_) => !is_type(kind) || kind == "object",
            Self::Value(value) => is_a(value, kind),
        }
    }
}

/// Where a value stands in the arguments.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    name: Name<'a>,
}

enum Name<'a> {
    Arguments,
    Property(&'a str),
    Item(usize),
}

impl Place<'_> {
    fn path(&self) -> String {
        let mut path = String::new();
        self.write_path(&mut path);
        path
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        match self.name {
            Name::Arguments => {}
            Name::Property(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&shown(name));
            }
            // Writing to a string cannot fail.
            Name::Item(index) => drop(write!(path, "[{index}]")),
        }
    }

    /// As the subject of a sentence.
    fn subject(&self) -> String {
        match self.name {
            Name::Arguments => "the arguments".to_owned(),
            _ => format!("`{}`", self.path()),
        }
    }

    fn property<'a>(&'a self, name: &'a str) -> Place<'a> {
        Place { parent: Some(self), name: Name::Property(name) }
    }
}

/// Whether what is wrong is put into words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Explain,
    /// Only whether a value fits: an alternative that does not is no problem while another one may.
    Probe,
}

struct Check<'a> {
    root: &'a Map<String, Value>,
    steps_left: usize,
    mode: Mode,
    problems_left: usize,
}

impl<'a> Check<'a> {
    const fn new(root: &'a Map<String, Value>, mode: Mode) -> Self {
        Self { root, steps_left: STEPS_MAX, mode, problems_left: PROBLEMS_TOLD_MAX }
    }

    /// A problem, in words where they are wanted.
    fn problem(&mut self, words: impl FnOnce() -> String) -> Result<(), String> {
        if self.mode == Mode::Probe {
            return Err(String::new());
        }
        match self.problems_left.checked_sub(1) {
            Some(left) => {
                self.problems_left = left;
                Err(words())
            }
            None => Err(String::new()),
        }
    }

    /// Whether there is a step left to look at one thing more.
    fn step(&mut self) -> bool {
        let left = self.steps_left.checked_sub(1);
        self.steps_left = left.unwrap_or_default();
        left.is_some()
    }

    fn schema(&mut self, schema: &'a Value, given: Given<'_>, place: &Place<'_>, depth: usize) -> Result<(), String> {
        match schema {
            Value::Object(keywords) => self.object_schema(keywords, given, place, depth),
            _ if !self.step() => Ok(()),
            Value::Bool(false) => self.problem(|| format!("{} must not be given", place.subject())),
            _ => Ok(()),
        }
    }

    fn object_schema(
        &mut self,
        keywords: &'a Map<String, Value>,
        given: Given<'_>,
        place: &Place<'_>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX || !self.step() {
            return Ok(());
        }
        let deeper = depth.saturating_add(1);
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
            // What stands beside a reference counts in newer versions only, so it is left to the tool.
            return match resolve(self.root, reference) {
                Some(Target::Root) => self.object_schema(self.root, given, place, deeper),
                Some(Target::Schema(target)) => self.schema(target, given, place, deeper),
                None => Ok(()),
            };
        }
        self.check_type(keywords, given, place)?;
        self.check_values(keywords, given, place)?;
        if let Some(members) = given.members() {
            self.check_members(keywords, members, place, deeper)?;
        }
        if let Given::Value(Value::Array(items)) = given {
            self.check_items(keywords, items, place, deeper)?;
        }
        self.check_combinations(keywords, given, place, deeper)
    }

    fn check_type(
        &mut self,
        keywords: &'a Map<String, Value>,
        given: Given<'_>,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let mut names = kinds(keywords).peekable();
        if names.peek().is_none() || names.any(|kind| !self.step() || given.is_a(kind)) {
            return Ok(());
        }
        self.problem(|| {
            let told: Vec<&str> = kinds(keywords).take(VALUES_TOLD_MAX).collect();
            format!("{} must be of type {}", place.subject(), shown(&told.join(" or ")))
        })
    }

    fn check_values(
        &mut self,
        keywords: &'a Map<String, Value>,
        given: Given<'_>,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let Given::Value(value) = given else { return Ok(()) };
        if keywords.get("const").is_some_and(|only| !self.is_same(only, value)) {
            return self.problem(|| {
                let only = keywords.get("const").map(ToString::to_string).unwrap_or_default();
                format!("{} must be {}", place.subject(), shown(&only))
            });
        }
        let Some(Value::Array(allowed)) = keywords.get("enum") else { return Ok(()) };
        if allowed.is_empty() || allowed.iter().any(|one| self.is_same(one, value)) {
            return Ok(());
        }
        self.problem(|| {
            let told: Vec<String> = allowed.iter().take(VALUES_TOLD_MAX).map(|one| shown(&one.to_string())).collect();
            let more = if allowed.len() > VALUES_TOLD_MAX { " and others" } else { "" };
            format!("{} must be one of {}{more}", place.subject(), told.join(", "))
        })
    }

    fn check_members(
        &mut self,
        keywords: &'a Map<String, Value>,
        members: &Map<String, Value>,
        place: &Place<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let required = keywords.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !self.step() {
                return Ok(());
            }
            if !members.contains_key(name) {
                return self.problem(|| format!("`{}` is missing", place.property(name).path()));
            }
        }
        let properties = keywords.get("properties").and_then(Value::as_object);
        let has_patterns = keywords.contains_key("patternProperties");
        let additional = keywords.get("additionalProperties").filter(|_| !has_patterns);
        for (name, value) in members {
            if !self.step() {
                return Ok(());
            }
            let place = place.property(name);
            match (properties.and_then(|properties| properties.get(name)), additional) {
                (Some(schema), _) => self.schema(schema, Given::Value(value), &place, depth)?,
                (None, Some(Value::Bool(false))) => {
                    return self.problem(|| format!("{} is not known to it", place.subject()));
                }
                (None, Some(schema)) => self.schema(schema, Given::Value(value), &place, depth)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn check_items(
        &mut self,
        keywords: &'a Map<String, Value>,
        items: &[Value],
        place: &Place<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let is_tuple = keywords.contains_key("prefixItems");
        let Some(schema) = keywords.get("items").filter(|schema| schema.is_object() && !is_tuple) else {
            return Ok(());
        };
        for (index, item) in items.iter().enumerate() {
            if !self.step() {
                return Ok(());
            }
            let place = Place { parent: Some(place), name: Name::Item(index) };
            self.schema(schema, Given::Value(item), &place, depth)?;
        }
        Ok(())
    }

    fn check_combinations(
        &mut self,
        keywords: &'a Map<String, Value>,
        given: Given<'_>,
        place: &Place<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let of = |keyword: &str| keywords.get(keyword).and_then(Value::as_array);
        for schema in of("allOf").into_iter().flatten() {
            self.schema(schema, given, place, depth)?;
        }
        // That no second one of `oneOf` fits is the tool's to check.
        for schemas in [of("anyOf"), of("oneOf")].into_iter().flatten().filter(|schemas| !schemas.is_empty()) {
            if !self.fits_one_of(schemas, given, place, depth) {
                let problems = self.problems_of(schemas, given, place, depth);
                let but = if problems.is_empty() { String::new() } else { format!(", but {}", problems.join("; or ")) };
                return self.problem(|| format!("{} must fit one alternative{but}", place.subject()));
            }
        }
        Ok(())
    }

    fn fits_one_of(&mut self, schemas: &'a [Value], given: Given<'_>, place: &Place<'_>, depth: usize) -> bool {
        let mode = std::mem::replace(&mut self.mode, Mode::Probe);
        let fits = schemas.iter().any(|schema| self.schema(schema, given, place, depth).is_ok());
        self.mode = mode;
        fits
    }

    /// What is wrong with the first alternatives, of which none fits.
    fn problems_of(&mut self, schemas: &'a [Value], given: Given<'_>, place: &Place<'_>, depth: usize) -> Vec<String> {
        if self.mode == Mode::Probe {
            return Vec::new();
        }
        let first = schemas.iter().take(ALTERNATIVES_TOLD_MAX);
        let problems = first.filter_map(|schema| self.schema(schema, given, place, depth).err());
        problems.filter(|problem| !problem.is_empty()).collect()
    }

    /// Whether two values are equal as JSON Schema counts it: 1 is 1.0 (2020-12 core, section 4.2.2). What is too much
    /// to compare counts as equal.
    fn is_same(&mut self, one: &Value, other: &Value) -> bool {
        if !self.step() {
            return true;
        }
        match (one, other) {
            (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| self.is_same(one, other))
            }
            (Value::Object(one), Value::Object(other)) => {
                one.len() == other.len()
                    && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| self.is_same(one, other)))
            }
            _ => one == other,
        }
    }
}

/// Where a reference leads.
enum Target<'a> {
    Root,
    Schema(&'a Value),
}

/// The JSON pointer of a reference within its own document (RFC 6901 section 6); `None` for any other reference.
pub fn reference_pointer(reference: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()
}

/// The schema that a reference names.
fn resolve<'a>(root: &'a Map<String, Value>, reference: &str) -> Option<Target<'a>> {
    let pointer = Some(reference).filter(|text| text.len() <= REFERENCE_BYTES_MAX).and_then(reference_pointer)?;
    if pointer.is_empty() {
        return Some(Target::Root);
    }
    let (first, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (pointer.strip_prefix('/')?, String::new()),
    };
    let first = first.replace("~1", "/").replace("~0", "~");
    root.get(&first)?.pointer(&rest).map(Target::Schema)
}

/// The words of a schema's `type`; none where it says nothing (JSON Schema 2020-12 validation, section 6.1.1).
fn kinds(keywords: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let named = keywords.get("type");
    let listed = named.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    named.and_then(Value::as_str).into_iter().chain(listed)
}

fn is_type(kind: &str) -> bool {
    matches!(kind, "null" | "boolean" | "object" | "array" | "number" | "integer" | "string")
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "number" => value.is_number(),
        // 1.0 is an integer there, too.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        // A word that JSON Schema does not have says nothing about the value.
        _ => true,
    }
}

fn shown(text: &str) -> String {
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    plain.take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
