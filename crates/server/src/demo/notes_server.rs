//! Notes: an MCP server that stands for somebody else's, on a listener of its own, with notes per account.
//!
//! It serves streamable HTTP without sessions (2025-03-26 to 2025-11-25) and does nothing without a token of Sample ID
//! for its own address: 401 with the RFC 9728 challenge. It keeps a log of which account called what, which is how the
//! demonstration proves whose token arrived. ThinkWork reaches it over HTTP only.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thinkwork_primitives::{Clock, Timestamp};

use super::authorization_server::{SCOPE, SampleId};

/// Protocol versions that it speaks; the last is offered to those who ask for another.
const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];
/// Calls that the log keeps.
const CALLS_MAX: usize = 200;

/// Whose, title and text of every note there is.
const NOTES: [(&str, &str, &str); 8] = [
    (
        "ana@sample.test",
        "Invoice INV-2041",
        "Paper Mill Ltd, 1 280.00 EUR, due on the 15th. Asked for a new VAT number.",
    ),
    ("ana@sample.test", "Invoice INV-2038", "Harbour Prints, 310.50 EUR, paid."),
    ("ana@sample.test", "Offsite", "Book the boat house before May; vegetarian lunch for six."),
    ("ben@sample.test", "Invoice INV-7713", "Northern Tools, 96.20 EUR, disputed: they sent the wrong drill."),
    ("ben@sample.test", "Garden", "Tomatoes go out after the last frost."),
    ("carla@sample.test", "Invoice INV-0007", "First one ever. Framed."),
    ("carla@sample.test", "Books", "Lend the atlas to Ana."),
    ("carla@sample.test", "Bicycle", "The blue one needs new brakes."),
];

/// One call of a tool, as the log keeps it.
#[derive(Clone, Debug, Serialize)]
struct Seen {
    at: Timestamp,
    account: String,
    tool: String,
}

/// The MCP server. Cheap to clone.
#[derive(Clone)]
pub struct Notes {
    id: SampleId,
    issuer: String,
    /// Its address, which is the token's audience.
    resource: String,
    metadata_url: String,
    clock: Clock,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Notes {
    /// At `origin`, for the tokens of `id`, which calls itself `issuer`.
    pub fn new(origin: &str, issuer: String, id: SampleId, clock: Clock) -> Self {
        Self {
            id,
            issuer,
            resource: format!("{origin}/mcp"),
            metadata_url: format!("{origin}/.well-known/oauth-protected-resource/mcp"),
            clock,
            seen: Arc::new(Mutex::new(Vec::new())),
        }
    }

    pub fn routes(&self) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::to("/calls") }))
            .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
            .route("/mcp", post(message))
            .route("/calls", get(calls))
            .with_state(self.clone())
    }

    fn note_call(&self, account: &str, tool: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= CALLS_MAX {
            seen.remove(0);
        }
        seen.push(Seen { at: self.clock.now(), account: account.to_owned(), tool: tool.to_owned() });
    }
}

async fn metadata(State(notes): State<Notes>) -> Json<Value> {
    Json(json!({
        "resource": notes.resource,
        "resource_name": "Notes",
        "authorization_servers": [notes.issuer],
        "scopes_supported": [SCOPE],
        "bearer_methods_supported": ["header"],
    }))
}

/// The log: which account called which tool, oldest first.
async fn calls(State(notes): State<Notes>) -> Response {
    let seen = notes.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(json!({ "items": seen })).into_response()
}

#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

/// A JSON-RPC error: code and message.
type Fault = (i32, &'static str);

async fn message(State(notes): State<Notes>, headers: HeaderMap, Json(message): Json<Message>) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(account) = bearer.and_then(|token| notes.id.account_of(token)) else {
        let error = if bearer.is_some() { "error=\"invalid_token\", " } else { "" };
        let challenge = format!("Bearer {error}resource_metadata=\"{}\", scope=\"{SCOPE}\"", notes.metadata_url);
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
    };
    let (Some(id), Some(method)) = (message.id, message.method) else {
        // A notification or an answer of the client: nothing to say to it.
        return StatusCode::ACCEPTED.into_response();
    };
    let answer = match method.as_str() {
        "initialize" => Ok(greeting(&message.params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "tools": definitions() })),
        "tools/call" => call(&notes, &account, &message.params),
        _ => Err((-32_601, "there is no such method")),
    };
    Json(match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, text)) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } }),
    })
    .into_response()
}

fn greeting(params: &Value) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = VERSIONS.into_iter().find(|version| *version == asked).or(VERSIONS.last().copied());
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "notes", "title": "Notes", "version": "1.0.0" },
    })
}

fn definitions() -> Value {
    json!([
        {
            "name": "search",
            "title": "Search notes",
            "description": "Finds your notes that contain a text.",
            "inputSchema": {
                "type": "object",
                "properties": { "query": { "type": "string", "description": "What to look for" } },
                "required": ["query"],
                "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        },
        {
            "name": "share",
            "title": "Share a note",
            "description": "Sends one of your notes to somebody by mail.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "note": { "type": "string", "description": "The note's title" },
                    "to": { "type": "string", "description": "An e-mail address" },
                },
                "required": ["note", "to"],
                "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": false, "destructiveHint": false, "openWorldHint": true },
        },
    ])
}

fn call(notes: &Notes, account: &str, params: &Value) -> Result<Value, Fault> {
    let argument = |name: &str| params.get("arguments")?.get(name)?.as_str();
    let tool = params.get("name").and_then(Value::as_str).unwrap_or_default();
    let (text, is_error) = match tool {
        "search" => {
            let query = argument("query").ok_or((-32_602, "search needs the text query"))?;
            (search(account, query), false)
        }
        "share" => {
            let note = argument("note").ok_or((-32_602, "share needs the text note"))?;
            let to = argument("to").ok_or((-32_602, "share needs the text to"))?;
            match NOTES.iter().find(|(of, title, _)| *of == account && *title == note) {
                Some((_, title, _)) => (format!("Sent “{title}” to {to}."), false),
                None => (format!("You have no note called “{note}”."), true),
            }
        }
        _ => return Err((-32_602, "there is no such tool")),
    };
    notes.note_call(account, tool);
    Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": is_error }))
}

/// The account's notes that contain the text, in any case of letters.
pub(super) fn search(account: &str, query: &str) -> String {
    let wanted = query.to_lowercase();
    let found: Vec<String> = NOTES
        .iter()
        .filter(|(of, title, text)| *of == account && format!("{title} {text}").to_lowercase().contains(&wanted))
        .map(|(_, title, text)| format!("{title}: {text}"))
        .collect();
    if found.is_empty() { format!("No note of {account} contains “{query}”.") } else { found.join("\n") }
}
