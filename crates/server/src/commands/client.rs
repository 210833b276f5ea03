//! The commands that talk to a running server over its API, as any other caller would.
//!
//! Invariants: what a command may do is what its token may do; `--json` prints the API's answer as it came; a secret is
//! printed once, where it was made; a failure is the API's own sentence and exit code 1.

mod api;
mod mcp;
mod people;
mod show;
mod webhook;
mod work;

use super::{CommandError, GlobalArgs};
use api::Api;
pub(super) use api::policy;
use mcp::Mcp;
use people::{Token, User};
use webhook::Webhook;
use work::{Space, Thread};

/// One of the commands over the API.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Manage MCP servers.
    #[command(subcommand)]
    Mcp(Mcp),
    /// Manage webhooks.
    #[command(subcommand)]
    Webhook(Webhook),
    /// Manage Spaces.
    #[command(subcommand)]
    Space(Space),
    /// Manage threads.
    #[command(subcommand)]
    Thread(Thread),
    /// Manage tokens.
    #[command(subcommand)]
    Token(Token),
    /// Manage people.
    #[command(subcommand)]
    User(User),
}

/// Which part of a list to ask for.
#[derive(clap::Args)]
pub struct PageArgs {
    /// Maximum number of items, 1 to 200.
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Cursor printed at the end of the previous page.
    #[arg(long)]
    after: Option<String>,
}

/// What was seen before a change.
#[derive(clap::Args, Default)]
pub struct IfVersionArgs {
    /// Only change this version, as shown with --json.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

impl PageArgs {
    /// The path of a list with this part and these filters in its query.
    fn of(&self, path: &str, filters: &[(&str, Option<&str>)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        let given = filters.iter().copied().chain([("after", self.after.as_deref())]);
        query.extend_pairs(given.filter_map(|(name, value)| Some((name, value?))));
        format!("{path}?{}", query.finish())
    }
}

/// Runs one of the commands.
///
/// # Errors
/// Exit code 2 without a token or with an address that cannot be asked, 1 with the API's sentence.
pub async fn run(shared: &GlobalArgs, command: Command) -> Result<(), CommandError> {
    let api = Api::new(shared)?;
    match command {
        Command::Mcp(command) => mcp::run(&api, command).await,
        Command::Webhook(command) => webhook::run(&api, command).await,
        Command::Space(command) => work::run_space(&api, command).await,
        Command::Thread(command) => work::run_thread(&api, command).await,
        Command::Token(command) => people::run_token(&api, command).await,
        Command::User(command) => people::run_user(&api, command).await,
    }
}

/// Lists this part of the record over the API, newest first, cut by these filters.
pub async fn audit(shared: &GlobalArgs, part: &PageArgs, filters: &[(&str, Option<&str>)]) -> Result<(), CommandError> {
    let api = Api::new(shared)?;
    let answer = api.get(&part.of("/v1/audit", filters)).await?;
    let columns = [
        ("WHEN", "/at"),
        ("WHAT", "/action"),
        ("REQUESTER", "/requester/id"),
        ("CREDENTIAL", "/credential_subject/kind"),
        ("ON", "/target/id"),
        ("THREAD", "/thread_id"),
    ];
    api.show(&answer, |answer| show::table(answer, &columns, "No matching events."));
    Ok(())
}
