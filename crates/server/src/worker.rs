//! Background work: applies accepted events, runs due jobs, seals the record, sweeps. Supervises and drains.
//!
//! Invariants: what is claimed is leased, and the lease is kept alive while the work lasts; a hint only makes it
//! sooner, a sweep each second finds what hints missed; nothing here outlives [`Worker::drain`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thinkwork_database::jobs::{self, Job, Lane};
use thinkwork_database::{Heard, Subscription, Topic};
use thinkwork_intake::{Claimed, Event};
use thinkwork_primitives::{Chain, Heartbeat, TenantId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::access;
use crate::app::{App, JobError};
use crate::audit::{self, Sealer};
use crate::threads::Turn;
use crate::turns::{self, BeginOutcome};
use crate::webhooks;

mod lease;
mod slots;
mod supervise;
mod sweep;

use lease::{HEARTBEAT, JOB_LEASE, Leases};
use slots::Slots;
pub use supervise::Panicked;
use supervise::{catch_panic, run_supervised};
pub use sweep::sweep;

/// How long between sweeps where no hint comes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often what has ended is forgotten, and how often openings of webhook secrets are recorded.
const MINUTE: Duration = Duration::from_secs(60);
/// Jobs of one claim, begun in one transaction.
const JOBS_PER_CLAIM: u64 = 64;
/// How often the threads of one claim are begun again that have more turns queued; then each goes on by itself, so that a
/// busy one holds up no other.
const ROUNDS_OF_BEGINNING: usize = 4;
/// Events applied in one transaction.
const EVENTS_PER_BATCH: u64 = 64;
// The names under which `/readyz` names the loops.
const EVENTS: &str = "events";
const SEAL: &str = "seal";
const LEASES: &str = "leases";
const OPENINGS: &str = "openings";

/// The name of the loop that takes the jobs of a lane.
const fn loop_name(lane: Lane) -> &'static str {
    match lane {
        Lane::People => "turns_of_people",
        Lane::Senders => "turns",
        Lane::Background => "jobs",
    }
}

/// The running background work.
pub struct Worker {
    stop: CancellationToken,
    tasks: TaskTracker,
    /// What goes on until the last job has ended.
    ended: CancellationToken,
    leases: TaskTracker,
}

impl Worker {
    /// Starts the loops: what a process owes for its own requests, and in the role of a worker everything else.
    pub fn start(app: &Arc<App>) -> Self {
        let worker = Self {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
            leases: TaskTracker::new(),
        };
        worker.spawn_loop(app, OPENINGS, openings_loop);
        if app.config.worker {
            let leases = Leases::default();
            for lane in [Lane::People, Lane::Senders, Lane::Background] {
                let tasks = worker.tasks.clone();
                let leases = leases.clone();
                let run = move |app, stop| jobs_loop(app, stop, tasks.clone(), leases.clone(), lane);
                worker.spawn_loop(app, loop_name(lane), run);
            }
            let run = move |app, ended| leases_loop(app, ended, leases.clone());
            spawn_loop_until(&worker.ended, &worker.leases, app, LEASES, run);
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
        spawn_loop_until(&self.stop, &self.tasks, app, name, run);
    }

    /// Takes on nothing new, stops the calls that run, and waits, at most `patience`, for what is to be written down. What
    /// does not end keeps its lease and is taken up again by the next process.
    pub async fn drain(self, app: &App, patience: Duration) {
        self.stop.cancel();
        app.turns.stop();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("work is left for the next start");
        }
        self.ended.cancel();
        self.leases.close();
        self.leases.wait().await;
    }
}

fn spawn_loop_until<R: Future<Output = ()> + Send + 'static>(
    stop: &CancellationToken,
    tasks: &TaskTracker,
    app: &Arc<App>,
    name: &'static str,
    run: impl Fn(Arc<App>, CancellationToken) -> R + Send + Sync + 'static,
) {
    let app = Arc::clone(app);
    let stop = stop.clone();
    tasks.spawn(async move {
        let begin = || run(Arc::clone(&app), stop.clone());
        let stopping = &stop;
        let pause = |pause| async move { drop(timeout(pause, stopping.cancelled()).await) };
        run_supervised(name, &app.loops.heartbeat(name), begin, pause).await;
    });
}

/// Waits for a hint about `topic`, the sweep or the stop. False: stop.
async fn wait_for_work(wake_ups: &mut Subscription, topic: Topic, stop: &CancellationToken) -> bool {
    let about_this = async { while matches!(wake_ups.recv().await, Heard::Hint(hint) if hint.topic != topic) {} };
    tokio::select! {
        () = stop.cancelled() => false,
        _ = timeout(POLL_INTERVAL, about_this) => true,
    }
}

async fn jobs_loop(app: Arc<App>, stop: CancellationToken, tasks: TaskTracker, leases: Leases, lane: Lane) {
    let mut wake_ups = app.db.wake_ups().subscribe();
    let slots = Slots::of(lane);
    while !stop.is_cancelled() {
        let begun = begin_jobs(&app, lane, &slots).await;
        let any = begun.is_some();
        for (job, turn) in begun.into_iter().flatten() {
            let slot = slots.acquire(&job);
            let app = Arc::clone(&app);
            let leases = leases.clone();
            tasks.spawn(async move {
                run_job(&app, &leases, job, turn).await;
                drop(slot);
            });
        }
        if !any {
            tokio::select! {
                () = slots.freed() => {}
                go_on = wait_for_work(&mut wake_ups, Topic::Job, &stop) => if !go_on { return },
            }
        }
    }
}

/// Claims due jobs and begins those that are turns. Returns what is to go on; nothing where none is due.
async fn begin_jobs(app: &App, lane: Lane, slots: &Slots) -> Option<Vec<(Job, Option<Turn>)>> {
    let heartbeat = app.loops.heartbeat(loop_name(lane));
    heartbeat.step();
    let now = app.clock.steady();
    let count = slots.available().min(JOBS_PER_CLAIM);
    let available = |tenant, fairness_key: &str| slots.available_for(tenant, fairness_key);
    let claimed = match jobs::claim_within(&app.db, lane, now, JOB_LEASE, count, available).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "jobs cannot be claimed; trying again");
            heartbeat.failed();
            return None;
        }
    };
    let any = !claimed.is_empty();
    let to_run = match lane {
        Lane::People | Lane::Senders => begin_turns(app, claimed, &heartbeat).await,
        Lane::Background => claimed.into_iter().map(|job| (job, None)).collect(),
    };
    heartbeat.idle();
    any.then_some(to_run)
}

/// Keeps the leases of what runs alive.
async fn leases_loop(app: Arc<App>, ended: CancellationToken, leases: Leases) {
    let heartbeat = app.loops.heartbeat(LEASES);
    while timeout(HEARTBEAT, ended.cancelled()).await.is_err() {
        heartbeat.step();
        match leases.extend(&app.db, app.clock.steady()).await {
            Ok(()) => heartbeat.idle(),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "leases of jobs could not be extended; trying again");
                heartbeat.failed();
            }
        }
    }
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
        for _ in 0..ROUNDS_OF_BEGINNING {
            if jobs.is_empty() {
                break;
            }
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
        to_run.extend(jobs.into_iter().map(|job| (job, None)));
    }
    to_run
}

/// Runs one claimed job to its end, from the turn on that was begun for it, keeping its lease alive; a job whose lease was
/// lost is dropped at once.
async fn run_job(app: &App, leases: &Leases, job: Job, begun: Option<Turn>) {
    let span = tracing::error_span!(
        "job",
        job = %job.id,
        kind = %job.kind,
        key = %job.key,
        tenant = %job.tenant,
        attempts = job.attempts
    );
    execute(app, leases, &job, begun).instrument(span).await;
}

async fn execute(app: &App, leases: &Leases, job: &Job, begun: Option<Turn>) {
    let started = Instant::now();
    let work = catch_panic(async {
        match begun {
            Some(turn) => Ok(app.turns.run_from(job, turn).await?),
            None => app.run_job(job).await,
        }
    });
    // On the heap: the state of a turn is large.
    let ended = leases.keep(job, Box::pin(work)).await;
    let word = match &ended {
        Some(Ok(())) => "done",
        Some(Err(JobError::Turns(turns::Error::Stopping))) => "stopped",
        Some(Err(_)) => "failed",
        None => "lease_lost",
    };
    app.metrics.job_ended(job, word, started);
    let Some(outcome) = ended else { return };
    let written = match &outcome {
        Ok(()) => jobs::complete(&app.db, job).await,
        Err(JobError::Turns(turns::Error::Stopping)) => jobs::give_back(&app.db, job).await,
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
    let lanes = [Lane::People, Lane::Senders, Lane::Background].map(|lane| (lane, Slots::of(lane)));
    let leases = Leases::default();
    loop {
        let mut any = apply_events(app).await;
        for (lane, slots) in &lanes {
            let begun = Box::pin(begin_jobs(app, *lane, slots)).await;
            any |= begun.is_some();
            for (job, turn) in begun.into_iter().flatten() {
                Box::pin(run_job(app, &leases, job, turn)).await;
            }
        }
        if !any {
            return;
        }
    }
}
