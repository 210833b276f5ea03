//! `thinkwork setup`: makes a tenant and its owner.

use std::io::Read as _;

use clap::Args;
use serde_json::json;
use thinkwork_primitives::{Clock, Secret};

use super::{CommandError, GlobalArgs};
use crate::access;
use crate::app::App;
use crate::edge::{ApiError, InvalidField};

/// Arguments of `setup`.
#[derive(Args)]
pub struct Setup {
    /// Tenant short name, for example acme.
    #[arg(long)]
    tenant: String,
    /// Email of the owner.
    #[arg(long)]
    owner_email: String,
    /// Name of the owner.
    #[arg(long, default_value = "Owner")]
    owner_name: String,
    /// Read the owner's password from standard input.
    #[arg(long)]
    owner_password_stdin: bool,
}

fn password_from_stdin() -> Result<Secret, CommandError> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).map_err(CommandError::failed)?;
    let password = Secret::from_text(password.trim_end_matches(['\r', '\n']).to_owned());
    access::check_password(&password).map_err(refused)?;
    Ok(password)
}

/// The API's sentence and the argument that it is about; a failure inside in its own words.
fn refused(error: access::Error) -> CommandError {
    let argument = match &error {
        access::Error::SlugTaken | access::Error::Invalid(InvalidField { field: "tenant", .. }) => " (--tenant)",
        access::Error::EmailTaken | access::Error::Invalid(InvalidField { field: "email", .. }) => " (--owner-email)",
        access::Error::Invalid(InvalidField { field: "name", .. }) => " (--owner-name)",
        access::Error::Invalid(InvalidField { field: "password", .. }) => " (--owner-password-stdin)",
        _ => "",
    };
    let inside = error.to_string();
    let answer = ApiError::from(error);
    if answer.log.is_some() {
        CommandError::failed(inside)
    } else {
        CommandError::failed(format!("{}{argument}", answer.message))
    }
}

/// Makes the tenant and prints the owner's token, once.
///
/// # Errors
/// Where the name is taken or the database does not answer.
pub async fn run(shared: &GlobalArgs, command: Setup) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    // Asked for and checked first: a tenant whose owner's password was refused would be half made.
    let password = if command.owner_password_stdin { Some(password_from_stdin()?) } else { None };
    let app = App::build(config, Clock::system()).await.map_err(CommandError::failed)?;
    let made = app
        .access
        .tenant_create(&command.tenant, &command.tenant, &command.owner_email, &command.owner_name)
        .await
        .map_err(refused)?;
    if let Some(password) = password {
        app.access.password_set(made.tenant, made.owner, &password).await.map_err(refused)?;
    }
    let token = app.access.setup_token(made.tenant, made.owner).await.map_err(refused)?;
    let token = token.expose_str().unwrap_or_default();
    let url = app.access.setup_url(&made.setup_code);
    let url = url.expose_str().unwrap_or_default();
    if shared.json {
        say!("{}", json!({ "tenant_id": made.tenant, "user_id": made.owner, "token": token, "url": url }));
    } else {
        say!("Tenant {} created.\n\nOwner token, shown once:\n  {token}\n", command.tenant);
        say!("Set the owner's password with this link. It expires in 1 hour:\n  {url}");
    }
    app.db.close().await;
    Ok(())
}
