//! People, sign-in, sessions, invitations, tokens, roles; implements `edge::Authenticate`.
//!
//! Invariants: passwords are kept as argon2id, sessions, tokens and codes as SHA-256, and each is shown once; a token
//! has one audience; disabling a person ends their sessions and tokens in the same transaction and their grants by
//! its job; a tenant always keeps an owner who can sign in. Every slice below may ask who somebody is; only this one makes proofs of identity.

mod authenticate;
mod authority;
mod codes;
pub mod http;
pub mod pages;
mod password;
mod people;
mod rules;
mod sessions;
mod sign_in;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use strum::{EnumString, IntoStaticStr};

use thinkwork_database::Db;
use thinkwork_primitives::{Audience, Clock, Role, Scope, Secret, SessionId, TenantId, Timestamp, TokenId, UserId};

use crate::edge::caller::BoxFuture;
use crate::edge::{InvalidField, NameMap, Named, NamedIds, idempotency};
use thinkwork_database::Tx;

pub use rules::check_password;

/// What can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing in the tenant, or the caller may not know of it.
    #[error("there is no such person, session or token")]
    NotFound,
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// Another tenant has this slug.
    #[error("the slug is taken")]
    SlugTaken,
    /// The tenant has a person with this e-mail.
    #[error("the e-mail is taken")]
    EmailTaken,
    /// E-mail and password do not belong together; also for unknown e-mails.
    #[error("the e-mail or the password is wrong")]
    WrongPassword,
    /// The same e-mail and password open several tenants.
    #[error("several tenants know this e-mail")]
    AmbiguousTenant,
    /// Too many tries.
    #[error("too many tries")]
    TooManyAttempts {
        /// Seconds until the next try.
        retry_after_seconds: u64,
    },
    /// Too many strangers try to sign in at once.
    #[error("too many sign-ins at once")]
    Busy {
        /// Seconds until the next try.
        retry_after_seconds: u64,
    },
    /// The code was used, has expired or never was.
    #[error("the code does not work any more")]
    CodeExpired,
    /// The person has accepted already, so no link may set their password.
    #[error("the person has set a password already")]
    AlreadyAccepted,
    /// The session's sign-in is too long ago for this act.
    #[error("a recent sign-in is needed")]
    ReauthRequired,
    /// A token asked for what only a person in a session may do.
    #[error("a session is needed")]
    NeedsSession,
    /// A member asked for what only operators may do.
    #[error("an operator is needed")]
    NeedsOperator,
    /// Somebody who is no owner touched an owner, or wanted to make one.
    #[error("only owners name and change owners")]
    OnlyOwners,
    /// The change would leave the tenant without an owner.
    #[error("the tenant would be left without an owner")]
    LastOwner,
    /// The caller was disabled, got another role or was signed out while the request ran.
    #[error("the caller may not do this any more")]
    AccessChanged,
    /// The person was changed since the caller read them.
    #[error("the person was changed meanwhile")]
    VersionConflict,
    #[error(transparent)]
    Idempotency(#[from] idempotency::Error),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Random(#[from] thinkwork_primitives::crypto::RandomError),
    /// Hashing a password failed.
    #[error("a password could not be hashed: {0}")]
    Hashing(String),
    #[error(transparent)]
    Database(#[from] thinkwork_database::Error),
    #[error(transparent)]
    Audit(#[from] crate::audit::Error),
}

/// A person of the tenant.
#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    /// Their e-mail as entered.
    pub email: String,
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they are locked out.
    pub disabled: bool,
    /// Whether they have set a password: whether the invitation was accepted.
    pub accepted: bool,
    /// When they were added.
    pub created_at: Timestamp,
    /// Counts changes, for `If-Match`.
    pub version: i64,
}

/// Somebody to invite.
pub struct NewUser {
    pub email: String,
    pub name: String,
    pub role: Role,
}

/// What to change about a person; `None` leaves it.
#[derive(Default)]
pub struct UserUpdate {
    pub name: Option<String>,
    pub role: Option<Role>,
    /// Lock out, or let in again.
    pub disabled: Option<bool>,
    /// The version the caller read, if they say it.
    pub if_version: Option<i64>,
}

/// Somebody who was invited, and the link that is shown this once.
pub struct Invited {
    pub user: User,
    /// Absolute, with the one-time code in it.
    pub invite_url: Secret,
    /// When the link stops working.
    pub expires_at: Timestamp,
}

/// What `thinkwork setup` made.
pub struct NewTenant {
    pub tenant: TenantId,
    pub owner: UserId,
    /// The code of the one-time set-up link, `/setup?code=…`; lives an hour.
    pub setup_code: Secret,
}

/// The browser or app at the other end, as far as it matters for a sign-in.
#[derive(Default)]
pub struct ClientInfo {
    /// Where it calls from, if the connection says.
    pub address: Option<IpAddr>,
    /// What it calls itself; shown in the list of sessions.
    pub user_agent: String,
    /// Its device cookie: it signed in as this person before.
    pub device: Option<String>,
    /// The session cookie that it had; that session ends with the new one.
    pub replaces: Option<String>,
}

/// A session that was just made: the cookie's value and the CSRF token.
pub struct NewSession {
    /// The value of the session cookie.
    pub cookie: Secret,
    /// The value of the device cookie, where a password was given.
    pub device: Option<String>,
    /// The token for forms and for `X-CSRF-Token`.
    pub csrf: String,
    /// The person who is signed in.
    pub user: UserId,
    pub session: SessionId,
}

/// One of a person's sessions, for the list.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    /// What the browser calls itself.
    pub user_agent: String,
    /// When the password was given.
    pub signed_in_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// Whether a token acts as its person or as nobody.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TokenKind {
    /// Acts as the person who made it.
    Personal,
    /// Acts as the tenant's own system: no person, so no person's credential.
    Service,
}

impl TokenKind {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A token as it may be shown: never the token itself.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: TokenId,
    /// What it is for, in its maker's words.
    pub name: String,
    /// As whom it acts.
    pub kind: TokenKind,
    /// Where it works.
    pub audience: Audience,
    /// How much it may do.
    pub scope: Scope,
    /// The person of a personal token.
    pub user: Option<UserId>,
    /// Its last four characters.
    pub last_four: String,
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// A token to make.
pub struct NewToken {
    pub name: String,
    /// As whom it acts.
    pub kind: TokenKind,
    /// Where it works.
    pub audience: Audience,
    /// How much it may do.
    pub scope: Scope,
    /// How long it works; the default is 90 days.
    pub expires_in: Option<Duration>,
}

/// A token that was just made, with the text that is shown this once.
pub struct CreatedToken {
    /// What is known of it from now on.
    pub token: Token,
    /// The bearer text.
    pub secret: Secret,
}

#[derive(Clone)]
pub struct Access {
    db: Db,
    clock: Clock,
    public_url: Arc<url::Url>,
    hashing: Arc<password::PasswordHashing>,
}

/// What the ids of this slice are called.
pub fn names<'a>(
    tx: &'a mut Tx,
    ids: &'a NamedIds,
    found: &'a mut NameMap,
) -> BoxFuture<'a, Result<(), thinkwork_database::Error>> {
    Box::pin(async move {
        for (id, name) in store::user_names(tx, &ids.users).await? {
            found.insert(Named::User(id), name);
        }
        for (id, name) in store::proof::token_names(tx, &ids.tokens).await? {
            found.insert(Named::Token(id), name);
        }
        Ok(())
    })
}

impl Access {
    /// Over this database; links that it makes begin with `public_url`.
    pub fn new(db: Db, clock: Clock, public_url: url::Url) -> Self {
        Self { db, clock, public_url: Arc::new(public_url), hashing: Arc::default() }
    }

    fn link(&self, path: &str, code: &Secret) -> Secret {
        let mut url = url::Url::clone(&self.public_url);
        url.set_path(path);
        url.set_query(None);
        url.query_pairs_mut().append_pair("code", code.expose_str().unwrap_or_default());
        Secret::from_text(url.into())
    }
}
