//! Names to addresses, with every answer checked: what the connection goes to is what was checked.
//!
//! Invariant: one bad address among the answers refuses the name, since the order of the answers is the attacker's.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use crate::error::RefusalReason;
use crate::policy::{LoopbackName, Rules};

/// The addresses of a name, later.
pub type LookupAnswer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Where names are looked up; a test answers as it likes.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of the host.
    fn lookup(&self, host: &str) -> LookupAnswer;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str) -> LookupAnswer {
        let host = host.to_owned();
        Box::pin(async move {
            let answers = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(answers.map(|answer| answer.ip()).collect())
        })
    }
}

/// Why a name has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    #[error("refused: {0}")]
    Refused(RefusalReason),
    #[error("the host name could not be resolved")]
    Lookup,
}

/// The guard as the HTTP library's resolver. Literal addresses never come here: `target` checks them.
#[derive(Clone)]
pub(crate) struct Guard {
    rules: Arc<Rules>,
    lookup: Arc<dyn Lookup>,
}

impl Guard {
    pub(crate) fn new(rules: Arc<Rules>, lookup: Arc<dyn Lookup>) -> Self {
        Self { rules, lookup }
    }

    /// The name's addresses, if every one may be connected to.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, GuardError> {
        let answers = self.lookup.lookup(name).await.map_err(|_| GuardError::Lookup)?;
        if answers.is_empty() {
            return Err(GuardError::Lookup);
        }
        let loopback_name = LoopbackName::of(name);
        for ip in &answers {
            self.rules.check_address(*ip, loopback_name).map_err(GuardError::Refused)?;
        }
        Ok(answers)
    }
}

impl reqwest::dns::Resolve for Guard {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(name.as_str()).await?;
            // Port 0 stands for the URL's own port.
            let addresses: reqwest::dns::Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
