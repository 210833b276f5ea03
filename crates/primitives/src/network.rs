//! Networks in CIDR notation, and whether an address lies in one.
//!
//! Invariant: no bit is set behind the prefix, so a network that was mistyped is refused and not widened.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// A network like `192.0.2.0/24`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use networks like 192.0.2.0/24 or 2001:db8::/32, without bits behind the prefix.")]
pub struct ParseNetworkError;

impl Network {
    /// Whether the address lies in it. An IPv4 address written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether every address of the other network lies in it.
    pub fn contains_network(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Its first address.
    pub fn first_address(&self) -> IpAddr {
        self.0.addr()
    }
}

/// The network that one customer has: an IPv4 address alone, or the /64 of an IPv6 address.
pub fn customer_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        // The address as the standard library reads it: it refuses leading zeros, which others read as octal.
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address = address.parse::<IpAddr>().map_err(|_| ParseNetworkError)?;
        let net = match prefix {
            Some(_) => text.parse::<IpNet>().map_err(|_| ParseNetworkError)?,
            None => IpNet::from(address),
        };
        if net.trunc() == net { Ok(Self(net)) } else { Err(ParseNetworkError) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_has_one_network() {
        let check = |address: &str, expect: &str| {
            assert_eq!(customer_network(address.parse().unwrap()).to_string(), expect);
        };
        check("203.0.113.7", "203.0.113.7");
        check("::ffff:203.0.113.7", "203.0.113.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }

    #[test]
    fn l68_networks_hold_their_addresses_and_no_others() {
        let holds =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && !holds("2001:db8::/32", "2001:db9::1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1") && !holds("::/0", "192.0.2.1"));
    }

    #[test]
    fn a_network_prints_and_reads_back_and_a_mistyped_one_is_refused() {
        for text in ["192.0.2.0/24", "192.0.2.7/32", "2001:db8::/32", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let wrong = ["", "x", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "2001:db8::1/32", "::/129"];
        let more = ["10.0.0.1/8", "fd00::/129", "ten/8", "10.0.0.0/8/8", " 10.0.0.0/8", "010.0.0.0/8"];
        for text in wrong.iter().chain(&more) {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
