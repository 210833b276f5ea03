//! `thinkwork retention`: how long each kind of data is kept, and what it takes on disk.

use serde_json::{Value, json};
use strum::VariantArray as _;
use thinkwork_database::Db;
use thinkwork_database::storage::{TableSize, table_sizes};

use super::backup::size;
use super::{CommandError, GlobalArgs};
use crate::app::database_options;
use crate::config::RetentionConfig;
use crate::data_retention::{DataKind, Retention};

/// What is in tables of no kind.
const OTHER: &str = "Everything else";

/// Prints each kind. What is in no kind is in the last line.
///
/// # Errors
/// Where there is no database or it does not answer.
pub async fn run(shared: &GlobalArgs) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let db = Db::open_read_only(&database_options(&config)).await.map_err(CommandError::failed)?;
    let db = db.ok_or_else(|| CommandError::failed("there is no database yet, so nothing is kept"))?;
    let sizes = table_sizes(&db).await.map_err(CommandError::failed)?;
    db.close().await;
    let known = |size: &TableSize| DataKind::VARIANTS.iter().any(|kind| kind.tables().contains(&size.table.as_str()));
    let rest = sizes.iter().filter(|size| !known(size));
    if shared.json {
        let kinds = DataKind::VARIANTS.iter().map(|kind| as_json(*kind, &config.retention, &sizes));
        let mut kinds: Vec<Value> = kinds.collect();
        let other = total(rest);
        kinds.push(json!({ "name": OTHER, "rows": other.rows, "bytes": other.bytes }));
        say!("{}", json!({ "kinds": kinds }));
        return Ok(());
    }
    say!("{:>12} {:>10}  {:<48} {}", "ROWS", "SIZE", "RETENTION", "DATA");
    for kind in DataKind::VARIANTS {
        line(&total(of_kind(*kind, &sizes)), &retention_words(kind.retention(&config.retention)), table_title(*kind));
    }
    line(&total(rest), "", OTHER);
    Ok(())
}

fn line(total: &TableSize, retention: &str, name: &str) {
    let bytes = size(u64::try_from(total.bytes).unwrap_or(0));
    say!("{:>12} {bytes:>10}  {retention:<48} {name}", total.rows);
}

/// What the tables of a kind hold altogether: of some the rows that are not kept for a limited time are in them, too.
const fn table_title(kind: DataKind) -> &'static str {
    match kind {
        DataKind::EndedConnections => "Connections (only ended ones are deleted)",
        DataKind::RevokedTokens => "Tokens (only revoked and expired ones are deleted)",
        DataKind::ErasedCredentials => "Credential versions (only erased ones are deleted)",
        _ => kind.name(),
    }
}

fn retention_words(retention: Retention) -> String {
    match retention.setting() {
        Some(setting) => format!("{} ({setting})", retention.words()),
        None => retention.words(),
    }
}

fn of_kind(kind: DataKind, sizes: &[TableSize]) -> impl Iterator<Item = &TableSize> {
    sizes.iter().filter(move |size| kind.tables().contains(&size.table.as_str()))
}

fn total<'a>(sizes: impl Iterator<Item = &'a TableSize>) -> TableSize {
    let mut total = TableSize { table: String::new(), rows: 0, bytes: 0 };
    for size in sizes {
        total.rows = total.rows.saturating_add(size.rows);
        total.bytes = total.bytes.saturating_add(size.bytes);
    }
    total
}

fn as_json(kind: DataKind, config: &RetentionConfig, sizes: &[TableSize]) -> Value {
    let total = total(of_kind(kind, sizes));
    let retention = kind.retention(config);
    let setting = match retention {
        Retention::Setting { name, days } => json!({ "name": name, "days": days }),
        Retention::Fixed(_) => Value::Null,
    };
    json!({
        "name": table_title(kind), "tables": kind.tables(), "kept": retention_words(retention), "setting": setting,
        "rows": total.rows, "bytes": total.bytes,
    })
}
