//! Pure decisions: return addresses, the callback's parameters, the `iss` matrix, resources, what an error means, and
//! when a token is to be refreshed.
//!
//! Invariant: `now` is an argument, nothing here reads a clock, a database or the network.

use std::collections::HashSet;
use std::time::Duration;

use thinkwork_primitives::{Requester, Secret, Timestamp, UserId, limits};
use url::{Position, Url};

use super::EndReason;
use crate::credentials::Standing;

/// An access token with less left than this is refreshed first: a call must not end after its token.
pub(super) const REFRESH_AHEAD: Duration = Duration::from_secs(60);
/// How long a flow is kept after its begin.
pub(super) const FLOW_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How long one refresh may hold its connection.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// With less of the lease left nothing is sent: the request's deadline and the write must fit into it.
pub(super) const LEASE_LEFT_MIN: Duration = Duration::from_secs(25);
/// Deadline of a request to a token, revocation or registration endpoint.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// A resource's 401 forces at most one refresh in this time.
pub(super) const FORCED_REFRESH_EVERY: Duration = Duration::from_secs(60);
/// The shortest time between two refreshes of a grant; a new token is used for this long whatever its lifetime, so that no
/// lifetime causes a refresh loop (L100).
pub(super) const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// Pause after a refresh that failed for now, where the server names none.
pub(super) const PAUSE_DEFAULT: Duration = Duration::from_secs(5);
/// Longest pause taken from `Retry-After`: after a minute it is worth asking again.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// What an authorization request says in its query, and what could replace all of it (RFC 9101).
pub(super) const AUTHORIZATION_PARAMETERS: [&str; 13] = [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "prompt",
    "redirect_uri",
    "request",
    "request_uri",
    "resource",
    "response_mode",
    "response_type",
    "scope",
    "state",
];
/// Longest query of a callback; codes of common servers have less than two thousand characters.
const CALLBACK_BYTES_MAX: usize = 16_384;
/// Longest account label.
const ACCOUNT_CHARS_MAX: usize = 120;
/// Longest reason that is stored or put into a return address.
const REASON_CHARS_MAX: usize = 40;

/// Where a flow returns when nothing else is asked for.
pub(super) const RETURN_DEFAULT: &str = "/me/connections";

/// A return address of ours: the path of a member's page, plain ASCII, without anything that a browser or proxy could
/// read as another host (L05). The empty text is the connections page.
pub(super) fn return_path(asked: &str) -> Option<&str> {
    if asked.is_empty() {
        return Some(RETURN_DEFAULT);
    }
    let plain = asked.len() <= limits::URL_BYTES_MAX
        && asked.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.'));
    let ours = asked == "/me" || asked.starts_with("/me/");
    let segments_plain =
        asked.trim_start_matches('/').trim_end_matches('/').split('/').all(|part| !matches!(part, "" | "." | ".."));
    (plain && ours && segments_plain && !asked.starts_with("//")).then_some(asked)
}

/// What the authorization server sent with the browser (RFC 6749 section 4.1.2, RFC 9207).
pub(super) struct CallbackParams {
    pub state: String,
    pub iss: Parameter,
    pub outcome: AuthorizationResult,
}

/// A parameter that may come once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Absent,
    Present(String),
    /// Twice with different values: nobody can say which is meant.
    Contradictory,
}

/// Code or refusal.
pub(super) enum AuthorizationResult {
    Code(Secret),
    Refused(String),
    /// Neither, both, or contradictory: a word for the return address.
    Unclear,
}

/// Reads a callback's query. Unknown parameters, equal repetitions and a trailing `#` are harmless (L10). `None` where
/// there is no one state.
pub(super) fn callback_answer(query: &str) -> Option<CallbackParams> {
    if query.len() > CALLBACK_BYTES_MAX {
        return None;
    }
    let query = query.trim_end_matches("#_=_").trim_end_matches("%23").trim_end_matches('#');
    let Parameter::Present(state) = parameter(query, "state") else { return None };
    let outcome = match (parameter(query, "code"), parameter(query, "error")) {
        (Parameter::Present(code), Parameter::Absent) => AuthorizationResult::Code(Secret::from_text(code)),
        (Parameter::Absent, Parameter::Present(error)) => AuthorizationResult::Refused(reason_code(&error)),
        _ => AuthorizationResult::Unclear,
    };
    Some(CallbackParams { state, iss: parameter(query, "iss"), outcome })
}

fn parameter(query: &str, name: &str) -> Parameter {
    url::form_urlencoded::parse(query.as_bytes()).filter(|(key, value)| key == name && !value.is_empty()).fold(
        Parameter::Absent,
        |found, (_, value)| match found {
            Parameter::Absent => Parameter::Present(value.into_owned()),
            Parameter::Present(before) if before == value => Parameter::Present(before),
            _ => Parameter::Contradictory,
        },
    )
}

/// The `iss` matrix (RFC 9207 section 2.4): present means byte-exact; absent is refused only where it was declared.
pub(super) fn issuer_agrees(sent: &Parameter, recorded: &str, declared: bool) -> bool {
    match sent {
        Parameter::Present(issuer) => issuer == recorded,
        Parameter::Absent => !declared,
        Parameter::Contradictory => false,
    }
}

/// A provider's error code as one plain word, or `provider_error` where it is none: the only text of theirs that is
/// stored, logged or shown.
pub(super) fn reason_code(code: &str) -> String {
    let plain = (1..=REASON_CHARS_MAX).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain { code.to_owned() } else { "provider_error".to_owned() }
}

/// Whether metadata's `resource` names this server: the same URL, or a path ancestor at the same origin (RFC 9728
/// section 3.3).
pub(super) fn resource_covers(resource: &str, server: &str) -> bool {
    if resource == server {
        return true;
    }
    let (Ok(resource), Ok(server)) = (Url::parse(resource), Url::parse(server)) else { return false };
    if resource.origin() != server.origin() || resource.query().is_some() || resource.fragment().is_some() {
        return false;
    }
    let ancestor = resource.path().trim_end_matches('/');
    match server.path().strip_prefix(ancestor) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Whether metadata that was read for `asked` speaks for it: byte for byte the same issuer (RFC 8414 section 3.3). The
/// slash of a bare origin alone may differ: frameworks that hold addresses as URLs add it, and both spellings lead to one
/// metadata document, so nobody else can answer for the other.
pub(super) fn issuer_named(named: &str, asked: &str) -> bool {
    let bare = |text: &str| Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
    let with_slash = |longer: &str, shorter: &str| longer.strip_suffix('/') == Some(shorter) && bare(shorter);
    named == asked || with_slash(named, asked) || with_slash(asked, named)
}

/// Which of these scopes were not granted.
pub(super) fn scopes_missing(required: &[String], granted: &[String]) -> Vec<String> {
    let granted: HashSet<&String> = granted.iter().collect();
    required.iter().filter(|scope| !granted.contains(scope)).cloned().collect()
}

/// What a failed token request means for the grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenRequestError {
    /// Try later; the grant lives.
    Transient {
        /// The request may have reached the server, so its answer may be lost.
        maybe_received: bool,
        /// What `Retry-After` said.
        pause: Duration,
        /// For people: which server, what.
        what: String,
    },
    /// The server does not accept our registration, with this word.
    ClientRefused(String),
    /// The server refused the grant, with this word.
    GrantRefused(String),
}

/// What a failed token request came back with.
pub(super) struct TokenErrorResponse<'a> {
    pub status: u16,
    /// The OAuth error code.
    pub code: Option<&'a str>,
    pub description: Option<&'a str>,
    pub retry_after: Option<&'a str>,
}

/// Reads a failed token request (RFC 6749 section 5.2). Only a 4xx with a code is definite; a page of a proxy is not the
/// authorization server's word.
pub(super) fn failure(host: &str, response: &TokenErrorResponse<'_>) -> TokenRequestError {
    let TokenErrorResponse { status, code, description, retry_after } = *response;
    let pause = retry_after
        .and_then(|text| text.trim().parse().ok())
        .map_or(PAUSE_DEFAULT, Duration::from_secs)
        .clamp(PAUSE_DEFAULT, PAUSE_MAX);
    let passing = ["temporarily_unavailable", "server_error", "slow_down", "too_many_requests"];
    match code {
        Some(code) if status != 429 && status < 500 && !passing.contains(&code) => {
            if refuses_client(code, description) {
                TokenRequestError::ClientRefused(reason_code(code))
            } else {
                TokenRequestError::GrantRefused(reason_code(code))
            }
        }
        _ => TokenRequestError::Transient {
            maybe_received: status != 429,
            pause,
            what: format!("{host} answered {status}"),
        },
    }
}

/// Whether an error is about our registration and not about the grant (RFC 6749 section 5.2). Atlassian says
/// `unauthorized_client` of a dead refresh token, and that it is the token in its description.
fn refuses_client(code: &str, description: Option<&str>) -> bool {
    let names_token = description.is_some_and(|text| text.to_ascii_lowercase().contains("token"));
    code == "invalid_client" || (code == "unauthorized_client" && !names_token)
}

/// What an account is called: the first usable text, else the issuer's host.
pub(super) fn account_label(named: Option<&str>, issuer: &str) -> String {
    let plain = |text: &&str| !text.trim().is_empty() && !text.chars().any(char::is_control);
    match named.filter(plain) {
        Some(text) => text.trim().chars().take(ACCOUNT_CHARS_MAX).collect(),
        None => host_of(issuer),
    }
}

/// Whether a new consent is of another account than the one before, as far as the issuer names them.
pub(super) fn another_account(before: &str, named: Option<&str>, issuer: &str) -> bool {
    let after = account_label(named, issuer);
    let unnamed = account_label(None, issuer);
    before != after && before != unnamed && after != unnamed
}

/// The host of a URL with its port, or the text itself where it has none.
pub(super) fn host_of(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_host() => url[Position::BeforeHost..Position::AfterPort].to_owned(),
        _ => text.to_owned(),
    }
}

/// Whether work of this requester may use this person's grant: their own alone. Work without a user never may; a
/// trigger's work will bring the proof of its owner with it.
pub(super) fn may_use(requester: &Requester, owner: UserId) -> bool {
    requester.user() == Some(owner)
}

/// The reason of grants that the database holds in an earlier state than they were in.
pub(super) const OUTDATED: &str = "outdated";

/// The reason of grants beside which the database was changed.
pub(super) const ALTERED: &str = "altered";

/// What the refresh decision looks at.
pub(super) struct Facts<'a> {
    /// Why the grant is dead, if it is.
    pub dead: Option<&'a str>,
    pub version: i64,
    /// Whether it is the last version that was stored.
    pub standing: Standing,
    pub expires_at: Option<Timestamp>,
    /// When the token was obtained.
    pub obtained_at: Timestamp,
    pub has_refresh_token: bool,
    /// A refresh runs, or the pause after one.
    pub blocked_until: Option<Timestamp>,
    /// The block is a running refresh.
    pub running: bool,
    pub forced_at: Option<Timestamp>,
}

/// Why a token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFreshness {
    /// For a call: it must not end within the minute.
    Any,
    /// The resource refused this version with 401.
    NewerThan(i64),
}

/// What to do for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Use,
    Refresh,
    /// Another refresh runs: its result is ours.
    Wait,
    /// The authorization server failed a moment ago.
    Pause,
    /// Only the owner can mend it.
    Dead(String),
}

/// Decides. The current token is used to its end where a refresh cannot be had (L18), and never past it (L20).
pub(super) fn next_step(facts: &Facts<'_>, freshness: TokenFreshness, now: Timestamp) -> Step {
    if let Some(reason) = facts.dead {
        return Step::Dead(reason.to_owned());
    }
    if facts.standing == Standing::Ended || (facts.standing == Standing::Older && !facts.has_refresh_token) {
        return Step::Dead(OUTDATED.to_owned());
    }
    // What an older database says of a grant may be long over: its issuer alone knows.
    let unchecked = facts.standing == Standing::Older;
    let refused = matches!(freshness, TokenFreshness::NewerThan(version) if version == facts.version);
    let alive = facts.expires_at.is_none_or(|end| end > now);
    let is_new = alive && facts.obtained_at <= now && now.since(facts.obtained_at) < REFRESH_INTERVAL_MIN;
    let due = !is_new && facts.expires_at.is_some_and(|end| end <= now.plus(REFRESH_AHEAD));
    if !due && !refused && !unchecked {
        return Step::Use;
    }
    if !facts.has_refresh_token {
        return match (refused, alive) {
            (true, _) => Step::Dead("token_refused".to_owned()),
            (false, true) => Step::Use,
            (false, false) => Step::Dead("expired".to_owned()),
        };
    }
    if facts.blocked_until.is_some_and(|until| until > now) {
        return match (facts.running, refused, alive) {
            (true, _, _) => Step::Wait,
            (false, false, true) if !unchecked => Step::Use,
            (false, _, _) => Step::Pause,
        };
    }
    let forced_lately = facts.forced_at.is_some_and(|at| now.since(at) < FORCED_REFRESH_EVERY && at <= now);
    if refused && forced_lately { Step::Dead("token_refused".to_owned()) } else { Step::Refresh }
}

/// The word a dead grant is stored with: a refused refresh after one whose answer was lost is reported as such, because
/// the token may have been rotated away.
pub(super) fn dead_reason(code: String, interrupted_before: bool) -> String {
    if interrupted_before && code == "invalid_grant" { "refresh_interrupted".to_owned() } else { code }
}

/// The sentence for an ended connection's audit event.
pub(super) const fn end_reason(ended: EndReason) -> &'static str {
    match ended {
        EndReason::ByOwner => "disconnected_by_owner",
        EndReason::ByOperator => "revoked_by_operator",
        EndReason::WithOwner => "owner_disabled",
        EndReason::WithTarget(reason) => reason,
    }
}
