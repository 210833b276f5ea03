//! Requests to one webhook that proved nothing, by address: whoever sends many of them waits, and nobody else does.
//!
//! Invariants: what is proved never waits here; bounded, and of this process and minute alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use thinkwork_primitives::{Timestamp, customer_network};

use super::limit::window;

/// Requests of one address in a minute that are answered with why they prove nothing.
const PER_ADDRESS_MAX: u32 = 60;
/// Addresses that are told apart; the rest are counted as one.
const ADDRESSES_MAX: usize = 10_000;

/// The counts of one webhook.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    minute: i64,
    by_network: HashMap<Option<IpAddr>, u32>,
}

impl Strangers {
    /// Counts a request that proved nothing; false where its address has sent too many of them in this minute.
    pub(crate) fn count(&self, address: Option<IpAddr>, now: Timestamp) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = window(now);
        if minute != counts.minute {
            *counts = Counts { minute, by_network: HashMap::new() };
        }
        let mut network = address.map(customer_network);
        if counts.by_network.len() >= ADDRESSES_MAX && !counts.by_network.contains_key(&network) {
            network = None;
        }
        let count = counts.by_network.entry(network).or_default();
        *count = count.saturating_add(1);
        *count <= PER_ADDRESS_MAX
    }
}
