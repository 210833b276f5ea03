//! Why an upstream did not do what was asked, and what that means for the caller.

use std::fmt;

use rmcp::model::ProtocolVersion;
use thinkwork_outbound::Error as OutboundError;

use crate::oauth::BearerChallenge;
use crate::tools::LeftOutReason;

/// Why an upstream did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No answer came through the network, or the guard refused the address.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The deadline passed.
    #[error("the server did not answer in time; try again later")]
    Timeout,
    /// Whoever asked no longer wants the answer.
    #[error("the call was cancelled before the server answered")]
    Cancelled,
    /// 401.
    #[error("the server asks for authorization")]
    Unauthorized {
        /// Its `Bearer` challenge, if it sent one.
        challenge: Option<BearerChallenge>,
    },
    /// 403 with `insufficient_scope` (RFC 6750 section 3.1).
    #[error("the server requires {}", scopes_text(.scopes))]
    InsufficientScope {
        /// The scopes that it asks for; empty where it names none.
        scopes: Vec<String>,
    },
    /// Another status, without a JSON-RPC error.
    #[error("{}", StatusText(*.0))]
    Status(u16),
    /// A JSON-RPC error, in the server's words.
    #[error("the server refused: {message}")]
    Refused {
        /// The HTTP status that it came with.
        status: u16,
        /// The JSON-RPC code.
        code: i64,
        /// The server's words, shortened.
        message: String,
        /// The protocol versions that it says it speaks, where it refuses one (-32022).
        supported: Vec<String>,
    },
    /// What came is not the protocol.
    #[error("the server does not speak MCP as expected: {0}")]
    Protocol(String),
    /// The server speaks only versions that are not spoken here.
    #[error("the server speaks only protocol {0}, which is not supported")]
    Version(String),
}

/// What an HTTP status means for whoever looks after the server.
struct StatusText(u16);

impl fmt::Display for StatusText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        match status {
            300..=399 => write!(f, "the server redirects to another address (HTTP {status}); register that address"),
            403 => write!(f, "the server refused access (HTTP 403); the account or key may lack a permission"),
            404 | 405 | 410 => write!(f, "there is no MCP endpoint at this address (HTTP {status}); check the address"),
            413 => write!(f, "the request is too large for the server (HTTP 413)"),
            429 => write!(f, "the server limits requests (HTTP 429); try again later"),
            500.. => write!(f, "the server failed (HTTP {status}); try again later"),
            _ => write!(f, "the server answered HTTP {status}; check its address"),
        }
    }
}

fn scopes_text(scopes: &[String]) -> String {
    match scopes {
        [] => "a scope that was not granted, and does not say which".to_owned(),
        [one] => format!("the scope {one}"),
        many => format!("the scopes {}", many.join(", ")),
    }
}

/// MCP 2026-07-28: unsupported protocol version.
const UNSUPPORTED_VERSION: i64 = -32_022;
/// MCP 2026-07-28: a header that contradicts the body, also one that is missing.
const HEADER_MISMATCH: i64 = -32_020;

impl UpstreamError {
    /// Whether the server may have done what was asked although no answer says so.
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::Timeout | Self::Cancelled => true,
            Self::Outbound(error) => matches!(
                error,
                OutboundError::Timeout { .. } | OutboundError::Broken { .. } | OutboundError::TooLarge { .. }
            ),
            Self::Status(status) => *status >= 500,
            Self::Protocol(_) => true,
            Self::Unauthorized { .. } | Self::InsufficientScope { .. } | Self::Refused { .. } | Self::Version(_) => {
                false
            }
        }
    }

    /// Whether it says that it speaks this version all the same.
    pub(super) fn supports(&self, version: &ProtocolVersion) -> bool {
        matches!(self, Self::Refused { supported, .. } if supported.iter().any(|named| named == version.as_str()))
    }

    /// Why its tools are left out.
    pub(crate) fn reason(&self) -> LeftOutReason {
        match self {
            Self::Timeout | Self::Outbound(OutboundError::Timeout { .. }) => LeftOutReason::Timeout,
            Self::Unauthorized { .. } => LeftOutReason::NeedsConnection,
            Self::Version(_) | Self::Protocol(_) => LeftOutReason::NotSupported,
            Self::Outbound(_)
            | Self::Cancelled
            | Self::Status(_)
            | Self::Refused { .. }
            | Self::InsufficientScope { .. } => LeftOutReason::Unreachable,
        }
    }

    /// Whether the session is not to be used again. A refusal is an answer, and a cancelled call is our own doing.
    pub(super) fn ends_session(&self) -> bool {
        !matches!(
            self,
            Self::Cancelled | Self::Refused { .. } | Self::Unauthorized { .. } | Self::InsufficientScope { .. }
        )
    }

    /// Whether the server may refuse the session and not the request: servers say it with 400, 404 or 410, with several
    /// JSON-RPC codes, and some within a 200 (L89). Such a request was not carried out.
    pub(super) fn may_refuse_session(&self) -> bool {
        match self {
            Self::Status(status) => matches!(*status, 400 | 404 | 410),
            Self::Refused { status, code, message, .. } => {
                let is_about_request = matches!(*code, -32_602 | -32_601);
                let is_session_status = matches!(*status, 404 | 410) || (*status == 400 && !is_about_request);
                is_session_status
                    || matches!(*code, UNSUPPORTED_VERSION | HEADER_MISMATCH)
                    || speaks_of_session(message)
            }
            _ => false,
        }
    }

    /// Whether a server that knows only another way to begin would answer the first request like this. Whoever wants
    /// authorization, or less of it now, says so in either way.
    pub(super) fn may_begin_otherwise(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Protocol(_) | Self::Version(_) | Self::Timeout => true,
            Self::Status(status) => !matches!(*status, 403 | 429),
            Self::Outbound(_) | Self::Cancelled | Self::Unauthorized { .. } | Self::InsufficientScope { .. } => false,
        }
    }
}

fn speaks_of_session(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("session") || message.contains("initializ")
}
