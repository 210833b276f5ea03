//! What this deployment may reach beyond global unicast: set by its configuration, never by the API.
//!
//! Invariants: loopback is closed unless `allow_loopback`; only private, shared and unique local ranges can be opened,
//! metadata addresses never; plain http exists for loopback alone.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Host;

use crate::address::{self, Kind, prefix_v4, prefix_v6};
use crate::error::{Error, Why};

/// What the deployment allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// For development: `http://` and any port on loopback addresses and on the name `localhost`. The caller stops
    /// the start when this is set and `public_url` is not loopback.
    pub allow_loopback: bool,
    /// Private ranges that are reachable, over https: inside 10/8, 172.16/12, 192.168/16, 100.64/10 or fc00::/7.
    pub allowed_private: Vec<Cidr>,
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

/// A range of addresses, as in `10.0.0.0/8`; an address alone is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// The text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address range; write it like 10.0.0.0/8, without bits behind the prefix")]
pub struct CidrError(String);

impl Cidr {
    /// Whether the address lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => prefix_v4(ip, self.bits) == base.to_bits(),
            (IpAddr::V6(base), IpAddr::V6(ip)) => prefix_v6(ip, self.bits) == base.to_bits(),
            _ => false,
        }
    }

    /// Whether every address of the range is of a kind that may be opened. The openable ranges are prefixes
    /// themselves, so a range lies inside when its base does and it is not wider.
    fn is_openable(&self) -> bool {
        let bits_min = match (address::kind(self.base), self.base) {
            (Kind::Private, IpAddr::V4(ip)) => match ip.octets() {
                [10, ..] => 8,
                [172, ..] => 12,
                _ => 16,
            },
            (Kind::Shared, _) => 10,
            (Kind::UniqueLocal, _) => 7,
            _ => return false,
        };
        self.bits >= bits_min
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| error())?;
        let (bits_max, whole) = match base {
            IpAddr::V4(ip) => (32, prefix_v4(ip, bits.unwrap_or(32)) == ip.to_bits()),
            IpAddr::V6(ip) => (128, prefix_v6(ip, bits.unwrap_or(128)) == ip.to_bits()),
        };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max || !whole {
            return Err(error());
        }
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// The policy after its own check: what the guard asks.
pub(crate) struct Rules {
    pub(crate) allow_loopback: bool,
    allowed_private: Vec<Cidr>,
    ports: Vec<u16>,
    own: Vec<Own>,
}

struct Own {
    host: Host<String>,
    port: Option<u16>,
}

impl Rules {
    pub(crate) fn new(policy: &Policy) -> Result<Self, Error> {
        if let Some(range) = policy.allowed_private.iter().find(|range| !range.is_openable()) {
            return Err(Error::Setup {
                detail: format!(
                    "the range {range} cannot be opened; name ranges inside 10.0.0.0/8, 172.16.0.0/12, \
                     192.168.0.0/16, 100.64.0.0/10 or fc00::/7"
                ),
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
    pub(crate) fn check_address(&self, ip: IpAddr, loopback_name: LoopbackName) -> Result<(), Why> {
        let kind = address::kind(ip);
        let reachable = match (kind, loopback_name) {
            (Kind::Loopback, LoopbackName::Yes | LoopbackName::Literal) => self.allow_loopback,
            (_, LoopbackName::Yes) => false,
            (Kind::Global, _) => true,
            (kind, _) => kind.is_openable() && self.allowed_private.iter().any(|range| range.contains(ip)),
        };
        if reachable { Ok(()) } else { Err(Why::Address(kind)) }
    }

    /// Whether the port may be connected to, where the host is not loopback.
    pub(crate) fn check_port(&self, port: u16) -> Result<(), Why> {
        if self.ports.contains(&port) { Ok(()) } else { Err(Why::Port(port)) }
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
        Host::Ipv4(ip) => address::kind_v4(*ip) == Kind::Loopback,
        Host::Ipv6(ip) => address::kind_v6(*ip) == Kind::Loopback,
    }
}

fn parse_own(text: &str) -> Result<Own, Error> {
    let error = || Error::Setup {
        detail: format!("`{text}` is no host; write this deployment's host as `host` or `host:port`"),
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().map_err(|_| error())?)),
        _ => (text, None),
    };
    let host = Host::parse(host.trim_end_matches('.')).map_err(|_| error())?;
    Ok(Own { host, port })
}
