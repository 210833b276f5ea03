//! One commented default file, embedded; overlaid by a file, the environment and the flags.
//!
//! Invariants: unknown keys are errors; all errors are reported at once; the environment is read here and in the
//! client commands only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thinkwork_primitives::{Network, Timestamp};
use toml::{Table, Value};
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

const DEFAULT: &str = include_str!("default.toml");
const DAY: Duration = Duration::from_secs(24 * 3_600);
const PREFIX: &str = "THINKWORK_";
/// Names of the client commands and of tests, which are no settings.
const NOT_SETTINGS: [&str; 3] = ["URL", "TOKEN", "CONFIG"];

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Where health and measurements are answered instead.
    pub internal_listen: Option<SocketAddr>,
    /// The address of the deployment; https or loopback.
    pub public_url: Url,
    /// Where SQLite keeps its file.
    pub data_dir: PathBuf,
    /// The file of the key ring.
    pub key_file: PathBuf,
    /// `sqlite:PATH` or `postgres://…`.
    pub database_url: String,
    /// `postgres://…` of the role that owns the tables, where this process may migrate.
    pub database_migration_url: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Connections that one address may have at once.
    pub connections_per_address_max: u32,
    /// How long requests are still answered after the signal to stop.
    pub shutdown_delay: Duration,
    /// Requests that one token may make in a minute.
    pub token_rate_limit_per_minute: u32,
    /// Requests that one person may make in a minute.
    pub person_rate_limit_per_minute: u32,
    /// Requests without a proof that one address may make in a minute.
    pub address_rate_limit_per_minute: u32,
    /// Connections to PostgreSQL.
    pub database_connections_max: u32,
    /// Whether this process answers requests.
    pub web: bool,
    /// Whether this process applies events and runs turns.
    pub worker: bool,
    /// What is logged, as filter directives that were checked.
    pub log: String,
    /// What requests to the outside may reach.
    pub outbound: OutboundConfig,
    /// How long what is over is kept.
    pub retention: RetentionConfig,
}

/// How long what is over is kept, in days; 0 is forever.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RetentionConfig {
    pub delivery_contents_days: u32,
    pub deliveries_days: u32,
    pub thread_events_days: u32,
    pub steps_days: u32,
    pub ended_connections_days: u32,
    pub revoked_tokens_days: u32,
    pub erased_credentials_days: u32,
}

impl RetentionConfig {
    /// Before when something that is kept for so many days is forgotten; none where it is kept forever.
    pub fn before(days: u32, now: Timestamp) -> Option<Timestamp> {
        (days > 0).then(|| now.minus(DAY.saturating_mul(days)))
    }
}

/// What requests to the outside may reach.
#[derive(Clone, Debug, Deserialize)]
pub struct OutboundConfig {
    pub ports: Vec<u16>,
    /// Private networks that are reachable all the same.
    pub allowed_private: Vec<String>,
    /// Whether loopback is reachable.
    pub allow_loopback: bool,
}

#[derive(Deserialize)]
struct Raw {
    listen: String,
    internal_listen: String,
    public_url: String,
    data_dir: String,
    key_file: String,
    database_url: String,
    database_migration_url: String,
    trusted_proxies: Vec<String>,
    connections_per_address_max: u32,
    shutdown_delay_seconds: u32,
    token_rate_limit_per_minute: u32,
    person_rate_limit_per_minute: u32,
    address_rate_limit_per_minute: u32,
    database_connections_max: u32,
    roles: Vec<String>,
    log: String,
    outbound: OutboundConfig,
    retention: RetentionConfig,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {}:\n  - {}", counted(.0.len()), .0.join("\n  - "))]
pub struct ConfigError(pub Vec<String>);

fn counted(problems: usize) -> String {
    if problems == 1 { "one problem".to_owned() } else { format!("{problems} problems") }
}

/// Reads the configuration. `flags` are (key, value) pairs of the command line, `environment` is usually
/// [`environment`].
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[(&str, String)],
) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut settings: Table = DEFAULT.parse().map_err(|error| ConfigError(vec![format!("{error}")]))?;
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => match text.parse::<Table>() {
                Ok(table) => overlay(&mut settings, table, "", &mut problems),
                Err(error) => problems.push(format!("{} is not TOML: {}", path.display(), error.message())),
            },
            Err(error) => problems.push(format!("{} cannot be read: {error}", path.display())),
        }
    }
    for (name, value) in environment {
        let key = name.to_lowercase().replace("__", ".");
        set(&mut settings, &key, value, &format!("{PREFIX}{name}"), &mut problems);
    }
    for (key, value) in flags {
        set(&mut settings, key, value, &format!("--{}", key.replace('_', "-")), &mut problems);
    }
    let checked = match settings.try_into::<Raw>() {
        Ok(raw) => check(raw, &mut problems),
        Err(error) => {
            problems.push(error.message().to_owned());
            None
        }
    };
    match checked {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError(problems)),
    }
}

/// The settings of the environment, without their prefix.
pub fn environment() -> Vec<(String, String)> {
    #[expect(clippy::disallowed_methods, reason = "settings from the environment are read here, once")]
    std::env::vars()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
        .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()) && !name.starts_with("TEST_"))
        .collect()
}

fn overlay(settings: &mut Table, over: Table, path: &str, problems: &mut Vec<String>) {
    for (key, value) in over {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (settings.get_mut(&key), value) {
            (None, _) => problems.push(format!(
                "there is no setting {name}; see crates/server/src/default.toml in the source, which lists all"
            )),
            (Some(Value::Table(inner)), Value::Table(over)) => overlay(inner, over, &name, problems),
            (Some(known), value) if fits(known, &value) => *known = value,
            (Some(known), _) => problems.push(format!("{name} must be {}", kind(known))),
        }
    }
}

/// Whether a value is of the kind of the default; a list whose default is empty holds text.
fn fits(known: &Value, value: &Value) -> bool {
    match (known, value) {
        (Value::Array(items), Value::Array(values)) => match items.first() {
            Some(item) => values.iter().all(|value| item.same_type(value)),
            None => values.iter().all(Value::is_str),
        },
        _ => known.same_type(value),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_integer) => "a list of whole numbers",
        Value::Array(_) => "a list of texts",
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Table(_) => "a section",
        Value::Float(_) => "a number",
        Value::Datetime(_) => "a time",
    }
}

/// Sets one value given as text, read as what the default is.
fn set(settings: &mut Table, key: &str, text: &str, name: &str, problems: &mut Vec<String>) {
    let mut place = settings;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        match (place.get_mut(part), parts.peek().is_some()) {
            (Some(Value::Table(inner)), true) => place = inner,
            (Some(known), false) => {
                match read(known, text) {
                    Some(value) => *known = value,
                    None => problems.push(format!("{name} must be {}", kind(known))),
                }
                return;
            }
            _ => break,
        }
    }
    problems
        .push(format!("there is no setting {name}; see crates/server/src/default.toml in the source, which lists all"));
}

fn read(known: &Value, text: &str) -> Option<Value> {
    match known {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Array(items) => {
            let texts = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let sample = items.first().cloned().unwrap_or(Value::String(String::new()));
            texts.map(|item| read(&sample, item)).collect::<Option<_>>().map(Value::Array)
        }
        _ => None,
    }
}

fn check(raw: Raw, problems: &mut Vec<String>) -> Option<Config> {
    let listen = raw.listen.parse::<SocketAddr>().ok();
    if listen.is_none() {
        problems.push("listen must be an address and a port, for example 127.0.0.1:8080".to_owned());
    }
    let internal_listen = raw.internal_listen.parse::<SocketAddr>().ok();
    if internal_listen.is_none() && !raw.internal_listen.is_empty() {
        problems.push("internal_listen must be an address and a port, for example 127.0.0.1:8081, or empty".to_owned());
    }
    if internal_listen.is_some() && internal_listen == listen {
        problems.push("internal_listen must be another address or port than listen".to_owned());
    }
    let public_url = match (raw.public_url.as_str(), listen) {
        ("", Some(listen)) => format!("http://{listen}"),
        (given, _) => given.to_owned(),
    };
    let public_url = Url::parse(&public_url).ok().filter(|url| url.scheme() == "https" || is_loopback(url));
    if public_url.is_none() {
        problems.push("public_url must be https, or http on a loopback address".to_owned());
    }
    if let Some(url) = public_url.as_ref().filter(|url| raw.outbound.allow_loopback && !is_loopback(url)) {
        problems.push(format!("outbound.allow_loopback is only for a loopback public_url, and this is {url}"));
    }
    let (web, worker) = roles(&raw.roles, problems);
    let data_dir = PathBuf::from(&raw.data_dir);
    let key_file = if raw.key_file.is_empty() {
        let mut name = data_dir.clone().into_os_string();
        name.push(".key");
        PathBuf::from(name)
    } else {
        PathBuf::from(&raw.key_file)
    };
    if key_file.starts_with(&data_dir) {
        problems.push(
            "key_file must not be inside data_dir, because backups of the data would then contain the key".to_owned(),
        );
    }
    let database_url = match raw.database_url.as_str() {
        "" => format!("sqlite:{}", data_dir.join("thinkwork.db").display()),
        url if url.starts_with("sqlite:") || is_postgres(url) => url.to_owned(),
        _ => {
            problems.push("database_url must begin with sqlite: or postgres:".to_owned());
            String::new()
        }
    };
    let database_migration_url = match raw.database_migration_url.as_str() {
        "" => None,
        url if is_postgres(url) && is_postgres(&database_url) => Some(url.to_owned()),
        url if is_postgres(url) => {
            problems
                .push("database_migration_url is only for PostgreSQL; set database_url to postgres: too".to_owned());
            None
        }
        _ => {
            problems.push("database_migration_url must begin with postgres:".to_owned());
            None
        }
    };
    if let Err(error) = EnvFilter::try_new(&raw.log) {
        problems.push(format!("log must be levels like info or warn,access=info: {error}"));
    }
    for (name, limit) in [
        ("connections_per_address_max", raw.connections_per_address_max),
        ("token_rate_limit_per_minute", raw.token_rate_limit_per_minute),
        ("person_rate_limit_per_minute", raw.person_rate_limit_per_minute),
        ("address_rate_limit_per_minute", raw.address_rate_limit_per_minute),
    ] {
        if limit == 0 {
            problems.push(format!("{name} must be at least 1"));
        }
    }
    let mut trusted_proxies = Vec::new();
    for text in &raw.trusted_proxies {
        match text.parse() {
            Ok(network) => trusted_proxies.push(network),
            Err(problem) => problems.push(format!("trusted_proxies: {text}: {problem}")),
        }
    }
    Some(Config {
        listen: listen?,
        internal_listen,
        public_url: public_url?,
        data_dir,
        key_file,
        database_url,
        database_migration_url,
        trusted_proxies,
        connections_per_address_max: raw.connections_per_address_max,
        shutdown_delay: Duration::from_secs(raw.shutdown_delay_seconds.into()),
        token_rate_limit_per_minute: raw.token_rate_limit_per_minute,
        person_rate_limit_per_minute: raw.person_rate_limit_per_minute,
        address_rate_limit_per_minute: raw.address_rate_limit_per_minute,
        database_connections_max: raw.database_connections_max,
        web,
        worker,
        log: raw.log,
        outbound: raw.outbound,
        retention: raw.retention,
    })
}

fn roles(roles: &[String], problems: &mut Vec<String>) -> (bool, bool) {
    if roles.is_empty() || roles.iter().any(|role| role != "web" && role != "worker") {
        problems.push("roles must be web, worker or both".to_owned());
    }
    let has = |name: &str| roles.iter().any(|role| role == name);
    (has("web"), has("worker"))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete_and_right() {
        let config = load(None, &[], &[]).unwrap();
        assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080/");
        assert_eq!(config.key_file, PathBuf::from("thinkwork-data.key"));
        assert!(config.web && config.worker);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let environment = [("COLOUR".to_owned(), "red".to_owned()), ("OUTBOUND__PORTS".to_owned(), "443,x".to_owned())];
        let flags = [("listen", "nowhere".to_owned()), ("public_url", "http://example.com".to_owned())];
        let text = load(None, &environment, &flags).unwrap_err().to_string();
        let parts = [
            "4 problems",
            "THINKWORK_COLOUR",
            "THINKWORK_OUTBOUND__PORTS must be a list of whole numbers",
            "listen must be",
            "public_url must be https",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn zero_days_are_forever() {
        let now = Timestamp::from_micros(1_764_000_000_000_000);
        assert_eq!(RetentionConfig::before(0, now), None);
        assert_eq!(RetentionConfig::before(2, now), Some(now.minus(DAY * 2)));
        let flags = [("retention.deliveries_days", "0".to_owned())];
        assert_eq!(load(None, &[], &flags).unwrap().retention.deliveries_days, 0);
        let flags = [("retention.deliveries_days", "-1".to_owned())];
        assert!(load(None, &[], &flags).is_err());
    }

    #[test]
    fn loopback_outside_is_refused_for_a_public_deployment() {
        let flags = [("public_url", "https://tw.example".to_owned()), ("outbound.allow_loopback", "true".to_owned())];
        assert!(load(None, &[], &flags).unwrap_err().to_string().contains("allow_loopback"));
    }

    #[test]
    fn the_key_may_not_lie_with_the_data() {
        let flags = [("data_dir", "d".to_owned()), ("key_file", "d/key".to_owned())];
        assert!(load(None, &[], &flags).unwrap_err().to_string().contains("key_file"));
    }

    #[test]
    fn only_postgres_has_a_url_for_migrations() {
        let load = |url: &str, migration_url: &str| {
            let flags = [("database_url", url.to_owned()), ("database_migration_url", migration_url.to_owned())];
            load(None, &[], &flags)
        };
        let serving = "postgres://serving@db/work";
        let owner = "postgresql://owner@db/work";
        assert_eq!(load(serving, owner).unwrap().database_migration_url.as_deref(), Some(owner));
        assert_eq!(load(serving, "").unwrap().database_migration_url, None);
        assert!(load("sqlite:x.db", owner).unwrap_err().to_string().contains("only for PostgreSQL"));
        assert!(load(serving, "owner@db").unwrap_err().to_string().contains("must begin with postgres:"));
    }
}
