//! What the slice speaks of: whose a credential is, why one is opened, and what may be shown of it.

use thinkwork_database::Tx;
use thinkwork_primitives::{
    Actor, ConnectionId, CredentialId, CredentialSubject, FlowId, OauthClientId, Secret, Surface, ThreadId, Timestamp,
    ToolSourceId, TurnId, WebhookId,
};

use super::{Error, Standing};
use crate::edge::caller::BoxFuture;

/// Whose a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user's grant.
    Connection(ConnectionId),
    /// The tenant's secret for a source of tools.
    ToolSource(ToolSourceId),
    /// A webhook's signing secret.
    Webhook(WebhookId),
    /// A client registration's secret.
    OauthClient(OauthClientId),
    /// A flow's PKCE verifier.
    OauthFlow(FlowId),
    /// The tenant platform agent's model key.
    Agent,
}

/// For which work credentials are opened.
#[derive(Clone, Debug)]
pub struct UseContext {
    /// On whose request.
    pub actor: Actor,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// For which tool, by its full name.
    pub tool: Option<String>,
}

impl UseContext {
    /// Of no thread and for no tool.
    pub const fn by(actor: Actor) -> Self {
        Self { actor, thread: None, turn: None, tool: None }
    }

    /// Asks for what is `subject`'s. The tool is named where it is called, not where `oauth` refreshes its token first.
    pub fn request<'a>(&self, surface: Surface, subject: CredentialSubject) -> OpenRequest<'a> {
        let Self { actor, thread, turn, tool } = self.clone();
        let tool = tool.filter(|_| surface == Surface::ToolCall);
        OpenRequest { surface, actor, subject, thread, turn, tool, purpose: OpenPurpose::Use, recorder: None }
    }
}

/// What is done with a credential, which decides whether one that is not the last may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenPurpose {
    /// Work. The last version alone.
    Use,
    /// Asking its issuer whether it still holds. Also an earlier version, but nothing that ended.
    Recheck,
    /// Revoking it at its issuer.
    Revoke,
}

/// Why a credential is opened: what the audit event will say.
pub struct OpenRequest<'a> {
    /// The part of the runtime that opens it.
    pub surface: Surface,
    /// On whose request.
    pub actor: Actor,
    pub subject: CredentialSubject,
    pub thread: Option<ThreadId>,
    pub turn: Option<TurnId>,
    /// For which tool, by its full name.
    pub tool: Option<String>,
    pub purpose: OpenPurpose,
    /// Records the use with the work that it was opened for.
    pub recorder: Option<&'a dyn UseRecorder>,
}

impl<'a> OpenRequest<'a> {
    #[must_use]
    pub fn recorded_by(self, recorder: Option<&'a dyn UseRecorder>) -> Self {
        Self { recorder, ..self }
    }

    #[must_use]
    pub fn to(self, purpose: OpenPurpose) -> Self {
        Self { purpose, ..self }
    }
}

/// What was opened for a piece of work.
#[derive(Clone, Copy, Debug)]
pub struct CredentialUse {
    pub subject: CredentialSubject,
    pub credential: CredentialId,
    pub version: i64,
}

/// Records which credential was opened for a piece of work, in the transaction that opens it. An error keeps it closed.
pub trait UseRecorder: Send + Sync {
    /// Records the use, or refuses it where this work may not have it.
    fn record_use<'a>(&'a self, tx: &'a mut Tx, used: CredentialUse) -> BoxFuture<'a, Result<(), Error>>;
}

/// An opened secret. Use it only after the transaction that opened it is committed.
pub struct OpenedCredential {
    pub secret: Secret,
    pub credential: CredentialId,
    pub version: i64,
}

/// What may be shown of a credential.
#[derive(Clone, Debug)]
pub struct CredentialInfo {
    pub id: CredentialId,
    /// The current version.
    pub version: i64,
    /// The last four characters of secrets of 16 or more.
    pub last_four: Option<String>,
    pub created_at: Timestamp,
    /// When its current version was made.
    pub rotated_at: Timestamp,
    /// When it was last opened, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Until when the version before still works, while both do.
    pub previous_ends_at: Option<Timestamp>,
    /// Whether it is the last version that was made.
    pub standing: Standing,
}
