//! The sentences of these pages: what a reason means and what to do next, when something was.

use thinkwork_primitives::ConnectionId;

use super::super::{Revocation, RevocationResult};

/// The flow is not there any more.
pub(super) const UNKNOWN: &str = "This sign-in has expired or was already completed. Nothing was connected. Start again from Connected \
     accounts.";
/// Somebody else's flow.
pub(super) const NOT_YOURS: &str = "It was started by someone else or in another browser, or you have signed out since. Nothing was connected. \
     To connect an account, start again from Connected accounts.";
/// The issuer is another one.
pub(super) const MISMATCH: &str = "The response came from a different sign-in server than expected. Nothing was connected. Try again, and contact \
     an operator if it happens again.";
/// A second tap.
pub(super) const UNDER_WAY: &str =
    "Your account is being connected in another tab. Check Connected accounts for the result.";
/// We failed.
pub(super) const FAILED: &str =
    "Something went wrong, and the account may not be connected. Check Connected accounts, then try again.";

/// What a stored or passed reason word means, with the next step. Unknown words are not repeated.
pub(crate) fn reason_sentence(reason: &str) -> String {
    let sentence = match reason {
        "access_denied" | "consent_required" => {
            "Access was denied. Nothing was connected. To connect, try again and allow access."
        }
        "invalid_scope" => {
            "The provider does not support the requested permissions. Nothing was connected. Ask an operator to check the scopes of this server."
        }
        "unauthorized_client" => "The provider no longer accepts this connection. Reconnect your account.",
        "invalid_client" | "invalid_target" | "invalid_request" => {
            "The provider rejected the OAuth client. Nothing was connected. Ask an operator to check the settings of this server."
        }
        "invalid_grant" => "The provider has revoked access. Reconnect your account.",
        "client_forgotten" => {
            "The provider no longer knows ThinkWork as an OAuth client. ThinkWork registers again. Reconnect your account."
        }
        "registration_replaced" => {
            "An operator changed this server while you were connecting. Nothing was connected. Try again."
        }
        "refresh_interrupted" => {
            "Access could not be renewed because the request was interrupted. Nothing else was lost. Reconnect your account."
        }
        "outdated" => {
            "The database was restored to an earlier state, or changed. To be safe, this connection is not used. Reconnect your account."
        }
        "altered" => {
            "The database was changed since you connected. To be safe, this connection is not used. Reconnect your account."
        }
        "expired" => "Access has expired. Reconnect your account.",
        "token_refused" => "The server no longer accepts this connection. Reconnect your account.",
        "issuer_changed" => {
            "The server now uses a different sign-in service. Reconnect your account after an operator has approved the change."
        }
        "provider_unreachable" | "temporarily_unavailable" | "server_error" => {
            "The provider did not respond. Nothing was connected. Try again in a minute."
        }
        _ => "The provider reported an error. Nothing was connected. Try again.",
    };
    sentence.to_owned()
}

/// What became of each token.
pub(super) fn revocation_sentence(results: &[Revocation]) -> String {
    let mut sentence = "Disconnected. The agent can no longer use this account.".to_owned();
    for revocation in results {
        sentence.push_str(match (revocation.token, revocation.result) {
            ("refresh", RevocationResult::Revoked) => " The refresh token was revoked at the provider.",
            ("refresh", RevocationResult::NotSupported) => {
                " The provider cannot revoke the refresh token, but the stored copy was deleted."
            }
            ("refresh", RevocationResult::PendingRetry) => {
                " The provider did not respond. Revoking the refresh token will be retried."
            }
            (_, RevocationResult::Revoked) => " The access token was revoked at the provider.",
            (_, RevocationResult::NotSupported) => " The provider cannot revoke the access token. It will expire.",
            (_, RevocationResult::PendingRetry) => {
                " The provider did not respond. Revoking the access token will be retried."
            }
        });
    }
    sentence
}

/// What a credential was opened for.
pub(super) fn use_words(surface: &str, tool: Option<&str>, connection: Option<ConnectionId>) -> String {
    match (surface, tool, connection) {
        (_, Some(tool), _) => tool.to_owned(),
        ("oauth", None, None) => "Account connected".to_owned(),
        ("oauth", None, Some(_)) => "Access renewed or revoked".to_owned(),
        (_, None, _) => "Tools listed".to_owned(),
    }
}
