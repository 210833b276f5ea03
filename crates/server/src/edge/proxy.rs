//! Where a request really comes from when proxies of the deployment stand in front.
//!
//! Invariant: `X-Forwarded-For` counts only where the connection comes from a configured proxy, and in it only what
//! such proxies added: the first address from the right that is none of theirs. Whoever asks for the peer gets that.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;

use thinkwork_primitives::Network;

/// The networks of the deployment's own proxies.
pub(super) struct TrustedProxies(Box<[Network]>);

impl TrustedProxies {
    /// These networks; with none the header means nothing.
    pub(super) fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The sender behind the proxies, or the last hop that can be believed.
    pub(super) fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut last = peer;
        let values: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or_default()).collect();
        for hop in values.join(",").rsplit(',') {
            if !self.trusts(last) {
                break;
            }
            let hop = hop.trim();
            let parsed = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()));
            match parsed {
                Ok(address) => last = address,
                Err(_) => break,
            }
        }
        last
    }

    /// Puts the sender's address where handlers look for it. True where the request comes from a proxy.
    pub(super) fn forward(&self, request: &mut Request) -> bool {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
        let Some(ConnectInfo(peer)) = peer.filter(|ConnectInfo(peer)| self.trusts(peer.ip())) else { return false };
        let sender = self.sender(peer.ip(), request.headers());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(sender, peer.port())));
        true
    }
}
