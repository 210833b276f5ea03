//! The client itself: one connection pool behind the guard, and the only redirects that are followed.
//!
//! Invariant: every URL goes through `target::check` right before it is asked, every name through `Guard` when a
//! connection opens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, header};
use prometheus::core::Collector;
use reqwest::{Certificate, Client, ClientBuilder};
use tracing::Instrument as _;
use url::{Host, Url};

use crate::error::{Error, RefusalReason};
use crate::metrics::{Metrics, Purpose};
use crate::policy::{Policy, Rules};
use crate::request::Request;
use crate::resolve::{Guard, GuardError, Lookup, SystemLookup};
use crate::response::{Response, StreamLimits, StreamResponse, read_whole, within};
use crate::target;

/// How long a connection may take to open, TLS included: a server that needs more is as good as down.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long looking up a name may take when an address is registered.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

/// How long an unused connection is kept: below the minute after which common servers close theirs.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Redirects of a metadata document: enough for a missing slash and a moved path.
const METADATA_REDIRECTS_MAX: usize = 3;

/// A metadata document (RFC 8414, RFC 9728, OpenID Connect Discovery, a key set): real ones have a few kilobytes.
const METADATA_BYTES_MAX: usize = 262_144;

/// The only HTTP client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Outbound {
    rules: Arc<Rules>,
    guard: Guard,
    client: Client,
    metrics: Metrics,
}

impl Outbound {
    /// A client under the policy, with the system's resolver.
    ///
    /// # Errors
    /// [`Error::Setup`] where the policy opens what cannot be opened, or no root certificates are found.
    pub fn new(policy: Policy) -> Result<Self, Error> {
        Self::with_lookup(policy, Arc::new(SystemLookup))
    }

    /// A client that looks names up elsewhere; its answers are checked all the same.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn with_lookup(policy: Policy, lookup: Arc<dyn Lookup>) -> Result<Self, Error> {
        install_crypto_provider();
        let rules = Arc::new(Rules::new(&policy)?);
        let guard = Guard::new(Arc::clone(&rules), lookup);
        let client = client_builder(&policy, guard.clone())?.build().map_err(|error| Error::Setup {
            detail: format!("{}; check that the system's CA certificates are installed", error.without_url()),
        })?;
        Ok(Self { rules, guard, client, metrics: Metrics::new()? })
    }

    /// Checks an address by its text: https, spelled plainly, on an open port, no literal address that is closed, not
    /// this deployment. For registration; sending checks again.
    ///
    /// # Errors
    /// [`Error::Refused`] with the rule.
    pub fn check_url(&self, url: &str) -> Result<Url, Error> {
        target::check(&self.rules, url)
    }

    /// Checks an address as [`Outbound::check_url`] does, looks its name up and checks every answer. For registration
    /// and for an `authorization_endpoint`, which a browser opens.
    ///
    /// # Errors
    /// [`Error::Refused`] with the rule, [`Error::Connect`] where the name has no address, [`Error::Timeout`].
    pub async fn resolve_check(&self, url: &Url) -> Result<(), Error> {
        let url = self.check_url(url.as_str())?;
        let Some(Host::Domain(name)) = url.host() else {
            return Ok(());
        };
        let lookup = async {
            self.guard.addresses(name).await.map(drop).map_err(|error| match error {
                GuardError::Refused(why) => Error::refused(name, why),
                GuardError::Lookup => Error::lookup(name),
            })
        };
        within(name, LOOKUP_DEADLINE, lookup).await
    }

    /// Sends a request and reads its whole answer. A redirect is an answer: it is not followed.
    ///
    /// # Errors
    /// Any of [`Error`] but `Setup` and `Json`.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let url = self.check_url(&request.url)?;
        let host = target::host_shown(&url).to_owned();
        let purpose = request.purpose;
        let deadline = request.deadline;
        let bytes_max = request.body_bytes_max;
        let work = async {
            let answer = self.begin(&host, url, request).await?;
            read_whole(&host, answer, bytes_max).await
        };
        self.observed(&host, purpose, |response| response.status, within(&host, deadline, work)).await
    }

    /// Sends a request and gives its answer as a stream. A redirect is an answer: it is not followed.
    ///
    /// # Errors
    /// Any of [`Error`] but `Setup` and `Json`.
    pub async fn stream(&self, request: Request) -> Result<StreamResponse, Error> {
        let url = self.check_url(&request.url)?;
        let host = target::host_shown(&url).to_owned();
        let limits = StreamLimits {
            bytes_max: request.body_bytes_max,
            idle: request.stream_idle,
            lifetime: request.stream_lifetime,
        };
        let purpose = request.purpose;
        let work = within(&host, request.deadline, self.begin(&host, url, request));
        let answer = self.observed(&host, purpose, |answer| answer.status().as_u16(), work).await?;
        Ok(StreamResponse::new(host, answer, limits))
    }

    /// GETs a public document without any credential; at most three redirects are followed, to the same origin only,
    /// each checked like the first address. `deadline` is for all of them.
    ///
    /// # Errors
    /// Any of [`Error`] but `Setup` and `Json`; [`RefusalReason::RedirectOrigin`] and [`RefusalReason::RedirectCount`] among the refusals.
    pub async fn get_metadata(&self, url: &str, deadline: Duration) -> Result<Response, Error> {
        let first = self.check_url(url)?;
        let host = target::host_shown(&first).to_owned();
        let work = async {
            let mut url = first;
            for _ in 0..=METADATA_REDIRECTS_MAX {
                let request = Request::get(url.as_str()).header(header::ACCEPT.as_str(), "application/json");
                let answer = self.begin(&host, url.clone(), request).await?;
                match redirect_location(&answer) {
                    Some(location) => url = self.redirect_target(&url, &location)?,
                    None => return read_whole(&host, answer, METADATA_BYTES_MAX).await,
                }
            }
            Err(Error::refused(&host, RefusalReason::RedirectCount))
        };
        self.observed(&host, Purpose::Oauth, |response| response.status, within(&host, deadline, work)).await
    }

    /// The measurements of this client and its clones, to be registered once.
    pub fn collector(&self) -> Box<dyn Collector> {
        self.metrics.collector()
    }

    /// Makes a call in a span of its own and notes how it ended.
    async fn observed<T>(
        &self,
        host: &str,
        purpose: Purpose,
        status: impl Fn(&T) -> u16,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        // Paths and queries can hold secrets of other people's making, so the host is all that is logged.
        let ended = call.instrument(tracing::error_span!("upstream", host)).await;
        self.metrics.observe(purpose, started, ended.as_ref().map(status));
        ended
    }

    async fn begin(&self, host: &str, url: Url, mut request: Request) -> Result<reqwest::Response, Error> {
        let headers = request.take_headers()?;
        let method: Method = request.method;
        tracing::debug!(%method, "outbound request");
        let mut builder = self.client.request(method, url).headers(headers);
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        builder.send().await.map_err(|error| Error::from_reqwest(host, &error))
    }

    /// Where a redirect leads, if that is the same origin and passes the check.
    fn redirect_target(&self, from: &Url, location: &str) -> Result<Url, Error> {
        let host = target::host_shown(from);
        if location.contains('\\') {
            return Err(Error::refused(host, RefusalReason::Characters));
        }
        let to = from.join(location).map_err(|_| Error::refused(host, RefusalReason::NotAUrl))?;
        if to.origin() != from.origin() {
            return Err(Error::refused(host, RefusalReason::RedirectOrigin));
        }
        self.check_url(to.as_str())
    }
}

/// Makes aws-lc-rs the process's TLS cryptography, once, at start; later calls change nothing.
pub fn install_crypto_provider() {
    // The error only says that a provider is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn client_builder(policy: &Policy, guard: Guard) -> Result<ClientBuilder, Error> {
    let mut roots = Vec::new();
    for pem in &policy.extra_roots_pem {
        let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
        if found.is_empty() {
            return Err(Error::Setup { detail: "an extra root certificate is not PEM".to_owned() });
        }
        roots.extend(found);
    }
    Ok(Client::builder()
        .dns_resolver(guard)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Whether to try again is for the caller, who knows what a second time does.
        .retry(reqwest::retry::never())
        .referer(false)
        .https_only(!policy.allow_loopback)
        .tls_certs_merge(roots)
        .connect_timeout(CONNECT_DEADLINE)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(concat!("thinkwork/", env!("CARGO_PKG_VERSION"))))
}

/// The address that a redirecting answer names.
fn redirect_location(answer: &reqwest::Response) -> Option<String> {
    let follows = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    follows.then(|| location.to_owned())
}
