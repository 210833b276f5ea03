//! What can go wrong between this deployment and another server, in words that name the next step.
//!
//! Invariant: no message holds a secret, a path or a query string; a host is all that is shown of a URL, and nothing
//! of one that could not be read.

use std::error::Error as StdError;
use std::io;

use crate::address::AddressKind;
use crate::resolve::GuardError;

/// Why a request did not end with a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The guard let it not out; asking again changes nothing.
    #[error("{url_host} was refused: {why}")]
    Refused {
        /// The host of the URL, or `the address` where it has none that could be read.
        url_host: String,
        /// Which rule refused it.
        why: RefusalReason,
    },
    /// The deadline passed, or a stream stood still. The request may have been received.
    #[error("{url_host} did not respond in time; try again later")]
    Timeout {
        /// The host that was asked.
        url_host: String,
    },
    /// No connection came about, so nothing was sent.
    #[error(
        "cannot connect to {url_host}: {detail}; check the host name and that the server is running, then try again"
    )]
    Connect {
        /// The host that was asked.
        url_host: String,
        /// What the operating system says.
        detail: String,
    },
    /// The server's certificate or its TLS is not acceptable, so nothing was sent.
    #[error(
        "cannot connect securely to {url_host}: {detail}; check its certificate, or add its root certificate to this server"
    )]
    Tls {
        /// The host that was asked.
        url_host: String,
        /// What the TLS library says.
        detail: String,
    },
    /// The connection broke, or what came is no HTTP. The request may have been received.
    #[error("the connection to {url_host} was lost before the response was complete; try again later")]
    Broken {
        /// The host that was asked.
        url_host: String,
    },
    /// The answer is larger than the caller takes.
    #[error("the response of {url_host} is larger than {bytes_max} bytes")]
    TooLarge {
        /// The host that was asked.
        url_host: String,
        /// The limit.
        bytes_max: usize,
    },
    /// A header is not to be sent; its value is not shown.
    #[error(
        "the header `{name}` cannot be sent; use printable characters without line breaks, and no connection header"
    )]
    InvalidHeader {
        /// The header's name, or `?` where the name itself is not one.
        name: String,
    },
    /// The body could not be written as, or read as, what was asked for.
    #[error("the response is not the expected JSON; check the URL")]
    Json,
    /// The client cannot be made from its policy: reported at the start.
    #[error("outbound requests cannot be set up: {detail}")]
    Setup {
        /// What to change.
        detail: String,
    },
}

/// Which rule of the guard refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// No absolute URL.
    #[error("not a valid URL; enter a full URL, for example https://example.com/path")]
    NotAUrl,
    /// Longer than `URL_BYTES_MAX`.
    #[error("the URL is too long")]
    TooLong,
    /// Another scheme than https.
    #[error("only https:// URLs are allowed")]
    Scheme,
    /// White space, control characters or a backslash.
    #[error("the URL contains a space, a control character or a backslash; remove it")]
    Characters,
    /// `user:password@`.
    #[error("the URL contains a user name; enter credentials in their own field")]
    UserInfo,
    /// A host that reads otherwise than it is written: odd IPv4 spellings, zone ids, trailing dots, other scripts.
    #[error("the host name is not valid; use a plain host name (in xn-- form) or IP address")]
    HostSpelling,
    /// A port that the deployment does not list, or an odd spelling of one.
    #[error("port {0} is not allowed; use port 443, or ask the person who runs this server to allow it")]
    Port(u16),
    /// An address that is not reachable.
    #[error("it resolves to {0}, which is not allowed; ask the person who runs this server to allow it")]
    Address(AddressKind),
    /// This deployment itself.
    #[error("it is this server's own host")]
    OwnHost,
    /// A redirect to another origin.
    #[error("it redirects to another origin; register the address it redirects to")]
    RedirectOrigin,
    /// More redirects than are followed.
    #[error("it redirects more than three times; register the last address")]
    RedirectCount,
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Connect { .. } | Self::Broken { .. })
    }

    /// Whether the request certainly never reached the server, so that sending it again cannot do it twice.
    pub fn never_left(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Connect { .. }
                | Self::Tls { .. }
                | Self::InvalidHeader { .. }
                | Self::Setup { .. }
        )
    }

    pub(crate) fn refused(host: &str, why: RefusalReason) -> Self {
        Self::Refused { url_host: host.to_owned(), why }
    }

    pub(crate) fn lookup(host: &str) -> Self {
        Self::Connect { url_host: host.to_owned(), detail: "its name has no address".to_owned() }
    }

    /// Reads the library's error, of which only kinds are taken: its text would show the URL.
    pub(crate) fn from_reqwest(host: &str, error: &reqwest::Error) -> Self {
        let url_host = host.to_owned();
        let causes = Causes::of(error);
        if let Some(why) = causes.refusal {
            return Self::Refused { url_host, why };
        }
        if error.is_connect() {
            // A TLS error after the handshake, as of a server that wants a client certificate, comes when the request
            // has left and counts as broken.
            if let Some(detail) = causes.tls {
                return Self::Tls { url_host, detail };
            }
            if causes.lookup {
                return Self::lookup(host);
            }
            let detail = causes.io.map_or_else(|| "it was not answered".to_owned(), |kind| kind.to_string());
            return Self::Connect { url_host, detail };
        }
        if error.is_timeout() {
            return Self::Timeout { url_host };
        }
        Self::Broken { url_host }
    }
}

/// What lies below a library's error.
#[derive(Default)]
struct Causes {
    refusal: Option<RefusalReason>,
    tls: Option<String>,
    lookup: bool,
    io: Option<io::ErrorKind>,
}

impl Causes {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut causes = Self::default();
        let mut next = Some(error);
        while let Some(error) = next {
            match error.downcast_ref::<GuardError>() {
                Some(GuardError::Refused(why)) => causes.refusal = Some(why.clone()),
                Some(GuardError::Lookup) => causes.lookup = true,
                None => {}
            }
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                causes.tls = Some(error.to_string());
            }
            next = match error.downcast_ref::<io::Error>() {
                Some(error) => {
                    causes.io = Some(error.kind());
                    // `source` of an io::Error skips the error it wraps.
                    error.get_ref().map(|inner| -> &(dyn StdError + 'static) { inner })
                }
                None => error.source(),
            };
        }
        causes
    }
}
