//! Networks in CIDR notation, and whether an address lies in one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network like `192.0.2.0/24`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use networks like 192.0.2.0/24 or 2001:db8::/32, without bits behind the prefix.")]
pub struct ParseNetworkError;

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first `prefix` bits of an address, as a number.
fn bits(address: IpAddr, prefix: u8) -> u128 {
    let value = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    value.checked_shr(u32::from(width(address).saturating_sub(prefix))).unwrap_or(0)
}

impl Network {
    /// Whether the address lies in it. An IPv4 address written as IPv6 is the IPv4 address.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && bits(address, self.prefix) == bits(self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let prefix = match prefix {
            None => width(address),
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| ParseNetworkError)?
            }
            Some(_) => return Err(ParseNetworkError),
        };
        let network = Self { address, prefix };
        let host_bits_clear = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        }
        .trailing_zeros()
            >= u32::from(width(address).saturating_sub(prefix));
        if prefix <= width(address) && (host_bits_clear || bits(address, width(address)) == 0) {
            Ok(network)
        } else {
            Err(ParseNetworkError)
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
