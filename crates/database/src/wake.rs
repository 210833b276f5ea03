//! Hints that something changed: in process on SQLite, LISTEN / NOTIFY on PostgreSQL.
//!
//! Invariants: a hint carries an id and nothing else. Hints may be lost, and whoever waits for one is then told that some
//! may be missing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use strum::{EnumString, IntoStaticStr};

use sea_orm::sqlx::postgres::PgListener;
use sea_orm::sqlx::{self, PgPool};
use thinkwork_primitives::Chain;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use crate::Error;

pub(crate) const CHANNEL: &str = "thinkwork_wake";
/// Hints kept for a slow subscriber; past that it is told that some are missing.
const BACKLOG: usize = 1_024;
/// How often to try to listen again after the connection broke.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
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
    /// Somebody may have lost access; the id is that of the session, token, user or Space.
    Access,
}

impl Topic {
    fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What a subscriber hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something changed.
    Hint(WakeUp),
    /// Hints may be missing: whoever remembers something reads it again.
    Gap,
}

/// The stream of hints. Cheap to clone.
#[derive(Clone)]
pub struct WakeUps {
    sender: broadcast::Sender<Heard>,
    watches: Arc<Mutex<HashMap<WakeUp, Vec<Arc<Notify>>>>>,
    closed: tokio::sync::watch::Sender<bool>,
}

impl WakeUps {
    pub(crate) fn in_process() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
            watches: Arc::default(),
            closed: tokio::sync::watch::channel(false).0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the listener lives below the supervised spawner and ends on close")]
    pub(crate) async fn listening(pool: PgPool) -> Result<Self, Error> {
        let wake_ups = Self::in_process();
        let listener = listen(&pool).await?;
        let heard = wake_ups.clone();
        let mut closed = wake_ups.closed.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = closed.changed() => {}
                () = heard.relay(&pool, listener) => {}
            }
        });
        Ok(wake_ups)
    }

    /// Passes on what other processes send, for ever.
    async fn relay(&self, pool: &PgPool, mut listener: PgListener) {
        loop {
            match listener.try_recv().await {
                Ok(Some(notification)) => {
                    if let Some(wake_up) = WakeUp::parse(notification.payload()) {
                        self.send(wake_up);
                    }
                }
                // The connection was lost and made anew. Nobody says what was sent meanwhile.
                Ok(None) => self.send_gap(),
                Err(error) => {
                    listener = listen_again(pool, error).await;
                    self.send_gap();
                }
            }
        }
    }

    /// All hints from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.sender.subscribe())
    }

    /// The hints about these rows from now on. What is sent about other rows costs this watch nothing.
    pub fn watch(&self, keys: Vec<WakeUp>) -> Watch {
        let notify = Arc::new(Notify::new());
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &keys {
            watches.entry(*key).or_default().push(Arc::clone(&notify));
        }
        drop(watches);
        Watch { keys, notify, watches: Arc::clone(&self.watches) }
    }

    pub(crate) fn send(&self, wake_up: WakeUp) {
        if let Some(watching) = self.watches.lock().unwrap_or_else(PoisonError::into_inner).get(&wake_up) {
            watching.iter().for_each(|notify| notify.notify_one());
        }
        // An error says that nobody is subscribed.
        drop(self.sender.send(Heard::Hint(wake_up)));
    }

    /// Tells everybody that hints may be missing.
    fn send_gap(&self) {
        for watching in self.watches.lock().unwrap_or_else(PoisonError::into_inner).values() {
            watching.iter().for_each(|notify| notify.notify_one());
        }
        drop(self.sender.send(Heard::Gap));
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn listen_again(pool: &PgPool, mut error: sqlx::Error) -> PgListener {
    let mut tries = tokio::time::interval(RECONNECT_EVERY);
    loop {
        tracing::warn!(error = %Chain(&error), "hints from other processes are interrupted; listening again");
        tries.tick().await;
        match listen(pool).await {
            Ok(listener) => return listener,
            Err(again) => error = again,
        }
    }
}

/// All hints, for one reader.
pub struct Subscription(broadcast::Receiver<Heard>);

impl Subscription {
    /// The next hint or gap. Waits forever once the database is closed.
    pub async fn recv(&mut self) -> Heard {
        match self.0.recv().await {
            Ok(heard) => heard,
            Err(RecvError::Lagged(_)) => Heard::Gap,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The next hint or gap where one has come already.
    pub fn try_recv(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(heard) => Some(heard),
            Err(TryRecvError::Lagged(_)) => Some(Heard::Gap),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// The hints about some rows, for one reader.
pub struct Watch {
    keys: Vec<WakeUp>,
    notify: Arc<Notify>,
    watches: Arc<Mutex<HashMap<WakeUp, Vec<Arc<Notify>>>>>,
}

impl Watch {
    /// Returns once a hint about one of the rows came since the last return, or hints may be missing.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(watching) = watches.get_mut(key) {
                watching.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
                if watching.is_empty() {
                    watches.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn hint(topic: Topic) -> WakeUp {
        WakeUp { topic, id: Uuid::from_u128(1) }
    }

    #[test]
    fn a_watch_hears_of_its_rows_alone() {
        let wake_ups = WakeUps::in_process();
        let watch = wake_ups.watch(vec![hint(Topic::Thread), hint(Topic::Access)]);
        let other = wake_ups.watch(vec![WakeUp { topic: Topic::Thread, id: Uuid::from_u128(2) }]);
        assert_eq!(watch.changed().now_or_never(), None);
        for topic in [Topic::Thread, Topic::Access] {
            wake_ups.send(hint(topic));
            wake_ups.send(hint(topic));
            assert_eq!(watch.changed().now_or_never(), Some(()));
            assert_eq!(watch.changed().now_or_never(), None);
        }
        assert_eq!(other.changed().now_or_never(), None);
    }

    #[test]
    fn whoever_waits_is_told_that_hints_may_be_missing() {
        let wake_ups = WakeUps::in_process();
        let watch = wake_ups.watch(vec![hint(Topic::Thread)]);
        let mut subscription = wake_ups.subscribe();
        assert_eq!(subscription.try_recv(), None);
        wake_ups.send_gap();
        assert_eq!(watch.changed().now_or_never(), Some(()));
        assert_eq!(subscription.recv().now_or_never(), Some(Heard::Gap));
        for _ in 0..=BACKLOG {
            wake_ups.send(hint(Topic::Job));
        }
        assert_eq!(subscription.try_recv(), Some(Heard::Gap));
        assert_eq!(subscription.try_recv(), Some(Heard::Hint(hint(Topic::Job))));
    }

    #[test]
    fn a_watch_that_ended_leaves_nothing() {
        let wake_ups = WakeUps::in_process();
        let first = wake_ups.watch(vec![hint(Topic::Thread), hint(Topic::Access)]);
        let second = wake_ups.watch(vec![hint(Topic::Thread)]);
        drop(first);
        wake_ups.send(hint(Topic::Thread));
        assert_eq!(second.changed().now_or_never(), Some(()));
        drop(second);
        assert!(wake_ups.watches.lock().unwrap().is_empty());
    }
}
