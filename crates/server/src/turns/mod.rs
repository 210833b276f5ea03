//! Runs turns: the model loop, `/tool`, steps stored before and after each call, resume after a crash. And the tenant
//! platform agent's settings.
//!
//! Invariants: one running turn a thread; a step is committed as `running` before anything is sent, and a call whose
//! outcome is unknown is sent again only where the operator recorded it as `read` or idempotent; requester and
//! credential subject come from the turn record; no transaction is held across a network call.

mod agent;
mod begin;
mod cancellation;
mod command;
mod context;
mod conversation;
mod execution;
pub mod http;
mod model;
mod model_tools;
pub mod pages;
pub mod rules;
mod running;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod tool_step;

use thinkwork_database::{Db, jobs, jobs::Job};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Chain, Clock};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::access::Access;
use crate::credentials::Credentials;
use crate::edge::InvalidField;
use crate::spaces::Spaces;
use crate::threads::{Threads, Turn};
use crate::tools::Tools;
use execution::Execution;

pub use agent::{Agent, AgentShown, AgentUpdate, Model};
pub use begin::BeginOutcome;

/// What can go wrong here. What goes wrong inside a turn is shown in its thread instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Another process took this thread over.
    #[error("another process runs this thread now")]
    TakenOver,
    /// The model does not answer now; the turn goes on with the job's next try.
    #[error("the model does not answer now: {0}")]
    ModelUnavailable(String),
    /// This process stops; another one, or the next, goes on with the turn.
    #[error("this process stops, and another one goes on")]
    Stopping,
    /// The record and the turn do not fit together.
    #[error("the turn's record is incomplete: {0}")]
    Record(&'static str),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Threads(#[from] crate::threads::Error),
    #[error(transparent)]
    Spaces(#[from] crate::spaces::Error),
    /// The tools could not be assembled.
    #[error(transparent)]
    Tools(#[from] crate::tools::Error),
    /// The operator may not act any more.
    #[error(transparent)]
    Access(#[from] crate::access::Error),
    /// The model's key cannot be kept or opened.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

#[derive(Clone)]
pub struct Turns {
    db: Db,
    clock: Clock,
    access: Access,
    credentials: Credentials,
    outbound: Outbound,
    spaces: Spaces,
    threads: Threads,
    tools: Tools,
    schemas: schema::SchemaCache,
    running: running::ThreadLocks,
    stopping: CancellationToken,
}

impl Turns {
    /// Over these slices.
    #[expect(clippy::too_many_arguments, reason = "each is another slice or handle that it stands on")]
    pub fn new(
        db: Db,
        clock: Clock,
        access: Access,
        credentials: Credentials,
        outbound: Outbound,
        spaces: Spaces,
        threads: Threads,
        tools: Tools,
    ) -> Self {
        Self {
            db,
            clock,
            access,
            credentials,
            outbound,
            spaces,
            threads,
            tools,
            schemas: schema::SchemaCache::new(),
            running: running::ThreadLocks::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// Ends the calls that run now, and begins no other: what they leave is told in their threads or goes on elsewhere.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Does the job [`RunThread`](crate::threads::RunThread): runs the queued turns of one thread, one after another.
    ///
    /// # Errors
    /// Where the turn cannot go on now; it stays running and the job's next try resumes it.
    pub async fn run(&self, job: &Job) -> Result<(), Error> {
        loop {
            match self.begin_one(job).await? {
                BeginOutcome::Run(turn) => return self.run_from(job, *turn).await,
                BeginOutcome::Again => {}
                BeginOutcome::Done => return Ok(()),
            }
        }
    }

    /// The same from a turn on that [`Turns::begin`] began. The job's lease keeps other processes out; within this one a
    /// second run of the thread waits for the first, and begins with what that one left.
    pub async fn run_from(&self, job: &Job, turn: Turn) -> Result<(), Error> {
        let (_alone, has_waited) = self.running.lock(turn.thread).await;
        let mut begun = if has_waited { self.begin_one(job).await? } else { BeginOutcome::Run(Box::new(turn)) };
        loop {
            match begun {
                BeginOutcome::Run(turn) => {
                    let execution = Execution::new(self, job, *turn);
                    let span = execution.span();
                    run_to_its_end(&execution).instrument(span).await?;
                }
                BeginOutcome::Again => {}
                BeginOutcome::Done => return Ok(()),
            }
            begun = self.begin_one(job).await?;
        }
    }

    /// Begins the next turn of the job's thread, unless this process stops.
    async fn begin_one(&self, job: &Job) -> Result<BeginOutcome, Error> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        Ok(self.begin(std::slice::from_ref(job)).await?.pop().unwrap_or(BeginOutcome::Done))
    }
}

/// Runs a turn; one that failed too often is ended with a sentence in its thread.
async fn run_to_its_end(execution: &Execution<'_>) -> Result<(), Error> {
    let Err(error) = execution.run().await else { return Ok(()) };
    let is_last_try = execution.job.attempts.saturating_add(1) >= jobs::ATTEMPTS_MAX;
    if !is_last_try || matches!(error, Error::TakenOver | Error::Stopping) {
        return Err(error);
    }
    tracing::error!(error = %Chain(&error), "a turn is given up");
    execution.give_up().await
}
