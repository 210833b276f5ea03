//! `thinkwork mcp`: register, review and approve MCP servers, and let them serve Spaces.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use thinkwork_primitives::{McpServerId, SpaceId};

use super::super::Failure;
use super::api::{Api, only_given, secret_from_stdin};
use super::{Part, Seen, show};

/// What to do with MCP servers.
#[derive(Subcommand)]
pub enum Mcp {
    /// List the servers of the tenant.
    List {
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Register a server. It is pending until it is approved.
    Add(Add),
    /// Show one server with its tools and the hash that an approval names.
    Show {
        /// The server, mcp_….
        id: McpServerId,
    },
    /// Change a registration. What changes its definition makes it pending again.
    Edit(Edit),
    /// Put a new key or client's secret in place, read from standard input.
    Secret {
        /// The server, mcp_….
        id: McpServerId,
    },
    /// Approve what `show` showed.
    Approve(Approve),
    /// Refuse a server; its grants end.
    Reject {
        /// The server, mcp_….
        id: McpServerId,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
    },
    /// Ask the server for its tools now and tell how it went.
    Test {
        /// The server, mcp_….
        id: McpServerId,
    },
    /// Ask the server for its tools and keep them; changed tools are held.
    Refresh {
        /// The server, mcp_….
        id: McpServerId,
    },
    /// Let a server serve a Space.
    Serve(Serve),
    /// Delete a server: its secret and all grants end, its history stays.
    Remove {
        /// The server, mcp_….
        id: McpServerId,
    },
}

/// How a server is authorised.
#[derive(Clone, Copy, ValueEnum)]
enum AuthMode {
    /// Anybody may call it.
    None,
    /// One key of the tenant, read from standard input.
    TenantKey,
    /// Each person's own grant.
    UserOauth,
}

impl AuthMode {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TenantKey => "tenant_key",
            Self::UserOauth => "user_oauth",
        }
    }
}

/// A server to register.
#[derive(Args)]
pub struct Add {
    /// The name for people.
    name: String,
    /// The endpoint of its streamable HTTP transport.
    endpoint: String,
    /// The first part of its tools' names [default: made from the name].
    #[arg(long)]
    slug: Option<String>,
    /// How it is authorised. With tenant-key the key is read from standard input.
    #[arg(long, value_enum, default_value = "none")]
    auth: AuthMode,
    /// What belongs to that way.
    #[command(flatten)]
    proof: Proof,
    /// Allow only this tool (repeat for more).
    #[arg(long = "tool", value_name = "TOOL")]
    tools: Vec<String>,
    /// Offer it at /mcp without a Space, too.
    #[arg(long)]
    outside_spaces: bool,
}

/// What to change of a server.
#[derive(Args)]
pub struct Edit {
    /// The server, mcp_….
    id: McpServerId,
    /// The name for people.
    #[arg(long)]
    name: Option<String>,
    /// The endpoint of its streamable HTTP transport. A key goes only to the address it was entered for: name --auth, too.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// How it is authorised, as a whole. With tenant-key the key is read from standard input.
    #[arg(long, value_enum)]
    auth: Option<AuthMode>,
    /// What belongs to that way.
    #[command(flatten)]
    proof: Proof,
    /// Allow only this tool (repeat for more).
    #[arg(long = "tool", value_name = "TOOL")]
    tools: Vec<String>,
    /// Allow every tool.
    #[arg(long, conflicts_with = "tools")]
    all_tools: bool,
    /// Whether it is offered at /mcp without a Space, too.
    #[arg(long)]
    outside_spaces: Option<bool>,
    /// What was seen before.
    #[command(flatten)]
    seen: Seen,
}

/// What belongs to a way of authorising.
#[derive(Args)]
struct Proof {
    /// tenant-key: the header that carries the bare key [default: Authorization: Bearer].
    #[arg(long, requires = "auth")]
    header: Option<String>,
    /// user-oauth: a client that was registered by hand; its secret is read from standard input with --client-secret-stdin.
    #[arg(long, requires = "auth")]
    client_id: Option<String>,
    /// user-oauth: read the client's secret from standard input.
    #[arg(long, requires = "client_id")]
    client_secret_stdin: bool,
    /// user-oauth: ask for this scope instead of those that the server names (repeat for more).
    #[arg(long = "scope", value_name = "SCOPE", requires = "auth")]
    scopes: Vec<String>,
    /// user-oauth: accept that the issuer does not say that it checks PKCE.
    #[arg(long, requires = "auth")]
    pkce_though_silent: bool,
    /// user-oauth: leave out the resource of RFC 8707.
    #[arg(long, requires = "auth")]
    without_resource: bool,
}

impl Proof {
    /// This way of authorising with what belongs to it; secrets come from standard input.
    fn body(self, mode: AuthMode) -> Result<Value, Failure> {
        let secret = match mode {
            AuthMode::TenantKey => Some(secret_from_stdin("the server's key")?.into()),
            AuthMode::None | AuthMode::UserOauth => None,
        };
        let client_secret =
            if self.client_secret_stdin { Some(secret_from_stdin("the client's secret")?.into()) } else { None };
        Ok(Value::Object(only_given(&[
            ("mode", Some(mode.word().into())),
            ("secret", secret),
            ("client_secret", client_secret),
            ("header", self.header.map(Value::from)),
            ("client_id", self.client_id.map(Value::from)),
            ("scopes", named(self.scopes)),
            ("pkce_though_silent", self.pkce_though_silent.then_some(true.into())),
            ("without_resource", self.without_resource.then_some(true.into())),
        ])))
    }
}

/// A list where something was named.
fn named(items: Vec<String>) -> Option<Value> {
    Some(items).filter(|items| !items.is_empty()).map(Value::from)
}

/// What is approved.
#[derive(Args)]
pub struct Approve {
    /// The server, mcp_….
    id: McpServerId,
    /// The definition's hash as `show` printed it.
    #[arg(long)]
    hash: String,
    /// What a tool does: read, write or send (repeat for more). A tool without an effect counts as send.
    #[arg(long = "effect", value_name = "TOOL=EFFECT", value_parser = effect)]
    effects: Vec<(String, String)>,
    /// A tool whose call may be repeated without doing it twice (repeat for more); it needs an --effect.
    #[arg(long = "idempotent", value_name = "TOOL")]
    idempotent: Vec<String>,
}

/// With which of its tools a server serves a Space.
#[derive(Args)]
pub struct Serve {
    /// The Space, spc_….
    space: SpaceId,
    /// The server, mcp_….
    server: McpServerId,
    /// Offer only this tool (repeat for more).
    #[arg(long = "tool", value_name = "TOOL", conflicts_with = "stop")]
    tools: Vec<String>,
    /// When a call of a tool needs approval (repeat for more).
    #[arg(long = "approval", value_name = "TOOL=never|once|always", value_parser = approval, conflicts_with = "stop")]
    approvals: Vec<(String, String)>,
    /// Serve it no longer.
    #[arg(long)]
    stop: bool,
}

fn pair(text: &str, allowed: [&str; 3]) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((tool, word)) if !tool.is_empty() && allowed.contains(&word) => Ok((tool.to_owned(), word.to_owned())),
        _ => Err(format!("write TOOL={}", allowed.join("|"))),
    }
}

fn effect(text: &str) -> Result<(String, String), String> {
    pair(text, ["read", "write", "send"])
}

fn approval(text: &str) -> Result<(String, String), String> {
    pair(text, ["never", "once", "always"])
}

pub(super) async fn run(api: &Api, command: Mcp) -> Result<(), Failure> {
    let path = |id: McpServerId| format!("/v1/mcp-servers/{id}");
    match command {
        Mcp::List { part } => list(api, &part).await,
        Mcp::Add(new) => add(api, new).await,
        Mcp::Show { id } => {
            let answer = api.get(&path(id)).await?;
            api.show(&answer, detail);
            Ok(())
        }
        Mcp::Edit(change) => edit(api, change).await,
        Mcp::Secret { id } => {
            let secret = secret_from_stdin("the server's secret")?;
            let answer = api.put(&format!("{}/secret", path(id)), &json!({ "secret": secret })).await?;
            api.show(&answer, |_| say!("The new secret is in place."));
            Ok(())
        }
        Mcp::Approve(decision) => {
            let body = decision.body()?;
            let answer = api.post(&format!("{}/approve", path(decision.id)), &body).await?;
            api.show(&answer, detail);
            Ok(())
        }
        Mcp::Reject { id, reason } => {
            let answer = api.post(&format!("{}/reject", path(id)), &json!({ "reason": reason })).await?;
            api.show(&answer, |_| say!("The server is rejected; its grants have ended."));
            Ok(())
        }
        Mcp::Test { id } => test(api, &path(id)).await,
        Mcp::Refresh { id } => {
            let answer = api.post(&format!("{}/tools/refresh", path(id)), &json!({})).await?;
            api.show(&answer, |answer| show::table(answer, &TOOLS, "The server offers no tools."));
            Ok(())
        }
        Mcp::Serve(serve) => self::serve(api, serve).await,
        Mcp::Remove { id } => {
            api.delete(&path(id)).await?;
            api.done("The server is deleted; its secret and grants have ended, its history stays.");
            Ok(())
        }
    }
}

async fn list(api: &Api, part: &Part) -> Result<(), Failure> {
    let answer = api.get(&part.of("/v1/mcp-servers", &[])).await?;
    let columns = [
        ("ID", "/id"),
        ("NAME", "/name"),
        ("SLUG", "/slug"),
        ("STATUS", "/status"),
        ("AUTH", "/auth/mode"),
        ("URL", "/url"),
    ];
    let empty = "There are no MCP servers yet; register one with `thinkwork mcp add NAME URL`.";
    api.show(&answer, |answer| show::table(answer, &columns, empty));
    Ok(())
}

async fn add(api: &Api, new: Add) -> Result<(), Failure> {
    let body = only_given(&[
        ("name", Some(new.name.into())),
        ("url", Some(new.endpoint.into())),
        ("transport", Some("streamable_http".into())),
        ("auth", Some(new.proof.body(new.auth)?)),
        ("outside_spaces", Some(new.outside_spaces.into())),
        ("slug", new.slug.map(Value::from)),
        ("tool_allowlist", named(new.tools)),
    ]);
    let answer = api.post("/v1/mcp-servers", &body).await?;
    api.show(&answer, changed);
    Ok(())
}

async fn edit(api: &Api, edit: Edit) -> Result<(), Failure> {
    let auth = edit.auth.map(|mode| edit.proof.body(mode)).transpose()?;
    let fields = [
        ("name", edit.name.map(Value::from)),
        ("url", edit.endpoint.map(Value::from)),
        ("auth", auth),
        ("tool_allowlist", if edit.all_tools { Some(Value::Null) } else { named(edit.tools) }),
        ("outside_spaces", edit.outside_spaces.map(Value::from)),
    ];
    let answer = api.patch(&format!("/v1/mcp-servers/{}", edit.id), &fields, &edit.seen).await?;
    api.show(&answer, changed);
    Ok(())
}

/// A server after a change, with the next step where it waits for one.
fn changed(answer: &Value) {
    detail(answer);
    if answer.get("status").and_then(Value::as_str) == Some("pending") {
        say!("\nIt is pending. Review it, then: thinkwork mcp approve ID --hash HASH --effect TOOL=read …");
    }
}

impl Approve {
    fn body(&self) -> Result<Value, Failure> {
        let mut effects = Map::new();
        for (tool, effect) in &self.effects {
            let idempotent = self.idempotent.contains(tool);
            if effects.insert(tool.clone(), json!({ "effect": effect, "idempotent": idempotent })).is_some() {
                return Err(Failure::wrong_use(format!("--effect names {tool} twice; say it once")));
            }
        }
        match self.idempotent.iter().find(|tool| !effects.contains_key(*tool)) {
            Some(tool) => Err(Failure::wrong_use(format!("--idempotent {tool} needs --effect {tool}=… beside it"))),
            None => Ok(json!({ "definition_hash": self.hash, "effects": effects })),
        }
    }
}

async fn test(api: &Api, path: &str) -> Result<(), Failure> {
    let answer = api.post(&format!("{path}/test"), &json!({})).await?;
    let ok = answer.get("ok").and_then(Value::as_bool).unwrap_or(false);
    api.show(&answer, |answer| {
        show::lines(
            answer,
            &[
                ("Answers", "/ok"),
                ("Protocol", "/protocol_version"),
                ("Problem", "/error"),
                ("Connect", "/connect_url"),
            ],
        );
        let tools = show::list(answer, "tools");
        say!();
        show::rows(tools, &[("TOOL", "/name"), ("WHAT IT SAYS OF ITSELF", "/description")])
            .iter()
            .for_each(|line| say!("{line}"));
    });
    if ok { Ok(()) } else { Err(Failure::failed("the server did not pass its test; the answer says why")) }
}

async fn serve(api: &Api, serve: Serve) -> Result<(), Failure> {
    let path = format!("/v1/spaces/{}/mcp-servers/{}", serve.space, serve.server);
    if serve.stop {
        api.delete(&path).await?;
        api.done("The server no longer serves this Space.");
        return Ok(());
    }
    let approvals: Map<String, Value> = serve.approvals.into_iter().map(|(tool, word)| (tool, word.into())).collect();
    let body = only_given(&[("approvals", Some(approvals.into())), ("tool_allowlist", named(serve.tools))]);
    let answer = api.put(&path, &body).await?;
    api.show(&answer, |_| say!("The server serves this Space from the next turn on."));
    Ok(())
}

const TOOLS: [(&str, &str); 6] = [
    ("TOOL", "/name"),
    ("EFFECT", "/effect"),
    ("SUGGESTED", "/effect_suggested"),
    ("IDEMPOTENT", "/idempotent"),
    ("ON HOLD", "/on_hold"),
    ("GONE", "/gone"),
];

fn detail(answer: &Value) {
    let labels = [
        ("Id", "/id"),
        ("Name", "/name"),
        ("Slug", "/slug"),
        ("URL", "/url"),
        ("Auth", "/auth/mode"),
        ("Secret ends with", "/auth/secret/last_four"),
        ("Issuer", "/issuer"),
        ("Status", "/status"),
        ("Hash to approve", "/definition_hash"),
        ("Last problem", "/last_error"),
        ("Outside Spaces", "/outside_spaces"),
        ("Only these tools", "/tool_allowlist"),
        ("Allowed, not there", "/tool_allowlist_missing"),
    ];
    show::lines(answer, &labels);
    let tools = show::list(answer, "tools");
    if !tools.is_empty() {
        say!();
        show::rows(tools, &TOOLS).iter().for_each(|line| say!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_written_as_tool_and_word() {
        assert_eq!(effect("notes=x=read"), Ok(("notes=x".to_owned(), "read".to_owned())));
        for wrong in ["notes", "=read", "notes=Read", "notes=", "notes=never"] {
            assert!(effect(wrong).is_err(), "{wrong}");
        }
        assert!(approval("notes=never").is_ok());
    }

    #[test]
    fn what_is_idempotent_needs_an_effect() {
        let decision = |idempotent: &str| Approve {
            id: McpServerId::new(),
            hash: "h".to_owned(),
            effects: vec![("a".to_owned(), "read".to_owned())],
            idempotent: vec![idempotent.to_owned()],
        };
        let body = decision("a").body().ok().unwrap();
        assert_eq!(
            body,
            json!({ "definition_hash": "h", "effects": { "a": { "effect": "read", "idempotent": true } } })
        );
        assert_eq!(decision("b").body().err().map(|failure| failure.exit_code), Some(2));
    }
}
