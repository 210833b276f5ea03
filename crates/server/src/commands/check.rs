//! `thinkwork check`: configuration, keys, database, reachability, before a start or beside a running server.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use serde_json::json;
use thinkwork_outbound::{Outbound, Request};
use thinkwork_primitives::Clock;
use tokio::net::TcpListener;
use url::Url;

use super::{Failure, Shared, client};
use crate::app::open_foundation;
use crate::config::Config;

/// A server that runs answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// Nobody.
    Nobody,
    /// A thinkwork.
    Ourselves,
    /// Something else.
    Others,
}

/// Checks and says what is in order. What answers where is information: a start tells whether it stands in the way.
///
/// # Errors
/// The first thing that stops the product, in one sentence.
pub async fn run(shared: &Shared) -> Result<(), Failure> {
    let config = shared.load(&[])?;
    let (db, _, vault) = open_foundation(&config, &Clock::system()).await.map_err(Failure::failed)?;
    let engine = format!("{:?}", db.engine());
    let (listen, public) = (listen(&config).await, public(&config).await);
    if shared.json {
        let answer = json!({
            "ok": true, "database": engine, "keys": vault.key_ids(), "public_url": config.public_url.as_str(),
            "listen": listen, "reachability": public,
        });
        say!("{answer}");
    } else {
        say!("configuration  fine, for {}", config.public_url);
        say!("database       {engine} answers and is up to date");
        say!("keys           {} in {}, they fit this database", vault.key_ids().len(), config.key_file.display());
        say!("listen         {listen}");
        say!("public_url     {public}");
    }
    db.close().await;
    Ok(())
}

/// Whether a server could listen where it is to, or does.
async fn listen(config: &Config) -> String {
    let address = config.listen;
    match TcpListener::bind(address).await {
        Ok(_) => format!("{address} is free; not running yet"),
        Err(_) if here(address).await == There::Ourselves => format!("thinkwork runs at {address}"),
        Err(error) => format!("{address} cannot be taken: {error}; end what holds it, or choose another --listen"),
    }
}

/// Who answers at the listen address, asked by way of loopback where it listens everywhere.
async fn here(mut address: SocketAddr) -> There {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    match Url::parse(&format!("http://{address}")) {
        Ok(url) => there(&url).await.unwrap_or(There::Nobody),
        Err(_) => There::Nobody,
    }
}

/// Whether the address that people use leads to a thinkwork.
async fn public(config: &Config) -> String {
    let url = &config.public_url;
    match there(url).await {
        Ok(There::Ourselves) => format!("{url} leads to thinkwork"),
        Ok(There::Nobody) => format!("nobody answers at {url}; not running yet"),
        Ok(There::Others) => {
            format!("{url}livez is answered by something else; check --public-url and where its proxy leads")
        }
        Err(failure) => format!("{url} cannot be asked: {}; check --public-url", failure.message),
    }
}

/// Who answers `/livez` below this address.
async fn there(url: &Url) -> Result<There, Failure> {
    let outbound = Outbound::new(client::policy(url)?).map_err(Failure::failed)?;
    let request = Request::new(Method::GET, format!("{}/livez", url.as_str().trim_end_matches('/')));
    Ok(match tokio::time::timeout(PATIENCE, outbound.send(request)).await {
        Ok(Ok(response)) if response.is_success() && response.body.as_ref() == b"ok" => There::Ourselves,
        Ok(Ok(_)) => There::Others,
        Ok(Err(_)) | Err(_) => There::Nobody,
    })
}
