//! A fresh deployment of the release binary, and its owner in a browser session.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use thinkwork_primitives::crypto;

use crate::Failure;
use crate::engine::{Database, Engine};
use crate::process::Process;
use crate::wait::until;

const OWNER_EMAIL: &str = "owner@bench.test";

/// A data folder with a tenant and its owner.
pub(crate) struct Deployment {
    binary: PathBuf,
    data: PathBuf,
    pub(crate) database: Database,
    password: String,
}

impl Deployment {
    /// Made by `thinkwork setup`, with a fresh database.
    pub(crate) async fn make(binary: &Path, folder: &Path, engine: &Engine, name: &str) -> Result<Self, Failure> {
        let password = crypto::hex(&crypto::random::<16>()?);
        let data = folder.join(name);
        let database = engine.database(name, &data).await?;
        let deployment = Self { binary: binary.to_owned(), data, database, password };
        let mut setup = deployment.command(&["setup", "--tenant", "bench", "--owner-email", OWNER_EMAIL, "--json"]);
        let mut child = setup.arg("--owner-password-stdin").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().ok_or("setup has no input")?.write_all(deployment.password.as_bytes())?;
        let status = child.wait()?;
        if status.success() { Ok(deployment) } else { Err(format!("`thinkwork setup`: {status}").into()) }
    }

    /// Fails unless the record is whole.
    pub(crate) fn verify(&self) -> Result<(), Failure> {
        let status = self.command(&["audit", "verify"]).status()?;
        if status.success() { Ok(()) } else { Err(format!("`thinkwork audit verify`: {status}").into()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data-dir").arg(&self.data).env("THINKWORK_LOG", "error");
        command.env("THINKWORK_DATABASE_URL", &self.database.url);
        command.envs(self.database.migration_url.iter().map(|url| ("THINKWORK_DATABASE_MIGRATION_URL", url)));
        command
    }

    /// `thinkwork serve` in these roles, ready, with the owner signed in and limits that no load meets.
    pub(crate) async fn serve(&self, roles: &str) -> Result<Server, Failure> {
        self.ready(self.start(roles, "error", Stdio::inherit())?).await
    }

    /// The same with the limits that a deployment has.
    pub(crate) async fn serve_with_limits(&self, roles: &str) -> Result<Server, Failure> {
        self.ready(self.start_command(self.command(&["serve", "--roles", roles]), "error", Stdio::inherit())?).await
    }

    async fn ready(&self, mut server: Server) -> Result<Server, Failure> {
        let began = Instant::now();
        server.wait_ready().await?;
        server.started_in = began.elapsed();
        server.sign_in(&self.password).await?;
        Ok(server)
    }

    /// The same, not yet ready, with nobody signed in and the log of this level going there.
    pub(crate) fn start(&self, roles: &str, level: &str, log: Stdio) -> Result<Server, Failure> {
        let mut serve = self.command(&["serve", "--roles", roles]);
        // All of the load comes from one address.
        serve.env("THINKWORK_CONNECTIONS_PER_ADDRESS_MAX", "10000");
        serve.env("THINKWORK_TOKEN_RATE_LIMIT_PER_MINUTE", "1000000");
        serve.env("THINKWORK_PERSON_RATE_LIMIT_PER_MINUTE", "1000000");
        serve.env("THINKWORK_ADDRESS_RATE_LIMIT_PER_MINUTE", "1000000");
        self.start_command(serve, level, log)
    }

    fn start_command(&self, mut serve: Command, level: &str, log: Stdio) -> Result<Server, Failure> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        serve.args(["--listen", &address]).env("THINKWORK_LOG", level).stderr(log);
        serve.env("THINKWORK_OUTBOUND__ALLOW_LOOPBACK", "true").stdout(Stdio::null());
        let process = Process::start(&mut serve)?;
        Ok(Server {
            process,
            client: Client::builder().no_proxy().build()?,
            base: format!("http://{address}"),
            cookie: String::new(),
            csrf: String::new(),
            started_in: Duration::ZERO,
        })
    }
}

/// A running server and its owner.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) client: Client,
    pub(crate) base: String,
    cookie: String,
    csrf: String,
    /// From the start to the first answer that it is ready.
    pub(crate) started_in: Duration,
}

impl Server {
    pub(crate) async fn wait_ready(&self) -> Result<(), Failure> {
        until("`thinkwork serve` is ready", async || {
            let answer = self.client.get(format!("{}/readyz", self.base)).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()))
        })
        .await
    }

    pub(crate) async fn wait_not_ready(&self) -> Result<(), Failure> {
        until("`thinkwork serve` says that it is not ready", async || {
            let answer = self.client.get(format!("{}/readyz", self.base)).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_server_error()))
        })
        .await
    }

    async fn sign_in(&mut self, password: &str) -> Result<(), Failure> {
        let body = json!({ "email": OWNER_EMAIL, "password": password }).to_string();
        let request = self.client.post(format!("{}/v1/sessions", self.base));
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        let cookie = answer.headers().get("set-cookie").and_then(|value| value.to_str().ok());
        self.cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        let session: Value = serde_json::from_slice(&answer.bytes().await?)?;
        self.csrf = text(&session, "csrf_token")?;
        Ok(())
    }

    /// What the owner asks for, as their browser would.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, Failure> {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header("cookie", &self.cookie).header("x-csrf-token", &self.csrf);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&bytes)?);
        }
        Err(format!("{path} was answered {status}: {}", String::from_utf8_lossy(&bytes)).into())
    }

    /// Reads a page or list as the owner.
    pub(crate) async fn read(&self, path: &str) -> Result<Bytes, Failure> {
        let request = self.client.get(format!("{}{path}", self.base)).header("cookie", &self.cookie);
        let answer = request.send().await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("{path} was answered {status}").into());
        }
        Ok(answer.bytes().await?)
    }

    /// A Space that everybody sees; its id.
    pub(crate) async fn space(&self, slug: &str) -> Result<String, Failure> {
        let body = json!({ "slug": slug, "name": slug, "access": "public" });
        text(&self.ask(Method::POST, "/v1/spaces", body).await?, "id")
    }
}

/// A text field of an answer.
pub(crate) fn text(value: &Value, field: &str) -> Result<String, Failure> {
    let found = value.get(field).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("an answer has no {field}: {value}").into())
}
