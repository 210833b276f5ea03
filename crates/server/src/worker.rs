//! Background work: applies accepted events, runs due jobs, seals the record, sweeps. Supervises and drains.
//!
//! Invariants: what is claimed is leased, and the lease is kept alive while the work lasts; a hint only makes it
//! sooner, a sweep each second finds what hints missed; nothing here outlives [`Worker::drain`].

use std::sync::Arc;
use std::time::Duration;

use thinkwork_database::jobs::{self, Job, Kinds};
use thinkwork_database::{Topic, WakeUp, intake_log};
use thinkwork_intake::Event;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::webhooks;

mod lease;
mod supervise;
mod sweep;

use lease::{JOB_LEASE, leased};
pub use supervise::Loops;
use supervise::guarded;
pub use sweep::sweep;

/// How long between sweeps where no hint comes.
const SWEEP: Duration = Duration::from_secs(1);
/// How often what has ended is forgotten, and how often openings of webhook secrets are told to the record.
const MINUTE: Duration = Duration::from_secs(60);
/// Turns of this process at the same time: they mostly wait for others.
const TURNS_MAX: usize = 24;
/// Other jobs at the same time. They have places of their own, so that long turns hold up no erasure and no refresh.
const OTHERS_MAX: usize = 8;
/// What the loop of turns claims, and what the loop of all else does.
const TURNS: Kinds<'static> = Kinds::Only(crate::threads::RUN_JOB);
const OTHERS: Kinds<'static> = Kinds::AllBut(crate::threads::RUN_JOB);
/// Events applied in one transaction.
const EVENTS_MAX: u64 = 64;

/// The running background work.
pub struct Worker {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    /// Starts the loops: what a process owes for its own requests, and in the role of a worker everything else.
    pub fn start(app: &Arc<App>) -> Self {
        let worker = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        worker.keep(app, "openings", openings_loop);
        if app.config.worker {
            let tasks = worker.tasks.clone();
            worker.keep(app, "turns", move |app, stop| jobs_loop(app, stop, tasks.clone(), TURNS, TURNS_MAX));
            let tasks = worker.tasks.clone();
            worker.keep(app, "jobs", move |app, stop| jobs_loop(app, stop, tasks.clone(), OTHERS, OTHERS_MAX));
            worker.keep(app, "events", events_loop);
            worker.keep(app, "seal", seal_loop);
            worker.keep(app, "sweep", sweep_loop);
        }
        worker
    }

    fn keep<R: Future<Output = ()> + Send + 'static>(
        &self,
        app: &Arc<App>,
        name: &'static str,
        run: impl Fn(Arc<App>, CancellationToken) -> R + Send + Sync + 'static,
    ) {
        let (app, stop) = (Arc::clone(app), self.stop.clone());
        self.tasks.spawn(async move {
            let begin = || run(Arc::clone(&app), stop.clone());
            let pause = || async { drop(tokio::time::timeout(SWEEP, stop.cancelled()).await) };
            app.loops.keep(name, &app.clock, begin, pause).await;
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
async fn next(hints: &mut broadcast::Receiver<WakeUp>, topic: Topic, stop: &CancellationToken) -> bool {
    let about_this = async { while hints.recv().await.is_ok_and(|hint| hint.topic != topic) {} };
    tokio::select! {
        () = stop.cancelled() => false,
        () = about_this => true,
        () = tokio::time::sleep(SWEEP) => true,
    }
}

async fn jobs_loop(app: Arc<App>, stop: CancellationToken, tasks: TaskTracker, kinds: Kinds<'static>, most: usize) {
    let mut hints = app.db.wake_ups().subscribe();
    let room = Arc::new(Semaphore::new(most));
    loop {
        // Where as many run as may, the end of one is what to wait for.
        tokio::select! {
            () = stop.cancelled() => return,
            permit = room.acquire() => drop(permit),
        }
        let claimed = claim(&app, kinds, u64::try_from(room.available_permits()).unwrap_or(1)).await;
        let any = !claimed.is_empty();
        for job in claimed {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let app = Arc::clone(&app);
            tasks.spawn(async move {
                run_job(&app, job).await;
                drop(permit);
            });
        }
        if stop.is_cancelled() || (!any && !next(&mut hints, Topic::Job, &stop).await) {
            return;
        }
    }
}

async fn claim(app: &App, kinds: Kinds<'_>, count: u64) -> Vec<Job> {
    jobs::claim_of(&app.db, kinds, app.clock.now(), JOB_LEASE, count).await.unwrap_or_else(|error| {
        tracing::error!(%error, "jobs cannot be claimed; trying again");
        Vec::new()
    })
}

/// Runs one claimed job to its end, keeping its lease alive; a job whose lease was lost is dropped at once.
async fn run_job(app: &App, job: Job) {
    let work = guarded(app.job(&job));
    let Some(outcome) = leased(&app.db, &app.clock, &job, lease::tick, work).await else { return };
    let written = match &outcome {
        Ok(()) => jobs::done(&app.db, &job).await,
        Err(error) => {
            tracing::warn!(kind = %job.kind, key = %job.key, attempts = job.attempts, %error, "a job failed");
            match App::gives_up_by_itself(&job) {
                true => jobs::failed_for_now(&app.db, &job, app.clock.now(), error).await,
                false => jobs::failed(&app.db, &job, app.clock.now(), error).await,
            }
        }
    };
    if let Err(error) = written {
        tracing::error!(%error, kind = %job.kind, "the end of a job could not be stored; it will run again");
    }
}

async fn events_loop(app: Arc<App>, stop: CancellationToken) {
    let mut hints = app.db.wake_ups().subscribe();
    loop {
        let any = apply_events(&app).await;
        if stop.is_cancelled() || (!any && !next(&mut hints, Topic::Intake, &stop).await) {
            return;
        }
    }
}

/// Claims and applies one batch of accepted events. False when there was none.
pub(crate) async fn apply_events(app: &App) -> bool {
    let claimed = match app.intake.claim(EVENTS_MAX).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(%error, "accepted events cannot be claimed; trying again");
            return false;
        }
    };
    let mut groups: Vec<Vec<(Event, i64)>> = Vec::new();
    for (event, attempts) in claimed {
        match groups.iter_mut().find(|group| group.first().is_some_and(|(first, _)| first.tenant == event.tenant)) {
            Some(group) => group.push((event, attempts)),
            None => groups.push(vec![(event, attempts)]),
        }
    }
    let any = !groups.is_empty();
    for group in groups {
        let events: Vec<&Event> = group.iter().map(|(event, _)| event).collect();
        if guarded(apply_together(app, &events)).await.is_ok() {
            continue;
        }
        // One of them fails: each by itself, so that the others are not held up.
        for (event, attempts) in &group {
            if let Err(error) = guarded(apply_together(app, &[event])).await {
                tracing::warn!(event = %event.id, %error, "an accepted event could not be applied");
                if let Err(error) = app.intake.failed(event, *attempts, &error).await {
                    tracing::error!(%error, "and that could not be stored; it will be tried again");
                }
            }
        }
    }
    any
}

/// Applies events of one tenant in one transaction.
async fn apply_together(app: &App, events: &[&Event]) -> Result<(), String> {
    let Some(first) = events.first() else { return Ok(()) };
    let mut tx = app.db.write(first.tenant).await.map_err(|error| error.to_string())?;
    for event in events {
        if !intake_log::applied(&mut tx, event.id).await.map_err(|error| error.to_string())? {
            continue;
        }
        if event.source.starts_with(webhooks::SOURCE_PREFIX) {
            app.webhooks.apply(&mut tx, event, app.clock.now()).await.map_err(|error| error.to_string())?;
        } else {
            return Err(format!("no slice applies events of {}", event.source));
        }
    }
    tx.commit().await.map_err(|error| error.to_string())
}

async fn seal_loop(app: Arc<App>, stop: CancellationToken) {
    let sealer = app.audit.sealer();
    loop {
        if let Err(error) = sealer.seal_all().await {
            tracing::error!(%error, "audit events cannot be sealed; trying again");
        }
        // Once a second, however much comes: it is not in a hurry, and batches.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

async fn sweep_loop(app: Arc<App>, stop: CancellationToken) {
    while !over(&stop).await {
        sweep(&app).await;
    }
}

/// Tells the record each minute, and at the end, which webhook secrets this process opened.
async fn openings_loop(app: Arc<App>, stop: CancellationToken) {
    loop {
        let last = over(&stop).await;
        if let Err(error) = app.credentials.record_openings().await {
            tracing::error!(%error, "openings of webhook secrets could not be recorded; trying again");
        }
        if last {
            return;
        }
    }
}

/// Waits a minute or for the stop. True: stop.
async fn over(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(MINUTE) => false,
    }
}

/// Runs everything that is due until nothing is, in this task: for tests and the demonstration's checks.
pub async fn settle(app: &App) {
    loop {
        let applied = apply_events(app).await;
        let claimed = claim(app, Kinds::All, EVENTS_MAX).await;
        if !applied && claimed.is_empty() {
            return;
        }
        for job in claimed {
            run_job(app, job).await;
        }
    }
}
