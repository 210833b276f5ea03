//! The product, as slices. Listing this folder prints the product.
//!
//! Architecture Invariant: a slice uses only slices listed above it here; `app`, `router` and `worker` use all.

// They panic where nobody reads: `say!` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]
#![expect(missing_docs, reason = "an application: docs say what names and types do not")]

pub mod edge;

pub mod access;
pub mod audit;
pub mod credentials;
pub mod data_retention;
pub mod demo;
pub mod home;
pub mod mcp;
pub mod oauth;
pub mod spaces;
pub mod threads;
pub mod tools;
pub mod turns;
pub mod webhooks;

pub mod app;
pub mod commands;
pub mod config;
pub mod connections;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod router;
pub mod worker;
