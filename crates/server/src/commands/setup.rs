//! `thinkwork setup`: makes a tenant and its owner.

use std::io::Read as _;

use clap::Args;
use serde_json::json;
use thinkwork_primitives::{Clock, Secret};

use super::{Failure, Shared};
use crate::app::App;
use crate::config::Config;

/// Arguments of `setup`.
#[derive(Args)]
pub struct Setup {
    /// The tenant's short name, like acme.
    #[arg(long)]
    tenant: String,
    /// The owner's e-mail.
    #[arg(long)]
    owner_email: String,
    /// The owner's name.
    #[arg(long, default_value = "Owner")]
    owner_name: String,
    /// Read the owner's password from standard input and set it at once.
    #[arg(long)]
    owner_password_stdin: bool,
}

/// The one-time set-up link of a code.
pub(super) fn link(config: &Config, code: &Secret) -> String {
    let mut link = config.public_url.clone();
    link.set_path("/setup");
    link.query_pairs_mut().append_pair("code", code.expose_str().unwrap_or_default());
    link.to_string()
}

/// Makes the tenant and prints the owner's token, once.
///
/// # Errors
/// Where the name is taken or the database does not answer.
pub async fn run(shared: &Shared, command: Setup) -> Result<(), Failure> {
    let app = App::build(shared.load(&[])?, Clock::system()).await.map_err(Failure::failed)?;
    let made = app
        .access
        .tenant_create(&command.tenant, &command.tenant, &command.owner_email, &command.owner_name)
        .await
        .map_err(Failure::failed)?;
    if command.owner_password_stdin {
        let mut password = String::new();
        std::io::stdin().read_to_string(&mut password).map_err(Failure::failed)?;
        let password = Secret::from_text(password.trim_end_matches(['\r', '\n']).to_owned());
        app.access.password_set(made.tenant, made.owner, &password).await.map_err(Failure::failed)?;
    }
    let token = app.access.setup_token(made.tenant, made.owner).await.map_err(Failure::failed)?;
    let (token, url) = (token.expose_str().unwrap_or_default(), link(&app.config, &made.setup_code));
    if shared.json {
        println!("{}", json!({ "tenant_id": made.tenant, "user_id": made.owner, "token": token, "url": url }));
    } else {
        println!("The tenant {} is made.\n\nOwner token, shown once:\n  {token}\n", command.tenant);
        println!("Set the owner's password within an hour:\n  {url}");
    }
    app.db.close().await;
    Ok(())
}
