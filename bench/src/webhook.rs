//! How fast signed events are accepted, durably, and how fast they are worked on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use thinkwork_database::{Db, intake_log, jobs};
use thinkwork_primitives::Clock;

use crate::deployment::{Deployment, Server, text};
use crate::engine::Engine;
use crate::load::{Sender, Until};
use crate::process::Process;
use crate::wait::until;
use crate::{Failure, figure, median};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
/// Events that are sent while the worker runs.
const DRAINED: u64 = 5_000;
/// Events that are there already.
const DRAINED_BEFORE: u64 = 2_000;
pub(crate) const DRAIN_CONNECTIONS: usize = 64;
const RATE_LIMIT_MAX: u32 = 6_000_000;

/// A webhook of the server: its address there and its secret.
pub(crate) async fn webhook(server: &Server) -> Result<(String, String), Failure> {
    let body = json!({
        "name": "bench",
        "space_id": server.space("bench").await?,
        "verification": { "scheme": "standard_webhooks" },
        "rate_limit_per_minute": RATE_LIMIT_MAX,
    });
    let made = server.ask(Method::POST, "/v1/webhooks", body).await?;
    Ok((format!("/hooks/{}", text(&made, "id")?), text(&made, "secret")?))
}

/// Accepted events against the same requests at a bare handler, in turns; nothing works on them meanwhile.
pub(crate) async fn acceptance(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    let server = Deployment::make(binary, folder, engine, "acceptance").await?.serve("web").await?;
    let (path, secret) = webhook(&server).await?;
    let sender = Sender::new(&secret)?;
    for connections in [64, 256] {
        accepted_beside_bare(&server, &path, &sender, connections).await?;
    }
    server.process.stop()
}

async fn accepted_beside_bare(
    server: &Server,
    path: &str,
    sender: &Arc<Sender>,
    connections: usize,
) -> Result<(), Failure> {
    let (bare, bare_base) = Process::peer("bare")?;
    let ours = format!("{}{path}", server.base);
    let theirs = format!("{bare_base}{path}");
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    let mut bare_rates = Vec::new();
    let mut cost_ratios = Vec::new();
    for url in [&ours, &theirs] {
        sender.send(url, connections, Until::Elapsed(WARM_UP)).await?;
    }
    for _ in 0..ROUNDS {
        let before = (server.process.processor_time()?, bare.processor_time()?);
        let accepted = sender.send(&ours, connections, Until::Elapsed(ROUND)).await?;
        let read = sender.send(&theirs, connections, Until::Elapsed(ROUND)).await?;
        let spent = server.process.processor_time()?.saturating_sub(before.0).as_secs_f64() / accepted.events;
        let bare_spent = bare.processor_time()?.saturating_sub(before.1).as_secs_f64() / read.events;
        ratios.push(accepted.per_second() / read.per_second());
        rates.push(accepted.per_second());
        bare_rates.push(read.per_second());
        cost_ratios.push(spent / bare_spent);
    }
    figure(&format!("webhook_ratio_{connections}"), median(ratios)?);
    figure(&format!("webhook_accepted_per_second_{connections}"), median(rates)?);
    figure(&format!("bare_per_second_{connections}"), median(bare_rates)?);
    figure(&format!("webhook_processor_time_ratio_{connections}"), median(cost_ratios)?);
    Ok(())
}

/// The same with the worker on: how fast events are accepted, and how fast all are applied and their turns have ended.
pub(crate) async fn drain(binary: &Path, folder: &Path, engine: &Engine) -> Result<(), Failure> {
    let deployment = Deployment::make(binary, folder, engine, "drain").await?;
    let server = deployment.serve("web,worker").await?;
    let (path, secret) = webhook(&server).await?;
    let url = format!("{}{path}", server.base);
    let sender = Sender::new(&secret)?;
    // The server keeps what it says of itself for a second, so the database is asked.
    let db = deployment.database.open().await?;
    sender.send(&url, DRAIN_CONNECTIONS, Until::Sent(DRAINED_BEFORE)).await?;
    turns_ended(&db).await?;
    // PostgreSQL plans by what it has counted: nothing, in a fresh database.
    deployment.database.vacuum().await?;
    let began = Instant::now();
    let accepted = sender.send(&url, DRAIN_CONNECTIONS, Until::Sent(DRAINED)).await?;
    figure("webhook_accepted_with_worker_per_second", accepted.per_second());
    events_applied(&db).await?;
    figure("webhook_applied_per_second", accepted.events / began.elapsed().as_secs_f64());
    turns_ended(&db).await?;
    figure("webhook_turns_ended_per_second", accepted.events / began.elapsed().as_secs_f64());
    db.close().await;
    server.process.stop()
}

/// Waits until every accepted event is applied.
async fn events_applied(db: &Db) -> Result<(), Failure> {
    until("every event is applied", async || Ok(intake_log::oldest(db).await?.is_none())).await
}

/// The same until their turns have ended, each of which is a job.
pub(crate) async fn turns_ended(db: &Db) -> Result<(), Failure> {
    events_applied(db).await?;
    until("every turn has ended", async || Ok(jobs::due(db, Clock::system().now()).await? == 0)).await
}
