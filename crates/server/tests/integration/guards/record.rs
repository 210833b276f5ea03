//! Every operation that changes something leaves its audit event, in the transaction of the change: where the record
//! cannot be written, nothing is changed. What is recorded is ids and fixed words.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thinkwork_primitives::Secret;

use super::fixture::{Fixture, after};
use super::operations::{body, described};
use super::tables;
use crate::harness::{Client, Response};

/// Longest text in a payload: an id, a hash, a fixed word.
const TEXT_CHARS_MAX: usize = 80;

/// The event that tells of an operation, whatever else is recorded beside it.
const EVENTS: &[(&str, &str)] = &[
    ("POST /v1/users", "user.invited"),
    ("PATCH /v1/users/{id}", "user.changed"),
    ("POST /v1/users/{id}/invitation", "user.invited_again"),
    ("POST /v1/invitations/accept", "user.accepted"),
    ("POST /v1/sessions", "user.signed_in"),
    ("PUT /v1/me/password", "user.password_changed"),
    ("DELETE /v1/sessions/current", "user.signed_out"),
    ("POST /v1/tokens", "token.created"),
    ("DELETE /v1/tokens/{id}", "token.revoked"),
    ("POST /v1/spaces", "space.created"),
    ("PATCH /v1/spaces/{id}", "space.changed"),
    ("PUT /v1/spaces/{id}/members/{user_id}", "space.member_added"),
    ("DELETE /v1/spaces/{id}/members/{user_id}", "space.member_removed"),
    ("DELETE /v1/spaces/{id}/mcp-servers/{server_id}", "space.source_removed"),
    ("PUT /v1/spaces/{id}/mcp-servers/{server_id}", "space.source_set"),
    ("POST /v1/threads", "thread.created"),
    ("PATCH /v1/threads/{id}", "thread.changed"),
    ("POST /v1/threads/{id}/messages", "message.received"),
    ("POST /v1/messages/{id}/share", "message.shared"),
    ("POST /v1/turns/{id}/cancel", "turn.cancelled"),
    ("PUT /v1/agent", "agent.changed"),
    ("POST /v1/mcp-servers", "mcp_server.registered"),
    ("PATCH /v1/mcp-servers/{id}", "mcp_server.changed"),
    ("PUT /v1/mcp-servers/{id}/secret", "mcp_server.secret_rotated"),
    ("POST /v1/mcp-servers/{id}/test", "mcp_server.tested"),
    ("POST /v1/mcp-servers/{id}/tools/refresh", "mcp_server.tools_refreshed"),
    ("POST /v1/mcp-servers/{id}/approve", "mcp_server.approved"),
    ("POST /v1/mcp-servers/{id}/reject", "mcp_server.rejected"),
    ("DELETE /v1/mcp-servers/{id}", "mcp_server.deleted"),
    ("POST /v1/me/mcp-servers/{id}/connect", "connection.flow_started"),
    ("DELETE /v1/me/connections/{id}", "connection.ended"),
    ("DELETE /v1/me/mcp-servers/{id}/connection", "connection.ended"),
    ("POST /v1/connections/{id}/revoke", "connection.ended"),
    ("DELETE /v1/me/sessions/{id}", "user.signed_out"),
    ("POST /v1/webhooks", "webhook.created"),
    ("PATCH /v1/webhooks/{id}", "webhook.updated"),
    ("POST /v1/webhooks/{id}/rotate", "webhook.rotated"),
    ("POST /v1/webhooks/{id}/test", "webhook.tested"),
    ("POST /v1/deliveries/{id}/replay", "delivery.replayed"),
    ("POST /v1/webhooks/{id}/replay", "webhook.replayed"),
    ("DELETE /v1/webhooks/{id}", "webhook.deleted"),
];

/// What these open for a server is recorded and committed before it is used, and their own event comes after the look:
/// they are tried while no event at all can be written.
const LOOKS: [&str; 2] = ["POST /v1/mcp-servers/{id}/test", "POST /v1/mcp-servers/{id}/tools/refresh"];

/// A tenant's life, one operation after the other.
struct Life {
    fixture: Fixture,
    done: BTreeSet<String>,
    findings: Vec<String>,
}

impl Life {
    /// Does an operation with the body that the table of operations has for it.
    async fn act(&mut self, who: &Client, operation: &str, status: u16) -> Response {
        let body = body(operation, &self.fixture);
        self.act_with(who, operation, body, status).await
    }

    async fn act_with(&mut self, who: &Client, operation: &str, body: Value, status: u16) -> Response {
        let path = self.fixture.fill(operation.split_once(' ').unwrap().1);
        self.act_at(who, operation, &path, body, status).await
    }

    /// Tries the operation while its own event cannot be written, then does it.
    async fn act_at(&mut self, who: &Client, operation: &str, path: &str, body: Value, status: u16) -> Response {
        let method = operation.split_once(' ').unwrap().0;
        let own = event_of(operation);
        let broken = own.filter(|_| !LOOKS.contains(&operation));
        let before = tables::dump(&self.fixture.app).await;
        self.fixture.record_break(broken).await;
        let refused = who.with_json(method, path, body.clone()).await;
        self.fixture.record_mend().await;
        let changed = tables::changes(&before, &tables::dump(&self.fixture.app).await);
        if refused.status != 500 || !changed.is_empty() {
            self.findings.push(format!("{operation} without {broken:?}: {} {changed:?}", refused.status));
        }
        let before = self.fixture.payloads().await;
        let answer = who.with_json(method, path, body).await.expect(status);
        let after = self.fixture.payloads().await;
        let events: Vec<(&str, Value)> = after.difference(&before).map(|text| read(text)).collect();
        let actions: Vec<&str> = events.iter().map(|(action, _)| *action).collect();
        if !own.is_some_and(|own| actions.contains(&own)) {
            self.findings.push(format!("{operation} leaves {actions:?}, not its own {own:?}: see EVENTS"));
        }
        for (_, event) in &events {
            check_texts(operation, event, &mut self.findings);
        }
        self.done.insert(operation.to_owned());
        answer
    }
}

/// The action and the payload of one row.
fn read(row: &str) -> (&str, Value) {
    let (action, payload) = row.split_once(' ').unwrap();
    (action, serde_json::from_str(payload).unwrap())
}

fn event_of(operation: &str) -> Option<&'static str> {
    EVENTS.iter().find(|(of, _)| *of == operation).map(|(_, event)| *event)
}

/// Every text in a payload is short, has no spaces and is nothing that a person wrote.
fn check_texts(operation: &str, value: &Value, findings: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let fits = |char: char| char.is_ascii_alphanumeric() || "_.:-".contains(char);
            let content = ["marker", "canary"].iter().any(|word| text.to_lowercase().contains(word));
            if content || text.len() > TEXT_CHARS_MAX || !text.chars().all(fits) {
                findings.push(format!("{operation} records {text}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_texts(operation, item, findings)),
        Value::Object(fields) => fields.values().for_each(|field| check_texts(operation, field, findings)),
        _ => {}
    }
}

impl Fixture {
    async fn payloads(&self) -> BTreeSet<String> {
        let connection = tables::connect(&self.app).await;
        // Two events can say the same: their ids tell them apart.
        let payloads = tables::texts(&connection, "SELECT action || ' ' || payload FROM audit_event").await;
        connection.close().await.unwrap();
        payloads.into_iter().collect()
    }

    /// From now on no audit event of this action can be written; without one, none at all.
    async fn record_break(&self, action: Option<&str>) {
        let when = action.map_or_else(String::new, |action| format!("WHEN (NEW.action = '{action}')"));
        let sql = if tables::is_postgres(&self.app) {
            format!(
                "CREATE FUNCTION record_broken() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION 'the record is broken'; END $$;
                 CREATE TRIGGER record_broken BEFORE INSERT ON audit_event FOR EACH ROW {when}
                 EXECUTE FUNCTION record_broken()"
            )
        } else {
            format!(
                "CREATE TRIGGER record_broken BEFORE INSERT ON audit_event {when}
                 BEGIN SELECT RAISE(ABORT, 'the record is broken'); END"
            )
        };
        tables::run(&self.app, &sql).await;
    }

    async fn record_mend(&self) {
        let sql = if tables::is_postgres(&self.app) {
            "DROP TRIGGER record_broken ON audit_event; DROP FUNCTION record_broken()"
        } else {
            "DROP TRIGGER record_broken"
        };
        tables::run(&self.app, sql).await;
    }
}

async fn people(life: &mut Life) {
    let owner = life.fixture.owner.clone();
    life.act(&owner, "POST /v1/users", 201).await;
    life.act(&owner, "PATCH /v1/users/{id}", 200).await;
    let renewed = life.act(&owner, "POST /v1/users/{id}/invitation", 200).await;
    let code = after(&renewed.text_of("invite_url"), "code=");
    let accept = json!({ "code": code, "password": "marker of a long password" });
    let anyone = life.fixture.app.anonymous();
    life.act_with(&anyone, "POST /v1/invitations/accept", accept, 200).await;
    let tenant = life.fixture.app.tenant;
    let user = life.fixture.carl.user.unwrap();
    let password = Secret::from_text("marker of carls password".to_owned());
    life.fixture.app.slices().access.password_set(tenant, user, &password).await.unwrap();
    let sign_in = json!({ "email": "carl@acme.test", "password": "marker of carls password" });
    life.act_with(&anyone, "POST /v1/sessions", sign_in, 201).await;
    let carl = life.fixture.app.session_of(user).await;
    let change =
        json!({ "current_password": "marker of carls password", "new_password": "marker of carls new password" });
    life.act_with(&carl, "PUT /v1/me/password", change, 204).await;
    life.act(&carl, "DELETE /v1/sessions/current", 204).await;
    life.act(&owner, "POST /v1/tokens", 201).await;
    life.act(&owner, "DELETE /v1/tokens/{id}", 204).await;
}

async fn work(life: &mut Life) {
    let owner = life.fixture.owner.clone();
    let ana = life.fixture.ana.clone();
    life.act(&owner, "POST /v1/spaces", 201).await;
    life.act(&owner, "PATCH /v1/spaces/{id}", 200).await;
    life.act(&owner, "PUT /v1/spaces/{id}/members/{user_id}", 200).await;
    life.act(&owner, "DELETE /v1/spaces/{id}/members/{user_id}", 204).await;
    life.act(&owner, "DELETE /v1/spaces/{id}/mcp-servers/{server_id}", 204).await;
    life.act(&owner, "PUT /v1/spaces/{id}/mcp-servers/{server_id}", 200).await;
    life.act(&ana, "POST /v1/threads", 201).await;
    life.act(&ana, "PATCH /v1/threads/{id}", 200).await;
    life.act(&ana, "POST /v1/threads/{id}/messages", 201).await;
    life.act(&ana, "POST /v1/messages/{id}/share", 200).await;
    life.act(&ana, "POST /v1/turns/{id}/cancel", 200).await;
    life.act(&owner, "PUT /v1/agent", 200).await;
}

async fn servers(life: &mut Life) {
    let owner = life.fixture.owner.clone();
    life.act(&owner, "POST /v1/mcp-servers", 201).await;
    life.act(&owner, "PATCH /v1/mcp-servers/{id}", 200).await;
    life.act(&owner, "PUT /v1/mcp-servers/{id}/secret", 200).await;
    life.act(&owner, "POST /v1/mcp-servers/{id}/test", 200).await;
    life.act(&owner, "POST /v1/mcp-servers/{id}/tools/refresh", 200).await;
    let shown = owner.get(&life.fixture.fill("/v1/mcp-servers/{id}")).await.expect(200);
    let approval = json!({ "definition_hash": shown.json["definition_hash"] });
    life.act_with(&owner, "POST /v1/mcp-servers/{id}/approve", approval, 200).await;
    life.act(&owner, "POST /v1/mcp-servers/{id}/reject", 200).await;
    life.act(&owner, "DELETE /v1/mcp-servers/{id}", 204).await;
}

async fn connections(life: &mut Life) {
    let owner = life.fixture.owner.clone();
    let ana = life.fixture.ana.clone();
    let server = life.fixture.id("me/mcp-servers").to_owned();
    life.act(&ana, "POST /v1/me/mcp-servers/{id}/connect", 200).await;
    life.act(&ana, "DELETE /v1/me/connections/{id}", 200).await;
    life.fixture.connect(&ana, &server).await;
    life.act(&ana, "DELETE /v1/me/mcp-servers/{id}/connection", 204).await;
    life.fixture.connect(&ana, &server).await;
    let connections = ana.get("/v1/me/connections").await.expect(200);
    let connection = connections.json["items"][0]["id"].as_str().unwrap().to_owned();
    life.fixture.ids.insert("connections", connection);
    life.act(&owner, "POST /v1/connections/{id}/revoke", 200).await;
    life.act(&ana, "DELETE /v1/me/sessions/{id}", 204).await;
}

async fn webhooks(life: &mut Life) {
    let owner = life.fixture.owner.clone();
    life.act(&owner, "POST /v1/webhooks", 201).await;
    life.act(&owner, "PATCH /v1/webhooks/{id}", 200).await;
    life.act(&owner, "POST /v1/webhooks/{id}/rotate", 200).await;
    life.act(&owner, "POST /v1/webhooks/{id}/test", 200).await;
    life.act(&owner, "POST /v1/deliveries/{id}/replay", 200).await;
    life.act(&owner, "POST /v1/webhooks/{id}/replay", 200).await;
    life.act(&owner, "DELETE /v1/webhooks/{id}", 204).await;
}

#[tokio::test]
async fn l36_l82_every_change_leaves_its_event_in_its_own_transaction() {
    let mut life = Life { fixture: Fixture::new().await, done: BTreeSet::new(), findings: Vec::new() };
    people(&mut life).await;
    work(&mut life).await;
    servers(&mut life).await;
    connections(&mut life).await;
    webhooks(&mut life).await;
    for operation in described(&life.fixture.app).await.iter().filter(|operation| operation.is_change()) {
        if !life.done.contains(&operation.name) {
            life.findings.push(format!("{} was not done: add it to guards/record.rs", operation.name));
        }
    }
    assert!(life.findings.is_empty(), "{} findings:\n  {}", life.findings.len(), life.findings.join("\n  "));
}
