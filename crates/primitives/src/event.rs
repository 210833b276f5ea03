//! What happened in the product that other slices may act upon.
//!
//! Invariant: an event is published in the transaction of the change it tells of, so its subscribers' jobs exist
//! exactly where the change does. It holds ids alone; a subscriber reads what is true when its job runs.

use crate::{ConnectionId, Requester, SpaceId, ThreadId, TurnId, UserId};

/// A change that was made. Its subscribers are named in the server's `app` module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainEvent {
    /// A thread was created.
    ThreadCreated {
        /// The thread.
        thread: ThreadId,
    },
    /// A turn waits for its place in its thread.
    TurnQueued {
        /// The thread.
        thread: ThreadId,
        /// The turn.
        turn: TurnId,
        /// On whose request it will run.
        requester: Requester,
    },
    /// A turn ended by itself, well or badly.
    TurnFinished {
        /// The thread.
        thread: ThreadId,
        /// The turn.
        turn: TurnId,
    },
    /// A person stopped a turn.
    TurnCancelled {
        /// The thread.
        thread: ThreadId,
        /// The turn.
        turn: TurnId,
        /// On whose request it ran.
        requester: Requester,
    },
    /// A person connected an account, for the first time or again.
    ConnectionConnected {
        /// The connection.
        connection: ConnectionId,
    },
    /// A grant became unusable until its owner connects again.
    ConnectionNeedsReauth {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection ended for good.
    ConnectionEnded {
        /// The connection.
        connection: ConnectionId,
    },
    /// A person may no longer sign in.
    UserDisabled {
        /// The person.
        user: UserId,
    },
    /// Who sees a Space has changed: its access or its members.
    SpaceAccessChanged {
        /// The Space.
        space: SpaceId,
    },
}
