//! `thinkwork retention`: how long each kind of row is kept, and what it takes on disk.

use serde_json::{Value, json};
use thinkwork_database::Db;
use thinkwork_database::storage::{TableSize, table_sizes};

use super::backup::size;
use super::{CommandError, GlobalArgs};
use crate::app::database_options;
use crate::config::RetentionConfig;

/// How long a kind of row is kept.
enum Kept {
    /// As a setting says, in days; 0 is forever.
    Setting { name: &'static str, days: fn(&RetentionConfig) -> u32 },
    /// As the product says, in words.
    Fixed(&'static str),
}

/// One kind of row.
struct RowKind {
    name: &'static str,
    tables: &'static [&'static str],
    kept: Kept,
}

const KINDS: &[RowKind] = &[
    RowKind {
        name: "Contents of deliveries, for replays",
        tables: &["delivery_envelope"],
        kept: Kept::Setting { name: "retention.delivery_contents_days", days: |config| config.delivery_contents_days },
    },
    RowKind {
        name: "Deliveries",
        tables: &["delivery"],
        kept: Kept::Setting { name: "retention.deliveries_days", days: |config| config.deliveries_days },
    },
    RowKind {
        name: "Events of threads, for streams",
        tables: &["thread_event"],
        kept: Kept::Setting { name: "retention.thread_events_days", days: |config| config.thread_events_days },
    },
    RowKind {
        name: "Events that wait, and keys of known ones",
        tables: &["intake_event"],
        kept: Kept::Fixed("30 days; unsigned ones as long as their secret"),
    },
    RowKind {
        name: "Threads, messages, turns and steps",
        tables: &["thread", "message", "turn", "step"],
        kept: Kept::Fixed("forever"),
    },
    RowKind {
        name: "Audit log",
        tables: &["audit_event", "audit_seal", "audit_checkpoint", "audit_unsealed", "audit_refused"],
        kept: Kept::Fixed("forever"),
    },
];

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
    let known = |size: &TableSize| KINDS.iter().any(|kind| kind.tables.contains(&size.table.as_str()));
    let rest = sizes.iter().filter(|size| !known(size));
    if shared.json {
        let mut kinds: Vec<Value> = KINDS.iter().map(|kind| kind.as_json(&config.retention, &sizes)).collect();
        let other = total(rest);
        kinds.push(json!({ "name": "Everything else", "rows": other.rows, "bytes": other.bytes }));
        say!("{}", json!({ "kinds": kinds }));
        return Ok(());
    }
    say!("{:>12} {:>10}  {:<48} {}", "ROWS", "SIZE", "KEPT", "WHAT");
    for kind in KINDS {
        let total = total(kind.sizes(&sizes));
        line(&total, &kind.kept_for(&config.retention), kind.name);
    }
    line(&total(rest), "", "Everything else");
    Ok(())
}

fn line(total: &TableSize, kept: &str, name: &str) {
    let bytes = size(u64::try_from(total.bytes).unwrap_or(0));
    say!("{:>12} {bytes:>10}  {kept:<48} {name}", total.rows);
}

fn total<'a>(sizes: impl Iterator<Item = &'a TableSize>) -> TableSize {
    let mut total = TableSize { table: String::new(), rows: 0, bytes: 0 };
    for size in sizes {
        total.rows = total.rows.saturating_add(size.rows);
        total.bytes = total.bytes.saturating_add(size.bytes);
    }
    total
}

impl RowKind {
    fn sizes<'a>(&self, sizes: &'a [TableSize]) -> impl Iterator<Item = &'a TableSize> + use<'a> {
        let tables = self.tables;
        sizes.iter().filter(move |size| tables.contains(&size.table.as_str()))
    }

    fn kept_for(&self, config: &RetentionConfig) -> String {
        match &self.kept {
            Kept::Fixed(words) => (*words).to_owned(),
            Kept::Setting { name, days } => match days(config) {
                0 => format!("forever ({name})"),
                days => format!("{days} days ({name})"),
            },
        }
    }

    fn as_json(&self, config: &RetentionConfig, sizes: &[TableSize]) -> Value {
        let total = total(self.sizes(sizes));
        let setting = match &self.kept {
            Kept::Setting { name, days } => json!({ "name": name, "days": days(config) }),
            Kept::Fixed(_) => Value::Null,
        };
        json!({
            "name": self.name, "tables": self.tables, "kept": self.kept_for(config), "setting": setting,
            "rows": total.rows, "bytes": total.bytes,
        })
    }
}
