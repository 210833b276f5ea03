//! Why an upstream did not do what was asked, and what that means for the caller.

use thinkwork_outbound::Error as OutboundError;

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
    /// 401; the challenge it came with.
    #[error("the server asks for authorization")]
    Unauthorized {
        /// `WWW-Authenticate`.
        challenge: Option<String>,
    },
    /// Another status, without a JSON-RPC error.
    #[error("the server answered HTTP {0}; check its address")]
    Status(u16),
    /// A JSON-RPC error, in the server's words.
    #[error("the server refused: {message}")]
    Refused {
        /// The JSON-RPC code.
        code: i64,
        /// The server's words, shortened.
        message: String,
    },
    /// What came is not the protocol.
    #[error("the server does not speak MCP as expected: {0}")]
    Protocol(String),
    /// The server speaks only versions that are not spoken here.
    #[error("the server speaks only protocol {0}, which is not supported")]
    Version(String),
    /// The server forgot the session; nothing was done.
    #[error("the server ended the session")]
    SessionGone,
}

/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32_601;
/// MCP 2026-07-28: unsupported protocol version.
const UNSUPPORTED_VERSION: i64 = -32_022;
/// JSON-RPC: invalid request; what some servers say to a handshake they no longer know.
const INVALID_REQUEST: i64 = -32_600;

impl UpstreamError {
    /// Whether the server may have done what was asked although no answer says so.
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::Timeout => true,
            Self::Outbound(error) => matches!(
                error,
                OutboundError::Timeout { .. } | OutboundError::Broken { .. } | OutboundError::TooLarge { .. }
            ),
            Self::Status(status) => *status >= 500,
            Self::Protocol(_) => true,
            Self::Unauthorized { .. } | Self::Refused { .. } | Self::Version(_) | Self::SessionGone => false,
        }
    }

    /// Why its tools are left out.
    pub(crate) fn reason(&self) -> LeftOutReason {
        match self {
            Self::Timeout | Self::Outbound(OutboundError::Timeout { .. }) => LeftOutReason::Timeout,
            Self::Unauthorized { .. } => LeftOutReason::NeedsConnection,
            Self::Version(_) | Self::Protocol(_) => LeftOutReason::NotSupported,
            Self::Outbound(_) | Self::Status(_) | Self::Refused { .. } | Self::SessionGone => {
                LeftOutReason::Unreachable
            }
        }
    }

    /// Whether the session is not to be used again. A refusal is an answer: the session is well.
    pub(super) fn ends_session(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Unauthorized { .. })
    }

    /// Whether a server without a handshake would answer `initialize` like this.
    pub(super) fn may_be_of_newer_server(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(*code, METHOD_NOT_FOUND | UNSUPPORTED_VERSION | INVALID_REQUEST),
            Self::Status(status) => matches!(*status, 400 | 404 | 405),
            Self::Version(_) => true,
            _ => false,
        }
    }
}
