//! `thinkwork token` and `thinkwork user`: who may do what here.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use thinkwork_primitives::{TokenId, UserId};

use super::super::Failure;
use super::api::{Api, Fields};
use super::{Part, Seen, show};

/// What to do with tokens.
#[derive(Subcommand)]
pub enum Token {
    /// List your tokens, or the tenant's for operators.
    List {
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Make a service token; it is printed once. A personal one is made signed in, on the page Tokens.
    Add(AddToken),
    /// End a token.
    Revoke {
        /// The token, tok_….
        id: TokenId,
    },
}

/// Where a token works.
#[derive(Clone, Copy, ValueEnum)]
enum Audience {
    /// At /v1.
    Api,
    /// At /mcp.
    Mcp,
}

/// How much a token may do; each holds those before it.
#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Look.
    Read,
    /// Look and write.
    Write,
    /// Configure.
    Admin,
}

/// A token to make.
#[derive(Args)]
pub struct AddToken {
    /// What it is for.
    name: String,
    /// Where it works.
    #[arg(long, value_enum, default_value = "api")]
    audience: Audience,
    /// How much it may do.
    #[arg(long, value_enum, default_value = "read")]
    scope: Scope,
    /// How long it works [default: 90 days].
    #[arg(long, value_name = "SECONDS")]
    expires_in_seconds: Option<u64>,
}

/// What to do with people.
#[derive(Subcommand)]
pub enum User {
    /// List the people of the tenant.
    List {
        /// Which part of the list.
        #[command(flatten)]
        part: Part,
    },
    /// Invite a person; the link is printed once.
    Add {
        /// Their e-mail.
        email: String,
        /// Their name.
        name: String,
        /// What they may do.
        #[arg(long, value_enum, default_value = "member")]
        role: Role,
    },
    /// Make a new invitation for a person who has not accepted; the link is printed once, the one before ends.
    Invite {
        /// The person, usr_….
        id: UserId,
    },
    /// Change the name or the role of a person.
    Edit {
        /// The person, usr_….
        id: UserId,
        /// Their name.
        #[arg(long)]
        name: Option<String>,
        /// What they may do.
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// What was seen before.
        #[command(flatten)]
        seen: Seen,
    },
    /// Lock a person out: their sessions, tokens and grants end at once.
    Disable {
        /// The person, usr_….
        id: UserId,
    },
    /// Let a person in again. What ended stays ended.
    Enable {
        /// The person, usr_….
        id: UserId,
    },
}

/// What a person may do.
#[derive(Clone, Copy, ValueEnum)]
pub enum Role {
    /// Work.
    Member,
    /// Configure.
    Operator,
    /// Configure, and name owners.
    Owner,
}

/// The API's word of a choice: as on the command line.
fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(super) async fn run_token(api: &Api, command: Token) -> Result<(), Failure> {
    match command {
        Token::List { part } => {
            let answer = api.get(&part.of("/v1/tokens", &[])).await?;
            let columns = [
                ("ID", "/id"),
                ("NAME", "/name"),
                ("KIND", "/kind"),
                ("WORKS AT", "/audience"),
                ("SCOPES", "/scopes"),
                ("ENDS WITH", "/last_four"),
                ("EXPIRES", "/expires_at"),
                ("REVOKED", "/revoked_at"),
            ];
            let empty = "There are no tokens; make one with `thinkwork token add NAME`.";
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
            api.done("The token works no more.");
        }
    }
    Ok(())
}

pub(super) async fn run_user(api: &Api, command: User) -> Result<(), Failure> {
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
            api.show(&answer, |answer| show::table(answer, &columns, "There are no people."));
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
            change(api, id, &[("name", name.map(Value::from)), ("role", role)], &seen).await?;
        }
        User::Disable { id } => change(api, id, &[("disabled", Some(true.into()))], &Seen::default()).await?,
        User::Enable { id } => change(api, id, &[("disabled", Some(false.into()))], &Seen::default()).await?,
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
    show::once("Their invitation", answer.get("invite_url"));
}

async fn change(api: &Api, id: UserId, fields: Fields<'_>, seen: &Seen) -> Result<(), Failure> {
    let answer = api.patch(&format!("/v1/users/{id}"), fields, seen).await?;
    api.show(&answer, person);
    Ok(())
}
