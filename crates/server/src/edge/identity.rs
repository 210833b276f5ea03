//! The wire shapes of who asked and whose credential, shared by every answer that names them.

use serde::Serialize;
use thinkwork_primitives::{ActingClient, ConnectionId, CredentialSubject, Requester, UserId};
use utoipa::ToSchema;

use super::NameMap;

/// On whose request.
#[derive(Serialize, ToSchema)]
pub struct RequesterResponse {
    /// `user`, `webhook`, `trigger`, `schedule`, `extension` or `system`.
    #[schema(example = "user")]
    kind: &'static str,
    /// The requester's id.
    #[schema(example = "usr_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: String,
}

impl From<&Requester> for RequesterResponse {
    fn from(requester: &Requester) -> Self {
        Self { kind: requester.kind(), id: requester.id() }
    }
}

/// The software that acted.
#[derive(Serialize, ToSchema)]
pub struct ActingClientResponse {
    /// `agent`, `mcp_client`, `api_token`, `page`, `extension` or `system`.
    #[schema(example = "api_token")]
    kind: &'static str,
    /// The software's own id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "tok_01KG9Z8V3M7Q2R4T6W8X0Y1Z30")]
    id: Option<String>,
    /// The software's name, such as the name of the token that a program uses.
    #[schema(example = "Reports")]
    name: String,
}

impl ActingClientResponse {
    /// Of this client, by its name if that is known.
    pub fn new(client: ActingClient, names: &NameMap) -> Self {
        Self { kind: client.kind(), id: client.id(), name: names.client(client) }
    }
}

/// Whose credential.
#[derive(Serialize, ToSchema)]
pub struct CredentialSubjectResponse {
    /// Whose it is: `user`, `tenant` or `none`.
    #[schema(example = "user")]
    kind: &'static str,
    /// The person, if it is a person's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    /// The connection, if one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    connection_id: Option<ConnectionId>,
}

impl From<CredentialSubject> for CredentialSubjectResponse {
    fn from(subject: CredentialSubject) -> Self {
        Self { kind: subject.kind(), user_id: subject.user(), connection_id: subject.connection() }
    }
}
