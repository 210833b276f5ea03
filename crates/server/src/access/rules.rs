//! Pure decisions: who may make, change and sign in what, and when.
//!
//! Invariant: no I/O and no clock here; `now` is an argument.

use std::net::IpAddr;
use std::time::Duration;

use thinkwork_primitives::{
    Audience, AuthMethod, Identity, Principal, Role, Scope, Secret, Timestamp, UserId, crypto, customer_network, limits,
};

use super::{Error, NewToken, TokenKind, User, UserUpdate};
use crate::edge::caller::may_configure;
use crate::edge::{InvalidField, validation};

/// A session that is not used this long ends.
pub(super) const SESSION_IDLE: Duration = Duration::from_secs(12 * 3_600);
/// A session ends this long after the sign-in, whatever happens.
pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
/// What changes who may do what needs a sign-in that is no older.
pub(super) const SIGN_IN_FRESH: Duration = Duration::from_secs(600);
/// "Last used" is written once in this time: a write with each request would cost more than it tells.
pub(super) const LAST_USED_STEP: Duration = Duration::from_secs(60);
/// How long the set-up link works.
pub(super) const SETUP_LIFETIME: Duration = Duration::from_secs(3_600);
/// How long an invitation works.
pub(super) const INVITATION_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// How long a token works that names no end.
const TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// How long any token works: a year, so that each is looked at again.
const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Shorter ends are typing mistakes.
const TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(60);
/// Shortest password: long enough that the throttle makes guessing hopeless.
const PASSWORD_CHARS_MIN: usize = 12;
/// Longest password: hashing costs the same, reading it should not.
const PASSWORD_BYTES_MAX: usize = 1_024;
/// Longest e-mail address (RFC 5321 section 4.5.3.1.3).
const EMAIL_BYTES_MAX: usize = 254;
/// Characters of a tenant's slug: a word in an address, not a sentence.
const SLUG_CHARS_MAX: usize = 40;
/// Longest name that a browser may give itself in our list.
const USER_AGENT_CHARS_MAX: usize = 200;

/// How every key of a throttle begins.
pub(super) const THROTTLE_PREFIX: &str = "sign_in:";
/// Tries are counted in windows of this many seconds.
pub(super) const THROTTLE_WINDOW_SECONDS: i64 = 300;
/// Tries from one address: an office behind one address still fits.
const ATTEMPTS_PER_ADDRESS: i64 = 100;
/// Tries for one account from one address.
const ATTEMPTS_PER_ACCOUNT_AND_ADDRESS: i64 = 10;
/// Tries for one account from everywhere: bounds a guess spread over many machines.
const ATTEMPTS_PER_ACCOUNT: i64 = 50;
/// Tries of a browser that signed in as this person before; counted apart, so that strangers cannot lock it out.
const ATTEMPTS_PER_DEVICE: i64 = 20;

/// One count that a try at signing in is held against.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    pub key: String,
    pub limit: i64,
}

/// The count of tries at the one account that knows this browser: whatever strangers do, the owner's own browser still
/// gets in.
pub(super) fn throttle_of_device(device: &str) -> Throttle {
    Throttle { key: format!("sign_in:device:{}", digest(&[device])), limit: ATTEMPTS_PER_DEVICE }
}

fn digest(parts: &[&str]) -> String {
    crypto::hex(&crypto::sha256(parts.join("\n").as_bytes()))
}

/// The counts of any other try, in the order in which they are taken: the account's own last, so that one flooding
/// address does not use it up.
pub(super) fn throttles(email_key: &str, address: Option<IpAddr>) -> [Throttle; 3] {
    let address = address.map_or_else(|| "unknown".to_owned(), |address| customer_network(address).to_string());
    [
        Throttle { key: format!("sign_in:address:{}", digest(&[&address])), limit: ATTEMPTS_PER_ADDRESS },
        Throttle {
            key: format!("sign_in:pair:{}", digest(&[email_key, &address])),
            limit: ATTEMPTS_PER_ACCOUNT_AND_ADDRESS,
        },
        Throttle { key: format!("sign_in:account:{}", digest(&[email_key])), limit: ATTEMPTS_PER_ACCOUNT },
    ]
}

/// The count of tries at one's own present password.
pub(super) fn throttle_of_change(user: UserId) -> Throttle {
    Throttle { key: format!("{THROTTLE_PREFIX}change:{user}"), limit: ATTEMPTS_PER_ACCOUNT_AND_ADDRESS }
}

/// The window that `now` is in.
pub(super) const fn throttle_window(now: Timestamp) -> i64 {
    now.seconds().div_euclid(THROTTLE_WINDOW_SECONDS)
}

/// Seconds until the next window.
pub(super) fn throttle_retry_after(now: Timestamp) -> u64 {
    u64::try_from(THROTTLE_WINDOW_SECONDS.saturating_sub(now.seconds().rem_euclid(THROTTLE_WINDOW_SECONDS)))
        .unwrap_or(1)
}

/// The device cookie that this password hash stands behind. It proves that the password was given in that browser
/// before; it signs nobody in, and a new password ends it.
pub(super) fn device_cookie(nonce: &str, phc: &str) -> String {
    format!("{nonce}.{}", crypto::base64url(&crypto::hmac_sha256(phc.as_bytes(), &[b"device", nonce.as_bytes()])))
}

/// Whether the device cookie belongs to the account with this password hash.
pub(super) fn device_holds(cookie: &str, phc: &str) -> bool {
    cookie
        .split_once('.')
        .is_some_and(|(nonce, _)| crypto::constant_time_eq(cookie.as_bytes(), device_cookie(nonce, phc).as_bytes()))
}

/// The CSRF token of a session: derived from the cookie, so that nothing is stored.
pub(super) fn csrf(cookie: &str) -> String {
    crypto::base64url(&crypto::hmac_sha256(cookie.as_bytes(), &[b"csrf"]))
}

/// Whether a session still works.
pub(super) fn is_session_live(now: Timestamp, last_seen_at: Timestamp, expires_at: Timestamp) -> bool {
    now < expires_at && now.since(last_seen_at) <= SESSION_IDLE
}

/// Whether "last used" is worth writing again.
pub(super) fn is_last_used_stale(now: Timestamp, last: Option<Timestamp>) -> bool {
    last.is_none_or(|last| now.since(last) >= LAST_USED_STEP)
}

/// A session must have been signed in to recently; a token was given its scope and needs no more.
pub(super) fn check_fresh(principal: &Principal, now: Timestamp) -> Result<(), Error> {
    match principal.auth {
        AuthMethod::Session { signed_in_at, .. } if now.since(signed_in_at) > SIGN_IN_FRESH => {
            Err(Error::ReauthRequired)
        }
        AuthMethod::Session { .. } | AuthMethod::Token { .. } => Ok(()),
        AuthMethod::Turn { .. } => Err(Error::NeedsSession),
    }
}

/// The same, and a token will not do: what is made may do more than the token, or outlive it.
pub(super) fn check_fresh_session(principal: &Principal, now: Timestamp) -> Result<(), Error> {
    match principal.auth {
        AuthMethod::Session { .. } => check_fresh(principal, now),
        AuthMethod::Token { .. } | AuthMethod::Turn { .. } => Err(Error::NeedsSession),
    }
}

/// Who may make which token, in a session signed in to recently: a person their own, an operator a service token.
pub(super) fn check_token(principal: &Principal, new: &NewToken, now: Timestamp) -> Result<(), Error> {
    let session = matches!((principal.identity, principal.auth), (Identity::User { .. }, AuthMethod::Session { .. }));
    match new.kind {
        // A token that acts as a person could consent to anything by making one with more rights.
        TokenKind::Personal if !session => return Err(Error::NeedsSession),
        TokenKind::Service if !may_configure(principal) => return Err(Error::NeedsOperator),
        // The person may be promoted one day; the token should not be promoted with them.
        TokenKind::Personal if new.scope == Scope::Admin && !may_configure(principal) => {
            return Err(Error::NeedsOperator);
        }
        TokenKind::Personal | TokenKind::Service => {}
    }
    if new.audience == Audience::Mcp && new.scope == Scope::Admin {
        return Err(InvalidField::new("scopes", "admin is not available for /mcp; use read or write.").into());
    }
    check_fresh_session(principal, now)
}

/// When a new token ends.
pub(super) fn token_expiry(now: Timestamp, expires_in: Option<Duration>) -> Result<Timestamp, Error> {
    let lifetime = expires_in.unwrap_or(TOKEN_LIFETIME_DEFAULT);
    if (TOKEN_LIFETIME_MIN..=TOKEN_LIFETIME_MAX).contains(&lifetime) {
        Ok(now.plus(lifetime))
    } else {
        Err(InvalidField::new("expires_in_seconds", "use 60 seconds to 366 days.").into())
    }
}

/// The widest of the scopes asked for; each holds those before it.
pub(super) fn widest(scopes: &[Scope]) -> Result<Scope, Error> {
    let none = || InvalidField::new("scopes", "name at least one of read, write, admin.").into();
    scopes.iter().copied().max().ok_or_else(none)
}

fn is_owner(principal: &Principal) -> bool {
    matches!(principal.identity, Identity::User { role: Role::Owner, .. })
}

/// Who may invite somebody with this role.
pub(super) fn check_invite(principal: &Principal, role: Role, now: Timestamp) -> Result<(), Error> {
    if !may_configure(principal) {
        return Err(Error::NeedsOperator);
    }
    if role == Role::Owner && !is_owner(principal) {
        return Err(Error::OnlyOwners);
    }
    if role > Role::Member { check_fresh_session(principal, now) } else { Ok(()) }
}

/// Who may change what about a person. `other_owners` counts enabled owners besides them who can sign in.
pub(super) fn check_change(
    principal: &Principal,
    target: &User,
    change: &UserUpdate,
    other_owners: u64,
    now: Timestamp,
) -> Result<(), Error> {
    if !may_configure(principal) {
        return Err(Error::NeedsOperator);
    }
    if change.if_version.is_some_and(|version| version != target.version) {
        return Err(Error::VersionConflict);
    }
    let owners_concerned = target.role == Role::Owner || change.role == Some(Role::Owner);
    if owners_concerned && !is_owner(principal) {
        return Err(Error::OnlyOwners);
    }
    let demoted = change.role.is_some_and(|role| role != Role::Owner);
    let disabled = change.disabled == Some(true);
    if target.role == Role::Owner && !target.disabled && (demoted || disabled) && other_owners == 0 {
        return Err(Error::LastOwner);
    }
    if change.role.is_some_and(|role| role != target.role) {
        check_fresh_session(principal, now)?;
    }
    if change.disabled.is_some() {
        let is_operator = target.role > Role::Member;
        if is_operator { check_fresh_session(principal, now)? } else { check_fresh(principal, now)? }
    }
    Ok(())
}

/// The e-mail as it is compared: without outer blanks, in lower case.
pub(super) fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

/// The e-mail to store, if it can be one.
pub(super) fn check_email(email: &str) -> Result<String, Error> {
    let email = email.trim();
    let plausible = email.len() <= EMAIL_BYTES_MAX
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email
            .split_once('@')
            .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if plausible {
        Ok(email.to_owned())
    } else {
        Err(InvalidField::new("email", "enter a valid email address, for example ana@acme.test.").into())
    }
}

/// The name to store.
pub(super) fn check_name(name: &str) -> Result<String, Error> {
    let name = validation::name(name).ok_or(InvalidField::new("name", "enter 1 to 120 characters."))?;
    Ok(name.to_owned())
}

/// The slug of a tenant.
pub(super) fn check_slug(slug: &str) -> Result<(), Error> {
    if validation::is_slug(slug, SLUG_CHARS_MAX) {
        Ok(())
    } else {
        Err(InvalidField::new("tenant", "use 1 to 40 of a-z, 0-9 and -, not at the ends.").into())
    }
}

/// A password to set.
pub fn check_password(password: &Secret) -> Result<(), Error> {
    let chars = password.expose_str().map_or(0, |text| text.chars().count());
    if chars >= PASSWORD_CHARS_MIN && password.expose().len() <= PASSWORD_BYTES_MAX {
        Ok(())
    } else {
        Err(InvalidField::new("password", "use at least 12 characters.").into())
    }
}

/// What a browser calls itself, cut to what a list shows.
pub(super) fn user_agent(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect()
}

/// A browser in the words of its user, like `Firefox on Windows`; what is not known is called as it calls itself.
pub(super) fn browser_name(user_agent: &str) -> String {
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    // Order matters: most browsers also name those that they descend from.
    let browser = find(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) if user_agent.is_empty() => "Unknown browser".to_owned(),
        (None, _) => user_agent.to_owned(),
    }
}

/// Where to go after signing in: a path of this site, or its start.
///
/// Refused are other origins in every spelling that browsers take for one: `//host`, `/\host`, control characters
/// that browsers drop, dots that climb, and anything outside ASCII.
pub(super) fn next_path(next: Option<&str>) -> &str {
    let Some(path) = next else { return "/" };
    let place = path.split(['?', '#']).next().unwrap_or_default();
    let fine = path.starts_with('/')
        && !place.contains("//")
        && !place.split('/').any(|part| matches!(part, "." | ".."))
        && path.len() <= limits::URL_BYTES_MAX
        && path.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'\\')
        && !path.starts_with("/sign-in")
        && !path.starts_with("/sign-out");
    if fine { path } else { "/" }
}

#[cfg(test)]
mod tests;
