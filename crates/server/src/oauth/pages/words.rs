//! The sentences of these pages: what a reason means and what to do next, when something was.

use thinkwork_primitives::ConnectionId;

use super::super::Revocation;

/// The flow is not there any more.
pub(super) const UNKNOWN: &str = "It was finished already, took longer than ten minutes, or never began here. Nothing was connected. \
     Start again from your connections.";
/// Somebody else's flow.
pub(super) const NOT_YOURS: &str = "It was started by somebody else, in another browser, or you have signed out since. Nothing was connected and \
     nothing was changed. If you want to connect an account, start from your own connections.";
/// The issuer is another one.
pub(super) const MISMATCH: &str = "The answer came from another sign-in server than the one you were sent to. Nothing was connected. Start again, \
     and tell your operator if it happens again.";
/// A second tap.
pub(super) const UNDER_WAY: &str = "Your account is being connected in another tab. Look at your connections.";
/// We failed.
pub(super) const FAILED: &str =
    "Something failed here and the account may not be connected. Look at your connections and try again.";

/// What a stored or passed reason word means, with the next step. Unknown words are not repeated.
pub(crate) fn reason_sentence(reason: &str) -> String {
    let sentence = match reason {
        "access_denied" | "consent_required" => {
            "You or the provider refused access. Nothing was connected; connect again and allow it."
        }
        "invalid_scope" => {
            "The provider does not give what this server asks for. Ask your operator to check its scopes."
        }
        "invalid_client" | "unauthorized_client" | "invalid_target" | "invalid_request" => {
            "The provider does not accept our registration. Ask your operator to check this server's settings."
        }
        "invalid_grant" => "The provider has ended this access. Connect again.",
        "registration_replaced" => {
            "Your operator changed this server while you were connecting it. Nothing was connected; connect again."
        }
        "refresh_interrupted" => {
            "Renewing the access was cut off half-way and the provider ended it. Connect again; nothing else is lost."
        }
        "expired" => "The access has ended and cannot be renewed by itself. Connect again.",
        "token_refused" => "The server no longer accepts this access. Connect again.",
        "issuer_changed" => "The server now signs people in elsewhere. Connect again once your operator approved it.",
        "provider_unreachable" | "temporarily_unavailable" | "server_error" => {
            "The provider did not answer. Nothing was connected; try again in a minute."
        }
        _ => "The provider ended the sign-in with an error. Nothing was connected; try again.",
    };
    sentence.to_owned()
}

/// Results for an address: `refresh.revoked-access.pending_retry`.
pub(super) fn results_query(results: &[Revocation]) -> String {
    let one = |revocation: &Revocation| format!("{}.{}", revocation.token, revocation.result.word());
    results.iter().map(one).collect::<Vec<_>>().join("-")
}

/// What became of each token, from an address; words that are not ours are left out.
pub(super) fn revocation_sentence(results: &str) -> String {
    let mut sentence = "Disconnected: the agent can no longer use it.".to_owned();
    for result in results.split('-') {
        let said = match result {
            "refresh.revoked" => " The lasting access was revoked at the provider.",
            "refresh.not_supported" => " The provider cannot revoke the lasting access; our copy is erased.",
            "refresh.pending_retry" => " The provider did not answer; revoking the lasting access is tried again.",
            "access.revoked" => " The current access was revoked at the provider.",
            "access.not_supported" => " The provider cannot revoke the current access; it ends by itself.",
            "access.pending_retry" => " The provider did not answer; revoking the current access is tried again.",
            _ => "",
        };
        sentence.push_str(said);
    }
    sentence
}

/// What a credential was opened for.
pub(super) fn use_words(surface: &str, tool: Option<&str>, connection: Option<ConnectionId>) -> String {
    match (surface, tool, connection) {
        (_, Some(tool), _) => tool.to_owned(),
        ("oauth", None, None) => "Sign-in finished".to_owned(),
        ("oauth", None, Some(_)) => "Access renewed or ended".to_owned(),
        (_, None, _) => "Tools listed".to_owned(),
    }
}
