//! The database on real engines: `THINKWORK_TEST_DATABASE=postgres` runs the same tests on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails there")]

mod harness;
mod intake;
mod jobs;
mod roles;
mod schema;
mod search;
mod sqlite;
mod tenants;
mod wake_ups;
