//! Whose limit a request is counted against.

use std::net::IpAddr;

use thinkwork_primitives::{AuthMethod, Principal, TokenId, TurnId, UserId, crypto};

/// How the key of each begins in the database.
pub(super) const KEY_PREFIX: &str = "request:";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RateLimitKey {
    Token(TokenId),
    Turn(TurnId),
    /// A person in their sessions.
    Person(UserId),
    /// Whoever proves nothing: an IPv4 address or an IPv6 network of 64 bits; `None` where the listener does not say.
    Address(Option<IpAddr>),
    /// All addresses that came when too many were there to tell them apart.
    OtherAddresses,
}

impl RateLimitKey {
    pub(super) fn of(principal: &Principal) -> Self {
        match (principal.auth, principal.user()) {
            (AuthMethod::Token { id, .. }, _) => Self::Token(id),
            (AuthMethod::Turn { id }, _) => Self::Turn(id),
            (AuthMethod::Session { .. }, Some(user)) => Self::Person(user),
            // No session is without a person.
            (AuthMethod::Session { .. }, None) => Self::Address(None),
        }
    }

    /// Under what it is counted in the database, which is told no address in clear.
    pub(super) fn stored(self) -> String {
        let of = |kind: &str, id: &dyn std::fmt::Display| format!("{KEY_PREFIX}{kind}:{id}");
        match self {
            Self::Token(id) => of("token", &id),
            Self::Turn(id) => of("turn", &id),
            Self::Person(id) => of("person", &id),
            Self::Address(Some(address)) => {
                of("address", &crypto::hex(&crypto::sha256(address.to_string().as_bytes())))
            }
            Self::Address(None) => of("address", &"unknown"),
            Self::OtherAddresses => of("address", &"others"),
        }
    }
}
