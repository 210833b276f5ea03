//! `thinkwork migrate`: brings the database up to date and ends, so that the processes that serve need not know its owner.

use super::{CommandError, GlobalArgs};
use crate::app;

/// Applies what is pending and says how much it was.
///
/// # Errors
/// Where the database does not answer or may not be migrated.
pub async fn run(shared: &GlobalArgs) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let (db, applied) = app::open_database(&config).await.map_err(CommandError::failed)?;
    db.close().await;
    match applied {
        _ if shared.json => say!("{}", serde_json::json!({ "migrations_applied": applied })),
        0 => say!("The database is up to date."),
        1 => say!("1 migration was applied."),
        _ => say!("{applied} migrations were applied."),
    }
    Ok(())
}
