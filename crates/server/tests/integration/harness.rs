//! A server in this process on a real port, over a fresh database, and clients that speak to it as a person, a token
//! or nobody would.
//!
//! `THINKWORK_TEST_DATABASE=postgres` with `THINKWORK_TEST_POSTGRES_URL=postgres://user@host/postgres`, which names a
//! superuser, makes a fresh PostgreSQL database for each test; otherwise it is a fresh SQLite file.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thinkwork::app::App;
use thinkwork::config;
use thinkwork::connections::{ConnectionLimits, Server};
use thinkwork::worker;
use thinkwork_database::Tx;
use thinkwork_primitives::{Clock, Role, TenantId, UserId};
use tokio::net::TcpListener;

/// Longest a test waits for one answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running server.
pub struct TestApp {
    pub app: Arc<App>,
    pub clock: Clock,
    pub tenant: TenantId,
    pub owner: UserId,
    pub address: SocketAddr,
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    server: tokio::task::JoinHandle<()>,
}

/// What the database was asked for.
pub struct Work {
    pub statements: f64,
    /// Writing transactions.
    pub writes: f64,
}

/// The role that serves in tests.
const SERVING_ROLE: &str = "thinkwork_serving";

/// The URL of a fresh database of the engine that this run is on, on PostgreSQL of the role that serves.
pub async fn fresh_database(folder: &std::path::Path) -> String {
    if std::env::var("THINKWORK_TEST_DATABASE").as_deref() != Ok("postgres") {
        return format!("sqlite:{}", folder.join("thinkwork.db").display());
    }
    use sea_orm::ConnectionTrait as _;
    let url = std::env::var("THINKWORK_TEST_POSTGRES_URL").expect("THINKWORK_TEST_POSTGRES_URL names the server");
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    let server = sea_orm::Database::connect(&url).await.unwrap();
    let make_role = format!(
        "DO $$ BEGIN CREATE ROLE {SERVING_ROLE} LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    server.execute_unprepared(&make_role).await.unwrap();
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    server.close().await.unwrap();
    let mut url = url::Url::parse(&url).unwrap();
    url.set_path(&name);
    url.set_username(SERVING_ROLE).unwrap();
    url.to_string()
}

/// The same database as whoever owns it sees it, who sees the rows of every tenant.
pub fn owner_url(database_url: &str) -> String {
    let Some(url) = migration_url(database_url) else { return database_url.replace("sqlite:", "sqlite://") };
    url
}

/// The URL for migrations of a database of tests; none on SQLite.
pub fn migration_url(database_url: &str) -> Option<String> {
    if database_url.starts_with("sqlite:") {
        return None;
    }
    let server = std::env::var("THINKWORK_TEST_POSTGRES_URL").expect("THINKWORK_TEST_POSTGRES_URL names the server");
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(url::Url::parse(database_url).unwrap().path());
    Some(url.to_string())
}

/// What is done by hand to the rows of the transaction's tenant, which it names as slices have to.
pub async fn execute_sql(tx: &Tx, sql: &str) -> Result<sea_orm::ExecResult, sea_orm::DbErr> {
    use sea_orm::ConnectionTrait as _;
    tx.orm().execute_raw(of_tenant(tx, sql)).await
}

/// This statement for the rows of the transaction's tenant.
pub fn of_tenant(tx: &Tx, sql: &str) -> sea_orm::Statement {
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
    let backend = tx.orm().get_database_backend();
    let more = if sql.contains(" WHERE ") { "AND" } else { "WHERE" };
    let mark = if backend == DbBackend::Sqlite { "?" } else { "$1" };
    let sql = format!("{sql} {more} \"tenant_id\" = {mark}");
    Statement::from_sql_and_values(backend, sql, [tx.tenant().uuid().into()])
}

/// Waits until somebody waits for a row of this PostgreSQL database. On SQLite writers wait outside of it, and it makes
/// no difference when they come.
pub async fn until_blocked(database_url: &str) {
    if !database_url.starts_with("postgres") {
        return;
    }
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
    let database = sea_orm::Database::connect(owner_url(database_url)).await.unwrap();
    let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let looking = async {
        while database.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().is_empty() {}
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("nobody waits for a row");
    database.close().await.unwrap();
}

impl TestApp {
    /// A server with the tenant `acme` and its owner. The worker does not run: call [`TestApp::run_pending_jobs`].
    pub async fn new() -> Self {
        Self::with_settings(&[]).await
    }

    /// The same behind proxies in these networks.
    pub async fn behind(trusted_proxies: &str) -> Self {
        Self::with_settings(&[("trusted_proxies", trusted_proxies)]).await
    }

    /// The same with these settings.
    pub async fn with_settings(settings: &[(&'static str, &str)]) -> Self {
        thinkwork_outbound::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let database_url = fresh_database(folder.path()).await;
        let settings = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Self::over(folder, database_url, settings).await
    }

    /// Moves time to the begin of a window of so many seconds, so that what follows is counted in one.
    pub fn begin_window(&self, seconds: i64) {
        let left = seconds - self.clock.now().seconds().rem_euclid(seconds);
        self.clock.advance(Duration::from_secs(left.unsigned_abs()));
    }

    async fn over(folder: TempDir, database_url: String, settings: Vec<(&'static str, String)>) -> Self {
        let clock = Clock::system();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = build(&folder, &database_url, address, &clock, &settings).await;
        let made = app.access.tenant_create("acme", "Acme", "owner@acme.test", "Olivia").await.unwrap();
        let routes = thinkwork::router::router(&app);
        let limits = ConnectionLimits::new(&app.config);
        let server = Server::new(routes, limits, app.metrics.connections.clone(), app.shutdown.clone());
        let accepting = async move { server.accept(&listener, std::future::pending(), Duration::ZERO).await };
        let server = tokio::spawn(accepting);
        Self { app, clock, tenant: made.tenant, owner: made.owner, address, folder, settings, server }
    }

    /// The slices.
    pub fn slices(&self) -> &App {
        &self.app
    }

    /// Another process's view of the same database: a second App over it, without a listener.
    pub async fn second(&self) -> Arc<App> {
        build(&self.folder, &self.app.config.database_url, self.address, &self.clock, &self.settings).await
    }

    /// The same, serving at an address of its own until the test ends. Its clients name the host of the first.
    pub async fn second_at(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = thinkwork::router::router(&self.second().await);
        tokio::spawn(async move {
            axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        base
    }

    /// The address with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Applies accepted events and runs jobs until nothing is due.
    pub async fn run_pending_jobs(&self) {
        worker::run_until_idle(&self.app).await;
    }

    /// The same, and how many statements and how many writing transactions it took.
    pub async fn run_pending_jobs_counted(&self) -> Work {
        let before = self.work_so_far();
        self.run_pending_jobs().await;
        let after = self.work_so_far();
        Work { statements: after.statements - before.statements, writes: after.writes - before.writes }
    }

    /// What the database was asked for since the start.
    pub fn work_so_far(&self) -> Work {
        let text = self.app.metrics.text().unwrap();
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
        };
        Work {
            statements: sum("thinkwork_database_statements_total"),
            writes: sum("thinkwork_database_transaction_duration_seconds_count{access=\"write\"}"),
        }
    }

    /// Somebody without any proof.
    pub fn anonymous(&self) -> Client {
        Client::at(self.url(""))
    }

    /// The owner in a browser session.
    pub async fn owner(&self) -> Client {
        self.session_of(self.owner).await
    }

    /// A fresh operator in a browser session.
    pub async fn operator(&self) -> Client {
        let user = self.user("operator", Role::Operator).await;
        self.session_of(user).await
    }

    /// A fresh member in a browser session.
    pub async fn member(&self, name: &str) -> Client {
        let user = self.user(name, Role::Member).await;
        self.session_of(user).await
    }

    /// A fresh person of the tenant, e-mail `<name>@acme.test`.
    pub async fn user(&self, name: &str, role: Role) -> UserId {
        let email = format!("{name}@acme.test");
        self.app.access.user_create(self.tenant, self.owner, &email, name, role).await.unwrap()
    }

    /// A person's browser session.
    pub async fn session_of(&self, user: UserId) -> Client {
        self.session_in(self.tenant, user).await
    }

    /// A browser session of anybody in any tenant.
    pub async fn session_in(&self, tenant: TenantId, user: UserId) -> Client {
        let session = self.app.access.session_create(tenant, user, "tests").await.unwrap();
        let mut client = self.anonymous();
        client.cookie = Some(format!("__Host-tw_session={}", session.cookie.expose_str().unwrap()));
        client.csrf = Some(session.csrf);
        client.user = Some(user);
        client
    }

    /// Somebody with this bearer.
    pub fn bearer(&self, token: &str) -> Client {
        let mut client = self.anonymous();
        client.bearer = Some(token.to_owned());
        client
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn build(
    folder: &TempDir,
    database_url: &str,
    address: SocketAddr,
    clock: &Clock,
    settings: &[(&'static str, String)],
) -> Arc<App> {
    let mut flags = vec![
        // All clients of a test have one address, and a test makes the requests of an hour in a moment.
        ("token_rate_limit_per_minute", "20000".to_owned()),
        ("person_rate_limit_per_minute", "20000".to_owned()),
        ("address_rate_limit_per_minute", "20000".to_owned()),
        ("listen", address.to_string()),
        ("data_dir", folder.path().join("data").display().to_string()),
        ("key_file", folder.path().join("key").display().to_string()),
        ("database_url", database_url.to_owned()),
        ("database_migration_url", migration_url(database_url).unwrap_or_default()),
        ("database_connections_max", "6".to_owned()),
        ("outbound.allow_loopback", "true".to_owned()),
    ];
    flags.extend(settings.iter().cloned());
    App::build(config::load(None, &[], &flags).unwrap(), clock.clone()).await.unwrap()
}

/// A client of the server: nobody, a session or a bearer.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    pub cookie: Option<String>,
    pub csrf: Option<String>,
    pub bearer: Option<String>,
    pub user: Option<UserId>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// The body as JSON, or null.
    pub json: Value,
}

impl Response {
    /// A header as text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The error's code.
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or("")
    }

    /// A text field of the body.
    pub fn text_of(&self, name: &str) -> String {
        self.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.text)).to_owned()
    }

    /// Fails, showing the answer, unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Client {
    /// Somebody without any proof at the server of this origin.
    pub fn at(base: String) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self { base, http, cookie: None, csrf: None, bearer: None, user: None }
    }

    /// A request with this client's proof; add to it, then [`Client::send`].
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(csrf) = &self.csrf {
            request = request.header("x-csrf-token", csrf);
        }
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        request
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Response {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Response { status, headers, text, json }
    }

    /// The same where the answer may be a stream of events, which goes on: of one, the status and headers alone.
    pub async fn send_for_stream(&self, request: reqwest::RequestBuilder) -> Response {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let is_stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if is_stream { String::new() } else { response.text().await.unwrap() };
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Response { status, headers, text, json }
    }

    /// The status, or nothing where nobody answers.
    pub async fn try_get(&self, path: &str) -> Option<u16> {
        self.request("GET", path).send().await.ok().map(|response| response.status().as_u16())
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(self.request("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.send(self.request("DELETE", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.with_json("POST", path, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Response {
        self.with_json("PATCH", path, body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Response {
        self.with_json("PUT", path, body).await
    }

    pub async fn with_json(&self, method: &str, path: &str, body: Value) -> Response {
        let request = self.request(method, path).header("content-type", "application/json");
        self.send(request.body(body.to_string())).await
    }

    /// Sends a form as one of our pages would, with the session's CSRF token.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.append_pair("csrf", self.csrf.as_deref().unwrap_or(""));
        body.extend_pairs(fields);
        let request = self.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(body.finish())).await
    }

    /// Sends a form and goes where its answer leads, as a browser does.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let answer = self.form(path, fields).await.expect(303);
        self.with_flash(&answer).get(answer.header("location")).await
    }

    /// This client with the flash cookie that an answer sets.
    pub fn with_flash(&self, answer: &Response) -> Self {
        let set = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
        let flash = set.into_iter().find(|cookie| cookie.starts_with("__Host-tw_flash=")).expect("no flash cookie");
        let session = self.cookie.as_deref().unwrap_or_default();
        Self { cookie: Some(format!("{session}; {}", flash.split(';').next().unwrap())), ..self.clone() }
    }
}

/// The body that approves a server as it is shown, with all its tools; `effects` by tool name.
pub fn approval(shown: &Value, effects: &Value) -> Value {
    let mut tools = json!({});
    for tool in shown["tools"].as_array().into_iter().flatten().filter(|tool| tool["gone"] != true) {
        let name = tool["name"].as_str().unwrap();
        let mut choice = if effects[name].is_object() { effects[name].clone() } else { json!({}) };
        choice["definition_hash"] = tool["definition_hash"].clone();
        tools[name] = choice;
    }
    json!({ "definition_hash": shown["definition_hash"], "tools": tools })
}
