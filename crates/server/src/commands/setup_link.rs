//! `thinkwork setup-link`: a new one-time link that sets a person's password.
//!
//! For a forgotten password, most of all the only owner's. It works on the machine alone: whoever may run it reads the
//! database and the keys anyway.

use clap::Args;
use serde_json::json;
use thinkwork_primitives::Clock;

use super::{CommandError, GlobalArgs};
use crate::access::Access;
use crate::app::open_foundation;

/// Arguments of `setup-link`.
#[derive(Args)]
pub struct SetupLink {
    /// Tenant short name, for example acme.
    #[arg(long)]
    tenant: String,
    /// Email of the person.
    #[arg(long)]
    email: String,
}

/// Prints the link, once. Links that were made before stop working; the password stays until the link is used.
///
/// # Errors
/// Where there is no such person or the database does not answer.
pub async fn run(shared: &GlobalArgs, command: SetupLink) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let clock = Clock::system();
    let (db, _, _) = open_foundation(&config, &clock).await.map_err(CommandError::failed)?;
    let access = Access::new(db.clone(), clock, config.public_url.clone());
    let code = access.setup_code_of(&command.tenant, &command.email).await.map_err(CommandError::failed)?;
    let link = access.setup_url(&code);
    let link = link.expose_str().unwrap_or_default();
    if shared.json {
        say!("{}", json!({ "url": link }));
    } else {
        say!("Open this link to set a new password. It expires in 1 hour.\n\n  {link}\n");
    }
    db.close().await;
    Ok(())
}
