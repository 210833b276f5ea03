//! Accepts connections and serves each over HTTP/1.1.
//!
//! Invariants: a connection that sends no request or does not take its answer is closed in time; their number is bounded,
//! for each address and in all below the limit of open files, so that no sender keeps others out.

mod count;
mod phase;
mod stream;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::{IntCounter, IntGauge};
use rustix::process::{Resource, getrlimit, setrlimit};
use thinkwork_primitives::{Chain, Network};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::Config;
use count::AddressCounts;
use phase::{Phase, ResponseBody};
use stream::TimedStream;

/// Line and headers of a request together: many times what browsers and senders send.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections of one process at once, where the limit of open files allows them.
const CONNECTIONS_MAX: u64 = 16_384;
/// Open files kept for the database, the log and requests to the outside; half of them where there are few.
const OTHER_FILES: u64 = 256;
/// How often the log tells of refused connections.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long to wait for one of our connections to end when the system has no socket to give; what holds the others may be
/// no connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What is measured of connections.
#[derive(Clone)]
pub struct Metrics {
    /// Connections that are open.
    pub open: IntGauge,
    /// Connections that were closed at once, since their address had as many as it may have.
    pub refused: IntCounter,
}

/// How many connections are served at once.
pub struct ConnectionLimits {
    /// From one address; an IPv6 network of 64 bits counts as one.
    pub per_address: usize,
    /// Proxies of the deployment, which bring many people from one address.
    pub trusted_proxies: Vec<Network>,
    /// In all.
    pub total: usize,
}

impl ConnectionLimits {
    /// As configured, and in all as many as the limit of open files allows, which is raised as far as the system lets it be.
    pub fn new(config: &Config) -> Self {
        let total = usize::try_from(connections_max(open_files_max())).unwrap_or(usize::MAX);
        let configured = usize::try_from(config.connections_per_address_max).unwrap_or(usize::MAX);
        Self { per_address: per_address(configured, total), trusted_proxies: config.trusted_proxies.clone(), total }
    }

    fn is_trusted_proxy(&self, address: SocketAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address.ip()))
    }
}

/// How many connections may be open where so many files may be.
fn connections_max(open_files: u64) -> u64 {
    open_files.saturating_sub(OTHER_FILES.min(open_files / 2)).clamp(1, CONNECTIONS_MAX)
}

/// As configured, but no address takes more than half of all.
fn per_address(configured: usize, total: usize) -> usize {
    configured.min(total / 2).max(1)
}

/// Raises the limit of open files to what the system allows this process, and returns it.
fn open_files_max() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = getrlimit(Resource::Nofile),
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Whether this process is shutting down. Clones share it.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<AtomicBool>);

impl Shutdown {
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Serves routes to whoever connects.
pub struct Server {
    routes: Router,
    limits: ConnectionLimits,
    metrics: Metrics,
    shutdown: Shutdown,
    graceful: GracefulShutdown,
    connections: TaskTracker,
}

impl Server {
    pub fn new(routes: Router, limits: ConnectionLimits, metrics: Metrics, shutdown: Shutdown) -> Self {
        let connections = TaskTracker::new();
        Self { routes, limits, metrics, shutdown, graceful: GracefulShutdown::new(), connections }
    }

    /// Accepts connections until `stop`. Then each response closes its connection, and new connections are accepted until
    /// none is open any more, or `delay` is over.
    pub async fn accept(&self, listener: &TcpListener, stop: impl Future<Output = ()>, delay: Duration) {
        let mut accepting = pin!(self.accept_all(listener));
        tokio::select! {
            () = &mut accepting => {}
            () = stop => {}
        }
        self.shutdown.begin();
        self.connections.close();
        tokio::select! {
            () = accepting => {}
            _ = timeout(delay, self.connections.wait()) => {}
        }
    }

    /// Accepts connections, without an end.
    async fn accept_all(&self, listener: &TcpListener) {
        let permits = Arc::new(Semaphore::new(self.limits.total));
        let addresses = Arc::new(AddressCounts::new(self.limits.per_address));
        let ended = Arc::new(Notify::new());
        let mut server = http1::Builder::new();
        // A second line of defence behind `TimedStream`, which tells a slow head from an idle connection.
        server.timer(TokioTimer::new()).header_read_timeout(phase::IDLE_MAX).max_header_size(HEAD_BYTES_MAX);
        let mut warned_at: Option<Instant> = None;
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            let (socket, address) = accept(listener, &ended).await;
            let counted = addresses.enter(address.ip());
            if counted.is_none() && !self.limits.is_trusted_proxy(address) {
                self.metrics.refused.inc();
                if warned_at.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                    warned_at = Some(Instant::now());
                    tracing::warn!(
                        peer = %address.ip(),
                        "an address has as many connections as it may have; if it is a proxy of yours, name it in \
                         trusted_proxies, else raise connections_per_address_max"
                    );
                }
                continue;
            }
            let phase = Arc::new(Phase::default());
            let service = service_fn({
                let phase = Arc::clone(&phase);
                let routes = self.routes.clone();
                let shutdown = self.shutdown.clone();
                move |request: hyper::Request<Incoming>| {
                    respond(routes.clone(), request, address, Arc::clone(&phase), shutdown.clone())
                }
            });
            let stream = TokioIo::new(TimedStream::new(socket, phase));
            let connection = self.graceful.watch(server.serve_connection(stream, service));
            let open = self.metrics.open.clone();
            let ended = Arc::clone(&ended);
            open.inc();
            self.connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error = %Chain(&error), peer = %address, "a connection broke off");
                }
                open.dec();
                drop((permit, counted));
                ended.notify_one();
            });
        }
    }

    /// Waits until requests that have begun are answered.
    pub async fn drain(self) {
        self.connections.close();
        self.graceful.shutdown().await;
        self.connections.wait().await;
    }
}

/// The next connection. Errors that end only one connection are passed over; without a free socket it waits until another
/// connection has `ended`.
async fn accept(listener: &TcpListener, ended: &Notify) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                // Answers are small and wanted at once.
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps waiting for full packets");
                }
                return (socket, address);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted now");
                drop(timeout(ACCEPT_RETRY, ended.notified()).await);
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The response of the routes to one request.
async fn respond(
    routes: Router,
    request: hyper::Request<Incoming>,
    address: SocketAddr,
    phase: Arc<Phase>,
    shutdown: Shutdown,
) -> Result<hyper::Response<ResponseBody>, Infallible> {
    phase.request_began();
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(address));
    let mut response = routes.oneshot(request).await?;
    if shutdown.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| ResponseBody::new(body, phase)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l111_few_open_files_are_shared_with_the_rest() {
        let totals = [0, 256, 1_024, 20_000, u64::MAX].map(connections_max);
        assert_eq!(totals, [1, 128, 768, CONNECTIONS_MAX, CONNECTIONS_MAX]);
        let of_one_address = [1, 128, 768, 16_384].map(|total| per_address(256, total));
        assert_eq!(of_one_address, [1, 64, 256, 256]);
    }
}
