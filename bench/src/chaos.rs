//! Something breaks while events are sent, round for round: whatever was answered with 202 is applied, once, and in the
//! order of its correlation key.
//!
//! On SQLite one process serves; on PostgreSQL two answer requests and two work. Each lane of the load sends one event
//! after the other under one key, and repeats it with the same id until it is accepted, as senders do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use thinkwork_database::{Db, intake_log, jobs};
use thinkwork_primitives::{Clock, TenantId, crypto};
use tokio::process::ChildStderr;
use tokio::task::JoinSet;

use crate::Failure;
use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::load::Sender;
use crate::wait::until;

const LANES: usize = 12;
/// Load before something breaks, and after.
const LOAD: Duration = Duration::from_millis(400);
const RATE_LIMIT_MAX: u32 = 6_000_000;
/// How long a sender waits before it sends an event again.
const RESEND_PAUSE: Duration = Duration::from_millis(50);
/// How long a sender waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long the database is away.
const AWAY: Duration = Duration::from_secs(1);

/// What breaks in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of the process with this number, and another one in its place.
    Kill(usize),
    /// SIGTERM of it.
    Stop(usize),
    /// Whoever reads its log is gone.
    LogGone(usize),
    /// The database lets nobody in for a second.
    DatabaseAway,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(number) => write!(f, "kill of process {number}"),
            Self::Stop(number) => write!(f, "stop of process {number}"),
            Self::LogGone(number) => write!(f, "log of process {number} gone"),
            Self::DatabaseAway => f.write_str("database away"),
        }
    }
}

/// Runs so many rounds and checks after each.
pub(crate) async fn intake(binary: &Path, folder: &Path, engine: &Engine, rounds: usize) -> Result<(), Failure> {
    let deployment = Deployment::make(binary, folder, engine, "chaos").await?;
    let (tenant, path, secret) = webhook(&deployment).await?;
    let (roles, faults): (&[&'static str], &[Fault]) = match engine {
        Engine::Sqlite => (&["web,worker"], &[Fault::Kill(0), Fault::Stop(0), Fault::LogGone(0)]),
        Engine::Postgres(_) => (
            &["web", "web", "worker", "worker"],
            &[Fault::Kill(0), Fault::Kill(2), Fault::DatabaseAway, Fault::Stop(1), Fault::LogGone(3), Fault::Stop(3)],
        ),
    };
    let mut members = Vec::new();
    for role in roles {
        members.push(Member::start(&deployment, role).await?);
    }
    let mut load = Load::new(&secret, path)?;
    let mut slowest = BTreeMap::new();
    for (round, fault) in faults.iter().cycle().take(rounds).enumerate() {
        let web = members.iter().filter(|member| member.role.contains("web"));
        load.begin(web.map(|member| member.server.base.clone()).collect())?;
        tokio::time::sleep(LOAD).await;
        let broken_at = Instant::now();
        break_something(*fault, &deployment, engine, &mut members, &load).await?;
        tokio::time::sleep(LOAD).await;
        load.end().await?;
        let db = deployment.database.open().await?;
        until("every event is applied and every turn has ended", async || {
            Ok(intake_log::oldest(&db).await?.is_none() && jobs::due(&db, Clock::system().now()).await? == 0)
        })
        .await?;
        let took = broken_at.elapsed();
        check(&db, tenant, &load).await?;
        db.close().await;
        slowest
            .entry(fault.to_string())
            .and_modify(|slowest: &mut Duration| *slowest = took.max(*slowest))
            .or_insert(took);
        println!(
            "round {}: {fault}, {} events accepted so far, all applied once after {took:.1?}",
            round + 1,
            load.accepted()
        );
    }
    for member in &mut members {
        member.server.process.terminate()?;
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
        "correlation": { "pointer": "/lane" },
        "rate_limit_per_minute": RATE_LIMIT_MAX,
    });
    let created = server.ask(Method::POST, "/v1/webhooks", body).await?;
    let me = server.ask(Method::GET, "/v1/me", Value::Null).await?;
    let tenant = text(me.get("tenant").unwrap_or(&Value::Null), "id")?.parse()?;
    server.process.stop()?;
    Ok((tenant, format!("/hooks/{}", text(&created, "id")?), text(&created, "secret")?))
}

/// A process of the deployment, and the reader of its log.
struct Member {
    role: &'static str,
    server: Server,
    log: JoinSet<()>,
}

impl Member {
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

async fn break_something(
    fault: Fault,
    deployment: &Deployment,
    engine: &Engine,
    members: &mut [Member],
    load: &Load,
) -> Result<(), Failure> {
    let number = match fault {
        Fault::DatabaseAway => return deployment.database.be_away(engine, AWAY).await,
        Fault::Kill(number) | Fault::Stop(number) | Fault::LogGone(number) => number,
    };
    let member = members.get_mut(number).ok_or("there is no such process")?;
    match fault {
        Fault::LogGone(_) => {
            member.log.abort_all();
            return Ok(());
        }
        Fault::Kill(_) => member.server.process.kill()?,
        _ => member.server.process.terminate()?,
    }
    let before = std::mem::take(&mut member.server.base);
    *member = Member::start(deployment, member.role).await?;
    load.moved(&before, &member.server.base);
    Ok(())
}

/// Fails where an accepted event is not there, is there twice, or stands before an earlier one of its lane.
async fn check(db: &Db, tenant: TenantId, load: &Load) -> Result<(), Failure> {
    let tx = db.read(tenant).await?;
    let mark = if db.engine() == thinkwork_database::Engine::Sqlite { "?" } else { "$1" };
    let sql = format!(
        "SELECT text FROM message WHERE \"tenant_id\" = {mark} AND source_event_id IS NOT NULL ORDER BY thread_id, sequence"
    );
    let select = Statement::from_sql_and_values(tx.orm().get_database_backend(), sql, [tenant.uuid().into()]);
    let mut applied: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for row in tx.orm().query_all_raw(select).await? {
        let message: String = row.try_get_by_index(0)?;
        let marked = message.split_once("chaos-").and_then(|(_, rest)| rest.split_once(';')).map(|(mark, _)| mark);
        let numbers = marked.and_then(|mark| mark.split_once('-'));
        let (lane, number) = numbers.ok_or_else(|| format!("a message is no event of ours: {message}"))?;
        applied.entry(lane.parse()?).or_default().push(number.parse()?);
    }
    for (lane, sent) in load.sent().into_iter().enumerate() {
        let found = applied.remove(&lane).unwrap_or_default();
        let expected: Vec<u64> = (0..sent).collect();
        if found != expected {
            return Err(format!("lane {lane}: {sent} events were accepted, and applied were {found:?}").into());
        }
    }
    Ok(())
}

/// The lanes of events.
struct Load {
    sender: Arc<Sender>,
    run: String,
    path: String,
    /// Where requests are answered now.
    bases: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    /// How many events of each lane were accepted.
    sent: Vec<u64>,
    lanes: JoinSet<Result<(usize, u64), Failure>>,
}

impl Load {
    fn new(secret: &str, path: String) -> Result<Self, Failure> {
        Ok(Self {
            sender: Sender::new(secret)?,
            run: crypto::hex(&crypto::random::<8>()?),
            path,
            bases: Arc::default(),
            is_over: Arc::default(),
            sent: vec![0; LANES],
            lanes: JoinSet::new(),
        })
    }

    fn begin(&mut self, bases: Vec<String>) -> Result<(), Failure> {
        *self.bases.lock().unwrap_or_else(PoisonError::into_inner) = bases;
        self.is_over = Arc::default();
        for (lane, first) in self.sent.iter().copied().enumerate() {
            let lane = Lane {
                sender: Arc::clone(&self.sender),
                client: Client::builder().no_proxy().timeout(ANSWER_LIMIT).build()?,
                run: self.run.clone(),
                path: self.path.clone(),
                bases: Arc::clone(&self.bases),
                is_over: Arc::clone(&self.is_over),
                lane,
            };
            self.lanes.spawn(lane.send(first));
        }
        Ok(())
    }

    /// Another process answers at another address.
    fn moved(&self, before: &str, now: &str) {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        for base in bases.iter_mut().filter(|base| *base == before) {
            now.clone_into(base);
        }
    }

    /// Lets each lane send its event to the end.
    async fn end(&mut self) -> Result<(), Failure> {
        self.is_over.store(true, Ordering::Release);
        while let Some(ended) = self.lanes.join_next().await {
            let (lane, sent) = ended??;
            *self.sent.get_mut(lane).ok_or("there is no such lane")? = sent;
        }
        Ok(())
    }

    fn sent(&self) -> Vec<u64> {
        self.sent.clone()
    }

    fn accepted(&self) -> u64 {
        self.sent.iter().sum()
    }
}

/// One sender.
struct Lane {
    sender: Arc<Sender>,
    client: Client,
    run: String,
    path: String,
    bases: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    lane: usize,
}

impl Lane {
    /// Sends events from this number on until the load is over; how many there are then.
    async fn send(self, first: u64) -> Result<(usize, u64), Failure> {
        let mut number = first;
        while !self.is_over.load(Ordering::Acquire) {
            let mut attempt = 0;
            while !self.is_accepted(number, attempt).await? {
                attempt += 1;
                tokio::time::sleep(RESEND_PAUSE).await;
            }
            number += 1;
        }
        Ok((self.lane, number))
    }

    /// Whether an event was accepted, now or before.
    async fn is_accepted(&self, number: u64, attempt: usize) -> Result<bool, Failure> {
        let Self { run, lane, path, .. } = self;
        let base = {
            let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
            let next = self.lane.wrapping_add(attempt).checked_rem(bases.len()).and_then(|next| bases.get(next));
            next.cloned().ok_or("nobody answers requests")?
        };
        let body = json!({ "lane": lane, "mark": format!("chaos-{lane}-{number};") }).to_string();
        let request = self.client.post(format!("{base}{path}"));
        match self.sender.sign(request, &format!("msg_{run}_{lane}_{number}"), body).send().await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => Ok(true),
            Ok(answer) if answer.status().is_server_error() => Ok(false),
            Ok(answer) => Err(format!("an event was answered {}", answer.status()).into()),
            Err(_) => Ok(false),
        }
    }
}
