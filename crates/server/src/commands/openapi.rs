//! `thinkwork openapi`: prints the OpenAPI document.

use thinkwork_primitives::Clock;

use super::Failure;
use crate::app::App;
use crate::config;

/// Prints the document. The routes describe themselves, so they are built over an empty database that goes again.
///
/// # Errors
/// Where no temporary folder is to be had.
pub async fn run() -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(Failure::failed)?;
    let flags = [("data_dir", folder.path().join("data").display().to_string())];
    let config = config::load(None, &[], &flags).map_err(Failure::failed)?;
    let app = App::build(config, Clock::system()).await.map_err(Failure::failed)?;
    say!("{}", crate::router::openapi(&app).to_pretty_json().map_err(Failure::failed)?);
    app.db.close().await;
    Ok(())
}
