//! The running account: what the record says, as sentences for whoever watches the terminal.
//!
//! Invariant: reads over HTTP as the owner may read; each line names who asked and whose credential was used.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{DemoTenant, Error};

/// How many lines of the record are read at a look: more never happen between two.
const EVENTS_MAX: usize = 200;
/// Record lines that would say the same thing twice.
const SKIPPED: [&str; 12] = [
    "connection.flow_started",
    "connection.flow_ended",
    "credential.created",
    "credential.rotated",
    "credential.revoked",
    "mcp_server.discovered",
    "mcp_server.tools_refreshed",
    "oauth_client.registered",
    "oauth_client.renewed",
    "space.member_added",
    "thread.created",
    "user.invited",
];

/// What ids stand for.
#[derive(Default)]
pub(super) struct Names {
    /// People, webhooks, servers and Spaces by printed id.
    pub(super) things: BTreeMap<String, String>,
    /// Connections by printed id: the server's and the account's name.
    pub(super) grants: BTreeMap<String, (String, String)>,
}

/// Tells what happened since it last looked.
#[derive(Default)]
pub struct AuditPrinter {
    names: Names,
    shown: BTreeSet<String>,
    since: Option<String>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl AuditPrinter {
    /// Notes what is in the record already, without telling it.
    pub async fn begin(&mut self, house: &mut DemoTenant) -> Result<(), Error> {
        self.look(house).await.map(drop)
    }

    /// What happened since the last look, one line each, oldest first.
    pub async fn look(&mut self, house: &mut DemoTenant) -> Result<Vec<String>, Error> {
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let events = house.owner_reads(&format!("/v1/audit?limit={EVENTS_MAX}{since}")).await?;
        let fresh: Vec<&Value> =
            items(&events).iter().rev().filter(|event| !self.shown.contains(text(event, "/id"))).collect();
        if fresh.iter().any(|event| !self.names.knows(event)) {
            self.names.learn(house).await?;
        }
        let mut lines = Vec::new();
        for event in &fresh {
            if !SKIPPED.contains(&text(event, "/action")) {
                lines.push(self.names.line(event));
            }
            if text(event, "/action") == "turn.ended" {
                lines.extend(left_out(house, text(event, "/turn_id")).await);
            }
            if text(event, "/action") == "mcp_server.tools_first_seen" {
                let page = house.at(&format!("/admin/mcp-servers/{}", text(event, "/target/id")));
                lines.push(format!("          its tools are available; set the effect of each one: {page}"));
            }
        }
        // Events of one time may become visible one after another, so the last time is asked for again.
        self.shown = items(&events).iter().map(|event| text(event, "/id").to_owned()).collect();
        if let Some(last) = fresh.last() {
            self.since = Some(text(last, "/at").to_owned());
        }
        Ok(lines)
    }
}

/// What a turn was not offered, and why.
async fn left_out(house: &mut DemoTenant, turn: &str) -> Vec<String> {
    let Ok(turn) = house.owner_reads(&format!("/v1/turns/{turn}")).await else { return Vec::new() };
    let entries = turn.get("tools_left_out").and_then(Value::as_array).cloned().unwrap_or_default();
    let line = |entry: &Value| {
        let why = match text(entry, "/reason") {
            "no_user" => "it needs a person's account, and no person requested this work",
            "needs_connection" => "the requester has not connected it",
            "expired" => "the requester must reconnect it",
            "schema_not_supported" => "the model cannot use its input schema",
            other => other,
        };
        let name = entry.get("tool").and_then(Value::as_str).unwrap_or_else(|| text(entry, "/server"));
        let link = entry.get("connect_url").and_then(Value::as_str).map(|link| format!(": {link}")).unwrap_or_default();
        format!("          unavailable: {} ({why}){link}", name)
    };
    entries.iter().map(line).collect()
}

impl Names {
    /// Whether every id in the line has a name here.
    fn knows(&self, event: &Value) -> bool {
        let person = |id: &str| !id.starts_with("usr_") || self.things.contains_key(id);
        let grant = text(event, "/credential_subject/connection_id");
        let target = text(event, "/target/id");
        let named = matches!(text(event, "/target/kind"), "webhook" | "mcp_server" | "space" | "connection");
        person(text(event, "/requester/id"))
            && person(target)
            && (grant.is_empty() || self.grants.contains_key(grant))
            && (!named || self.things.contains_key(target) || self.grants.contains_key(target))
    }

    async fn learn(&mut self, house: &mut DemoTenant) -> Result<(), Error> {
        for path in ["/v1/users", "/v1/webhooks", "/v1/mcp-servers", "/v1/spaces"] {
            let list = house.owner_reads(&format!("{path}?limit=200")).await?;
            let named = items(&list).iter().map(|item| (text(item, "/id").to_owned(), text(item, "/name").to_owned()));
            self.things.extend(named);
        }
        let list = house.owner_reads("/v1/connections?limit=200").await?;
        for grant in items(&list) {
            let server = self.things.get(text(grant, "/mcp_server_id")).cloned().unwrap_or_default();
            self.grants.insert(text(grant, "/id").to_owned(), (server, text(grant, "/account").to_owned()));
        }
        Ok(())
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.things.get(id).map_or(id, String::as_str)
    }

    /// One event as a line: when, what, who asked, whose credential.
    pub(super) fn line(&self, event: &Value) -> String {
        let time = text(event, "/at").get(11..19).unwrap_or_default();
        format!("{time}  {} · {} · {}", self.what(event), self.asked_by(event), self.using(event))
    }

    fn asked_by(&self, event: &Value) -> String {
        let id = text(event, "/requester/id");
        match text(event, "/requester/kind") {
            "user" => format!("asked by {}", self.name(id)),
            "webhook" => format!("asked by webhook {}", self.name(id)),
            "system" if id == "server" => "by ThinkWork".to_owned(),
            kind => format!("asked by {kind} {id}"),
        }
    }

    fn using(&self, event: &Value) -> String {
        let owner = self.name(text(event, "/credential_subject/user_id"));
        let grant = self.grants.get(text(event, "/credential_subject/connection_id"));
        match (text(event, "/credential_subject/kind"), grant) {
            ("user", Some((server, account))) => format!("using {owner}'s {server} ({account})"),
            ("user", None) => format!("using {owner}'s own account"),
            ("tenant", _) => "using the tenant's credential".to_owned(),
            _ => "no personal credential".to_owned(),
        }
    }

    /// What happened, in a few words.
    fn what(&self, event: &Value) -> String {
        let thread = short(text(event, "/thread_id"));
        let target = text(event, "/target/id");
        let name = self.name(target);
        let grant = self.grants.get(target).map_or("an account", |(server, _)| server.as_str());
        match text(event, "/action") {
            "user.signed_in" => "signed in".to_owned(),
            "user.created" => format!("{name} was added"),
            "user.accepted" => "accepted the invitation".to_owned(),
            "connection.connected" | "connection.reconnected" => format!("connected {grant}"),
            "connection.refreshed" => format!("the token for {grant} was refreshed"),
            "connection.ended" => format!("disconnected {grant}"),
            "connection.tokens_revoked" => format!("the tokens for {grant} were revoked"),
            "credential.opened" => match (text(event, "/surface"), text(event, "/detail/tool")) {
                ("tool_call", "") => format!("asked for the tools, thread {thread}"),
                ("tool_call", tool) => format!("called {tool}, thread {thread}"),
                (surface, _) => format!("opened a credential for {surface}"),
            },
            "message.received" => format!("a message arrived, thread {thread}"),
            "message.written" => format!("an answer was written, thread {thread}"),
            "thread.reopened" => format!("thread {thread} was reopened"),
            "turn.ended" => format!("the turn {}, thread {thread}", text(event, "/detail/status")),
            action => {
                let words = action.replace(['.', '_'], " ");
                if name == target { words } else { format!("{words}: {name}") }
            }
        }
    }
}

/// A thread id, cut for a line: channel and last characters.
fn short(id: &str) -> String {
    match id.split_once('-') {
        Some((channel, rest)) => format!("{channel}-…{}", rest.get(rest.len().saturating_sub(6)..).unwrap_or(rest)),
        None => id.to_owned(),
    }
}
