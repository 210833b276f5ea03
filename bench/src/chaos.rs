//! Fault injection under load: whatever was answered with 202 is applied once, and in the order of its correlation key.
//!
//! On SQLite one process serves; on PostgreSQL there are two web processes and two workers. Each sender sends one event
//! after the other under a correlation key of its own, and repeats it with the same id until it is accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use thinkwork_database::{Db, intake_log, jobs};
use thinkwork_primitives::{Clock, TenantId, crypto};
use tokio::process::ChildStderr;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::load::Sender;
use crate::wait::until;

const SENDERS: usize = 12;
/// Events that are accepted before a fault, and again after it.
const EVENTS_EACH_SIDE: u64 = 120;
const RATE_LIMIT_MAX: u32 = 6_000_000;
/// How often a sender sends an event that was not accepted.
const RESEND_EVERY: Duration = Duration::from_millis(50);
/// How long a sender waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What fails in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of the process with this index, and a restart.
    Kill(usize),
    /// SIGTERM of it, and a restart.
    Terminate(usize),
    /// The pipe of its log is closed.
    LogClosed(usize),
    /// The database refuses connections until every process says that it is not ready.
    DatabaseUnavailable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(number) => write!(f, "SIGKILL of process {number}"),
            Self::Terminate(number) => write!(f, "SIGTERM of process {number}"),
            Self::LogClosed(number) => write!(f, "log of process {number} closed"),
            Self::DatabaseUnavailable => f.write_str("database unavailable"),
        }
    }
}

/// Runs so many rounds and checks after each.
pub(crate) async fn intake(binary: &Path, folder: &Path, engine: &Engine, rounds: usize) -> Result<(), Failure> {
    let deployment = Deployment::make(binary, folder, engine, "chaos").await?;
    let (tenant, path, secret) = webhook(&deployment).await?;
    let (roles, faults): (&[&'static str], &[Fault]) = match engine {
        Engine::Sqlite => (&["web,worker"], &[Fault::Kill(0), Fault::Terminate(0), Fault::LogClosed(0)]),
        Engine::Postgres(_) => (
            &["web", "web", "worker", "worker"],
            &[
                Fault::Kill(0),
                Fault::Kill(2),
                Fault::DatabaseUnavailable,
                Fault::Terminate(1),
                Fault::LogClosed(3),
                Fault::Terminate(3),
            ],
        ),
    };
    let mut processes = Vec::new();
    for role in roles {
        processes.push(ServerProcess::start(&deployment, role).await?);
    }
    let mut load = Load::new(&secret, path)?;
    let mut slowest = BTreeMap::new();
    for (round, fault) in faults.iter().cycle().take(rounds).enumerate() {
        let web = processes.iter().filter(|process| process.role.contains("web"));
        load.begin(web.map(|process| process.server.base.clone()).collect())?;
        load.more_accepted(EVENTS_EACH_SIDE).await?;
        let failed_at = Instant::now();
        inject(*fault, &deployment, engine, &mut processes, &load).await?;
        load.more_accepted(EVENTS_EACH_SIDE).await?;
        load.end().await?;
        let db = deployment.database.open().await?;
        until("every event is applied and every turn has ended", async || {
            Ok(intake_log::oldest(&db).await?.is_none() && jobs::due(&db, Clock::system().now()).await? == 0)
        })
        .await?;
        let took = failed_at.elapsed();
        check(&db, tenant, &load).await?;
        db.close().await;
        slowest
            .entry(fault.to_string())
            .and_modify(|slowest: &mut Duration| *slowest = took.max(*slowest))
            .or_insert(took);
        println!(
            "round {}: {fault}, {} events accepted so far, all applied once after {took:.1?}",
            round + 1,
            load.accepted.iter().sum::<u64>()
        );
    }
    for process in &mut processes {
        process.server.process.terminate()?;
    }
    for (fault, took) in slowest {
        println!("{fault}: all applied after {took:.1?} at most");
    }
    deployment.verify()
}

/// A tenant with a webhook: its address and its secret.
async fn webhook(deployment: &Deployment) -> Result<(TenantId, String, String), Failure> {
    let server = deployment.serve("web").await?;
    let body = json!({
        "name": "chaos",
        "space_id": server.space("chaos").await?,
        "verification": { "scheme": "standard_webhooks" },
        "correlation": { "pointer": "/sender" },
        "rate_limit_per_minute": RATE_LIMIT_MAX,
    });
    let created = server.ask(Method::POST, "/v1/webhooks", body).await?;
    let me = server.ask(Method::GET, "/v1/me", Value::Null).await?;
    let tenant = text(me.get("tenant").unwrap_or(&Value::Null), "id")?.parse()?;
    server.process.stop()?;
    Ok((tenant, format!("/hooks/{}", text(&created, "id")?), text(&created, "secret")?))
}

/// A process of the deployment, and the reader of its log.
struct ServerProcess {
    role: &'static str,
    server: Server,
    log: JoinSet<()>,
}

impl ServerProcess {
    async fn start(deployment: &Deployment, role: &'static str) -> Result<Self, Failure> {
        let mut server = deployment.start(role, "info", Stdio::piped())?;
        let log = server.process.log().ok_or("the server has no log")?;
        let mut log = ChildStderr::from_std(log)?;
        let mut reader = JoinSet::new();
        reader.spawn(async move { drop(tokio::io::copy(&mut log, &mut tokio::io::sink()).await) });
        server.wait_ready().await?;
        Ok(Self { role, server, log: reader })
    }
}

async fn inject(
    fault: Fault,
    deployment: &Deployment,
    engine: &Engine,
    processes: &mut [ServerProcess],
    load: &Load,
) -> Result<(), Failure> {
    let number = match fault {
        Fault::DatabaseUnavailable => {
            let admin = deployment.database.block(engine).await?;
            for process in processes.iter() {
                process.server.wait_not_ready().await?;
            }
            return deployment.database.unblock(admin).await;
        }
        Fault::Kill(number) | Fault::Terminate(number) | Fault::LogClosed(number) => number,
    };
    let process = processes.get_mut(number).ok_or("there is no such process")?;
    match fault {
        Fault::LogClosed(_) => {
            process.log.abort_all();
            return Ok(());
        }
        Fault::Kill(_) => process.server.process.kill()?,
        _ => process.server.process.terminate()?,
    }
    let before = std::mem::take(&mut process.server.base);
    *process = ServerProcess::start(deployment, process.role).await?;
    load.replace_base(&before, &process.server.base);
    Ok(())
}

/// Fails where an accepted event is missing, applied twice, or applied before an earlier one of its sender.
async fn check(db: &Db, tenant: TenantId, load: &Load) -> Result<(), Failure> {
    let tx = db.read(tenant).await?;
    let placeholder = if db.engine() == thinkwork_database::Engine::Sqlite { "?" } else { "$1" };
    let sql = format!(
        "SELECT text FROM message WHERE \"tenant_id\" = {placeholder} AND source_event_id IS NOT NULL \
         ORDER BY thread_id, sequence"
    );
    let select = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, [tenant.uuid().into()]);
    let mut applied: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for row in tx.orm().query_all_raw(select).await? {
        let message: String = row.try_get_by_index(0)?;
        let label = message.split_once("chaos-").and_then(|(_, rest)| rest.split_once(';')).map(|(label, _)| label);
        let numbers = label.and_then(|label| label.split_once('-'));
        let (sender, number) = numbers.ok_or_else(|| format!("a message is not of this run: {message}"))?;
        applied.entry(sender.parse()?).or_default().push(number.parse()?);
    }
    for (sender, accepted) in load.accepted.iter().copied().enumerate() {
        let found = applied.remove(&sender).unwrap_or_default();
        let expected: Vec<u64> = (0..accepted).collect();
        if found != expected {
            return Err(format!("sender {sender}: {accepted} events were accepted, and applied were {found:?}").into());
        }
    }
    Ok(())
}

/// The senders of one run.
struct Load {
    signer: Arc<Sender>,
    run: String,
    path: String,
    /// Where the web processes are reached.
    bases: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    /// How many events of each sender were accepted in the rounds before.
    accepted: Vec<u64>,
    /// How many events were accepted in all.
    accepted_in_all: Arc<AtomicU64>,
    senders: JoinSet<Result<(usize, u64), Failure>>,
}

impl Load {
    fn new(secret: &str, path: String) -> Result<Self, Failure> {
        Ok(Self {
            signer: Sender::new(secret)?,
            run: crypto::hex(&crypto::random::<8>()?),
            path,
            bases: Arc::default(),
            is_over: Arc::default(),
            accepted: vec![0; SENDERS],
            accepted_in_all: Arc::default(),
            senders: JoinSet::new(),
        })
    }

    fn begin(&mut self, bases: Vec<String>) -> Result<(), Failure> {
        *self.bases.lock().unwrap_or_else(PoisonError::into_inner) = bases;
        self.is_over = Arc::default();
        for (number, first) in self.accepted.iter().copied().enumerate() {
            let sender = EventSender {
                signer: Arc::clone(&self.signer),
                client: Client::builder().no_proxy().timeout(RESPONSE_TIMEOUT).build()?,
                run: self.run.clone(),
                path: self.path.clone(),
                bases: Arc::clone(&self.bases),
                is_over: Arc::clone(&self.is_over),
                accepted_in_all: Arc::clone(&self.accepted_in_all),
                number,
            };
            self.senders.spawn(sender.run(first));
        }
        Ok(())
    }

    /// Waits until so many more events are accepted.
    async fn more_accepted(&self, count: u64) -> Result<(), Failure> {
        let wanted = self.accepted_in_all.load(Ordering::Acquire).saturating_add(count);
        until("events are accepted", async || Ok(self.accepted_in_all.load(Ordering::Acquire) >= wanted)).await
    }

    /// Replaces the address of a process that was restarted.
    fn replace_base(&self, before: &str, now: &str) {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        for base in bases.iter_mut().filter(|base| *base == before) {
            now.clone_into(base);
        }
    }

    /// Lets each sender send its present event until it is accepted, and ends them.
    async fn end(&mut self) -> Result<(), Failure> {
        self.is_over.store(true, Ordering::Release);
        while let Some(ended) = self.senders.join_next().await {
            let (number, accepted) = ended??;
            *self.accepted.get_mut(number).ok_or("there is no such sender")? = accepted;
        }
        Ok(())
    }
}

/// Sends events under one correlation key, one after the other.
struct EventSender {
    signer: Arc<Sender>,
    client: Client,
    run: String,
    path: String,
    bases: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    accepted_in_all: Arc<AtomicU64>,
    number: usize,
}

impl EventSender {
    /// Sends events from this number on until the load is over. Returns its own number and how many events were accepted.
    async fn run(self, first: u64) -> Result<(usize, u64), Failure> {
        let mut event = first;
        let mut attempts = tokio::time::interval(RESEND_EVERY);
        attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over.load(Ordering::Acquire) {
            let mut attempt = 0;
            attempts.reset_immediately();
            attempts.tick().await;
            while !self.is_accepted(event, attempt).await? {
                attempts.tick().await;
                attempt += 1;
            }
            self.accepted_in_all.fetch_add(1, Ordering::AcqRel);
            event += 1;
        }
        Ok((self.number, event))
    }

    /// Sends an event. Whether it was accepted, now or by an earlier attempt.
    async fn is_accepted(&self, event: u64, attempt: usize) -> Result<bool, Failure> {
        let Self { run, number, path, .. } = self;
        let base = {
            let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
            let next = number.wrapping_add(attempt).checked_rem(bases.len()).and_then(|next| bases.get(next));
            next.cloned().ok_or("there is no web process")?
        };
        let body = json!({ "sender": number, "label": format!("chaos-{number}-{event};") }).to_string();
        let request = self.client.post(format!("{base}{path}"));
        match self.signer.sign(request, &format!("msg_{run}_{number}_{event}"), body).send().await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => Ok(true),
            Ok(answer) if answer.status().is_server_error() => Ok(false),
            Ok(answer) => Err(format!("an event was answered {}", answer.status()).into()),
            Err(_) => Ok(false),
        }
    }
}
