//! `docs/api.md` from the OpenAPI document: each resource with its operations.

use serde_json::{Map, Value};

use super::example::{Fields, Schemas, alternatives, kind};
use super::{cell, head};
use crate::failure::Failure;

/// In the order in which a reader looks for them.
const METHODS: &[&str] = &["get", "post", "put", "patch", "delete"];

/// Who may call, by the word that the document has for it.
const CALLERS: &[(&str, &str)] = &[
    ("public", "anyone"),
    ("caller", "a person in a session, or any token of the API; each sees only what it may"),
    ("member", "a person, in a session or with a personal token"),
    ("operator", "an operator or owner in a session, or a token with the scope `admin`"),
    ("consent", "a person in a session; a token never"),
];

/// Answers that every operation has: the introduction describes them.
const SHARED_RESPONSES: [&str; 2] = ["429", "default"];

const INTRODUCTION: &str = "\
JSON over HTTP below `/v1`. The server describes the same at `/v1/openapi.json`; [openapi.json](openapi.json) is a copy.
In the examples ids and times are made up.

- **Signing in.** Send a token as `Authorization: Bearer tw…`. Its scope `read` reads, `write` changes, `admin` configures;
  each holds those before it. A page's session cookie works as well; then every method but GET needs the `csrf_token` of the
  sign-in in the header `X-CSRF-Token`. The tenant comes from the token or session, never from the request.
- **A recent sign-in.** Where an operator changes something, a session must have been signed in to in the last ten minutes;
  else the answer is 403 `reauth_required`. Tests, replays, a refresh of tools and revoking a connection take any session. Tokens
  are not asked.
- **Lists** answer `{\"items\": […], \"next\": …}`. Give `next` as `after` for the next page; it is null on the last one.
- **Creating** answers 201 with `Location`. Where `Idempotency-Key` is taken, the same key with the same body makes one thing
  in 24 hours, however often it is sent.
- **Changing.** Where `If-Match` is taken, send the `version` that you read, and a change that came between answers 412.
- **Unknown parameters and fields** are refused with 422, so that a misspelt filter does not answer with everything.
- **Times** are RFC 3339 in UTC. **Ids** have a prefix, such as `usr_`, `spc_` or `mcp_`; those of threads look like `CHAT-…`.
- **Limits.** A token may make 1,200 requests a minute, a person 600, an address without either 300, where the operator sets
  no others. `RateLimit-Policy: \"token\";q=1200;w=60` names the limit that counted a request, `RateLimit: \"token\";r=1187;t=42`
  what is left of it and in how many seconds it begins anew (draft-ietf-httpapi-ratelimit-headers). Beyond it the answer is
  429 with `Retry-After`, and nothing was done.
- **Errors**, every status from 400 on, have one shape. `message` says what to do, `request_id` is also in the header
  `x-request-id`:

```json
{
  \"error\": {
    \"code\": \"not_found\",
    \"message\": \"Not found, or you do not have access. Check the address.\",
    \"request_id\": \"req_iLBGsHAQ3m_O5E76\"
  }
}
```
";

/// The reference.
pub(crate) fn api(openapi: &str) -> Result<String, Failure> {
    let document: Value = serde_json::from_str(openapi)
        .map_err(|error| Failure::new(format!("the OpenAPI document does not read back: {error}")))?;
    let paths = document.get("paths").and_then(Value::as_object);
    let paths = paths.ok_or_else(|| Failure::new("the OpenAPI document has no paths"))?;
    let schemas = Schemas(document.pointer("/components/schemas").and_then(Value::as_object));
    let mut out = head("API reference", "the OpenAPI document");
    out.push_str(INTRODUCTION);
    out.push_str("\n| Resource | Operations |\n|---|---|\n");
    let resources = resources(paths);
    for (resource, operations) in &resources {
        let names: Vec<String> = operations
            .iter()
            .map(|(method, path, _)| format!("[`{method} {path}`](#{})", anchor(method, path)))
            .collect();
        out.push_str(&format!("| {resource} | {} |\n", names.join("<br>")));
    }
    for (resource, operations) in &resources {
        out.push_str(&format!("\n## {resource}\n"));
        for (method, path, operation) in operations {
            describe(&mut out, &schemas, (method, path), operation)?;
        }
    }
    Ok(out)
}

type Operation<'a> = (String, &'a str, &'a Value);

/// The operations by the first part of their path below `/v1`, both in the order of the document.
fn resources(paths: &Map<String, Value>) -> Vec<(String, Vec<Operation<'_>>)> {
    let mut resources: Vec<(String, Vec<Operation<'_>>)> = Vec::new();
    for (path, item) in paths {
        let title = title(path.trim_start_matches("/v1/").split('/').next().unwrap_or_default());
        for method in METHODS {
            let Some(operation) = item.get(*method) else { continue };
            let operation = (method.to_uppercase(), path.as_str(), operation);
            match resources.iter_mut().find(|(known, _)| *known == title) {
                Some((_, operations)) => operations.push(operation),
                None => resources.push((title.clone(), vec![operation])),
            }
        }
    }
    resources
}

/// A heading from a part of a path: `mcp-servers` is `MCP servers`.
fn title(part: &str) -> String {
    let words = part.replace('-', " ");
    match words.strip_prefix("mcp ") {
        Some(rest) => format!("MCP {rest}"),
        None => words.get(..1).map(str::to_uppercase).unwrap_or_default() + words.get(1..).unwrap_or_default(),
    }
}

/// Where a heading is, as GitHub names it.
fn anchor(method: &str, path: &str) -> String {
    let kept = path.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    format!("{}-{}", method.to_lowercase(), kept.collect::<String>())
}

fn describe<'a>(
    out: &mut String,
    schemas: &Schemas<'a>,
    (method, path): (&str, &str),
    operation: &'a Value,
) -> Result<(), Failure> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    out.push_str(&format!("\n### `{method} {path}`\n\n"));
    if let Some(summary) = text("summary") {
        out.push_str(&format!("{}\n\n", cell(summary)));
    }
    let word = text("x-caller").unwrap_or_default();
    let caller = CALLERS.iter().find(|(known, _)| *known == word);
    let (_, caller) =
        caller.ok_or_else(|| Failure::new(format!("{method} {path}: nobody knows the caller `{word}`")))?;
    out.push_str(&format!("Who: {caller}.\n"));
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        out.push_str("\n| Parameter | In | Type | |\n|---|---|---|---|\n");
        for parameter in parameters {
            let text = |name: &str| parameter.get(name).and_then(Value::as_str).unwrap_or_default();
            let kind = parameter.get("schema").map(|schema| type_words(schemas, schema)).unwrap_or_default();
            let description = cell(text("description"));
            out.push_str(&format!("| `{}` | {} | {kind} | {description} |\n", text("name"), text("in")));
        }
    }
    if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
        out.push_str("\nRequest:\n\n");
        body(out, schemas, schema, Fields::Needed);
        fields(out, schemas, schema);
    }
    let responses = operation.get("responses").and_then(Value::as_object);
    let own = responses.into_iter().flatten().filter(|(status, _)| !SHARED_RESPONSES.contains(&status.as_str()));
    for (status, response) in own {
        let description = response.get("description").and_then(Value::as_str).unwrap_or_default();
        out.push_str(format!("\nResponse {status}: {}", cell(description)).trim_end_matches([':', ' ']));
        out.push('\n');
        for (media, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
            match content.get("schema") {
                Some(schema) if media == "application/json" => {
                    out.push('\n');
                    body(out, schemas, schema, Fields::All);
                }
                _ => out.push_str(&format!("\nThe body is `{media}`.\n")),
            }
        }
    }
    Ok(())
}

fn body<'a>(out: &mut String, schemas: &Schemas<'a>, schema: &'a Value, fields: Fields) {
    out.push_str(&format!("```json\n{}\n```\n", schemas.example(schema, fields).pretty()));
}

/// The fields of a request's body.
fn fields<'a>(out: &mut String, schemas: &Schemas<'a>, schema: &'a Value) {
    let (schema, _) = schemas.resolve(schema);
    let needed = schemas.required(schema);
    let all = schemas.properties(schema, Fields::All);
    if all.is_empty() {
        return;
    }
    out.push_str("\n| Field | Type | |\n|---|---|---|\n");
    for (name, property) in all {
        let description = property.get("description").or_else(|| schemas.resolve(property).0.get("description"));
        let description = cell(description.and_then(Value::as_str).unwrap_or_default());
        let must = if needed.contains(&name) { "required" } else { "" };
        let space = if must.is_empty() || description.is_empty() { "" } else { ". " };
        out.push_str(&format!("| `{name}` | {} | {must}{space}{description} |\n", type_words(schemas, property)));
    }
}

/// A type in words: `text`, `list of text`, one of its values, or the fields of an object.
fn type_words<'a>(schemas: &Schemas<'a>, schema: &'a Value) -> String {
    let (resolved, _) = schemas.resolve(schema);
    let choice: Vec<String> = alternatives(resolved).iter().map(|one| type_words(schemas, one)).collect();
    if !choice.is_empty() {
        return choice.join(" or ");
    }
    if let Some(values) = resolved.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = values.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    match kind(resolved) {
        "string" => "text".to_owned(),
        "integer" => {
            let limit = |name: &str| resolved.get(name).and_then(Value::as_u64);
            match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("whole number, {least} to {most}"),
                _ => "whole number".to_owned(),
            }
        }
        "boolean" => "true or false".to_owned(),
        "array" => match resolved.get("items") {
            Some(items) => format!("list of {}", type_words(schemas, items)),
            None => "list".to_owned(),
        },
        "object" => match schemas.properties(resolved, Fields::All).as_slice() {
            [] => "object".to_owned(),
            fields => {
                let names: Vec<String> = fields.iter().map(|(name, _)| format!("`{name}`")).collect();
                format!("object of {}", names.join(", "))
            }
        },
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(caller: &str) -> String {
        json!({
            "paths": { "/v1/mcp-servers/{id}": { "patch": {
                "summary": "Changes\na server.", "x-caller": caller,
                "parameters": [{ "name": "id", "in": "path", "schema": { "type": "string" }, "description": "a|b" }],
                "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/UpdateServer" } } } },
                "responses": {
                    "200": { "description": "It.", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/UpdateServer" } } } },
                    "default": { "description": "Refused." },
                },
            } } },
            "components": { "schemas": { "UpdateServer": {
                "type": "object", "required": ["slug"],
                "properties": { "slug": { "type": "string", "description": "Short." }, "tools": { "type": "array", "items": { "type": "string" } } },
            } } },
        })
        .to_string()
    }

    #[test]
    fn an_operation_is_told_with_caller_parameters_bodies_and_fields() {
        let written = api(&document("operator")).unwrap();
        for part in [
            "| MCP servers | [`PATCH /v1/mcp-servers/{id}`](#patch-v1mcp-serversid) |\n",
            "\n## MCP servers\n\n### `PATCH /v1/mcp-servers/{id}`\n\nChanges a server.\n\nWho: an operator",
            "| `id` | path | text | a\\|b |\n",
            "Request:\n\n```json\n{\n  \"slug\": \"notes\"\n}\n```\n",
            "| `slug` | text | required. Short. |\n| `tools` | list of text |  |\n",
            "\nResponse 200: It.\n\n```json\n{\n  \"slug\": \"notes\",\n  \"tools\": [\n    \"…\"\n  ]\n}\n```\n",
        ] {
            assert!(written.contains(part), "{part:?} in {written}");
        }
        assert!(!written.contains("Refused."), "{written}");
    }

    #[test]
    fn a_caller_without_words_is_refused() {
        let refused = api(&document("somebody")).unwrap_err().to_string();
        assert!(refused.contains("`somebody`"), "{refused}");
    }
}
