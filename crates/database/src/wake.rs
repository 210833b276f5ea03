//! Hints that something changed: in process on SQLite, LISTEN / NOTIFY on PostgreSQL.
//!
//! Invariant: a hint carries an id and may be lost; whoever waits also sweeps.

use std::fmt;
use std::time::Duration;
use strum::{EnumString, IntoStaticStr};

use sea_orm::sqlx::PgPool;
use sea_orm::sqlx::postgres::PgListener;
use thinkwork_primitives::Chain;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::Error;

pub(crate) const CHANNEL: &str = "thinkwork_wake";
/// Hints kept for a slow listener; past that it sweeps.
const BACKLOG: usize = 1_024;
/// How long to wait before listening again after the connection broke.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Topic {
    /// A job may be due; the id says nothing.
    Job,
    /// An inbound event was accepted.
    Intake,
    /// A thread has new events; the id is the thread.
    Thread,
    /// A turn was cancelled; the id is the turn.
    Turn,
    /// Events of a webhook were applied; the id is the webhook.
    Webhook,
    /// A credential changed; the id is the credential.
    Credential,
    /// A session, token or user lost access; the id is theirs.
    Access,
}

impl Topic {
    fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeUp {
    /// What it is about.
    pub topic: Topic,
    /// Which one.
    pub id: Uuid,
}

impl fmt::Display for WakeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic.as_str(), self.id)
    }
}

impl WakeUp {
    fn parse(text: &str) -> Option<Self> {
        let (word, id) = text.split_once(':')?;
        let topic = word.parse().ok()?;
        Some(Self { topic, id: id.parse().ok()? })
    }
}

/// The stream of hints. Cheap to clone.
#[derive(Clone)]
pub struct WakeUps {
    sender: broadcast::Sender<WakeUp>,
    closed: tokio::sync::watch::Sender<bool>,
}

impl WakeUps {
    pub(crate) fn in_process() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, closed: tokio::sync::watch::channel(false).0 }
    }

    #[expect(clippy::disallowed_methods, reason = "the listener lives below the supervised spawner and ends on close")]
    pub(crate) async fn listening(pool: PgPool) -> Result<Self, Error> {
        let wake_ups = Self::in_process();
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        let sender = wake_ups.sender.clone();
        let mut closed = wake_ups.closed.subscribe();
        tokio::spawn(async move {
            loop {
                let heard = tokio::select! {
                    _ = closed.changed() => return,
                    heard = listener.recv() => heard,
                };
                match heard {
                    // Nobody listening is fine: hints are hints.
                    Ok(note) => drop(WakeUp::parse(note.payload()).map(|wake_up| sender.send(wake_up))),
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "wake-ups are interrupted; sweeps go on");
                        tokio::time::sleep(RECONNECT_AFTER).await;
                    }
                }
            }
        });
        Ok(wake_ups)
    }

    /// Hints from now on. A receiver that lags gets an error and sweeps.
    pub fn subscribe(&self) -> broadcast::Receiver<WakeUp> {
        self.sender.subscribe()
    }

    pub(crate) fn send(&self, wake_up: WakeUp) {
        // Nobody listening is fine: hints are hints.
        drop(self.sender.send(wake_up));
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}
