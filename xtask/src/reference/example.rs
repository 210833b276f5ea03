//! Examples of JSON bodies from their schemas: what the schema itself gives as an example, else something of the right
//! type that looks like what the server sends.

use serde_json::{Map, Value, json};

/// Deeper than any body of ours; a schema that contains itself ends here.
const DEPTH_MAX: usize = 8;

/// The part of an id behind its prefix: 26 characters of Crockford's base 32.
const ID: &str = "01M8K8JG70EWWAAFMWN2NWJRZ8";
/// A thread's id, whose last characters hold its channel.
const THREAD: &str = "CHAT-01M8K8K89WEVX8G869G1TECSER";
const TIME: &str = "2026-01-31T12:00:00.000000Z";
const HASH: &str = "750d1a50d2e97e6380196d45ed64ff5d9916edd24852e67faa439407ad8fe5d7";

/// Prefixes of ids by a word in the name of their schema or field; the first that fits counts.
const PREFIXES: &[(&str, &str)] = &[
    ("decided_by", "usr"),
    ("audit", "aud"),
    ("credentialuse", "aud"),
    ("delivery", "dlv"),
    ("duplicate_of", "dlv"),
    ("webhook", "whk"),
    ("server", "mcp"),
    ("source", "mcp"),
    ("connection", "con"),
    ("flow", "flw"),
    ("message", "msg"),
    ("turn", "trn"),
    ("step", "stp"),
    ("space", "spc"),
    ("token", "tok"),
    ("session", "ses"),
    ("tenant", "ten"),
];

/// Names of things by a word in the name of their schema; of anything else it is that of a server.
const NAMES: &[(&str, &str)] = &[
    ("tool", "notes__search"),
    ("step", "notes__search"),
    ("user", "Ana"),
    ("member", "Ana"),
    ("tenant", "Acme"),
    ("token", "Reports"),
    ("webhook", "billing"),
    ("spaceserver", "Notes"),
    ("space", "Billing"),
    ("header", "content-type"),
];

/// Texts by the name of their field, where neither the schema nor the ending of the name says more.
const TEXTS: &[(&str, &str)] = &[
    ("account", "ana@acme.test"),
    ("action", "credential.opened"),
    ("allowed_cidrs", "192.0.2.0/24"),
    ("audience", "api"),
    ("auth_mode", "user_oauth"),
    ("authorize_url", "https://id.example.com/authorize?…"),
    ("body_preview", "{\"invoice\":\"2026-17\"}"),
    ("channel", "CHAT"),
    ("client_id", "thinkwork"),
    ("default_priority", "medium"),
    ("description", "Searches your notes"),
    ("effect", "read"),
    ("effect_suggested", "read"),
    ("email", "ana@acme.test"),
    ("event_id", "evt_2026_17"),
    ("header", "x-event-id"),
    ("input_preview", "{\"query\":\"invoice\"}"),
    ("instructions", "Answer in short sentences."),
    ("invite_url", "https://thinkwork.example.com/invitation?code=…"),
    ("issuer", "https://id.example.com"),
    ("last_four", "WXYZ"),
    ("mode", "user_oauth"),
    ("model", "example-model"),
    ("model_base_url", "https://model.example.com/v1"),
    ("output_preview", "Invoice 2026-17 is open."),
    ("password", "correct horse battery staple"),
    ("new_password", "correct horse battery staple"),
    ("pointer", "/data/id"),
    ("priority", "medium"),
    ("prompt", "Say what is due."),
    ("protocol_version", "2025-11-25"),
    ("return_to", "/me/mcp-servers"),
    ("role", "member"),
    ("scheme", "standard_webhooks"),
    ("scope", "write"),
    ("scopes", "read"),
    ("server", "notes"),
    ("since", TIME),
    ("surface", "tool_call"),
    ("text", "Which invoices are open?"),
    ("title", "Which invoices are open?"),
    ("token", "twp_…"),
    ("tool", "notes__search"),
    ("tool_allowlist", "search"),
    ("transport", "streamable_http"),
    ("until", TIME),
    ("url", "https://mcp.example.com/mcp"),
    ("user_agent", "Mozilla/5.0"),
];

/// JSON whose fields keep their order, as the types of the server have it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Example {
    /// Anything without fields of ours.
    Plain(Value),
    /// A list.
    List(Vec<Example>),
    /// An object.
    Object(Vec<(String, Example)>),
}

impl Example {
    /// Two spaces a level; what is empty stays on its line.
    pub(super) fn pretty(&self) -> String {
        self.indented("\n")
    }

    fn indented(&self, line: &str) -> String {
        let inner = format!("{line}  ");
        let (open, close, parts): (_, _, Vec<String>) = match self {
            Self::Plain(value) => return value.to_string(),
            Self::List(items) => ('[', ']', items.iter().map(|item| item.indented(&inner)).collect()),
            Self::Object(fields) => {
                let field = |(name, value): &(String, Self)| format!("{}: {}", json!(name), value.indented(&inner));
                ('{', '}', fields.iter().map(field).collect())
            }
        };
        if parts.is_empty() {
            return format!("{open}{close}");
        }
        format!("{open}{inner}{}{line}{close}", parts.join(&format!(",{inner}")))
    }
}

/// Which fields an example shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    /// Those that must be sent; all where none must.
    Needed,
    /// All.
    All,
}

/// The OpenAPI document's schemas by name.
pub(super) struct Schemas<'a>(pub(super) Option<&'a Map<String, Value>>);

impl<'a> Schemas<'a> {
    /// The schema that is meant, with its name: what a reference points to, and the only one beside `null`.
    pub(super) fn resolve(&self, schema: &'a Value) -> (&'a Value, &'a str) {
        let mut schema = schema;
        let mut name = "";
        for _ in 0..DEPTH_MAX {
            let reference = schema.get("$ref").and_then(Value::as_str);
            if let Some(named) = reference.and_then(|path| path.rsplit('/').next()) {
                let Some(found) = self.0.and_then(|schemas| schemas.get(named)) else { break };
                (schema, name) = (found, named);
            } else if let [only] = alternatives(schema).as_slice() {
                schema = only;
            } else {
                break;
            }
        }
        (schema, name)
    }

    /// The properties to show: those that must be there in the order in which the type has them, then the others.
    pub(super) fn properties(&self, schema: &'a Value, fields: Fields) -> Vec<(&'a str, &'a Value)> {
        let mut needed = Vec::new();
        let mut others = Vec::new();
        for part in self.parts(schema) {
            let Some(all) = part.get("properties").and_then(Value::as_object) else { continue };
            let names = required(part);
            let named = |name: &&str| all.get_key_value(*name).map(|(name, schema)| (name.as_str(), schema));
            needed.extend(names.iter().filter_map(named));
            others.extend(
                all.iter().map(|(name, schema)| (name.as_str(), schema)).filter(|(name, _)| !names.contains(name)),
            );
        }
        if fields == Fields::All || needed.is_empty() {
            needed.append(&mut others);
        }
        needed
    }

    /// The names of the properties that must be there.
    pub(super) fn required(&self, schema: &'a Value) -> Vec<&'a str> {
        self.parts(schema).into_iter().flat_map(required).collect()
    }

    /// What an object is made of: itself, or everything that `allOf` puts together.
    fn parts(&self, schema: &'a Value) -> Vec<&'a Value> {
        match schema.get("allOf").and_then(Value::as_array) {
            Some(parts) => parts.iter().map(|part| self.resolve(part).0).collect(),
            None => vec![schema],
        }
    }

    /// A body of this schema.
    pub(super) fn example(&self, schema: &'a Value, fields: Fields) -> Example {
        self.value(schema, fields, "", "", 0)
    }

    fn value(&self, schema: &'a Value, fields: Fields, field: &str, owner: &str, depth: usize) -> Example {
        let (schema, name) = self.resolve(schema);
        let owner = if name.is_empty() { owner } else { name };
        if let Some(first) = alternatives(schema).first() {
            return self.value(first, fields, field, owner, depth + 1);
        }
        let given = schema.get("example").or_else(|| schema.get("examples")?.as_array()?.first());
        if let Some(given) = given.or_else(|| schema.get("enum")?.as_array()?.first()) {
            return match given {
                Value::Object(fields) if schema.get("properties").is_some() => Example::Object(
                    fields.iter().map(|(name, value)| (name.clone(), Example::Plain(value.clone()))).collect(),
                ),
                given => Example::Plain(given.clone()),
            };
        }
        if depth > DEPTH_MAX || is_nullable(schema) && is_mostly_null(field) {
            return Example::Plain(Value::Null);
        }
        match kind(schema) {
            "object" => self.object(schema, fields, owner, depth),
            "array" => Example::List(match schema.get("items") {
                // What such a list holds stands in its own description.
                Some(items) if kind(items) == "string" && items.get("enum").is_none() => {
                    vec![Example::Plain(json!(text(schema, field, owner)))]
                }
                items => items.map(|items| self.value(items, fields, field, owner, depth + 1)).into_iter().collect(),
            }),
            "integer" | "number" => Example::Plain(number(schema, field)),
            "boolean" => Example::Plain(json!(field != "disabled")),
            "string" => Example::Plain(json!(text(schema, field, owner))),
            _ => Example::Object(Vec::new()),
        }
    }

    fn object(&self, schema: &'a Value, fields: Fields, owner: &str, depth: usize) -> Example {
        let named = self.properties(schema, fields).into_iter();
        let mut object: Vec<(String, Example)> = named
            .map(|(name, property)| (name.to_owned(), self.value(property, fields, name, owner, depth + 1)))
            .collect();
        if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
            object.push(("search".to_owned(), self.value(values, fields, "", owner, depth + 1)));
        }
        Example::Object(object)
    }
}

fn required(schema: &Value) -> Vec<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What type a schema is of, `null` left aside.
pub(super) fn kind(schema: &Value) -> &str {
    let named = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        one => one.and_then(Value::as_str),
    };
    named.unwrap_or(if schema.get("properties").or(schema.get("allOf")).is_some() { "object" } else { "" })
}

/// What a value may be, `null` left aside, where the schema leaves a choice.
pub(super) fn alternatives(schema: &Value) -> Vec<&Value> {
    let choice = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    choice.into_iter().flatten().filter(|one| one.get("type") != Some(&json!("null"))).collect()
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_array).is_some_and(|names| names.contains(&json!("null")))
}

/// What is there only where something went wrong, ended or goes on.
fn is_mostly_null(field: &str) -> bool {
    let words = ["next", "error", "failure", "reason", "revoked_at", "duplicate_of", "previous_ends_at", "connect_url"];
    words.iter().any(|word| field.ends_with(word))
}

fn number(schema: &Value, field: &str) -> Value {
    match field {
        _ if field.ends_with("_seconds") => json!(86_400),
        _ if field.ends_with("_per_minute") => json!(600),
        _ => schema.get("default").or_else(|| schema.get("minimum")).cloned().unwrap_or(json!(1)),
    }
}

fn text(schema: &Value, field: &str, owner: &str) -> String {
    let described = schema.get("description").and_then(Value::as_str).and_then(first_word);
    let owner = owner.trim_start_matches("List_").to_lowercase();
    match field {
        "thread_id" => THREAD.to_owned(),
        "id" if owner.starts_with("thread") => THREAD.to_owned(),
        "id" | "decided_by" | "duplicate_of" => id(if field == "id" { &owner } else { field }),
        "source" => id(field),
        _ if field.ends_with("_id") && field != "client_id" && field != "event_id" => id(field),
        "at" => TIME.to_owned(),
        _ if field.ends_with("_at") => TIME.to_owned(),
        _ if field.ends_with("_hash") => HASH.to_owned(),
        _ if described.is_some() => described.unwrap_or_default(),
        "status" if owner.starts_with("thread") => "in_progress".to_owned(),
        "status" | "result" => "succeeded".to_owned(),
        "name" | "slug" => {
            let name = NAMES.iter().find(|(word, _)| owner.contains(word)).map_or("Notes", |(_, name)| *name);
            if field == "slug" { name.to_lowercase() } else { name.to_owned() }
        }
        "url" if owner.contains("webhook") => format!("https://thinkwork.example.com/hooks/whk_{ID}"),
        "kind" if owner.contains("step") => "tool".to_owned(),
        "kind" if owner.contains("delivery") => "webhook".to_owned(),
        _ => TEXTS.iter().find(|(known, _)| *known == field).map_or("…", |(_, text)| *text).to_owned(),
    }
}

/// The first thing that a description puts in backticks, where that is a word to send.
fn first_word(description: &str) -> Option<String> {
    let word = description.split('`').nth(1)?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // `mode: what it is for` names another field's value.
    let is_heading = description.trim_start().starts_with('`') && description.contains("`:");
    (!is_heading && !word.is_empty() && word.chars().all(is_word) && word != "null").then(|| word.to_owned())
}

fn id(name: &str) -> String {
    let prefix = PREFIXES.iter().find(|(word, _)| name.contains(word)).map_or("usr", |(_, prefix)| *prefix);
    format!("{prefix}_{ID}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &Value, fields: Fields, expected: &str) {
        let schemas = json!({
            "ThreadResponse": { "type": "object", "required": ["id", "space_id"], "properties": {
                "created_at": { "type": "string" }, "id": { "type": "string" }, "space_id": { "type": "string" },
            } },
            "ThreadWithSecretResponse": { "allOf": [
                { "$ref": "#/components/schemas/ThreadResponse" },
                { "type": "object", "required": ["secret"], "properties": { "secret": { "type": "string" } } },
            ] },
            "Kind": { "type": "string", "enum": ["personal", "service"] },
            "Loop": { "type": "object", "properties": { "loop": { "$ref": "#/components/schemas/Loop" } } },
        });
        let schemas = Schemas(schemas.as_object());
        let made = schemas.example(schema, fields).pretty();
        assert_eq!(made.replace("\n", "").replace("  ", ""), expected);
        assert!(serde_json::from_str::<Value>(&made).is_ok(), "{made}");
    }

    #[test]
    fn bodies_are_made_from_their_schemas() {
        let thread = json!({ "$ref": "#/components/schemas/ThreadResponse" });
        let needed = format!("{{\"id\": \"{THREAD}\",\"space_id\": \"spc_{ID}\"}}");
        check(&thread, Fields::Needed, &needed);
        check(&json!({ "oneOf": [{ "type": "null" }, thread.clone()] }), Fields::Needed, &needed);
        let all = format!("{{\"id\": \"{THREAD}\",\"space_id\": \"spc_{ID}\",\"created_at\": \"{TIME}\"}}");
        check(&thread, Fields::All, &all);
        let both = json!({ "$ref": "#/components/schemas/ThreadWithSecretResponse" });
        check(&both, Fields::Needed, &needed.replace('}', ",\"secret\": \"…\"}"));
        let kinds = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Kind" } });
        check(&kinds, Fields::All, "[\"personal\"]");
        check(&json!({ "type": "string", "example": "mine" }), Fields::All, "\"mine\"");
        let described = json!({ "type": "object", "properties": {
            "mode": { "type": "string", "description": "`none` or `tenant_key`." },
            "next": { "type": ["string", "null"] },
            "overlap_seconds": { "type": "integer" },
        } });
        check(&described, Fields::All, "{\"mode\": \"none\",\"next\": null,\"overlap_seconds\": 86400}");
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let looped = json!({ "$ref": "#/components/schemas/Loop" });
        let schemas = json!({ "Loop": { "type": "object", "properties": { "loop": looped.clone() } } });
        let made = Schemas(schemas.as_object()).example(&looped, Fields::All).pretty();
        assert_eq!(made.matches("loop").count(), DEPTH_MAX + 1, "{made}");
    }
}
