//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of every address that has one.
pub(super) struct AddressCounts {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One counted connection; dropped with it.
pub(super) struct Counted {
    counts: Arc<AddressCounts>,
    address: IpAddr,
}

impl AddressCounts {
    /// At most so many for each.
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: Mutex::default() }
    }

    /// Counts one more from this address; `None` where it has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let address = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Counted { counts: Arc::clone(self), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = open.get_mut(&self.address) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            open.remove(&self.address);
        }
    }
}

/// Whoever has an IPv6 address has its network of 64 bits as well (RFC 6177), so that counts as one.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_more_than_its_places_and_gets_them_back() {
        let counts = Arc::new(AddressCounts::new(2));
        let enter = |text: &str| counts.enter(text.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another address is not concerned");
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop(second);
        assert!(counts.open.lock().unwrap().is_empty(), "nothing is kept of who has left");
        let _first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "a network of 64 bits is one sender");
        assert!(enter("2001:db8:0:1::1").is_some());
    }
}
