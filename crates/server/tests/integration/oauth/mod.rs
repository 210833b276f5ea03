//! The OAuth core over a database and HTTP, against an authorization server that misbehaves on request.

mod flows;
mod issuer;
mod ownership;
mod races;
mod refresh;
mod revoke;
mod whole;

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tempfile::TempDir;
use thinkwork::credentials::Credentials;
use thinkwork::edge::caller::Consent;
use thinkwork::oauth::{
    AccessToken, Connection, Error, Finished, Finisher, Oauth, PreRegistered, ServerClient, Started, TokenUse,
};
use thinkwork::schema::MIGRATIONS;
use thinkwork_database::{Db, Options, schema::migrate};
use thinkwork_outbound::{Outbound, Policy};
use thinkwork_primitives::{
    Clock, ConnectionId, McpServerId, Principal, Requester, Role, SessionId, TenantId, UserId, Via, Who,
};
use thinkwork_vault::Vault;

pub use issuer::{Issuer, Ways};

/// The slice over a fresh database, with one issuer and one registered server.
pub struct World {
    pub db: Db,
    pub clock: Clock,
    pub credentials: Credentials,
    pub oauth: Oauth,
    pub issuer: Issuer,
    pub tenant: TenantId,
    pub server: McpServerId,
    pub ana: UserId,
    vault: Vault,
    database_url: String,
    _folder: TempDir,
}

pub fn by() -> Requester {
    Requester::server()
}

pub fn consent(tenant: TenantId, user: UserId, clock: &Clock) -> Consent {
    let via = Via::Session { id: SessionId::new(), signed_in_at: clock.now() };
    Consent::of(Principal { tenant, who: Who::User { id: user, role: Role::Member }, via }).unwrap()
}

pub fn use_of(user: UserId) -> TokenUse {
    TokenUse { requester: Requester::User(user), thread: None, turn: None, tool: Some("notes__search".to_owned()) }
}

pub fn text(token: &AccessToken) -> String {
    token.secret.expose_str().unwrap().to_owned()
}

/// The query of an address as a map; the last of equal names.
pub fn query_of(address: &str) -> HashMap<String, String> {
    let (_, query) = address.split_once('?').unwrap();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// What the browser brings back from the issuer: the callback's key and query.
pub async fn consent_at_issuer(started: &Started) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = http.get(&started.authorize_url).send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    let url = url::Url::parse(&to).unwrap();
    let key = url.path().strip_prefix("/oauth/callback/").unwrap().to_owned();
    (key, url.query().unwrap().to_owned())
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose issuer was changed before the server was registered.
    pub async fn with(change: impl FnOnce(&mut Ways)) -> Self {
        thinkwork_outbound::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let database_url = crate::harness::fresh_database(folder.path()).await;
        let db = open(&database_url).await;
        migrate(&db, MIGRATIONS).await.unwrap();
        let (clock, vault) = (Clock::system(), Vault::in_memory().unwrap());
        let (credentials, oauth) = slices(&db, &clock, &vault);
        let issuer = Issuer::start().await;
        issuer.set(change);
        let world = Self {
            db,
            clock,
            credentials,
            oauth,
            issuer,
            tenant: TenantId::new(),
            server: McpServerId::new(),
            ana: UserId::new(),
            vault,
            database_url,
            _folder: folder,
        };
        world.register(world.tenant, world.server).await.unwrap();
        world
    }

    /// Another process: its own pools, its own slices, the same rows.
    pub async fn another_process(&self) -> Oauth {
        slices(&open(&self.database_url).await, &self.clock, &self.vault).1
    }

    /// What another process on another runtime needs.
    pub fn process_parts(&self) -> (String, Clock, Vault) {
        (self.database_url.clone(), self.clock.clone(), self.vault.clone())
    }

    pub async fn server_client(&self, server: McpServerId) -> Result<ServerClient, Error> {
        let discovered = self.oauth.discover(&self.issuer.resource(), None).await?;
        Ok(ServerClient {
            server,
            discovered,
            pre_registered: None,
            pkce_though_silent: false,
            without_resource: false,
            scopes: None,
        })
    }

    pub async fn register(&self, tenant: TenantId, server: McpServerId) -> Result<(), Error> {
        let client = self.server_client(server).await?;
        self.register_client(tenant, client).await
    }

    pub async fn register_client(&self, tenant: TenantId, client: ServerClient) -> Result<(), Error> {
        register(&self.db, &self.oauth, tenant, client).await
    }

    pub async fn register_by_hand(&self, client_id: &str, secret: Option<&str>) -> Result<(), Error> {
        let mut client = self.server_client(self.server).await?;
        let client_secret = secret.map(|secret| thinkwork_primitives::Secret::from_text(secret.to_owned()));
        client.pre_registered = Some(PreRegistered { client_id: client_id.to_owned(), client_secret });
        self.register_client(self.tenant, client).await
    }

    pub async fn start(&self, tenant: TenantId, user: UserId, server: McpServerId) -> Started {
        self.oauth.start(&consent(tenant, user, &self.clock), server, "").await.unwrap()
    }

    /// What the browser brings back from the issuer: the callback's key and query.
    pub async fn consent_at_issuer(&self, started: &Started) -> (String, String) {
        consent_at_issuer(started).await
    }

    /// The browser that started the flow, with this person signed in.
    pub fn browser(&self, started: &Started, person: Option<(TenantId, UserId)>) -> Finisher {
        let pair = started.set_cookie.split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())]);
        Finisher { person, headers }
    }

    pub async fn connect_as(&self, tenant: TenantId, user: UserId, server: McpServerId) -> Finished {
        let started = self.start(tenant, user, server).await;
        let (key, query) = self.consent_at_issuer(&started).await;
        self.oauth.finish(&key, &query, self.browser(&started, Some((tenant, user)))).await
    }

    /// Ana connects.
    pub async fn connect(&self) -> ConnectionId {
        let finished = self.connect_as(self.tenant, self.ana, self.server).await;
        let Finished::Return { to, .. } = &finished else { panic!("{finished:?}") };
        assert_eq!(query_of(to)["status"], "connected", "{to}");
        query_of(to)["connection"].parse().unwrap()
    }

    pub async fn connection(&self) -> Option<Connection> {
        let mut tx = self.db.read(self.tenant).await.unwrap();
        self.oauth.connection(&mut tx, self.ana, self.server).await.unwrap()
    }

    pub async fn token(&self) -> Result<AccessToken, Error> {
        self.token_by(&self.oauth).await
    }

    pub async fn token_by(&self, oauth: &Oauth) -> Result<AccessToken, Error> {
        oauth.access_token(self.tenant, self.ana, self.server, &use_of(self.ana), None).await
    }

    pub async fn token_after_refusal(&self, version: i64) -> Result<AccessToken, Error> {
        let use_ = use_of(self.ana);
        self.oauth.access_token_after_refusal(self.tenant, self.ana, self.server, version, &use_, None).await
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Runs the jobs that are due, as the worker would, until none is.
    pub async fn run_jobs(&self) -> Vec<Result<(), Error>> {
        let mut results = Vec::new();
        loop {
            let now = self.clock.now();
            let jobs = thinkwork_database::jobs::claim(&self.db, now, Duration::from_secs(60), 10).await.unwrap();
            if jobs.is_empty() {
                return results;
            }
            for job in jobs {
                let result = self.oauth.job(&job).await;
                match &result {
                    Ok(()) => thinkwork_database::jobs::done(&self.db, &job).await.unwrap(),
                    Err(error) => {
                        thinkwork_database::jobs::failed(&self.db, &job, now, &error.to_string()).await.unwrap();
                    }
                }
                results.push(result);
            }
        }
    }
}

pub async fn register(db: &Db, oauth: &Oauth, tenant: TenantId, client: ServerClient) -> Result<(), Error> {
    let made = oauth.registration(tenant, client).await?;
    let mut tx = db.write(tenant).await.unwrap();
    oauth.register(&mut tx, made, &by()).await?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn open(url: &str) -> Db {
    Db::open(&Options { url: url.to_owned(), connections_max: 6 }).await.unwrap()
}

fn slices(db: &Db, clock: &Clock, vault: &Vault) -> (Credentials, Oauth) {
    let credentials = Credentials::new(db.clone(), clock.clone(), vault.clone());
    let outbound = Outbound::new(Policy { allow_loopback: true, ..Policy::default() }).unwrap();
    let public_url = url::Url::parse("https://work.acme.test").unwrap();
    let oauth = Oauth::new(db.clone(), clock.clone(), credentials.clone(), outbound, public_url);
    (credentials, oauth)
}
