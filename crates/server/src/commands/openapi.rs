//! `thinkwork openapi`: prints the OpenAPI document.

use thinkwork_primitives::Clock;

use super::CommandError;
use crate::app::App;
use crate::config;

/// Prints the document. The routes describe themselves, so they are built over an empty database that goes again.
///
/// # Errors
/// Where no temporary folder is to be had.
pub async fn run() -> Result<(), CommandError> {
    let folder = tempfile::tempdir().map_err(CommandError::failed)?;
    let flags = [("data_dir", folder.path().join("data").display().to_string())];
    let config = config::load(None, &[], &flags).map_err(CommandError::failed)?;
    let app = App::build(config, Clock::system()).await.map_err(CommandError::failed)?;
    say!("{}", crate::router::openapi(&app).to_pretty_json().map_err(CommandError::failed)?);
    app.db.close().await;
    Ok(())
}
