//! Pure decisions: which secrets are taken, and how an owner is named.

use thinkwork_primitives::{Secret, limits};

use super::store::Credential;
use super::{CredentialMeaning, Error, Owner};
use crate::audit::Event;

/// The kinds of secret there are; a stored word outside this list does not open.
pub(super) const KINDS: [&str; 7] =
    ["webhook_secret", "tenant_key", "oauth_grant", "client_secret", "pkce_verifier", "model_key", "user_headers"];

/// Refuses what could never work as a secret.
pub(super) fn check_secret(secret: &Secret) -> Result<(), Error> {
    if secret.is_empty() || secret.expose().iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Refused("The secret is empty. Enter it again."));
    }
    if secret.expose().len() > limits::SECRET_BYTES_MAX {
        return Err(Error::Refused("The secret is longer than 16,384 bytes. Check what you pasted."));
    }
    Ok(())
}

/// The stored words of an owner.
pub(super) fn owner_columns(owner: Owner) -> (&'static str, String) {
    match owner {
        Owner::Connection(id) => ("connection", id.to_string()),
        Owner::ToolSource(id) => ("tool_source", id.to_string()),
        Owner::Webhook(id) => ("webhook", id.to_string()),
        Owner::OauthClient(id) => ("oauth_client", id.to_string()),
        Owner::OauthFlow(id) => ("oauth_flow", id.to_string()),
        Owner::Agent => ("agent", "agent".to_owned()),
    }
}

/// Reads the stored words back.
pub(super) fn owner_from_columns(kind: &str, id: &str) -> Option<Owner> {
    Some(match kind {
        "connection" => Owner::Connection(id.parse().ok()?),
        "tool_source" => Owner::ToolSource(id.parse().ok()?),
        "webhook" => Owner::Webhook(id.parse().ok()?),
        "oauth_client" => Owner::OauthClient(id.parse().ok()?),
        "oauth_flow" => Owner::OauthFlow(id.parse().ok()?),
        "agent" => Owner::Agent,
        _ => return None,
    })
}

/// Says in the audit event whose the credential is.
pub(super) fn describe_owner(event: Event, owner: Owner) -> Event {
    let (kind, id) = owner_columns(owner);
    event.detail("owner_kind", kind).detail("owner_id", id)
}

/// The row must be of the meaning's owner and kind.
pub(super) fn check_row(row: &Credential, meaning: &CredentialMeaning) -> Result<(), Error> {
    if row.owner == meaning.owner() && row.kind == meaning.kind() {
        Ok(())
    } else {
        Err(thinkwork_vault::Error::Damaged { credential: row.id }.into())
    }
}
