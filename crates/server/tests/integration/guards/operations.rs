//! Every operation of `/v1`, as this project means it: who may call it, and a body that it takes.
//!
//! A new operation belongs into [`OPERATIONS`] and, where it takes a body, into [`body`]; until then the walk fails.

use serde_json::{Value, json};

use super::fixture::{CLIENT_SECRET, Fixture, MODEL_KEY, TENANT_KEY};
use crate::harness::TestApp;

/// Who may call an operation; the word is that of `x-caller` in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Open to all, and why.
    Public(&'static str),
    /// A person or a token.
    Caller,
    /// A person.
    Member,
    /// An operator.
    Operator,
    /// A person in a session: no token consents.
    Consent,
}

impl Who {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public(_) => "public",
            Self::Caller => "caller",
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Consent => "consent",
        }
    }
}

use Who::{Caller, Consent, Member, Operator, Public};

/// Every operation there is.
pub const OPERATIONS: &[(&str, Who)] = &[
    ("POST /v1/sessions", Public("signing in is how one stops being a stranger")),
    ("POST /v1/invitations/accept", Public("the code of the link is the proof")),
    ("DELETE /v1/sessions/current", Consent),
    ("GET /v1/me", Caller),
    ("GET /v1/me/sessions", Member),
    ("DELETE /v1/me/sessions/{id}", Member),
    ("PUT /v1/me/password", Consent),
    ("GET /v1/users", Operator),
    ("POST /v1/users", Operator),
    ("GET /v1/users/{id}", Operator),
    ("PATCH /v1/users/{id}", Operator),
    ("POST /v1/users/{id}/invitation", Operator),
    ("GET /v1/tokens", Caller),
    ("POST /v1/tokens", Caller),
    ("GET /v1/tokens/{id}", Caller),
    ("DELETE /v1/tokens/{id}", Caller),
    ("GET /v1/spaces", Caller),
    ("POST /v1/spaces", Operator),
    ("GET /v1/spaces/{id}", Caller),
    ("PATCH /v1/spaces/{id}", Operator),
    ("GET /v1/spaces/{id}/members", Caller),
    ("GET /v1/spaces/{id}/members/{user_id}", Caller),
    ("PUT /v1/spaces/{id}/members/{user_id}", Operator),
    ("DELETE /v1/spaces/{id}/members/{user_id}", Caller),
    ("GET /v1/spaces/{id}/effective-tools", Caller),
    ("GET /v1/spaces/{id}/mcp-servers", Caller),
    ("PUT /v1/spaces/{id}/mcp-servers/{server_id}", Operator),
    ("DELETE /v1/spaces/{id}/mcp-servers/{server_id}", Operator),
    ("GET /v1/threads", Caller),
    ("POST /v1/threads", Caller),
    ("GET /v1/threads/{id}", Caller),
    ("PATCH /v1/threads/{id}", Caller),
    ("GET /v1/threads/{id}/export", Caller),
    ("GET /v1/threads/{id}/messages", Caller),
    ("POST /v1/threads/{id}/messages", Caller),
    ("POST /v1/messages/{id}/share", Consent),
    ("GET /v1/threads/{id}/stream", Caller),
    ("GET /v1/threads/{id}/turns", Caller),
    ("GET /v1/turns/{id}", Caller),
    ("POST /v1/turns/{id}/cancel", Caller),
    ("GET /v1/mcp-servers", Operator),
    ("POST /v1/mcp-servers", Operator),
    ("GET /v1/mcp-servers/{id}", Operator),
    ("PATCH /v1/mcp-servers/{id}", Operator),
    ("DELETE /v1/mcp-servers/{id}", Operator),
    ("POST /v1/mcp-servers/{id}/approve", Operator),
    ("POST /v1/mcp-servers/{id}/reject", Operator),
    ("PUT /v1/mcp-servers/{id}/secret", Operator),
    ("POST /v1/mcp-servers/{id}/test", Operator),
    ("POST /v1/mcp-servers/{id}/tools/refresh", Operator),
    ("GET /v1/me/mcp-servers", Member),
    ("POST /v1/me/mcp-servers/{id}/connect", Consent),
    ("DELETE /v1/me/mcp-servers/{id}/connection", Member),
    ("GET /v1/me/connections", Member),
    ("DELETE /v1/me/connections/{id}", Member),
    ("GET /v1/me/connections/{id}/uses", Member),
    ("GET /v1/connections", Operator),
    ("POST /v1/connections/{id}/revoke", Operator),
    ("GET /v1/webhooks", Operator),
    ("POST /v1/webhooks", Operator),
    ("GET /v1/webhooks/{id}", Operator),
    ("PATCH /v1/webhooks/{id}", Operator),
    ("DELETE /v1/webhooks/{id}", Operator),
    ("POST /v1/webhooks/{id}/rotate", Operator),
    ("POST /v1/webhooks/{id}/test", Operator),
    ("POST /v1/webhooks/{id}/replay", Operator),
    ("GET /v1/webhooks/{id}/deliveries", Operator),
    ("GET /v1/deliveries/{id}", Operator),
    ("POST /v1/deliveries/{id}/replay", Operator),
    ("GET /v1/agent", Operator),
    ("PUT /v1/agent", Operator),
    ("GET /v1/data-retention", Operator),
    ("GET /v1/audit", Operator),
    ("GET /v1/audit/export", Operator),
];

/// A body that the operation takes from the one who may; null where it takes none.
pub fn body(operation: &str, fixture: &Fixture) -> Value {
    match operation {
        "POST /v1/sessions" => json!({ "email": "nobody@acme.test", "password": "marker of a wrong password" }),
        "POST /v1/invitations/accept" => json!({ "code": "marker-of-a-code", "password": "marker of a password" }),
        "POST /v1/users" => json!({ "email": "marker-dora@acme.test", "name": "Marker Dora", "role": "member" }),
        "PATCH /v1/users/{id}" => json!({ "name": "Marker Benjamin" }),
        "POST /v1/tokens" => {
            json!({ "name": "marker", "kind": "personal", "audience": "api", "scopes": ["read"] })
        }
        "POST /v1/spaces" => json!({ "slug": "another", "name": "Marker cellar", "access": "private" }),
        "PATCH /v1/spaces/{id}" => json!({ "name": "Marker attic", "prompt": "Marker of a prompt" }),
        "PUT /v1/spaces/{id}/mcp-servers/{server_id}" => json!({ "tool_allowlist": ["echo"] }),
        "POST /v1/threads" => json!({ "space_id": fixture.id("spaces"), "text": "Marker of a beginning" }),
        "PATCH /v1/threads/{id}" => json!({ "title": "Marker of a title", "status": "in_review" }),
        "POST /v1/threads/{id}/messages" => json!({ "text": "Marker of a message" }),
        "POST /v1/mcp-servers" => json!({
            "name": "Marker of a server", "url": fixture.tools.url,
            "auth": { "mode": "tenant_key", "secret": TENANT_KEY },
        }),
        "PATCH /v1/mcp-servers/{id}" => json!({ "name": "Marker of a new name" }),
        "POST /v1/mcp-servers/{id}/approve" => json!({ "definition_hash": "0".repeat(64) }),
        "POST /v1/mcp-servers/{id}/reject" => json!({ "reason": "Marker of a reason" }),
        "PUT /v1/mcp-servers/{id}/secret" => json!({ "secret": format!("{CLIENT_SECRET}-2") }),
        "POST /v1/me/mcp-servers/{id}/connect" => json!({ "return_to": "/me/connections" }),
        "POST /v1/webhooks" => json!({
            "name": "Marker of a hook", "space_id": fixture.id("open-space"), "verification": { "scheme": "bearer" },
        }),
        "PATCH /v1/webhooks/{id}" => json!({ "name": "Marker of another hook" }),
        "POST /v1/webhooks/{id}/rotate" => json!({ "overlap_seconds": 60 }),
        "PUT /v1/me/password" => json!({
            "current_password": "marker of a wrong password", "new_password": "marker of a new password",
        }),
        "POST /v1/webhooks/{id}/replay" => json!({ "filter": {}, "dry_run": false }),
        "PUT /v1/agent" => json!({
            "model_base_url": fixture.tools.model_url, "model": "sample", "instructions": "Marker of an instruction",
            "api_key": MODEL_KEY,
        }),
        _ => Value::Null,
    }
}

/// An operation of the document.
pub struct Described {
    /// Like `GET /v1/me`.
    pub name: String,
    pub method: String,
    pub path: String,
    pub caller: String,
    /// Whether it takes a JSON body.
    pub takes_body: bool,
    /// The status of its success.
    pub success: u16,
    /// Its parameters in the query.
    pub query: Vec<String>,
}

impl Described {
    /// Whether it changes something.
    pub fn is_change(&self) -> bool {
        self.method != "GET"
    }

    /// Who may call it.
    pub fn who(&self) -> Who {
        let known = OPERATIONS.iter().find(|(name, _)| *name == self.name);
        known.unwrap_or_else(|| panic!("{}: name it in guards/operations.rs, with who may call it", self.name)).1
    }
}

/// The operations that the server describes.
pub async fn described(app: &TestApp) -> Vec<Described> {
    let document = app.anonymous().get("/v1/openapi.json").await.expect(200).json;
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            found.push(Described {
                name: format!("{method} {path}"),
                method,
                path: path.clone(),
                caller: operation["x-caller"].as_str().unwrap_or("").to_owned(),
                takes_body: !operation["requestBody"].is_null(),
                success: success(operation),
                query: query(operation),
            });
        }
    }
    found
}

fn success(operation: &Value) -> u16 {
    let statuses = operation["responses"].as_object().unwrap().keys();
    let successes: Vec<u16> =
        statuses.filter_map(|status| status.parse().ok()).filter(|status| *status < 300).collect();
    assert_eq!(successes.len(), 1, "one status of success: {operation}");
    successes[0]
}

fn query(operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let in_query = parameters.filter(|parameter| parameter["in"] == "query");
    in_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}
