//! `thinkwork restore`: a backup put into an empty database, and what is to be done next.
//!
//! Invariants: the file, its version and the keys are checked before anything is written; nothing that exists is replaced.
//! The record is not accepted here: whoever restores reads what `audit verify` finds, and says so by `audit accept`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use thinkwork_database::backup::{self, Manifest};
use thinkwork_database::schema::migrations_pending;
use thinkwork_database::{Db, Engine};
use thinkwork_primitives::Clock;
use thinkwork_vault::{MissingKeyFile, Vault};

use super::backup::{ProgressLine, size, summary};
use super::serve::{lock, shutdown_signal};
use super::{CommandError, GlobalArgs};
use crate::access::Access;
use crate::app::{NAMES, database_options};
use crate::audit::{Audit, Checkpoints, Evidence};
use crate::config::Config;
use crate::credentials::Credentials;

/// Arguments of `restore`.
#[derive(Args)]
pub struct Restore {
    /// File that `thinkwork backup` wrote.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the file and the key, and restore nothing.
    #[arg(long)]
    check: bool,
}

/// A tenant whose record was signed further than the database goes, and how far both are.
struct BehindTenant {
    /// Its short name; its id where the database does not have it.
    name: String,
    kept: Option<i64>,
    sequence: i64,
}

/// Restores, or checks alone.
///
/// # Errors
/// In one sentence; the database is then as empty as before.
pub async fn run(shared: &GlobalArgs, command: Restore) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let clock = Clock::system();
    let began = clock.uptime();
    let options = database_options(&config);
    let engine = if options.sqlite_path().is_some() { Engine::Sqlite } else { Engine::Postgres };
    let manifest = backup::read_manifest(&command.file).await.map_err(CommandError::failed)?;
    manifest.check(engine).map_err(CommandError::failed)?;
    let vault = open_keys(&config, &manifest)?;
    let mut shown = ProgressLine::new(&clock, "Restoring");
    if command.check {
        let verified = backup::verify(&options, &command.file, &mut |progress| shown.show(progress)).await;
        shown.end();
        verified.map_err(CommandError::failed)?;
        if shared.json {
            say!("{}", json!({ "backup": manifest }));
        } else {
            let file = command.file.display();
            say!(
                "{file} is a whole backup of {}, taken at {}. The key file fits.",
                summary(&manifest),
                manifest.started_at
            );
        }
        return Ok(());
    }
    let _lock = lock(&config).map_err(CommandError::failed)?;
    let restored = {
        let mut show = |progress| shown.show(progress);
        let mut restoring = std::pin::pin!(backup::restore(&options, &command.file, &mut show));
        tokio::select! {
            restored = &mut restoring => Some(restored),
            () = shutdown_signal() => None,
        }
    };
    shown.end();
    let restored = restored.ok_or_else(|| CommandError::failed("the restore was stopped; nothing was changed"))?;
    restored.map_err(CommandError::failed)?;
    let behind = match vault {
        Some(vault) => behind(&config, clock.clone(), vault).await?,
        None => Vec::new(),
    };
    let duration = clock.uptime().saturating_sub(began);
    if shared.json {
        let behind: Vec<Value> = behind
            .iter()
            .map(|one| json!({ "tenant": one.name, "sequence": one.sequence, "kept_sequence": one.kept }))
            .collect();
        say!("{}", json!({ "backup": manifest, "seconds": duration.as_secs_f64(), "audit_behind": behind }));
        return Ok(());
    }
    let bytes = std::fs::metadata(&command.file).map_or(0, |found| found.len());
    say!(
        "Restored {}, as of {}: {} in {:.1} s.",
        summary(&manifest),
        manifest.started_at,
        size(bytes),
        duration.as_secs_f64()
    );
    say_next(&behind);
    Ok(())
}

/// The key file, which must be the one that the backup was sealed under.
fn open_keys(config: &Config, manifest: &Manifest) -> Result<Option<Vault>, CommandError> {
    if manifest.keys.is_empty() {
        return Ok(None);
    }
    let vault = Vault::open_key_file(&config.key_file, MissingKeyFile::Refuse).map_err(CommandError::failed)?;
    for (key, fingerprint) in &manifest.keys {
        Credentials::check_fingerprint(&vault, key, fingerprint).map_err(CommandError::failed)?;
    }
    Ok(Some(vault))
}

/// The tenants that `audit accept` is needed for. Of a database that is to be migrated first nothing is read.
async fn behind(config: &Config, clock: Clock, vault: Vault) -> Result<Vec<BehindTenant>, CommandError> {
    let Some(db) = Db::open_read_only(&database_options(config)).await.map_err(CommandError::failed)? else {
        return Ok(Vec::new());
    };
    let mut behind = Vec::new();
    if migrations_pending(&db).await.map_err(CommandError::failed)? == 0 {
        let audit = Audit::new(db.clone(), clock.clone(), vault, NAMES);
        let access = Access::new(db.clone(), clock, config.public_url.clone());
        let heads = audit.heads().await.map_err(CommandError::failed)?;
        let tenants = access.tenants().await.map_err(CommandError::failed)?;
        for (tenant, name) in &tenants {
            if let Some(found) = audit.behind(*tenant, &heads).await.map_err(CommandError::failed)? {
                behind.push(BehindTenant { name: name.clone(), kept: Some(found.kept), sequence: found.sequence });
            }
        }
        let known: Vec<_> = tenants.iter().map(|(tenant, _)| *tenant).collect();
        let evidence = Evidence { heads: &heads, checkpoints: &Checkpoints::default() };
        let others = evidence.of_others(&known);
        behind.extend(others.into_iter().map(|(tenant, _)| BehindTenant {
            name: tenant.to_string(),
            kept: None,
            sequence: 0,
        }));
    }
    db.close().await;
    Ok(behind)
}

/// What to do before the server starts.
fn say_next(behind: &[BehindTenant]) {
    say!("\nBefore you start the server, verify the audit log: thinkwork audit verify");
    for BehindTenant { name, kept, sequence } in behind {
        match kept {
            Some(kept) => say!("  {name}: it ends at {sequence} and was signed up to {kept}"),
            None => say!("  {name}: this tenant was made after the backup"),
        }
    }
    if !behind.is_empty() {
        let names: Vec<&str> = behind.iter().map(|one| one.name.as_str()).collect();
        say!("If it finds nothing else, accept that with: thinkwork audit accept {}", names.join(" "));
    }
    say!(
        "\nCredentials that were renewed or replaced after the backup are checked with their issuer, or asked for again."
    );
}
