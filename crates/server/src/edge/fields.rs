//! What the OpenAPI document says of fields and ids that mean the same everywhere, and an example of each request body.
//!
//! Invariant: nothing here replaces what a wire type or a handler says itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayItems, KnownFormat, Object, SchemaFormat};
use utoipa::openapi::{OpenApi, RefOr, Schema};

use super::document::operations_mut;

/// The time of every example.
const TIME: &str = "2026-01-31T12:00:00Z";
/// The digest of every example.
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// How many schemas deep an example of a body goes; more than any has, so that a loop ends.
const EXAMPLE_DEPTH_MAX: u32 = 8;

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// An example of an id with this prefix. Its last digit is that of a thread that began in the chat.
macro_rules! id {
    ($prefix:literal) => {
        concat!($prefix, "01KG9Z8V3M7Q2R4T6W8X0Y1Z30")
    };
}

/// Describes what is not described yet.
pub(super) fn describe(document: &mut OpenApi) {
    let schemas = document.components.get_or_insert_default();
    for schema in schemas.schemas.values_mut() {
        describe_schema(schema);
    }
    let schemas = schemas.schemas.clone();
    for (path, item) in &mut document.paths.paths {
        for operation in operations_mut(item) {
            describe_operation(path, operation, &schemas);
        }
    }
}

fn describe_operation(path: &str, operation: &mut Operation, schemas: &Schemas) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            describe_parameter(path, parameter);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            if let RefOr::T(content) = content {
                let example = content.schema.as_ref().and_then(|schema| example(schema, schemas, EXAMPLE_DEPTH_MAX));
                content.example = content.example.take().or(example);
            }
        }
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = match status.as_str() {
                "201" => "It was created.",
                "204" => "It is done; there is no body.",
                _ => "The answer.",
            }
            .to_owned();
        }
    }
}

fn describe_parameter(path: &str, parameter: &mut Parameter) {
    let shared = match parameter.parameter_in {
        ParameterIn::Path => {
            id_in_path(path, &parameter.name).map(|(description, example)| (description, json!(example)))
        }
        _ => field(&parameter.name),
    };
    let Some((description, example)) = shared else { return };
    parameter.description.get_or_insert_with(|| description.to_owned());
    if let Some(schema) = &mut parameter.schema {
        fill_example(schema, example);
    }
}

/// What the id at this place of a path names: the collection before it says so.
fn id_in_path(path: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let (before, _) = path.split_once(&format!("/{{{name}}}"))?;
    Some(match before.rsplit('/').next()? {
        "connections" => ("The connection's id.", id!("con_")),
        "deliveries" => ("The delivery's id.", id!("dlv_")),
        "mcp-servers" => ("The MCP server's id.", id!("mcp_")),
        "members" => ("The member's user id.", id!("usr_")),
        "sessions" => ("The session's id.", id!("ses_")),
        "spaces" => ("The Space's id.", id!("spc_")),
        "threads" => ("The thread's id.", id!("CHAT-")),
        "tokens" => ("The token's id.", id!("tok_")),
        "turns" => ("The turn's id.", id!("trn_")),
        "messages" => ("The message's id.", id!("msg_")),
        "users" => ("The person's id.", id!("usr_")),
        "webhooks" => ("The webhook's id.", id!("whk_")),
        _ => return None,
    })
}

/// What a field or parameter of this name means wherever it stands, and an example. Null for none: an object has those
/// of its fields, and an `id` has its own.
fn field(name: &str) -> Option<(&'static str, Value)> {
    let time = |description| (description, json!(TIME));
    let text = |description, example: &str| (description, json!(example));
    let without = |description| (description, Value::Null);
    Some(match name {
        "acting_client" => without("The software that acted."),
        "after" | "next" => text("Where the next page begins; null on the last.", id!("usr_")),
        "at" => time("When it happened, RFC 3339."),
        "created_at" => time("When it was created, RFC 3339."),
        "annotations" => ("What the server says of it; not trusted.", json!({ "readOnlyHint": true })),
        "credential_subject" => {
            ("Whose credential was used, or would be.", json!({ "kind": "user", "user_id": id!("usr_") }))
        }
        "data" => ("What an event brought, as JSON.", json!({ "invoice": "2026-17" })),
        "detail" => ("What else is known.", json!({ "name": "Billing" })),
        "definition_hash" => text("The SHA-256 of the definition in hexadecimal.", HASH),
        "expires_at" => time("When it expires, RFC 3339."),
        "failure" => text("Why it failed, as a sentence; null if it did not.", "The model did not answer in time."),
        "finished_at" => time("When it ended, RFC 3339; null if it has not."),
        "id" => without("Its id."),
        "last_four" => text("Its last four characters; null if it is too short to show any.", "4f8a"),
        "last_used_at" => time("When it was last used, RFC 3339; null if never."),
        "limit" => ("How many items the page has at most.", json!(50)),
        "marks" => ("What it holds: `private`, `untrusted`, both or none.", json!(["private"])),
        "mcp_server_id" => text("The MCP server.", id!("mcp_")),
        "icons" => (
            "Its icons as in MCP: a list of `src`, `mimeType` and `sizes`.",
            json!([{ "src": "https://example.com/notes.png", "mimeType": "image/png", "sizes": ["48x48"] }]),
        ),
        "meta" => ("MCP's `_meta`, as the server sent it.", json!({ "example.com/category": "notes" })),
        "output_schema" => (
            "The JSON Schema of its structured result; null if it has none.",
            json!({ "type": "object", "properties": { "count": { "type": "integer" } } }),
        ),
        "input_schema" => (
            "The JSON Schema of its arguments.",
            json!({ "type": "object", "properties": { "query": { "type": "string" } } }),
        ),
        "requester" => ("On whose request it happened.", json!({ "kind": "user", "id": id!("usr_") })),
        "target" => ("What it was done to.", json!({ "kind": "webhook", "id": id!("whk_") })),
        "rotated_at" => time("When the present one was put in place, RFC 3339."),
        "scope" => text("How much may be done: `read`, `write` or `admin`.", "read"),
        "space_id" => text("The Space.", id!("spc_")),
        "started_at" => time("When it began, RFC 3339."),
        "thread_id" => text("The thread.", id!("CHAT-")),
        "turn_id" => text("The turn.", id!("trn_")),
        "updated_at" => time("When it was last changed, RFC 3339."),
        "user" | "user_id" => text("The person.", id!("usr_")),
        "version" => ("Goes up by one with each change; send it as `If-Match` to change only what you read.", json!(3)),
        "connection_id" => text("The connection.", id!("con_")),
        "If-Match" => text("The version that you read.", "\"3\""),
        "Idempotency-Key" => text("A text of your choice.", "5f2c1e9a"),
        _ if name.ends_with("_at") => time("A time, RFC 3339."),
        _ => return None,
    })
}

fn describe_schema(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            // Of a closed list of words the first is as good an example as any.
            object.example =
                object.example.take().or_else(|| object.enum_values.as_ref().and_then(|words| words.first().cloned()));
            for (name, property) in &mut object.properties {
                lift_description(property);
                if let Some((description, example)) = field(name) {
                    fill_description(property, description);
                    fill_example(property, example);
                }
                describe_schema(property);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                describe_schema(items);
            }
        }
        Schema::OneOf(one) => one.items.iter_mut().for_each(describe_schema),
        Schema::AllOf(all) => all.items.iter_mut().for_each(describe_schema),
        _ => {}
    }
}

/// What is said of an optional field of one of our types, `utoipa` puts at the reference beside null; it belongs to both.
fn lift_description(property: &mut RefOr<Schema>) {
    let RefOr::T(Schema::OneOf(one)) = property else { return };
    for item in &mut one.items {
        if let RefOr::Ref(reference) = item
            && !reference.description.is_empty()
        {
            one.description.get_or_insert(std::mem::take(&mut reference.description));
        }
    }
}

fn fill_description(property: &mut RefOr<Schema>, description: &str) {
    let description = || description.to_owned();
    match property {
        RefOr::Ref(reference) if reference.description.is_empty() => reference.description = description(),
        RefOr::T(Schema::Object(object)) => _ = object.description.get_or_insert_with(description),
        RefOr::T(Schema::Array(array)) => _ = array.description.get_or_insert_with(description),
        RefOr::T(Schema::OneOf(one)) => _ = one.description.get_or_insert_with(description),
        RefOr::T(Schema::AllOf(all)) => _ = all.description.get_or_insert_with(description),
        _ => {}
    }
}

/// Only where the values stand: what refers to another schema has that one's examples. Of a field of any JSON `utoipa`
/// leaves out the example that its type gives, so it must come from here.
fn fill_example(property: &mut RefOr<Schema>, example: Value) {
    match property {
        _ if example.is_null() => {}
        RefOr::T(Schema::Object(object)) => {
            if example == TIME {
                object.format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
            }
            object.example.get_or_insert(example);
        }
        RefOr::T(Schema::Array(array)) => _ = array.example.get_or_insert(example),
        _ => {}
    }
}

/// An example of this schema: its own, or one made of those of its fields.
fn example(schema: &RefOr<Schema>, schemas: &Schemas, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let schema = match schema {
        RefOr::T(schema) => schema,
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next()?;
            return example(schemas.get(name)?, schemas, depth);
        }
    };
    match schema {
        Schema::Object(object) => {
            first(&object.example, &object.examples).or_else(|| example_of_fields(object, schemas, depth))
        }
        Schema::Array(array) => first(&array.example, &array.examples).or_else(|| match &array.items {
            ArrayItems::RefOrSchema(items) => Some(Value::Array(vec![example(items, schemas, depth)?])),
            _ => None,
        }),
        // An optional one of ours is either null or it; null has no example.
        Schema::OneOf(one) => {
            one.example.clone().or_else(|| one.items.iter().find_map(|item| example(item, schemas, depth)))
        }
        _ => None,
    }
}

/// The example that a type gives itself.
fn first(example: &Option<Value>, examples: &[Value]) -> Option<Value> {
    example.as_ref().or(examples.first()).cloned()
}

fn example_of_fields(object: &Object, schemas: &Schemas, depth: u32) -> Option<Value> {
    let fields = object.properties.iter();
    let fields: Map<String, Value> =
        fields.filter_map(|(name, field)| Some((name.clone(), example(field, schemas, depth)?))).collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}
