//! How many requests a minute a caller may make, on every route: each token and each person by what they proved, and
//! whoever proves nothing by their address. What a webhook verified is counted by the webhook.
//!
//! Invariants: the limits hold across processes; a caller who proves who they are is never counted with the strangers of
//! their address; a request costs no statement of its own, since shares are leased; what is remembered is bounded,
//! however many addresses come. [`UNLIMITED`] names the routes without a limit.

mod key;
mod quota;
mod status;

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

use super::caller::Authentication;
use super::{ApiError, shape};
use crate::config::Config;
use key::RateLimitKey;

pub use quota::{MinuteQuota, minute_of};
pub use status::{Policy, RateLimitStatus};

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
    callers: moka::sync::Cache<RateLimitKey, Arc<MinuteQuota>>,
    addresses: moka::sync::Cache<RateLimitKey, Arc<MinuteQuota>>,
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
        thinkwork_database::quota::forget(&self.0.db, key::KEY_PREFIX, minute, count).await?;
        Ok(())
    }

    /// Counts one request of a caller.
    async fn take(&self, key: RateLimitKey) -> RateLimitStatus {
        let inner = &self.0;
        let now = inner.clock.steady();
        let quotas = match key {
            RateLimitKey::Token(_) | RateLimitKey::Turn(_) | RateLimitKey::Person(_) => &inner.callers,
            RateLimitKey::Address(_) | RateLimitKey::OtherAddresses => &inner.addresses,
        };
        let policy = match key {
            RateLimitKey::Token(_) | RateLimitKey::Turn(_) => inner.token,
            RateLimitKey::Person(_) => inner.person,
            RateLimitKey::Address(_) | RateLimitKey::OtherAddresses => inner.address,
        };
        let quota = quotas.get_with(key, Arc::default);
        quota.take(&inner.db, &key.stored(), policy, now).await
    }

    /// The key under which an address is counted. One that is new in this minute is told apart as long as there is room.
    fn address_key(&self, address: Option<IpAddr>) -> RateLimitKey {
        let key = RateLimitKey::Address(address.map(customer_network));
        if self.0.addresses.contains_key(&key) {
            return key;
        }
        let minute = minute_of(self.0.clock.steady());
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.has_room(minute) { key } else { RateLimitKey::OtherAddresses }
    }
}

/// The middleware: counts the request, refuses what is too much, and says in the answers for programs what is left.
pub async fn enforce(State(limits): State<RateLimits>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    if UNLIMITED.contains(&route) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    if route.starts_with(HOOKS) && *request.method() == Method::POST {
        let response = next.run(request).await;
        return count_webhook_request(&limits, address, response).await;
    }
    let format = ResponseFormat::of(request.uri().path());
    let authentication = match Authentication::of(request.uri().path(), request.headers(), request.extensions()).await {
        Ok(authentication) => authentication,
        Err(error) => return error.into_response(),
    };
    let key = match authentication.as_ref().and_then(Authentication::principal) {
        Some(principal) => RateLimitKey::of(principal),
        None => limits.address_key(address),
    };
    let status = limits.take(key).await;
    if status.is_exceeded {
        return refusal(status, format);
    }
    if let Some(authentication) = authentication {
        request.extensions_mut().insert(authentication);
    }
    let mut response = next.run(request).await;
    if format != ResponseFormat::Page {
        status.set_headers(&mut response);
    }
    response
}

/// Counts a webhook's request after its answer is known: what the webhook verified it counted itself, and said so; any
/// other refusal counts for the address.
async fn count_webhook_request(limits: &RateLimits, address: Option<IpAddr>, mut response: Response) -> Response {
    let verified = response.extensions().get::<RateLimitStatus>().copied();
    let status = match verified {
        Some(status) => status,
        None if !response.status().is_client_error() => return response,
        None => {
            let status = limits.take(limits.address_key(address)).await;
            if status.is_exceeded {
                return refusal(status, ResponseFormat::Api);
            }
            status
        }
    };
    status.set_headers(&mut response);
    response
}

/// What kind of answer is read at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseFormat {
    Page,
    Api,
    Gateway,
}

impl ResponseFormat {
    fn of(path: &str) -> Self {
        match path {
            path if path == "/mcp" || path.starts_with("/mcp/") => Self::Gateway,
            path if shape::is_api_path(path) => Self::Api,
            _ => Self::Page,
        }
    }
}

/// 429, in the format that its path is read in, with the next step.
fn refusal(status: RateLimitStatus, format: ResponseFormat) -> Response {
    let RateLimitStatus { policy, reset_seconds, .. } = status;
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
    let mut response = if format == ResponseFormat::Gateway { json_rpc(&error) } else { error.into_response() };
    if format != ResponseFormat::Page {
        status.set_headers(&mut response);
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
