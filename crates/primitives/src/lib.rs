//! The words every other crate speaks: typed ids, time, secrets, limits, and who acts on whose behalf.
//!
//! Architecture Invariant: no I/O and no async here; every crate may use it, it uses none of ours.

pub mod actor;
pub mod chain;
pub mod crypto;
pub mod event;
pub mod id;
pub mod limits;
pub mod loops;
pub mod network;
pub mod record_key;
pub mod secret;
pub mod target;
pub mod time;
pub mod trace;

pub use actor::{
    ActingClient, Actor, Audience, AuthMethod, CredentialSubject, Effect, Identity, Marks, Principal, Requester, Role,
    Scope, Surface,
};
pub use chain::Chain;
pub use event::DomainEvent;
pub use id::{
    AuditId, BuiltInSetId, Channel, ConnectionId, CredentialId, DeliveryId, ExtensionId, FlowId, InvitationId, JobId,
    McpServerId, MessageId, OauthClientId, ParseIdError, ProviderId, SessionId, SpaceId, StepId, TenantId, ThreadId,
    TokenId, TriggerId, TurnId, UserId, WebhookId,
};
pub use loops::{Heartbeat, Loops};
pub use network::{Network, ParseNetworkError, customer_network};
pub use record_key::RecordKey;
pub use secret::Secret;
pub use target::{GrantTarget, ToolSourceId};
pub use time::{Clock, Timestamp};
pub use trace::TraceContext;
