//! `thinkwork check`: configuration, keys, database, reachability, before a start or beside a running server.
//!
//! Invariant: it changes nothing on disk and nothing in the database.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use thinkwork_database::schema::{check_row_security, migrations_pending};
use thinkwork_database::{Db, Engine};
use thinkwork_outbound::{Outbound, Request, Response};
use thinkwork_primitives::Clock;
use thinkwork_vault::{MissingKeyFile, Vault};
use tokio::net::TcpListener;
use url::Url;

use super::{CommandError, GlobalArgs, client};
use crate::app::{StartError, database_options};
use crate::config::Config;
use crate::credentials::Credentials;

/// A server that runs answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What stands at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Responder {
    /// Nobody.
    None,
    /// A thinkwork.
    ThinkWork,
    /// A thinkwork with another public address, which it answers for alone.
    OtherHost,
    /// Something else.
    Other,
}

/// How the database is.
enum DatabaseState {
    /// There is none yet, or an empty one.
    Missing,
    /// The next start migrates it, by so many steps.
    Outdated(usize),
    /// As this version has it.
    Current,
}

/// What is there.
struct Found {
    database: DatabaseState,
    /// The ids of the keys; none where there is no key file yet.
    keys: Option<Vec<String>>,
}

/// Checks and says what is in order; changes nothing. What answers where is information: a start tells whether it stands
/// in the way.
///
/// # Errors
/// The first thing that stops the product, in one sentence.
pub async fn run(shared: &GlobalArgs) -> Result<(), CommandError> {
    let config = shared.load(&[])?;
    let found = look(&config).await.map_err(CommandError::failed)?;
    let engine = if config.database_url.starts_with("sqlite:") { Engine::Sqlite } else { Engine::Postgres };
    let listen = listen(&config).await;
    let public = public(&config).await;
    if shared.json {
        let (schema, pending) = match found.database {
            DatabaseState::Missing => ("missing", None),
            DatabaseState::Outdated(pending) => ("outdated", Some(pending)),
            DatabaseState::Current => ("current", Some(0)),
        };
        let answer = json!({
            "ok": true, "database": format!("{engine:?}"), "schema": schema, "migrations_pending": pending,
            "keys": found.keys, "public_url": config.public_url.as_str(), "listen": listen, "reachability": public,
        });
        say!("{answer}");
    } else {
        say!("configuration  OK, for {}", config.public_url);
        say!("database       {}", database_summary(&config, engine, &found.database));
        say!("keys           {}", keys_summary(&config, &found));
        say!("listen         {listen}");
        say!("public_url     {public}");
    }
    Ok(())
}

fn database_summary(config: &Config, engine: Engine, state: &DatabaseState) -> String {
    match (state, engine) {
        (DatabaseState::Missing, Engine::Sqlite) => {
            let path = config.database_url.trim_start_matches("sqlite:");
            format!("none yet at {path}; the first start or `thinkwork setup` creates it")
        }
        (DatabaseState::Missing, Engine::Postgres) => {
            "Postgres is reachable and empty; the first start or `thinkwork setup` creates the tables".to_owned()
        }
        (DatabaseState::Outdated(pending), _) => {
            format!("{engine:?} is reachable; the next start runs {pending} migrations: back up first")
        }
        (DatabaseState::Current, _) => format!("{engine:?} is reachable and up to date"),
    }
}

fn keys_summary(config: &Config, found: &Found) -> String {
    let path = config.key_file.display();
    match (&found.keys, &found.database) {
        (None, _) => format!("no file yet at {path}; the first start or `thinkwork setup` creates it"),
        (Some(keys), DatabaseState::Missing) => format!("{} in {path}; a new database will use them", keys.len()),
        (Some(keys), _) => format!("{} in {path}, match this database", keys.len()),
    }
}

/// Looks at the database and the keys as a start would, without changing either.
async fn look(config: &Config) -> Result<Found, StartError> {
    let Some(db) = Db::open_read_only(&database_options(config)).await? else {
        return Ok(Found { database: DatabaseState::Missing, keys: new_keys(config)?.map(|vault| vault.key_ids()) });
    };
    let found = look_at(config, &db).await;
    db.close().await;
    found
}

async fn look_at(config: &Config, db: &Db) -> Result<Found, StartError> {
    let database = match migrations_pending(db).await? {
        0 => DatabaseState::Current,
        pending => DatabaseState::Outdated(pending),
    };
    check_row_security(db).await?;
    if !Credentials::has_keys(db).await? {
        return Ok(Found { database, keys: new_keys(config)?.map(|vault| vault.key_ids()) });
    }
    let vault = Vault::open_key_file(&config.key_file, MissingKeyFile::Refuse)?;
    Credentials::new(db.clone(), Clock::system(), vault.clone()).compare_keys().await?;
    Ok(Found { database, keys: Some(vault.key_ids()) })
}

/// The keys for a database that has used none; there may be no file yet.
fn new_keys(config: &Config) -> Result<Option<Vault>, StartError> {
    match Vault::open_key_file(&config.key_file, MissingKeyFile::Refuse) {
        Ok(vault) => Ok(Some(vault)),
        Err(thinkwork_vault::Error::MissingKeyFile { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a server could listen where it is to, or does.
async fn listen(config: &Config) -> String {
    let address = config.listen;
    let Err(error) = TcpListener::bind(address).await else { return format!("{address} is free; not running yet") };
    match probe_listen_address(address).await {
        Responder::ThinkWork | Responder::OtherHost => format!("thinkwork is running at {address}"),
        Responder::None | Responder::Other => {
            format!("cannot listen on {address}: {error}; stop the program that uses it, or choose another --listen")
        }
    }
}

/// Who answers at the listen address, asked by way of loopback where it listens everywhere.
async fn probe_listen_address(mut address: SocketAddr) -> Responder {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    match Url::parse(&format!("http://{address}")) {
        Ok(url) => probe(&url).await.unwrap_or(Responder::None),
        Err(_) => Responder::None,
    }
}

/// Whether the address that people use leads to a thinkwork.
async fn public(config: &Config) -> String {
    let url = &config.public_url;
    match probe(url).await {
        Ok(Responder::ThinkWork) => format!("{url} leads to thinkwork"),
        Ok(Responder::None) => format!("no response from {url}; not running yet"),
        Ok(Responder::OtherHost) => {
            format!(
                "{url} leads to thinkwork, but with another host name; configure your proxy to pass the Host header"
            )
        }
        Ok(Responder::Other) => {
            format!("{url} leads to another program; check --public-url and the proxy configuration")
        }
        Err(failure) => format!("cannot connect to {url}: {}; check --public-url", failure.message),
    }
}

/// Who answers `/livez` below this address.
async fn probe(url: &Url) -> Result<Responder, CommandError> {
    let outbound = Outbound::new(client::policy(url)?).map_err(CommandError::failed)?;
    let request = Request::new(Method::GET, format!("{}/livez", url.as_str().trim_end_matches('/')));
    Ok(match tokio::time::timeout(PROBE_TIMEOUT, outbound.send(request)).await {
        Ok(Ok(response)) if response.is_success() && response.body.as_ref() == b"ok" => Responder::ThinkWork,
        Ok(Ok(response)) if is_misdirected(&response) => Responder::OtherHost,
        Ok(Ok(_)) => Responder::Other,
        Ok(Err(_)) | Err(_) => Responder::None,
    })
}

/// Whether this is how a thinkwork answers for a host that is not its own.
fn is_misdirected(response: &Response) -> bool {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let code = body.as_ref().and_then(|body| body.pointer("/error/code")?.as_str());
    response.status == StatusCode::MISDIRECTED_REQUEST.as_u16() && code == Some("misdirected")
}
