//! The integration tests: through HTTP against a server in this process, on SQLite or PostgreSQL.
//!
//! One binary, linked once; folders mirror the product's slices.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails there"
)]
#![expect(clippy::disallowed_methods, reason = "the harness reads what the run says, and starts servers")]

mod harness;
mod jobs;
mod log;

mod access;
mod audit;
mod backup;
mod bad_input;
mod commands;
mod connections;
mod contract;
mod credentials;
mod custody;
mod data_retention;
mod demo;
mod forms;
mod guards;
mod health;
mod mcp;
mod oauth;
mod peers;
mod rate_limits;
mod requests;
mod spaces;
mod threads;
mod turns;
mod webhooks;
