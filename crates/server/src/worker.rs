//! Background work: applies accepted events, runs due jobs, seals the record, sweeps. Supervises and drains.
//!
//! Invariants: what is claimed is leased, and the lease is kept alive while the work lasts; a hint only makes it
//! sooner, a sweep each second finds what hints missed; nothing here outlives [`Worker::drain`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thinkwork_database::jobs::{self, Job, JobType as _, Kinds};
use thinkwork_database::{Topic, WakeUp};
use thinkwork_intake::{Claimed, Event};
use thinkwork_primitives::{Chain, Heartbeat, TenantId};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::access;
use crate::app::{App, JobError};
use crate::audit::{self, Sealer};
use crate::threads::{RunThread, Turn};
use crate::turns::BeginOutcome;
use crate::webhooks;

mod lease;
mod supervise;
mod sweep;

use lease::{JOB_LEASE, with_lease};
pub use supervise::Panicked;
use supervise::{catch_panic, run_supervised};
pub use sweep::sweep;

/// How long between sweeps where no hint comes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often what has ended is forgotten, and how often openings of webhook secrets are recorded.
const MINUTE: Duration = Duration::from_secs(60);
/// Turns of this process at the same time: they mostly wait for others. So many are begun in one transaction.
const CONCURRENT_TURNS_MAX: usize = 64;
/// Other jobs at the same time. They have places of their own, so that long turns hold up no erasure and no refresh.
const CONCURRENT_JOBS_MAX: usize = 8;
/// Events applied in one transaction.
const EVENTS_PER_BATCH: u64 = 64;
// The names under which `/readyz` names the loops.
const EVENTS: &str = "events";
const SEAL: &str = "seal";
const OPENINGS: &str = "openings";

/// Which jobs a loop takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// The turns of threads, begun together.
    Turns,
    Others,
}

impl Queue {
    const fn kinds(self) -> Kinds<'static> {
        match self {
            Self::Turns => Kinds::Only(RunThread::NAME),
            Self::Others => Kinds::AllBut(RunThread::NAME),
        }
    }

    /// The name of the loop that takes them.
    const fn name(self) -> &'static str {
        match self {
            Self::Turns => "turns",
            Self::Others => "jobs",
        }
    }

    const fn running_max(self) -> usize {
        match self {
            Self::Turns => CONCURRENT_TURNS_MAX,
            Self::Others => CONCURRENT_JOBS_MAX,
        }
    }
}

/// The running background work.
pub struct Worker {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    /// Starts the loops: what a process owes for its own requests, and in the role of a worker everything else.
    pub fn start(app: &Arc<App>) -> Self {
        let worker = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        worker.spawn_loop(app, OPENINGS, openings_loop);
        if app.config.worker {
            for queue in [Queue::Turns, Queue::Others] {
                let tasks = worker.tasks.clone();
                worker.spawn_loop(app, queue.name(), move |app, stop| jobs_loop(app, stop, tasks.clone(), queue));
            }
            worker.spawn_loop(app, EVENTS, events_loop);
            worker.spawn_loop(app, SEAL, seal_loop);
            worker.spawn_loop(app, sweep::LOOP, sweep_loop);
        }
        worker
    }

    fn spawn_loop<R: Future<Output = ()> + Send + 'static>(
        &self,
        app: &Arc<App>,
        name: &'static str,
        run: impl Fn(Arc<App>, CancellationToken) -> R + Send + Sync + 'static,
    ) {
        let app = Arc::clone(app);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let begin = || run(Arc::clone(&app), stop.clone());
            let stopping = &stop;
            let pause = |pause| async move { drop(timeout(pause, stopping.cancelled()).await) };
            run_supervised(name, &app.loops.heartbeat(name), begin, pause).await;
        });
    }

    /// Takes on nothing new and waits, at most `patience`, for what runs. What does not end keeps its lease and is
    /// taken up again by the next process.
    pub async fn drain(self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("work is left for the next start");
        }
    }
}

/// Waits for a hint about `topic`, the sweep or the stop. False: stop.
async fn wait_for_work(wake_ups: &mut broadcast::Receiver<WakeUp>, topic: Topic, stop: &CancellationToken) -> bool {
    let about_this = async { while wake_ups.recv().await.is_ok_and(|hint| hint.topic != topic) {} };
    tokio::select! {
        () = stop.cancelled() => false,
        _ = timeout(POLL_INTERVAL, about_this) => true,
    }
}

async fn jobs_loop(app: Arc<App>, stop: CancellationToken, tasks: TaskTracker, queue: Queue) {
    let mut wake_ups = app.db.wake_ups().subscribe();
    let room = Arc::new(Semaphore::new(queue.running_max()));
    loop {
        // Where as many run as may, the end of one is what to wait for.
        tokio::select! {
            () = stop.cancelled() => return,
            permit = room.acquire() => drop(permit),
        }
        let begun = begin_jobs(&app, queue, u64::try_from(room.available_permits()).unwrap_or(1)).await;
        let any = begun.is_some();
        for (job, turn) in begun.into_iter().flatten() {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let app = Arc::clone(&app);
            tasks.spawn(async move {
                run_job(&app, job, turn).await;
                drop(permit);
            });
        }
        if stop.is_cancelled() || (!any && !wait_for_work(&mut wake_ups, Topic::Job, &stop).await) {
            return;
        }
    }
}

/// Claims due jobs and begins those that are turns. Returns what is to go on; nothing where none is due.
async fn begin_jobs(app: &App, queue: Queue, count: u64) -> Option<Vec<(Job, Option<Turn>)>> {
    let heartbeat = app.loops.heartbeat(queue.name());
    heartbeat.step();
    let claimed = match jobs::claim_of(&app.db, queue.kinds(), app.clock.steady(), JOB_LEASE, count).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "jobs cannot be claimed; trying again");
            heartbeat.failed();
            return None;
        }
    };
    let any = !claimed.is_empty();
    let to_run = match queue {
        Queue::Turns => begin_turns(app, claimed, &heartbeat).await,
        Queue::Others => claimed.into_iter().map(|job| (job, None)).collect(),
    };
    heartbeat.idle();
    any.then_some(to_run)
}

/// Begins the turns of claimed jobs, those of a tenant in one transaction, and returns the jobs that are to go on. Where
/// that fails, each goes on by itself, so that one that fails holds up no other.
async fn begin_turns(app: &App, claimed: Vec<Job>, heartbeat: &Heartbeat) -> Vec<(Job, Option<Turn>)> {
    let mut of_tenant: HashMap<TenantId, Vec<Job>> = HashMap::new();
    for job in claimed {
        of_tenant.entry(job.tenant).or_default().push(job);
    }
    let mut to_run = Vec::new();
    for mut jobs in of_tenant.into_values() {
        while !jobs.is_empty() {
            heartbeat.step();
            let started = Instant::now();
            let begun = match catch_panic::<_, JobError>(async { Ok(app.turns.begin(&jobs).await?) }).await {
                Ok(begun) => begun,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "turns could not be begun together; each is tried by itself");
                    to_run.extend(jobs.drain(..).map(|job| (job, None)));
                    break;
                }
            };
            let mut again = Vec::new();
            for (job, begun) in jobs.drain(..).zip(begun) {
                match begun {
                    BeginOutcome::Run(turn) => to_run.push((job, Some(*turn))),
                    BeginOutcome::Again => again.push(job),
                    BeginOutcome::Done => app.metrics.job_ended(&job, "done", started),
                }
            }
            jobs = again;
        }
    }
    to_run
}

/// Runs one claimed job to its end, from the turn on that was begun for it, keeping its lease alive; a job whose lease was
/// lost is dropped at once.
async fn run_job(app: &App, job: Job, begun: Option<Turn>) {
    let span = tracing::error_span!(
        "job",
        job = %job.id,
        kind = %job.kind,
        key = %job.key,
        tenant = %job.tenant,
        attempts = job.attempts
    );
    execute(app, &job, begun).instrument(span).await;
}

async fn execute(app: &App, job: &Job, begun: Option<Turn>) {
    let started = Instant::now();
    let work = catch_panic(async {
        match begun {
            Some(turn) => Ok(app.turns.run_from(job, turn).await?),
            None => app.run_job(job).await,
        }
    });
    let ended = with_lease(&app.db, &app.clock, job, lease::tick, work).await;
    let word = match &ended {
        Some(Ok(())) => "done",
        Some(Err(_)) => "failed",
        None => "lease_lost",
    };
    app.metrics.job_ended(job, word, started);
    let Some(outcome) = ended else { return };
    let written = match &outcome {
        Ok(()) => jobs::complete(&app.db, job).await,
        Err(error) => {
            let error = Chain(error).to_string();
            tracing::warn!(%error, "a job failed");
            jobs::mark_as_failed(&app.db, job, App::tries(job), app.clock.steady(), &error).await
        }
    };
    if let Err(error) = written {
        tracing::error!(error = %Chain(&error), "the end of a job could not be stored; it will run again");
    }
}

async fn events_loop(app: Arc<App>, stop: CancellationToken) {
    let mut wake_ups = app.db.wake_ups().subscribe();
    loop {
        let any = apply_events(&app).await;
        if stop.is_cancelled() || (!any && !wait_for_work(&mut wake_ups, Topic::Intake, &stop).await) {
            return;
        }
    }
}

/// Claims and applies one batch of accepted events. False when there was none.
async fn apply_events(app: &App) -> bool {
    let heartbeat = app.loops.heartbeat(EVENTS);
    heartbeat.step();
    let claimed = match app.intake.claim(EVENTS_PER_BATCH).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "accepted events cannot be claimed; trying again");
            heartbeat.failed();
            return false;
        }
    };
    let mut groups: Vec<Vec<Claimed>> = Vec::new();
    for one in claimed {
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.event.tenant == one.event.tenant))
        {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let any = !groups.is_empty();
    for group in groups {
        heartbeat.step();
        let events: Vec<&Event> = group.iter().map(|claimed| &claimed.event).collect();
        if catch_panic(apply_together(app, &events)).await.is_err() {
            apply_one_by_one(app, &group, &heartbeat).await;
        }
    }
    heartbeat.idle();
    any
}

/// Applies events of one tenant each by itself, so that one that fails holds up only those that must follow it.
async fn apply_one_by_one(app: &App, group: &[Claimed], heartbeat: &Heartbeat) {
    let mut failed: Vec<&Event> = Vec::new();
    for claimed in group {
        let event = &claimed.event;
        if failed.iter().any(|earlier| event.shares_order_with(earlier)) {
            continue;
        }
        heartbeat.step();
        let Err(error) = catch_panic(apply_together(app, &[event])).await else { continue };
        let error = Chain(&error).to_string();
        app.metrics.events_applied.with_label_values(&["failed"]).inc();
        tracing::warn!(event = %event.id, %error, "an accepted event could not be applied");
        failed.push(event);
        if let Err(error) = app.intake.failed(claimed, &error).await {
            tracing::error!(error = %Chain(&error), "and that could not be stored; it will be tried again");
        }
    }
}

/// Why accepted events were not applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("no part of this version applies events of {0}")]
    UnknownSource(String),
    #[error(transparent)]
    Panicked(#[from] Panicked),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Intake(#[from] thinkwork_intake::Error),
    #[error(transparent)]
    Webhooks(#[from] webhooks::Error),
}

/// Applies events of one tenant in one transaction.
async fn apply_together(app: &App, events: &[&Event]) -> Result<(), ApplyError> {
    let Some(first) = events.first() else { return Ok(()) };
    if let Some(unknown) = events.iter().find(|event| !event.source.starts_with(webhooks::SOURCE_PREFIX)) {
        return Err(ApplyError::UnknownSource(unknown.source.clone()));
    }
    let mut tx = app.db.write(first.tenant).await?;
    let new = app.intake.applied(&mut tx, events).await?;
    let new: Vec<&Event> = events.iter().copied().filter(|event| new.contains(&event.id)).collect();
    let count = u64::try_from(new.len()).unwrap_or(0);
    let span = tracing::error_span!("events", first = %first.id, tenant = %first.tenant, count);
    app.webhooks.apply(&mut tx, &new, app.clock.now()).instrument(span).await?;
    app.intake.commit(tx, events).await?;
    app.metrics.events_applied.with_label_values(&["applied"]).inc_by(count);
    Ok(())
}

async fn seal_loop(app: Arc<App>, stop: CancellationToken) {
    let sealer = app.audit.sealer();
    loop {
        seal(&app, &sealer).await;
        // Once a second, however much comes: it is not in a hurry, and batches.
        if timeout(POLL_INTERVAL, stop.cancelled()).await.is_ok() {
            break;
        }
    }
    // What a stopped server leaves is signed: nothing of it can be cut off unnoticed.
    let heartbeat = app.loops.heartbeat(SEAL);
    let sealed = async {
        sealer.seal_batches(|| heartbeat.step()).await?;
        sign_heads(&app, &sealer, &heartbeat).await
    };
    log_sealing(&heartbeat, sealed.await);
}

/// Seals what waits, and each minute signs the heads.
pub async fn seal(app: &App, sealer: &Sealer) {
    let heartbeat = app.loops.heartbeat(SEAL);
    heartbeat.step();
    let sealed = async {
        sealer.seal_batches(|| heartbeat.step()).await?;
        if sealer.signing_is_due() { sign_heads(app, sealer, &heartbeat).await } else { Ok(()) }
    };
    log_sealing(&heartbeat, sealed.await);
}

async fn sign_heads(app: &App, sealer: &Sealer, heartbeat: &Heartbeat) -> Result<(), SealError> {
    let tenants = app.access.tenants().await?;
    sealer.sign_heads(tenants.into_iter().map(|(tenant, _)| tenant).inspect(|_| heartbeat.step())).await?;
    Ok(())
}

fn log_sealing(heartbeat: &Heartbeat, sealed: Result<(), SealError>) {
    match sealed {
        Ok(()) => heartbeat.idle(),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the audit record cannot be sealed; trying again");
            heartbeat.failed();
        }
    }
}

/// Why the record was not sealed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    Audit(#[from] audit::Error),
    #[error("the tenants cannot be listed: {0}")]
    Access(#[from] access::Error),
}

async fn sweep_loop(app: Arc<App>, stop: CancellationToken) {
    while !minute_or_stop(&stop).await {
        sweep(&app).await;
    }
}

/// Tells the record each minute, and at the end, which webhook secrets this process opened.
async fn openings_loop(app: Arc<App>, stop: CancellationToken) {
    let heartbeat = app.loops.heartbeat(OPENINGS);
    loop {
        let last = minute_or_stop(&stop).await;
        heartbeat.step();
        match app.credentials.record_openings().await {
            Ok(()) => heartbeat.idle(),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "openings of webhook secrets could not be recorded; trying again");
                heartbeat.failed();
            }
        }
        if last {
            return;
        }
    }
}

/// Waits a minute or for the stop. True: stop.
async fn minute_or_stop(stop: &CancellationToken) -> bool {
    timeout(MINUTE, stop.cancelled()).await.is_ok()
}

/// Runs everything that is due until nothing is, in this task: for tests and the demonstration's checks.
pub async fn run_until_idle(app: &App) {
    loop {
        let applied = apply_events(app).await;
        let turns = begin_jobs(app, Queue::Turns, EVENTS_PER_BATCH).await;
        let others = begin_jobs(app, Queue::Others, EVENTS_PER_BATCH).await;
        if !applied && turns.is_none() && others.is_none() {
            return;
        }
        for (job, turn) in turns.into_iter().chain(others).flatten() {
            run_job(app, job, turn).await;
        }
    }
}
