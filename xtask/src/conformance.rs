//! `cargo xtask conformance client`: the official MCP suite against the product as a client, from `peers/conformance`.

use crate::failure::Failure;
use crate::session::Session;

/// Runs every scenario that the suite requires of a client, save for those that need a person or ask for input.
pub(crate) fn client(session: &mut Session) -> Result<(), Failure> {
    let binary = session.binary()?;
    session.peers()?.run("conformance/run.mjs", &binary)
}
