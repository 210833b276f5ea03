//! `thinkwork audit`: verify the record here, or list it over the API.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use thinkwork_primitives::Clock;

use super::{CommandError, GlobalArgs, client};
use crate::access::Access;
use crate::app::open_foundation;

/// What to do with the record.
#[derive(Subcommand)]
pub enum Audit {
    /// Verify the audit log in the database.
    Verify {
        /// File of checkpoints kept elsewhere (JSON lines, as logged).
        #[arg(long, value_name = "FILE")]
        checkpoints: Option<PathBuf>,
    },
    /// List events.
    List {
        /// Filter by action, or by prefix ending with a dot.
        #[arg(long)]
        action: Option<String>,
        /// Filter by thread.
        #[arg(long)]
        thread: Option<String>,
        /// Filter by start time, for example 2026-01-31T12:00:00Z.
        #[arg(long)]
        since: Option<String>,
        /// Filter by requester, for example usr_… or whk_….
        #[arg(long)]
        actor: Option<String>,
        /// Filter by owner of the credential used, usr_….
        #[arg(long)]
        subject: Option<String>,
        /// Which part of the list.
        #[command(flatten)]
        part: client::PageArgs,
    },
}

/// Verifies or lists.
///
/// # Errors
/// Exit code 1 where something is wrong with the record.
pub async fn run(shared: &GlobalArgs, command: Audit) -> Result<(), CommandError> {
    match command {
        Audit::List { action, thread, since, actor, subject, part } => {
            let filters = [
                ("action", action.as_deref()),
                ("thread", thread.as_deref()),
                ("since", since.as_deref()),
                ("actor", actor.as_deref()),
                ("subject", subject.as_deref()),
            ];
            client::audit(shared, &part, &filters).await
        }
        Audit::Verify { checkpoints } => verify(shared, checkpoints).await,
    }
}

async fn verify(shared: &GlobalArgs, checkpoints: Option<PathBuf>) -> Result<(), CommandError> {
    let outside = match checkpoints {
        Some(path) => std::fs::read_to_string(&path)
            .map_err(|error| CommandError::wrong_use(format!("cannot read {}: {error}", path.display())))?,
        None => String::new(),
    };
    let config = shared.load(&[])?;
    let clock = Clock::system();
    let (db, _, vault) = open_foundation(&config, &clock).await.map_err(CommandError::failed)?;
    let audit = crate::audit::Audit::new(db.clone(), clock.clone(), vault, crate::app::NAMES);
    let access = Access::new(db.clone(), clock, config.public_url.clone());
    let mut wrong: usize = 0;
    for (tenant, slug) in access.tenants().await.map_err(CommandError::failed)? {
        let verified = audit.verify(tenant, &outside).await.map_err(CommandError::failed)?;
        wrong = wrong.saturating_add(verified.findings.len());
        let findings: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
        if shared.json {
            say!(
                "{}",
                json!({ "tenant": slug, "links": verified.links, "checkpoints": verified.checkpoints, "findings": findings })
            );
        } else {
            say!("{slug}: {} events and {} checkpoints verified", verified.links, verified.checkpoints);
            findings.iter().for_each(|finding| say!("  {finding}"));
        }
    }
    db.close().await;
    if wrong == 0 {
        Ok(())
    } else {
        Err(CommandError::failed(format!("the audit log has {wrong} problems; compare it with a backup")))
    }
}
