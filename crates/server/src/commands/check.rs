//! `thinkwork check`: configuration, keys, database, before a start or beside a running server.

use serde_json::json;
use thinkwork_primitives::Clock;

use super::{Failure, Shared};
use crate::app::open_foundation;

/// Checks and says what is in order.
///
/// # Errors
/// The first thing that is not, in one sentence.
pub async fn run(shared: &Shared) -> Result<(), Failure> {
    let config = shared.load(&[])?;
    let (db, _, vault) = open_foundation(&config, &Clock::system()).await.map_err(Failure::failed)?;
    let engine = format!("{:?}", db.engine());
    if shared.json {
        println!(
            "{}",
            json!({ "ok": true, "database": engine, "keys": vault.key_ids(), "public_url": config.public_url.as_str() })
        );
    } else {
        println!("configuration  fine, for {}", config.public_url);
        println!("database       {engine} answers and is up to date");
        println!("keys           {} in {}, they fit this database", vault.key_ids().len(), config.key_file.display());
    }
    db.close().await;
    Ok(())
}
