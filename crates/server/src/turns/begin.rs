//! Begins the next turns of many threads in one transaction. Those that need neither a model nor a tool end in it, with
//! their jobs.
//!
//! Invariants: a turn begins only while its job is ours; what a turn was offered is what an assembly within the same
//! transaction gave for its requester, its credential subject and its Space.

use std::collections::HashMap;

use thinkwork_database::Tx;
use thinkwork_database::jobs::{self, Job};
use thinkwork_primitives::{CredentialSubject, Requester, SpaceId, ThreadId};

use super::agent::Agent;
use super::execution::{no_access, no_model, tool_context};
use super::{Error, Turns, rules, store};
use crate::threads::{MessageRole, NewReply, NextTurn, RunThread, Turn, TurnEnd, TurnQueues, TurnStatus};
use crate::tools::{self, OfferedTools};

/// What became of a job when the next turn of its thread was begun.
#[derive(Debug)]
pub enum BeginOutcome {
    /// This turn runs now and is to be worked on.
    Run(Box<Turn>),
    /// Its turn has ended and others are queued behind it.
    Again,
    /// Nothing is left to do, and the job is over.
    Done,
}

/// What turns of one transaction share, read when the first of them asks for it.
#[derive(Default)]
struct BatchContext {
    agent: Option<Agent>,
    /// `None` where a source has to be asked for its tools first.
    offered: HashMap<(SpaceId, Requester, CredentialSubject), Option<Offer>>,
}

/// What a turn without work is offered.
enum Offer {
    Tools(OfferedTools),
    /// Its requester is disabled, or has no access to the Space any more.
    NoAccess,
}

impl Turns {
    /// Begins the next turn of each of these jobs' threads, all of one tenant, and says in their order what became of them.
    ///
    /// # Errors
    /// Where one of them cannot begin none of them has; [`Error::TakenOver`] where one is another process's by now.
    pub async fn begin(&self, jobs: &[Job]) -> Result<Vec<BeginOutcome>, Error> {
        let Some(first) = jobs.first() else { return Ok(Vec::new()) };
        let threads: Vec<ThreadId> =
            jobs.iter().map(|job| job.payload::<RunThread>()).collect::<Result<_, thinkwork_database::Error>>()?;
        let mut tx = self.db.write(first.tenant).await?;
        let mut queues = self.threads.turn_queues(&mut tx, &threads).await?;
        let mut batch = BatchContext::default();
        let mut begun = Vec::with_capacity(jobs.len());
        for thread in threads {
            begun.push(self.begin_next(&mut tx, &mut queues, &mut batch, thread).await?);
        }
        queues.save(&mut tx).await?;
        let mut done = Vec::new();
        let mut held = Vec::new();
        for (job, begun) in jobs.iter().zip(&begun) {
            match begun {
                BeginOutcome::Done => done.push(job),
                BeginOutcome::Run(_) | BeginOutcome::Again => held.push(job),
            }
        }
        // Asked last, because a job's row is locked after its thread's everywhere.
        if !jobs::finish(&mut tx, &done, &held).await? {
            return Err(Error::TakenOver);
        }
        tx.commit().await?;
        Ok(begun)
    }

    async fn begin_next(
        &self,
        tx: &mut Tx,
        queues: &mut TurnQueues,
        batch: &mut BatchContext,
        thread: ThreadId,
    ) -> Result<BeginOutcome, Error> {
        let (turn, has_more) = match queues.next(thread) {
            NextTurn::Nothing => return Ok(BeginOutcome::Done),
            NextTurn::Resume(turn) => return Ok(BeginOutcome::Run(Box::new(turn))),
            NextTurn::Begin { turn, has_more } => (turn, has_more),
        };
        let offer = self.offer_without_work(tx, queues, batch, &turn).await?;
        let mut turn = queues.start(turn)?;
        match offer {
            None => return Ok(BeginOutcome::Run(Box::new(turn))),
            Some(Offer::NoAccess) => queues.end(tx, turn, no_access())?,
            Some(Offer::Tools(offered)) => {
                turn.tools_offered = Some(offered.by_source());
                turn.tools_left_out = Some(offered.left_out.clone());
                let messages = vec![NewReply::system(no_model(offered))];
                queues.end(tx, turn, TurnEnd { status: TurnStatus::Succeeded, failure: None, messages })?;
            }
        }
        Ok(if has_more { BeginOutcome::Again } else { BeginOutcome::Done })
    }

    /// What a turn is offered that has nothing to work on: no model is set up, and its requester wrote no command. `None`
    /// where there is work, or where a source has to be asked for its tools first.
    async fn offer_without_work<'a>(
        &self,
        tx: &mut Tx,
        queues: &TurnQueues,
        batch: &'a mut BatchContext,
        turn: &Turn,
    ) -> Result<Option<&'a Offer>, Error> {
        let agent = match batch.agent.take() {
            Some(agent) => agent,
            None => store::agent_find(tx).await?,
        };
        let has_model = batch.agent.insert(agent).model.is_some();
        if has_model || is_command(queues, turn)? {
            return Ok(None);
        }
        let key = (turn.space, turn.requester.clone(), turn.subject);
        if !batch.offered.contains_key(&key) {
            let offer = match self.tools.assemble_known(tx, &tool_context(tx.tenant(), turn, None)).await {
                Ok(offered) => offered.map(Offer::Tools),
                Err(tools::Error::NotAdmitted) => Some(Offer::NoAccess),
                Err(error) => return Err(error.into()),
            };
            batch.offered.insert(key.clone(), offer);
        }
        Ok(batch.offered.get(&key).and_then(Option::as_ref))
    }
}

/// Whether its requester wrote `/tool`, well formed or not.
fn is_command(queues: &TurnQueues, turn: &Turn) -> Result<bool, Error> {
    let answered = queues.answered_by(turn)?;
    let by_person = turn.requester.user().is_some() && answered.role == MessageRole::User;
    Ok(by_person && rules::parse_command(&answered.text).is_some())
}
