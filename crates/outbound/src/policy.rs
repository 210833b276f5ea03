//! What this deployment may reach beyond global unicast: set by its configuration, never by the API.
//!
//! Invariants: loopback is closed unless `allow_loopback`; only private, shared and unique local ranges can be opened,
//! metadata addresses never; plain http exists for loopback alone.

use std::net::IpAddr;

use thinkwork_primitives::Network;
use url::Host;

use crate::address::{self, AddressKind};
use crate::error::{Error, RefusalReason};

/// What the deployment allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// For development: `http://` and any port on loopback addresses and on the name `localhost`. The caller stops
    /// the start when this is set and `public_url` is not loopback.
    pub allow_loopback: bool,
    /// Private ranges that are reachable, over https: inside 10/8, 172.16/12, 192.168/16, 100.64/10 or fc00::/7.
    pub allowed_private: Vec<Network>,
    /// Ports that are reachable; 443 by default.
    pub ports: Vec<u16>,
    /// This deployment's own host, never reachable: `host` for all its ports or `host:port` for one. A loopback host
    /// needs its port, and then closes that port on every spelling of loopback.
    pub own_hosts: Vec<String>,
    /// Certificates in PEM that are trusted beside the platform's, for companies with their own authority.
    pub extra_roots_pem: Vec<Vec<u8>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow_loopback: false,
            allowed_private: Vec::new(),
            ports: vec![443],
            own_hosts: Vec::new(),
            extra_roots_pem: Vec::new(),
        }
    }
}

/// The ranges that may be opened, in whole or in part.
pub const OPENABLE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// Whether every address of the range is of a kind that may be opened.
fn is_openable(range: &Network) -> bool {
    let mut openable = OPENABLE.iter().filter_map(|text| text.parse::<Network>().ok());
    address::kind(range.first_address()).is_openable() && openable.any(|wide| wide.contains_network(range))
}

/// The policy after its own check: what the guard asks.
pub(crate) struct Rules {
    pub(crate) allow_loopback: bool,
    allowed_private: Vec<Network>,
    ports: Vec<u16>,
    own: Vec<OwnAddress>,
}

struct OwnAddress {
    host: Host<String>,
    port: Option<u16>,
}

impl Rules {
    pub(crate) fn new(policy: &Policy) -> Result<Self, Error> {
        if let Some(range) = policy.allowed_private.iter().find(|range| !is_openable(range)) {
            return Err(Error::Setup {
                detail: format!("the range {range} cannot be opened; name ranges inside {}", OPENABLE.join(", ")),
            });
        }
        let own = policy.own_hosts.iter().map(|text| parse_own(text)).collect::<Result<Vec<_>, _>>()?;
        if policy.allow_loopback && own.iter().any(|own| own.port.is_none() && is_loopback_host(&own.host)) {
            return Err(Error::Setup {
                detail: "this deployment's own loopback host must be given with its port, as in 127.0.0.1:8080, or \
                         allow_loopback would reach nothing"
                    .to_owned(),
            });
        }
        Ok(Self {
            allow_loopback: policy.allow_loopback,
            allowed_private: policy.allowed_private.clone(),
            ports: policy.ports.clone(),
            own,
        })
    }

    /// Whether the address may be connected to. `loopback_name` says that it was reached by a name for loopback (or
    /// is written out): loopback and its names belong together, so no other name leads there and they lead nowhere else.
    pub(crate) fn check_address(&self, ip: IpAddr, loopback_name: LoopbackName) -> Result<(), RefusalReason> {
        let kind = address::kind(ip);
        let reachable = match (kind, loopback_name) {
            (AddressKind::Loopback, LoopbackName::Yes | LoopbackName::Literal) => self.allow_loopback,
            (_, LoopbackName::Yes) => false,
            (AddressKind::Global, _) => true,
            (kind, _) => kind.is_openable() && self.allowed_private.iter().any(|range| range.contains(ip)),
        };
        if reachable { Ok(()) } else { Err(RefusalReason::Address(kind)) }
    }

    /// Whether the port may be connected to, where the host is not loopback.
    pub(crate) fn check_port(&self, port: u16) -> Result<(), RefusalReason> {
        if self.ports.contains(&port) { Ok(()) } else { Err(RefusalReason::Port(port)) }
    }

    /// Whether host and port are this deployment's own.
    pub(crate) fn is_own(&self, host: &Host<String>, port: u16) -> bool {
        self.own.iter().any(|own| {
            own.port.is_none_or(|own_port| own_port == port)
                && (own.host == *host || (is_loopback_host(&own.host) && is_loopback_host(host)))
        })
    }
}

/// How an address was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopbackName {
    /// By `localhost` or a name below it (RFC 6761 section 6.3).
    Yes,
    /// By any other name.
    No,
    /// The address itself stood in the URL.
    Literal,
}

impl LoopbackName {
    pub(crate) fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") { Self::Yes } else { Self::No }
    }
}

/// Whether the host is loopback by its name or number.
pub(crate) fn is_loopback_host(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => LoopbackName::of(name) == LoopbackName::Yes,
        Host::Ipv4(ip) => address::kind_v4(*ip) == AddressKind::Loopback,
        Host::Ipv6(ip) => address::kind_v6(*ip) == AddressKind::Loopback,
    }
}

fn parse_own(text: &str) -> Result<OwnAddress, Error> {
    let error = || Error::Setup {
        detail: format!("`{text}` is no host; write this deployment's host as `host` or `host:port`"),
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().map_err(|_| error())?)),
        _ => (text, None),
    };
    let host = Host::parse(host.trim_end_matches('.')).map_err(|_| error())?;
    Ok(OwnAddress { host, port })
}
