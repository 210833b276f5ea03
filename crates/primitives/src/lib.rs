//! The words every other crate speaks: typed ids, time, secrets, limits, and who acts on whose behalf.
//!
//! Architecture Invariant: no I/O and no async here; every crate may use it, it uses none of ours.

pub mod actor;
pub mod crypto;
pub mod id;
pub mod limits;
pub mod secret;
pub mod time;

pub use actor::{Audience, CredentialSubject, Effect, Marks, Principal, Requester, Role, Scope, Surface, Via, Who};
pub use id::{
    AuditId, Channel, ConnectionId, CredentialId, DeliveryId, FlowId, InvitationId, JobId, McpServerId, MessageId,
    OauthClientId, ParseIdError, ProviderId, SessionId, SpaceId, StepId, TenantId, ThreadId, TokenId, TriggerId,
    TurnId, UserId, WebhookId,
};
pub use secret::Secret;
pub use time::{Clock, Timestamp};
