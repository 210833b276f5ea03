//! The offline demonstration: a sample outside world, a house to play in, a running account, and the check that does it
//! all without a person.
//!
//! Invariants: nothing leaves this machine; the sample servers are reached over HTTP only, as somebody else's would be;
//! the house is furnished through the public API. Only `commands` calls it.

mod authorization_server;
mod browser;
mod check;
mod loopback;
mod narrator;
mod notes_server;
mod seed;
mod sender;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Router;
use thinkwork_primitives::{Chain, Clock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

pub use check::{DemoContext, STEPS, Summary, run as check};
pub use narrator::AuditPrinter;
pub use seed::{DemoTenant, OWNER_EMAIL, Person, password};
pub use sender::{Sender, Sent};

use authorization_server::SampleId;
use notes_server::Notes;

/// How long Sample ID's access tokens live: short, so that a refresh can be watched, and longer than the minute before
/// the end in which ThinkWork refreshes anyway.
pub const ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(120);

/// What can go wrong in the demonstration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sample server cannot listen.
    #[error("a sample server cannot listen on 127.0.0.1: {0}")]
    Listen(#[from] std::io::Error),
    /// A request went wrong.
    #[error(transparent)]
    Request(#[from] loopback::Error),
    /// An answer is not what the demonstration is about.
    #[error("{0}")]
    Wrong(String),
}

/// The sample outside world, each part on a listener of its own. Ends when dropped.
pub struct SampleServers {
    /// Sample ID, the authorization server.
    pub sample_id: Url,
    /// Notes, the MCP server; its endpoint is `/mcp`.
    pub notes: Url,
    /// Sample Billing, the sender of events.
    pub billing: Url,
    /// The sender itself, for making it send.
    pub sender: Sender,
    listeners: JoinSet<()>,
}

impl SampleServers {
    /// Opens the three listeners on free ports of 127.0.0.1. They share the server's clock, so that an expiry can be
    /// brought about.
    pub async fn open(clock: &Clock) -> Result<Self, Error> {
        let (id_listener, sample_id) = listen().await?;
        let (notes_listener, notes) = listen().await?;
        let (billing_listener, billing) = listen().await?;
        let [issuer, notes_origin] = [&sample_id, &notes].map(|url| url.origin().ascii_serialization());
        let id = SampleId::new(issuer.clone(), format!("{notes_origin}/mcp"), ACCESS_TOKEN_LIFE, clock.clone());
        let server = Notes::new(&notes_origin, issuer, id.clone(), clock.clone());
        let sender = Sender::new(clock.clone());
        let mut listeners = JoinSet::new();
        listeners.spawn(serve(id_listener, id.routes()));
        listeners.spawn(serve(notes_listener, server.routes()));
        listeners.spawn(serve(billing_listener, sender.routes()));
        Ok(Self { sample_id, notes, billing, sender, listeners })
    }

    /// The Notes server's MCP endpoint.
    pub fn notes_endpoint(&self) -> Url {
        at(&self.notes, "/mcp")
    }

    /// How many of its parts are up: three.
    pub fn parts(&self) -> usize {
        self.listeners.len()
    }
}

async fn listen() -> Result<(TcpListener, Url), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let url = Url::parse(&url).map_err(|error| Error::Wrong(format!("{url}: {error}")))?;
    Ok((listener, url))
}

async fn serve(listener: TcpListener, routes: Router) {
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(error = %Chain(&error), "a sample server stopped");
    }
}

/// This path, with its query, at the same place.
fn at(base: &Url, path: &str) -> Url {
    base.join(path).unwrap_or_else(|_| base.clone())
}
