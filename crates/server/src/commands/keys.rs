//! `thinkwork keys rotate`: a new key, and every credential re-wrapped under it, online.

use clap::Subcommand;
use serde_json::json;
use thinkwork_primitives::Clock;
use thinkwork_vault::Vault;

use super::{CommandError, GlobalArgs};
use crate::access::Access;
use crate::app::open_foundation;

/// Credentials re-wrapped in one transaction.
const BATCH: u64 = 200;

/// What to do with the keys.
#[derive(Subcommand)]
pub enum Keys {
    /// Add a new encryption key and re-encrypt all credentials with it. If interrupted, continue with --resume.
    Rotate {
        /// Continue an interrupted rotation without adding a key.
        #[arg(long)]
        resume: bool,
    },
}

/// Rotates.
///
/// # Errors
/// Where the key file or the database does not answer; what was re-wrapped stays so.
pub async fn run(shared: &GlobalArgs, command: Keys) -> Result<(), CommandError> {
    let Keys::Rotate { resume } = command;
    let config = shared.load(&[])?;
    let clock = Clock::system();
    // Refuses a wrong key file before it is touched.
    let (db, _, _) = open_foundation(&config, &clock).await.map_err(CommandError::failed)?;
    db.close().await;
    let mut added = None;
    if !resume {
        let key = Vault::add_key(&config.key_file).map_err(CommandError::failed)?;
        if !shared.json {
            say!("added key {key}; running servers load it automatically");
        }
        added = Some(key.to_string());
    }
    let (db, credentials, _) = open_foundation(&config, &clock).await.map_err(CommandError::failed)?;
    let access = Access::new(db.clone(), clock, config.public_url.clone());
    let mut all: usize = 0;
    for (tenant, _) in access.tenants().await.map_err(CommandError::failed)? {
        loop {
            let count = credentials.rewrap(tenant, BATCH).await.map_err(CommandError::failed)?;
            all = all.saturating_add(count);
            if count == 0 {
                break;
            }
            if !shared.json {
                say!("re-encrypted {all} credentials");
            }
        }
    }
    if shared.json {
        say!("{}", json!({ "added_key": added, "rewrapped": all }));
    } else {
        say!("done: all credentials use the active key");
    }
    db.close().await;
    Ok(())
}
