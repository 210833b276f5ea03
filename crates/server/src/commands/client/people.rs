//! `thinkwork token` and `thinkwork user`: who may do what here.

use clap::Subcommand;
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
    /// Revoke a token.
    Revoke {
        /// ID of the token, tok_….
        id: TokenId,
    },
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
    /// Invite a person as a member. The link is printed once. Roles are given in a browser.
    Add {
        /// Email.
        email: String,
        /// Name.
        name: String,
    },
    /// Create a new invitation link. The previous link stops working.
    Invite {
        /// ID of the person, usr_….
        id: UserId,
    },
    /// Rename a person.
    Edit {
        /// ID of the person, usr_….
        id: UserId,
        /// Name.
        #[arg(long)]
        name: Option<String>,
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
            let empty = "No tokens. Create one on your account page, or on the tokens page of the operators.";
            api.show(&answer, |answer| show::table(answer, &columns, empty));
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
        User::Add { email, name } => {
            let body = json!({ "email": email, "name": name, "role": "member" });
            let answer = api.post("/v1/users", &body).await?;
            api.show(&answer, invited);
        }
        User::Invite { id } => {
            let answer = api.post(&format!("/v1/users/{id}/invitation"), &json!({})).await?;
            api.show(&answer, invited);
        }
        User::Edit { id, name, seen } => update(api, id, &[("name", name.map(Value::from))], &seen).await?,
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
