//! `thinkwork token` and `thinkwork user`: who may do what here.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use thinkwork_primitives::{TokenId, UserId};

use super::super::CommandError;
use super::api::{Api, Fields};
use super::{IfVersionArgs, PageArgs, show};

/// What to do with tokens.
#[derive(Subcommand)]
pub enum Token {
    /// List tokens.
    List {
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Create a service token. It is printed once. Create personal tokens on your account page.
    Add(AddToken),
    /// Revoke a token.
    Revoke {
        /// ID of the token, tok_….
        id: TokenId,
    },
}

/// Where a token works.
#[derive(Clone, Copy, ValueEnum)]
enum Audience {
    /// The API (/v1).
    Api,
    /// The MCP gateway (/mcp).
    Mcp,
}

/// How much a token may do; each holds those before it.
#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Read-only.
    Read,
    /// Read and write.
    Write,
    /// Full access, including settings.
    Admin,
}

/// A token to make.
#[derive(Args)]
pub struct AddToken {
    /// Name.
    name: String,
    /// Where the token can be used.
    #[arg(long, value_enum, default_value = "api")]
    audience: Audience,
    /// Permissions.
    #[arg(long, value_enum, default_value = "read")]
    scope: Scope,
    /// Expires in [default: 90 days].
    #[arg(long, value_name = "SECONDS")]
    expires_in_seconds: Option<u64>,
}

/// What to do with people.
#[derive(Subcommand)]
pub enum User {
    /// List people.
    List {
        /// Page of the list.
        #[command(flatten)]
        part: PageArgs,
    },
    /// Invite a person. The link is printed once.
    Add {
        /// Email.
        email: String,
        /// Name.
        name: String,
        /// Role.
        #[arg(long, value_enum, default_value = "member")]
        role: Role,
    },
    /// Create a new invitation link. The previous link stops working.
    Invite {
        /// ID of the person, usr_….
        id: UserId,
    },
    /// Update the name or role of a person.
    Edit {
        /// ID of the person, usr_….
        id: UserId,
        /// Name.
        #[arg(long)]
        name: Option<String>,
        /// Role.
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// Expected version.
        #[command(flatten)]
        seen: IfVersionArgs,
    },
    /// Disable a person. Their sessions, tokens and connections end immediately.
    Disable {
        /// ID of the person, usr_….
        id: UserId,
    },
    /// Enable a person. Sessions, tokens and connections are not restored.
    Enable {
        /// ID of the person, usr_….
        id: UserId,
    },
}

/// What a person may do.
#[derive(Clone, Copy, ValueEnum)]
pub enum Role {
    /// Use Spaces.
    Member,
    /// Manage settings.
    Operator,
    /// Manage settings and owners.
    Owner,
}

/// The API's word of a choice: as on the command line.
fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(super) async fn run_token(api: &Api, command: Token) -> Result<(), CommandError> {
    match command {
        Token::List { part } => {
            let answer = api.get(&part.of("/v1/tokens", &[])).await?;
            let columns = [
                ("ID", "/id"),
                ("NAME", "/name"),
                ("KIND", "/kind"),
                ("USE WITH", "/audience"),
                ("SCOPES", "/scopes"),
                ("ENDS WITH", "/last_four"),
                ("EXPIRES", "/expires_at"),
                ("REVOKED", "/revoked_at"),
            ];
            let empty = "No tokens. Create one with `thinkwork token add NAME`.";
            api.show(&answer, |answer| show::table(answer, &columns, empty));
        }
        Token::Add(new) => {
            let body = json!({
                "name": new.name, "kind": "service", "audience": word(new.audience), "scopes": [word(new.scope)],
                "expires_in_seconds": new.expires_in_seconds,
            });
            let answer = api.post("/v1/tokens", &body).await?;
            api.show(&answer, |answer| {
                show::lines(
                    answer,
                    &[("Id", "/id"), ("Name", "/name"), ("Scopes", "/scopes"), ("Expires", "/expires_at")],
                );
                show::once("The token", answer.get("token"));
            });
        }
        Token::Revoke { id } => {
            api.delete(&format!("/v1/tokens/{id}")).await?;
            api.done("Token revoked.");
        }
    }
    Ok(())
}

pub(super) async fn run_user(api: &Api, command: User) -> Result<(), CommandError> {
    match command {
        User::List { part } => {
            let answer = api.get(&part.of("/v1/users", &[])).await?;
            let columns = [
                ("ID", "/id"),
                ("NAME", "/name"),
                ("E-MAIL", "/email"),
                ("ROLE", "/role"),
                ("ACCEPTED", "/accepted"),
                ("DISABLED", "/disabled"),
            ];
            api.show(&answer, |answer| show::table(answer, &columns, "No people."));
        }
        User::Add { email, name, role } => {
            let body = json!({ "email": email, "name": name, "role": word(role) });
            let answer = api.post("/v1/users", &body).await?;
            api.show(&answer, invited);
        }
        User::Invite { id } => {
            let answer = api.post(&format!("/v1/users/{id}/invitation"), &json!({})).await?;
            api.show(&answer, invited);
        }
        User::Edit { id, name, role, seen } => {
            let role = role.map(|role| word(role).into());
            update(api, id, &[("name", name.map(Value::from)), ("role", role)], &seen).await?;
        }
        User::Disable { id } => update(api, id, &[("disabled", Some(true.into()))], &IfVersionArgs::default()).await?,
        User::Enable { id } => update(api, id, &[("disabled", Some(false.into()))], &IfVersionArgs::default()).await?,
    }
    Ok(())
}

fn person(answer: &Value) {
    show::lines(
        answer,
        &[("Id", "/id"), ("Name", "/name"), ("E-mail", "/email"), ("Role", "/role"), ("Disabled", "/disabled")],
    );
}

fn invited(answer: &Value) {
    person(answer);
    show::once("Invitation link", answer.get("invite_url"));
}

async fn update(api: &Api, id: UserId, fields: Fields<'_>, seen: &IfVersionArgs) -> Result<(), CommandError> {
    let answer = api.patch(&format!("/v1/users/{id}"), fields, seen).await?;
    api.show(&answer, person);
    Ok(())
}
