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
use sea_orm::{ConnectionTrait as _, Statement};
use tempfile::TempDir;
use thinkwork::access::Access;
use thinkwork::app::App;
use thinkwork::credentials::{Credentials, UseContext};
use thinkwork::edge::caller::SessionUser;
use thinkwork::metrics::Metrics;
use thinkwork::oauth::{
    AccessToken, AccessTokenQuery, CallbackCaller, CallbackOutcome, ClientSettings, Connection, EndUserConnections,
    Error, ExpireFlow, Oauth, PreRegistered, RevokeTokens, StartedFlow,
};
use thinkwork_database::jobs::JobType as _;
use thinkwork_database::{Db, Options, schema::migrate};
use thinkwork_outbound::{Outbound, Policy};
use thinkwork_primitives::{
    ActingClient, Actor, AuthMethod, Clock, ConnectionId, GrantTarget, Identity, McpServerId, Principal, Requester,
    Role, SessionId, TenantId, Timestamp, UserId,
};
use thinkwork_vault::Vault;

pub use issuer::{Behavior, Issuer};

/// The slice over a fresh database, with one issuer and one registered server.
pub struct OauthFixture {
    pub db: Db,
    pub clock: Clock,
    pub access: Access,
    pub credentials: Credentials,
    pub oauth: Oauth,
    pub issuer: Issuer,
    pub tenant: TenantId,
    pub target: GrantTarget,
    pub ana: UserId,
    vault: Vault,
    database_url: String,
    _folder: TempDir,
}

/// Where the tokens of these tests would be presented.
pub const AUDIENCE: &str = "https://notes.acme.test/mcp";

pub fn by() -> Actor {
    Actor::server()
}

/// A member who has just signed in.
pub async fn consent(access: &Access, tenant: TenantId, user: UserId) -> SessionUser {
    let session = access.session_create(tenant, user, "tests").await.unwrap();
    let auth = AuthMethod::Session { id: session.session, signed_in_at: Timestamp::from_micros(0) };
    SessionUser::of(Principal { tenant, identity: Identity::User { id: user, role: Role::Member }, auth }).unwrap()
}

pub fn use_of(user: UserId) -> UseContext {
    let actor = Actor { requester: Requester::User(user), client: ActingClient::Agent };
    UseContext { tool: Some("notes__search".to_owned()), ..UseContext::by(actor) }
}

pub const fn access_token_query(
    tenant: TenantId,
    user: UserId,
    target: GrantTarget,
    context: &UseContext,
) -> AccessTokenQuery<'_> {
    AccessTokenQuery { tenant, user, target, audience: AUDIENCE, context, recorder: None }
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
pub async fn consent_at_issuer(started: &StartedFlow) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = http.get(&started.authorize_url).send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    let url = url::Url::parse(&to).unwrap();
    let key = url.path().strip_prefix("/oauth/callback/").unwrap().to_owned();
    (key, url.query().unwrap().to_owned())
}

/// An MCP server that nobody else has.
pub fn target() -> GrantTarget {
    McpServerId::new().into()
}

impl OauthFixture {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose issuer was changed before the server was registered.
    pub async fn with(change: impl FnOnce(&mut Behavior)) -> Self {
        thinkwork_outbound::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let database_url = crate::harness::fresh_database(folder.path()).await;
        let db = open(&database_url).await;
        migrate(&db).await.unwrap();
        let clock = Clock::system();
        let vault = Vault::in_memory().unwrap();
        let db = db.with_record_key(vault.record_key());
        let (access, credentials, oauth) = slices(&db, &clock, &vault);
        let issuer = Issuer::start().await;
        issuer.set(change);
        let fixture = Self {
            db,
            clock,
            access,
            credentials,
            oauth,
            issuer,
            tenant: TenantId::new(),
            target: target(),
            ana: UserId::new(),
            vault,
            database_url,
            _folder: folder,
        };
        fixture.add_person(fixture.tenant, fixture.ana).await;
        fixture.register(fixture.tenant, fixture.target).await.unwrap();
        fixture
    }

    /// A person with this id, in a tenant with that one, which is made where it is not there yet.
    pub async fn add_person(&self, tenant: TenantId, user: UserId) {
        let tx = self.db.write(tenant).await.unwrap();
        for (sql, values) in [
            (
                "INSERT INTO tenant (id, slug, name, created_at) VALUES ($1, $2, 'Acme', 0) ON CONFLICT DO NOTHING",
                vec![tenant.uuid().into(), tenant.to_string().into()],
            ),
            (
                "INSERT INTO user_account (id, tenant_id, email, email_key, name, role, created_at, version)
                 VALUES ($1, $2, $3, $3, 'Ana', 'member', 0, 1)",
                vec![user.uuid().into(), tenant.uuid().into(), format!("{user}@acme.test").into()],
            ),
        ] {
            let statement = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, values);
            tx.orm().execute_raw(statement).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Another process: its own pools, its own slices, the same rows.
    pub async fn another_process(&self) -> Oauth {
        slices(&open(&self.database_url).await, &self.clock, &self.vault).2
    }

    /// What another process on another runtime needs.
    pub fn process_parts(&self) -> (String, Clock, Vault) {
        (self.database_url.clone(), self.clock.clone(), self.vault.clone())
    }

    pub async fn client_settings(&self, target: GrantTarget) -> Result<ClientSettings, Error> {
        let discovered = self.oauth.discover(&self.issuer.resource(), None, Default::default()).await?;
        Ok(ClientSettings {
            target,
            audience: AUDIENCE.to_owned(),
            discovered,
            pre_registered: None,
            pkce_though_silent: false,
            without_resource: false,
            scopes: None,
            without_offline_access: false,
            prompt: None,
            token_auth_method: None,
        })
    }

    pub async fn register(&self, tenant: TenantId, target: GrantTarget) -> Result<(), Error> {
        let client = self.client_settings(target).await?;
        self.register_client(tenant, client).await
    }

    pub async fn register_client(&self, tenant: TenantId, client: ClientSettings) -> Result<(), Error> {
        register(&self.db, &self.oauth, tenant, client).await
    }

    pub async fn register_by_hand(&self, client_id: &str, secret: Option<&str>) -> Result<(), Error> {
        let mut client = self.client_settings(self.target).await?;
        let client_secret = secret.map(|secret| thinkwork_primitives::Secret::from_text(secret.to_owned()));
        client.pre_registered = Some(PreRegistered { client_id: client_id.to_owned(), client_secret });
        self.register_client(self.tenant, client).await
    }

    pub async fn start(&self, tenant: TenantId, user: UserId, target: GrantTarget) -> StartedFlow {
        self.oauth.start(&consent(&self.access, tenant, user).await, target, "").await.unwrap()
    }

    /// What the browser brings back from the issuer: the callback's key and query.
    pub async fn consent_at_issuer(&self, started: &StartedFlow) -> (String, String) {
        consent_at_issuer(started).await
    }

    /// The browser that started the flow, with this person signed in.
    pub fn browser(&self, started: &StartedFlow, person: Option<(TenantId, UserId)>) -> CallbackCaller {
        let pair = started.set_cookie.split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())]);
        CallbackCaller { person: person.map(|(tenant, user)| (tenant, user, SessionId::new())), headers }
    }

    pub async fn connect_as(&self, tenant: TenantId, user: UserId, target: GrantTarget) -> CallbackOutcome {
        let started = self.start(tenant, user, target).await;
        let (key, query) = self.consent_at_issuer(&started).await;
        self.oauth.callback(&key, &query, self.browser(&started, Some((tenant, user)))).await
    }

    /// Ana connects.
    pub async fn connect(&self) -> ConnectionId {
        let finished = self.connect_as(self.tenant, self.ana, self.target).await;
        let CallbackOutcome::Return { to, .. } = &finished else { panic!("{finished:?}") };
        assert_eq!(query_of(to)["status"], "connected", "{to}");
        query_of(to)["connection"].parse().unwrap()
    }

    pub async fn connection(&self) -> Option<Connection> {
        let mut tx = self.db.read(self.tenant).await.unwrap();
        self.oauth.connection(&mut tx, self.ana, self.target).await.unwrap()
    }

    pub async fn token(&self) -> Result<AccessToken, Error> {
        self.token_by(&self.oauth).await
    }

    pub async fn token_by(&self, oauth: &Oauth) -> Result<AccessToken, Error> {
        oauth.access_token(access_token_query(self.tenant, self.ana, self.target, &use_of(self.ana))).await
    }

    pub async fn token_after_refusal(&self, version: i64) -> Result<AccessToken, Error> {
        let context = use_of(self.ana);
        let request = access_token_query(self.tenant, self.ana, self.target, &context);
        self.oauth.access_token_after_refusal(request, version).await
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Runs the jobs that are due, as the worker would, until none is.
    pub async fn run_jobs(&self) -> Vec<Result<(), Error>> {
        let mut results = Vec::new();
        loop {
            let now = self.clock.now();
            let jobs = thinkwork_database::jobs::claim(
                &self.db,
                thinkwork_database::jobs::Lane::Background,
                now,
                Duration::from_secs(60),
                10,
            )
            .await
            .unwrap();
            if jobs.is_empty() {
                return results;
            }
            for job in jobs {
                let oauth = &self.oauth;
                let tenant = job.tenant;
                let result = match job.kind.as_str() {
                    RevokeTokens::NAME => oauth.revoke_ended(tenant, job.payload::<RevokeTokens>().unwrap()).await,
                    ExpireFlow::NAME => oauth.expire_flow(tenant, job.payload::<ExpireFlow>().unwrap()).await,
                    EndUserConnections::NAME => {
                        oauth.end_user_connections(tenant, job.payload::<EndUserConnections>().unwrap()).await
                    }
                    other => panic!("no job of OAuth: {other}"),
                };
                match &result {
                    Ok(()) => thinkwork_database::jobs::complete(&self.db, &job).await.unwrap(),
                    Err(error) => {
                        thinkwork_database::jobs::mark_as_failed(
                            &self.db,
                            &job,
                            App::tries(&job),
                            now,
                            &error.to_string(),
                        )
                        .await
                        .unwrap();
                    }
                }
                results.push(result);
            }
        }
    }
}

pub async fn register(db: &Db, oauth: &Oauth, tenant: TenantId, client: ClientSettings) -> Result<(), Error> {
    let made = oauth.prepare_registration(tenant, client, &by()).await?;
    let mut tx = db.write(tenant).await.unwrap();
    oauth.store_registration(&mut tx, made, &by()).await?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn open(url: &str) -> Db {
    let options = Options {
        url: url.to_owned(),
        migration_url: crate::harness::migration_url(url),
        connections_max: 6,
        subscribers: thinkwork::app::subscribers,
    };
    Db::open(&options).await.unwrap()
}

fn slices(db: &Db, clock: &Clock, vault: &Vault) -> (Access, Credentials, Oauth) {
    let db = &db.clone().with_record_key(vault.record_key());
    let credentials = Credentials::new(db.clone(), clock.clone(), vault.clone());
    let outbound = Outbound::new(Policy { allow_loopback: true, ..Policy::default() }).unwrap();
    let public_url = url::Url::parse("https://work.acme.test").unwrap();
    let refreshes = Metrics::new().unwrap().refreshes;
    let access = Access::new(db.clone(), clock.clone(), public_url.clone());
    let oauth =
        Oauth::new(db.clone(), clock.clone(), access.clone(), credentials.clone(), outbound, public_url, refreshes);
    (access, credentials, oauth)
}
