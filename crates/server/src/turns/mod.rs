//! Runs turns: the model loop, `/tool`, steps stored before and after each call, resume after a crash. And the tenant
//! platform agent's settings.
//!
//! Invariants: one running turn a thread; a step is committed as `running` before anything is sent, and a call whose
//! outcome is unknown is sent again only where the operator recorded it as `read` or idempotent; requester and
//! credential subject come from the turn record; no transaction is held across a network call.

mod agent;
mod command;
mod context;
mod conversation;
mod execution;
pub mod http;
mod model;
pub mod pages;
pub mod rules;
mod running;
mod store;
#[cfg(test)]
mod tests;
mod tool_step;

use thinkwork_database::{Db, jobs, jobs::Job};
use thinkwork_outbound::Outbound;
use thinkwork_primitives::{Clock, ThreadId};

use crate::credentials::Credentials;
use crate::spaces::Spaces;
use crate::threads::{Threads, Turn};
use crate::tools::Tools;
use execution::Execution;

pub use agent::{Agent, AgentChange, AgentShown, Model};

/// What can go wrong here. What goes wrong inside a turn is told in its thread instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting of the agent does not fit.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What to do.
        problem: String,
    },
    /// The job's key is no thread.
    #[error("the job's key is not a thread")]
    NotAThread,
    /// Another process took this thread over.
    #[error("another process runs this thread now")]
    TakenOver,
    /// The model does not answer now; the turn goes on with the job's next try.
    #[error("the model does not answer now: {0}")]
    ModelUnavailable(String),
    /// The record and the turn do not fit together.
    #[error("the turn's record is incomplete: {0}")]
    Record(&'static str),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    /// The thread refused.
    #[error(transparent)]
    Threads(#[from] crate::threads::Error),
    /// The Space refused.
    #[error(transparent)]
    Spaces(#[from] crate::spaces::Error),
    /// The tools could not be assembled.
    #[error(transparent)]
    Tools(#[from] crate::tools::Error),
    /// The model's key cannot be kept or opened.
    #[error(transparent)]
    Credentials(#[from] crate::credentials::Error),
    /// The record refused.
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

/// The slice.
#[derive(Clone)]
pub struct Turns {
    db: Db,
    clock: Clock,
    credentials: Credentials,
    outbound: Outbound,
    spaces: Spaces,
    threads: Threads,
    tools: Tools,
    running: running::Running,
}

impl Turns {
    /// Over these slices.
    pub fn new(
        db: Db,
        clock: Clock,
        credentials: Credentials,
        outbound: Outbound,
        spaces: Spaces,
        threads: Threads,
        tools: Tools,
    ) -> Self {
        Self { db, clock, credentials, outbound, spaces, threads, tools, running: running::Running::default() }
    }

    /// The job `turns.run`: runs the queued turns of one thread, one after another. The job's lease keeps other
    /// processes out; within this one a second run waits for the first.
    ///
    /// # Errors
    /// Where the turn cannot go on now; it stays running and the job's next try resumes it.
    pub async fn run(&self, job: &Job) -> Result<(), Error> {
        let thread: ThreadId = job.key.parse().map_err(|_| Error::NotAThread)?;
        let _alone = self.running.enter(thread).await;
        while let Some(turn) = self.claim(job, thread).await? {
            let execution = Execution::new(self, job, turn);
            if let Err(error) = execution.run().await {
                let last_try = job.attempts.saturating_add(1) >= jobs::ATTEMPTS_MAX;
                if last_try && !matches!(error, Error::TakenOver) {
                    tracing::error!(turn = %execution.turn.id, %error, "a turn is given up");
                    execution.give_up().await?;
                    continue;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn claim(&self, job: &Job, thread: ThreadId) -> Result<Option<Turn>, Error> {
        let mut tx = self.db.write(job.tenant).await?;
        let turn = self.threads.turn_claim(&mut tx, thread).await?;
        // Asked last, because the job's row is locked after the thread's everywhere.
        if !jobs::holds(&mut tx, job).await? {
            return Err(Error::TakenOver);
        }
        tx.commit().await?;
        Ok(turn)
    }
}
