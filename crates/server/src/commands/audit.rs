//! `thinkwork audit`: verify the record here, accept an older one, or list it over the API.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use thinkwork_database::Db;
use thinkwork_primitives::{Clock, TenantId};

use super::{CommandError, GlobalArgs, client};
use crate::access::Access;
use crate::app::{NAMES, open_foundation};
use crate::audit::{self, Checkpoints, Evidence, Finding};

/// Links of a chain after which a line says how far it is.
const PROGRESS_EVERY: u64 = 50_000;

/// What to do with the record.
#[derive(Subcommand)]
pub enum Audit {
    /// Verify the audit log in the database: against the signed heads beside the key file, and checkpoints kept elsewhere.
    /// Progress goes to standard error. Exit code 1 if anything is wrong.
    Verify {
        /// File of checkpoints kept elsewhere: the log's JSON lines with "audit checkpoint", and nothing else.
        #[arg(long, value_name = "FILE")]
        checkpoints: Option<PathBuf>,
    },
    /// Accept the audit log as it is in the database, after restoring an older backup on purpose. Stop the server first.
    Accept {
        /// Tenants, each by its short name or its id.
        #[arg(required = true, value_name = "TENANT")]
        tenants: Vec<String>,
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

/// Verifies, accepts or lists.
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
        Audit::Accept { tenants } => accept(shared, &tenants).await,
    }
}

/// The record, and what tenants there are.
async fn open(shared: &GlobalArgs) -> Result<(Db, audit::Audit, Vec<(TenantId, String)>), CommandError> {
    let config = shared.load(&[])?;
    let clock = Clock::system();
    let (db, _, vault) = open_foundation(&config, &clock).await.map_err(CommandError::failed)?;
    let audit = audit::Audit::new(db.clone(), clock.clone(), vault, NAMES);
    let access = Access::new(db.clone(), clock, config.public_url);
    let tenants = access.tenants().await.map_err(CommandError::failed)?;
    Ok((db, audit, tenants))
}

async fn verify(shared: &GlobalArgs, checkpoints: Option<PathBuf>) -> Result<(), CommandError> {
    let checkpoints = match checkpoints {
        Some(path) => std::fs::read_to_string(&path)
            .map(|text| Checkpoints::parse(&text))
            .map_err(|error| CommandError::wrong_use(format!("cannot read {}: {error}", path.display())))?,
        None => Checkpoints::default(),
    };
    let (db, audit, tenants) = open(shared).await?;
    // Read before the database: what is signed meanwhile must not look as if it were missing there.
    let heads = audit.heads().await.map_err(CommandError::failed)?;
    let evidence = Evidence { heads: &heads, checkpoints: &checkpoints };
    let mut problems = 0_u64;
    for line in checkpoints.unreadable() {
        problems = problems.saturating_add(1);
        let finding = format!("line {line} of the checkpoints file is no checkpoint of this version's log");
        if shared.json {
            say!("{}", json!({ "checkpoints_line": line, "findings": [finding] }));
        } else {
            say!("{finding}");
        }
    }
    for (tenant, slug) in &tenants {
        let progress = |links: u64| {
            if links.is_multiple_of(PROGRESS_EVERY) {
                // Whoever does not read how far it is wants the result all the same.
                drop(writeln!(std::io::stderr(), "{slug}: {links} events so far"));
            }
        };
        let verified = audit.verify(*tenant, &evidence, progress).await.map_err(CommandError::failed)?;
        let found = u64::try_from(verified.findings.len()).unwrap_or(u64::MAX).saturating_add(verified.further);
        problems = problems.saturating_add(found);
        if shared.json {
            print_json(slug, verified.links, verified.checkpoints, &verified.findings);
        } else {
            say!("{slug}: {} events and {} checkpoints verified", verified.links, verified.checkpoints);
            verified.findings.iter().for_each(|finding| say!("  {finding}"));
            if verified.further > 0 {
                say!("  and {} more", verified.further);
            }
        }
    }
    let known: Vec<TenantId> = tenants.iter().map(|(tenant, _)| *tenant).collect();
    for (tenant, finding) in evidence.of_others(&known) {
        problems = problems.saturating_add(1);
        if shared.json {
            print_json(&tenant.to_string(), 0, 0, &[finding]);
        } else {
            say!("{tenant}: nothing verified\n  {finding}");
        }
    }
    db.close().await;
    if problems == 0 {
        Ok(())
    } else {
        Err(CommandError::failed(format!(
            "the audit log has {problems} problems; docs/operator-guide.md says under \"What audit verify finds\" what to do \
             about each"
        )))
    }
}

fn print_json(tenant: &str, links: u64, checkpoints: u64, findings: &[Finding]) {
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    say!("{}", json!({ "tenant": tenant, "links": links, "checkpoints": checkpoints, "findings": findings }));
}

async fn accept(shared: &GlobalArgs, named: &[String]) -> Result<(), CommandError> {
    let (db, audit, tenants) = open(shared).await?;
    for name in named {
        accept_one(shared, &audit, &tenants, name).await?;
    }
    db.close().await;
    Ok(())
}

async fn accept_one(
    shared: &GlobalArgs,
    audit: &audit::Audit,
    tenants: &[(TenantId, String)],
    named: &str,
) -> Result<(), CommandError> {
    let is_named = |tenant: TenantId, slug: &str| slug == named || tenant.to_string() == named;
    if let Some((tenant, slug)) = tenants.iter().find(|(tenant, slug)| is_named(*tenant, slug)) {
        let accepted = audit.accept(*tenant).await.map_err(CommandError::failed)?;
        let kept = accepted.kept.map_or("nothing was kept".to_owned(), |kept| format!("it was signed up to {kept}"));
        if shared.json {
            let kept = accepted.kept;
            say!(
                "{}",
                json!({ "tenant": slug, "kept_sequence": kept, "sequence": accepted.sequence, "events_gone": accepted.gone })
            );
        } else {
            say!(
                "{slug}: accepted up to sequence {}; {kept}. {} events that waited were gone.",
                accepted.sequence,
                accepted.gone
            );
        }
    } else {
        let none = || CommandError::failed(format!("there is no tenant {named}, and no signed head of one is kept"));
        let tenant: TenantId = named.parse().map_err(|_| none())?;
        let sequence = audit.accept_without(tenant).await.map_err(CommandError::failed)?.ok_or_else(none)?;
        if shared.json {
            say!("{}", json!({ "tenant": tenant, "kept_sequence": sequence }));
        } else {
            say!("{tenant}: accepted that it is not in the database; it was signed up to {sequence}.");
        }
    }
    Ok(())
}
