//! How many requests a minute a caller may make, on every route: each token and each person by what they proved, and
//! whoever proves nothing by their address. What a webhook verified is counted by the webhook.
//!
//! Invariants: the limits hold across processes; a caller who proves who they are is never counted with the strangers of
//! their address; a request costs no statement of its own, since shares are leased; what is remembered is bounded,
//! however many addresses come. [`UNLIMITED`] names the routes without a limit.

mod payer;
mod quota;
mod standing;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use thinkwork_database::Db;
use thinkwork_primitives::{Clock, customer_network};

use super::caller::Proof;
use super::{ApiError, shape};
use crate::config::Config;
use payer::Payer;

pub use quota::{MinuteQuota, minute_of};
pub use standing::{Policy, Standing};

/// Routes that are answered from memory, or that tell whoever watches over this process how it is.
pub const UNLIMITED: [&str; 5] = ["/assets/{name}", "/favicon.ico", "/livez", "/readyz", "/metrics"];

/// Where webhooks take requests: those that they verify are counted by the webhook, and the others by their address.
const HOOKS: &str = "/hooks/{webhook_id}";

/// Callers whose shares are remembered. The share of one who is forgotten is lost, and leased again.
const CALLERS_MAX: u64 = 10_000;
/// Addresses that are told apart in a minute; the rest are counted as one. Each of them may cost a lease and a row.
const ADDRESSES_MAX: u64 = 10_000;
/// Two minutes without a request, and the caller's window is over.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The code of a refusal in JSON-RPC: the first of those that the specification leaves to servers (section 5.1).
const JSON_RPC_SERVER_ERROR: i64 = -32_000;

/// The limits of this deployment and what this process holds of them. Cheap to clone.
#[derive(Clone)]
pub struct RateLimits(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    token: Policy,
    person: Policy,
    address: Policy,
    callers: moka::sync::Cache<Payer, Arc<MinuteQuota>>,
    addresses: moka::sync::Cache<Payer, Arc<MinuteQuota>>,
    seen: Mutex<SeenAddresses>,
}

/// How many addresses were told apart in a minute.
#[derive(Default)]
struct SeenAddresses {
    minute: i64,
    count: u64,
}

impl SeenAddresses {
    /// Whether one more is told apart.
    fn has_room(&mut self, minute: i64) -> bool {
        if minute > self.minute {
            *self = Self { minute, count: 0 };
        }
        let has_room = self.count < ADDRESSES_MAX;
        self.count = self.count.saturating_add(1);
        has_room
    }
}

impl RateLimits {
    /// As the configuration has them.
    pub fn new(db: Db, clock: Clock, config: &Config) -> Self {
        let policy = |name, limit: u32| Policy { name, per_minute: limit.into() };
        let quotas = |count| moka::sync::Cache::builder().max_capacity(count).time_to_idle(IDLE_MAX).build();
        Self(Arc::new(Inner {
            db,
            clock,
            token: policy("token", config.token_rate_limit_per_minute),
            person: policy("person", config.person_rate_limit_per_minute),
            address: policy("address", config.address_rate_limit_per_minute),
            callers: quotas(CALLERS_MAX),
            addresses: quotas(ADDRESSES_MAX),
            seen: Mutex::default(),
        }))
    }

    /// Forgets the used quota of minutes that are over, at most `count` rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn sweep(&self, count: u64) -> Result<(), thinkwork_database::Error> {
        let minute = minute_of(self.0.clock.now());
        thinkwork_database::quota::forget(&self.0.db, payer::KEY_PREFIX, minute, count).await?;
        Ok(())
    }

    /// Counts one request of a caller.
    async fn take(&self, payer: Payer) -> Standing {
        let inner = &self.0;
        let now = inner.clock.steady();
        let quotas = match payer {
            Payer::Token(_) | Payer::Turn(_) | Payer::Person(_) => &inner.callers,
            Payer::Address(_) | Payer::OtherAddresses => &inner.addresses,
        };
        let policy = match payer {
            Payer::Token(_) | Payer::Turn(_) => inner.token,
            Payer::Person(_) => inner.person,
            Payer::Address(_) | Payer::OtherAddresses => inner.address,
        };
        let quota = quotas.get_with(payer, Arc::default);
        quota.take(&inner.db, &payer.key(), policy, now).await
    }

    /// As whom an address pays. One that is new in this minute is told apart as long as there is room.
    fn address_payer(&self, address: Option<IpAddr>) -> Payer {
        let payer = Payer::Address(address.map(customer_network));
        if self.0.addresses.contains_key(&payer) {
            return payer;
        }
        let minute = minute_of(self.0.clock.steady());
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.has_room(minute) { payer } else { Payer::OtherAddresses }
    }
}

/// The middleware: counts the request, refuses what is too much, and says in the answers for programs what is left.
pub async fn pass(State(limits): State<RateLimits>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    if UNLIMITED.contains(&route) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    if route.starts_with(HOOKS) && *request.method() == Method::POST {
        let response = next.run(request).await;
        return settle(&limits, address, response).await;
    }
    let path = Place::of(request.uri().path());
    let proof = match Proof::of(request.uri().path(), request.headers(), request.extensions()).await {
        Ok(proof) => proof,
        Err(error) => return error.into_response(),
    };
    let payer = match proof.as_ref().and_then(Proof::principal) {
        Some(principal) => Payer::of(principal),
        None => limits.address_payer(address),
    };
    let standing = limits.take(payer).await;
    if standing.is_exceeded {
        return refusal(standing, path);
    }
    if let Some(proof) = proof {
        request.extensions_mut().insert(proof);
    }
    let mut response = next.run(request).await;
    if path != Place::Page {
        standing.announce(&mut response);
    }
    response
}

/// Counts a webhook's request after its answer is known: what the webhook verified it counted itself, and said so; any
/// other refusal is paid by the address.
async fn settle(limits: &RateLimits, address: Option<IpAddr>, mut response: Response) -> Response {
    let verified = response.extensions().get::<Standing>().copied();
    let standing = match verified {
        Some(standing) => standing,
        None if !response.status().is_client_error() => return response,
        None => {
            let standing = limits.take(limits.address_payer(address)).await;
            if standing.is_exceeded {
                return refusal(standing, Place::Api);
            }
            standing
        }
    };
    standing.announce(&mut response);
    response
}

/// What kind of answer is read at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Page,
    Api,
    Gateway,
}

impl Place {
    fn of(path: &str) -> Self {
        match path {
            path if path == "/mcp" || path.starts_with("/mcp/") => Self::Gateway,
            path if shape::is_api_path(path) => Self::Api,
            _ => Self::Page,
        }
    }
}

/// 429, in the shape of its place, with the next step.
fn refusal(standing: Standing, place: Place) -> Response {
    let Standing { policy, reset_seconds, .. } = standing;
    let limit = policy.per_minute;
    let message = match policy.name {
        "token" => format!(
            "This token has made {limit} requests in this minute, which is its limit. Wait {reset_seconds} seconds and \
             send the request again."
        ),
        "person" => format!(
            "You have made {limit} requests in this minute, which is the limit for one person. Nothing was changed. Wait \
             {reset_seconds} seconds and try again."
        ),
        _ => format!(
            "Your IP address has sent {limit} requests in this minute without a valid sign-in, token or signature, which \
             is the limit. Wait {reset_seconds} seconds and try again."
        ),
    };
    let error = ApiError::too_many(reset_seconds, message);
    let mut response = if place == Place::Gateway { json_rpc(&error) } else { error.into_response() };
    if place != Place::Page {
        standing.announce(&mut response);
    }
    response
}

/// A refusal as JSON-RPC 2.0 has it. The id is null, since the body is not read.
fn json_rpc(error: &ApiError) -> Response {
    let request_id = error.report().to_string();
    let body = json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": {
            "code": JSON_RPC_SERVER_ERROR,
            "message": error.message,
            "data": { "code": error.code, "request_id": request_id, "retry_after_seconds": error.retry_after_seconds },
        },
    });
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    if let Some(seconds) = error.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests;
