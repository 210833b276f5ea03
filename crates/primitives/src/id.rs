//! One newtype per kind of record, all UUIDv7 inside, printed as a prefix and 26 Crockford base32 digits.
//!
//! Invariant: the printed form of a kind never parses as another kind. Any crate may use these.

use std::fmt;
use std::str::FromStr;
use strum::{EnumString, IntoStaticStr, VariantArray};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is not an id of the asked kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {expected}…")]
pub struct ParseIdError {
    pub(crate) expected: &'static str,
}

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIGIT_COUNT: u32 = 26;

fn encode(uuid: Uuid) -> String {
    let value = uuid.as_u128();
    (0..DIGIT_COUNT)
        .rev()
        .filter_map(|place| {
            let digit = usize::try_from((value >> (place * 5)) & 31).ok()?;
            DIGITS.get(digit).map(|&byte| char::from(byte))
        })
        .collect()
}

fn decode(text: &str) -> Option<Uuid> {
    if text.len() != 26 {
        return None;
    }
    let mut value: u128 = 0;
    for (place, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|&known| known == byte)?;
        // The first digit carries three bits only: 26 digits are 130 bits.
        if place == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | u128::try_from(digit).ok()?;
    }
    Some(Uuid::from_u128(value))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by creation time.
            #[expect(clippy::new_without_default, reason = "each call gives another id; a default would hide that")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with this value, as stored.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The value to store.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(decode)
                    .map(Self)
                    .ok_or(ParseIdError { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A company.
    TenantId "ten_";
    /// A person of a tenant.
    UserId "usr_";
    /// A browser session of a user.
    SessionId "ses_";
    /// A bearer token.
    TokenId "tok_";
    /// An invitation of a person to a tenant.
    InvitationId "inv_";
    /// A workroom.
    SpaceId "spc_";
    /// One message of a thread.
    MessageId "msg_";
    /// One execution of the agent.
    TurnId "trn_";
    /// One model call or tool call of a turn.
    StepId "stp_";
    /// Sealed secret material.
    CredentialId "crd_";
    /// An OAuth authorization server that a tenant configured.
    ProviderId "prv_";
    /// One attempt to get a grant.
    FlowId "flw_";
    /// One user's consented grant.
    ConnectionId "con_";
    /// A client registration at one issuer.
    OauthClientId "ocl_";
    /// A tenant's registration of a remote MCP endpoint.
    McpServerId "mcp_";
    /// A set of tools that ThinkWork itself brings.
    BuiltInSetId "bis_";
    /// A mounted extension.
    ExtensionId "ext_";
    /// An explicit inbound endpoint of a Space.
    WebhookId "whk_";
    /// One request that reached a webhook.
    DeliveryId "dlv_";
    /// A member's rule that sends events of a connection to a Space.
    TriggerId "trg_";
    /// One audit event.
    AuditId "aud_";
    /// One queued job.
    JobId "job_";
}

/// Where the first message of a thread came from; part of the thread's printed id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Channel {
    /// A person wrote.
    Chat,
    /// A webhook delivered.
    Hook,
    /// A mail trigger fired.
    Mail,
    /// A calendar trigger fired.
    Cal,
    /// A schedule fired.
    Auto,
    /// An extension asked.
    Ext,
}

impl Channel {
    /// The word in the API and in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    const fn code(self) -> u128 {
        match self {
            Self::Chat => 0,
            Self::Hook => 1,
            Self::Mail => 2,
            Self::Cal => 3,
            Self::Auto => 4,
            Self::Ext => 5,
        }
    }
}

/// The low bits of a thread's UUID that hold its channel, so that the id alone prints itself.
const CHANNEL_BITS: u128 = 7;

/// A thread, printed as `<CHANNEL>-<26 digits>`.
///
/// Invariant: the three lowest bits of the value are the channel's code, so a thread id needs no look-up to print.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(Uuid);

impl ThreadId {
    /// A new id for a thread that begins on `channel`.
    pub fn new(channel: Channel) -> Self {
        let value = (Uuid::now_v7().as_u128() & !CHANNEL_BITS) | channel.code();
        Self(Uuid::from_u128(value))
    }

    /// The id with this value, as stored.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The value to store.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// Where the thread began.
    pub fn channel(self) -> Channel {
        let code = self.0.as_u128() & CHANNEL_BITS;
        Channel::VARIANTS.iter().copied().find(|channel| channel.code() == code).unwrap_or(Channel::Ext)
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.channel().as_str(), encode(self.0))
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ThreadId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = ParseIdError { expected: "CHAT-" };
        let (word, digits) = text.split_once('-').ok_or(refused)?;
        let channel = word.parse::<Channel>().map_err(|_| refused)?;
        let id = decode(digits).map(Self).ok_or(refused)?;
        if id.0.as_u128() & CHANNEL_BITS == channel.code() { Ok(id) } else { Err(refused) }
    }
}

impl Serialize for ThreadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ThreadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_back_and_no_other_kind_takes_it() {
        let id = SpaceId::new();
        let text = id.to_string();
        assert_eq!(text.len(), 30);
        assert_eq!(text.parse(), Ok(id));
        assert!(text.parse::<UserId>().is_err());
        for wrong in ["", "spc_", "spc_0", "spc_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "spc_01arz3ndektsv4rrffq69g5fav"] {
            assert!(wrong.parse::<SpaceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_thread_id_carries_its_channel_and_refuses_another() {
        for channel in Channel::VARIANTS.iter().copied() {
            let id = ThreadId::new(channel);
            let text = id.to_string();
            assert!(text.starts_with(channel.as_str()));
            assert_eq!(text.parse(), Ok(id));
        }
        let chat = ThreadId::new(Channel::Chat).to_string();
        assert!(chat.replacen("CHAT", "HOOK", 1).parse::<ThreadId>().is_err());
    }
}
