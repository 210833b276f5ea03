//! `thinkwork mcp`: register, review and approve MCP servers, and let them serve Spaces.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;
use thinkwork_primitives::{McpServerId, SpaceId};

use super::super::CommandError;
use super::api::{Api, secret_from_stdin, without_none};
use super::{IfVersionArgs, PageArgs, show};
use crate::mcp::auth::{Auth, Setting, SettingKind};

/// What to do with MCP servers.
#[derive(Subcommand)]
pub enum Mcp {
    /// List MCP servers.
    List {
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Register an MCP server. It needs approval before use.
    Add(Add),
    /// Show a server, its tools and its definition hash.
    Show {
        /// ID of the server, mcp_….
        id: McpServerId,
    },
    /// Update a server. If its definition changes, it needs approval again.
    Edit(Edit),
    /// Replace the API key or client secret, read from standard input.
    Secret {
        /// ID of the server, mcp_….
        id: McpServerId,
    },
    /// Approve a server.
    Approve(Approve),
    /// Reject a server and remove all connections to it.
    Reject {
        /// ID of the server, mcp_….
        id: McpServerId,
        /// Reason.
        #[arg(long)]
        reason: String,
    },
    /// Test a server.
    Test {
        /// ID of the server, mcp_….
        id: McpServerId,
    },
    /// Refresh the tool list. Changed tools are put on hold until approved.
    Refresh {
        /// ID of the server, mcp_….
        id: McpServerId,
    },
    /// Add a server to a Space.
    Serve(Serve),
    /// Delete a server, its secret and all connections to it.
    Remove {
        /// ID of the server, mcp_….
        id: McpServerId,
    },
}

/// A server to register.
#[derive(Args)]
pub struct Add {
    /// Name.
    name: String,
    /// URL of the MCP endpoint (streamable HTTP).
    endpoint: String,
    /// Prefix of the tool names [default: derived from the name].
    #[arg(long)]
    slug: Option<String>,
    /// Authentication. The secret that it requires is read from standard input.
    #[arg(long, value_parser = auth_mode(), default_value = "none")]
    auth: String,
    /// Authentication options.
    #[command(flatten)]
    options: AuthOptions,
    /// Limit to this tool (repeatable).
    #[arg(long = "tool", value_name = "TOOL")]
    tools: Vec<String>,
    /// Also make it available at /mcp outside Spaces.
    #[arg(long)]
    outside_spaces: bool,
}

/// What to change of a server.
#[derive(Args)]
pub struct Edit {
    /// ID of the server, mcp_….
    id: McpServerId,
    /// Name.
    #[arg(long)]
    name: Option<String>,
    /// URL of the MCP endpoint (streamable HTTP). A stored key is not sent to a new URL: pass --auth as well.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Authentication, replaced as a whole. The secret that it requires is read from standard input.
    #[arg(long, value_parser = auth_mode())]
    auth: Option<String>,
    /// Authentication options.
    #[command(flatten)]
    options: AuthOptions,
    /// Limit to this tool (repeatable).
    #[arg(long = "tool", value_name = "TOOL")]
    tools: Vec<String>,
    /// Allow all tools.
    #[arg(long, conflicts_with = "tools")]
    all_tools: bool,
    /// Whether it is also available at /mcp outside Spaces.
    #[arg(long)]
    outside_spaces: Option<bool>,
    /// Expected version.
    #[command(flatten)]
    seen: IfVersionArgs,
}

/// An authentication mode, as the API names it.
fn auth_mode() -> impl TypedValueParser<Value = String> {
    let words = Auth::iter().map(|auth| dashed(auth.as_str()));
    PossibleValuesParser::new(words).map(|word| word.replace('-', "_"))
}

fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

/// What was entered for an authentication mode: an option for each setting, made from what the mode says of it.
struct AuthOptions {
    settings: Map<String, Value>,
    secret_stdin: bool,
}

/// The settings of all modes, each with the name of its mode here. Secrets are no options: they come from standard input.
fn settings() -> impl Iterator<Item = (String, &'static Setting)> {
    let all = Auth::iter()
        .flat_map(|auth| auth.description().settings.iter().map(move |setting| (dashed(auth.as_str()), setting)));
    all.filter(|(_, setting)| !matches!(setting.kind, SettingKind::Secret(_)))
}

impl Args for AuthOptions {
    fn augment_args(command: Command) -> Command {
        let secret_stdin = Arg::new("client_secret_stdin")
            .long("client-secret-stdin")
            .help("user-oauth: Read the client secret from standard input")
            .action(ArgAction::SetTrue)
            .requires("client_id");
        let command = command.arg(secret_stdin);
        settings().fold(command, |command, (mode, setting)| {
            if command.get_arguments().any(|known| known.get_id() == setting.name) {
                return command;
            }
            // One word each time: --scope for `scopes`.
            let name = match setting.kind {
                SettingKind::List(_) => setting.name.trim_end_matches('s'),
                _ => setting.name,
            };
            let argument = Arg::new(setting.name)
                .long(dashed(name))
                .value_name(name.to_ascii_uppercase())
                .help(format!("{mode}: {}", setting.help.trim_end_matches('.')))
                .requires("auth");
            command.arg(match setting.kind {
                SettingKind::List(_) => argument.action(ArgAction::Append),
                SettingKind::Flag => argument.action(ArgAction::SetTrue),
                SettingKind::Text(_) | SettingKind::Secret(_) => argument,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AuthOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Map::new();
        for (_, setting) in settings() {
            let value = match setting.kind {
                SettingKind::Flag => matches.get_flag(setting.name).then_some(Value::Bool(true)),
                SettingKind::List(_) => matches.get_many::<String>(setting.name).map(|words| words.cloned().collect()),
                SettingKind::Text(_) | SettingKind::Secret(_) => {
                    matches.get_one::<String>(setting.name).cloned().map(Value::from)
                }
            };
            given.extend(value.map(|value| (setting.name.to_owned(), value)));
        }
        Ok(Self { settings: given, secret_stdin: matches.get_flag("client_secret_stdin") })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl AuthOptions {
    /// This mode with what was entered for it.
    fn body(self, mode: &str) -> Result<Value, CommandError> {
        let mut body = self.settings;
        body.insert("mode".to_owned(), mode.into());
        if let Some(auth) = Auth::iter().find(|auth| auth.as_str() == mode)
            && let Some(secret) = auth.description().secret()
            && (auth.requires_secret() || self.secret_stdin)
        {
            body.insert(secret.name.to_owned(), secret_from_stdin(&format!("the {}", secret.label))?.into());
        }
        Ok(body.into())
    }
}

/// A list where something was named.
fn named(items: Vec<String>) -> Option<Value> {
    Some(items).filter(|items| !items.is_empty()).map(Value::from)
}

/// What is approved.
#[derive(Args)]
pub struct Approve {
    /// ID of the server, mcp_….
    id: McpServerId,
    /// Definition hash, as shown by `show`.
    #[arg(long)]
    hash: String,
    /// Tool to approve, with its hash as shown by `show` (repeatable). A first approval that names none approves all.
    #[arg(long = "tool", value_name = "TOOL=HASH", value_parser = tool_hash)]
    tools: Vec<(String, String)>,
    /// Effect of a tool: read, write or send (repeatable). Without an effect, a tool is treated as send.
    #[arg(long = "effect", value_name = "TOOL=EFFECT", value_parser = effect)]
    effects: Vec<(String, String)>,
    /// Tool that is safe to retry (repeatable); requires --effect.
    #[arg(long = "idempotent", value_name = "TOOL")]
    idempotent: Vec<String>,
}

/// With which of its tools a server serves a Space.
#[derive(Args)]
pub struct Serve {
    /// ID of the Space, spc_….
    space: SpaceId,
    /// ID of the server, mcp_….
    server: McpServerId,
    /// Limit to this tool (repeatable).
    #[arg(long = "tool", value_name = "TOOL", conflicts_with = "stop")]
    tools: Vec<String>,
    /// When calls of a tool need approval (repeatable).
    #[arg(long = "approval", value_name = "TOOL=never|once|always", value_parser = approval, conflicts_with = "stop")]
    approvals: Vec<(String, String)>,
    /// Remove the server from the Space.
    #[arg(long)]
    stop: bool,
}

fn tool_hash(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((tool, hash)) if !tool.is_empty() && !hash.is_empty() => Ok((tool.to_owned(), hash.to_owned())),
        _ => Err("write TOOL=HASH, with the hash that `show` prints".to_owned()),
    }
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

pub(super) async fn run(api: &Api, command: Mcp) -> Result<(), CommandError> {
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
            api.show(&answer, |_| say!("Secret replaced."));
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
            api.show(&answer, |_| say!("Server rejected. All connections to it were removed."));
            Ok(())
        }
        Mcp::Test { id } => test(api, &path(id)).await,
        Mcp::Refresh { id } => {
            let answer = api.post(&format!("{}/tools/refresh", path(id)), &json!({})).await?;
            api.show(&answer, |answer| show::table(answer, &TOOLS, "No tools."));
            Ok(())
        }
        Mcp::Serve(serve) => self::serve(api, serve).await,
        Mcp::Remove { id } => {
            api.delete(&path(id)).await?;
            api.done("Server deleted. Its secret and all connections to it were deleted. Its history is kept.");
            Ok(())
        }
    }
}

async fn list(api: &Api, part: &PageArgs) -> Result<(), CommandError> {
    let answer = api.get(&part.of("/v1/mcp-servers", &[])).await?;
    let columns = [
        ("ID", "/id"),
        ("NAME", "/name"),
        ("SLUG", "/slug"),
        ("STATUS", "/status"),
        ("AUTH", "/auth/mode"),
        ("URL", "/url"),
    ];
    let empty = "No MCP servers. Register one with `thinkwork mcp add NAME URL`.";
    api.show(&answer, |answer| show::table(answer, &columns, empty));
    Ok(())
}

async fn add(api: &Api, new: Add) -> Result<(), CommandError> {
    let body = without_none(&[
        ("name", Some(new.name.into())),
        ("url", Some(new.endpoint.into())),
        ("transport", Some("streamable_http".into())),
        ("auth", Some(new.options.body(&new.auth)?)),
        ("outside_spaces", Some(new.outside_spaces.into())),
        ("slug", new.slug.map(Value::from)),
        ("tool_allowlist", named(new.tools)),
    ]);
    let answer = api.post("/v1/mcp-servers", &body).await?;
    api.show(&answer, changed);
    Ok(())
}

async fn edit(api: &Api, edit: Edit) -> Result<(), CommandError> {
    let auth = edit.auth.map(|mode| edit.options.body(&mode)).transpose()?;
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
        say!("\nApproval required. Review it, then run: thinkwork mcp approve ID --hash HASH --effect TOOL=read …");
    }
}

impl Approve {
    fn body(&self) -> Result<Value, CommandError> {
        let mut tools = Map::new();
        for (tool, hash) in &self.tools {
            if tools.insert(tool.clone(), json!({ "definition_hash": hash })).is_some() {
                return Err(CommandError::wrong_use(format!("--tool is given twice for {tool}")));
            }
        }
        let mut effects = Map::new();
        for (tool, effect) in &self.effects {
            let idempotent = self.idempotent.contains(tool);
            if effects.insert(tool.clone(), json!({ "effect": effect, "idempotent": idempotent })).is_some() {
                return Err(CommandError::wrong_use(format!("--effect is given twice for {tool}")));
            }
        }
        match self.idempotent.iter().find(|tool| !effects.contains_key(*tool)) {
            Some(tool) => Err(CommandError::wrong_use(format!("--idempotent {tool} requires --effect {tool}=…"))),
            None => Ok(json!({ "definition_hash": self.hash, "tools": tools, "effects": effects })),
        }
    }
}

async fn test(api: &Api, path: &str) -> Result<(), CommandError> {
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
        show::rows(tools, &[("TOOL", "/name"), ("DESCRIPTION", "/description")]).iter().for_each(|line| say!("{line}"));
    });
    if ok { Ok(()) } else { Err(CommandError::failed("the test failed; see the output above")) }
}

async fn serve(api: &Api, serve: Serve) -> Result<(), CommandError> {
    let path = format!("/v1/spaces/{}/mcp-servers/{}", serve.space, serve.server);
    if serve.stop {
        api.delete(&path).await?;
        api.done("Server removed from the Space.");
        return Ok(());
    }
    let approvals: Map<String, Value> = serve.approvals.into_iter().map(|(tool, word)| (tool, word.into())).collect();
    let body = without_none(&[("approvals", Some(approvals.into())), ("tool_allowlist", named(serve.tools))]);
    let answer = api.put(&path, &body).await?;
    api.show(&answer, |_| say!("Server added to the Space."));
    Ok(())
}

const TOOLS: [(&str, &str); 7] = [
    ("TOOL", "/name"),
    ("EFFECT", "/effect"),
    ("SUGGESTED", "/effect_suggested"),
    ("IDEMPOTENT", "/idempotent"),
    ("ON HOLD", "/on_hold"),
    ("GONE", "/gone"),
    ("HASH", "/definition_hash"),
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
        ("Deviations", "/deviations"),
        ("Status", "/status"),
        ("Definition hash", "/definition_hash"),
        ("Last error", "/last_error"),
        ("Available outside Spaces", "/outside_spaces"),
        ("Allowed tools", "/tool_allowlist"),
        ("Allowed but missing", "/tool_allowlist_missing"),
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
            tools: vec![("c".to_owned(), "3".to_owned())],
            idempotent: vec![idempotent.to_owned()],
        };
        let body = decision("a").body().ok().unwrap();
        let effects = json!({ "a": { "effect": "read", "idempotent": true } });
        let tools = json!({ "c": { "definition_hash": "3" } });
        assert_eq!(body, json!({ "definition_hash": "h", "tools": tools, "effects": effects }));
        assert_eq!(decision("b").body().err().map(|failure| failure.exit_code), Some(2));
    }
}
