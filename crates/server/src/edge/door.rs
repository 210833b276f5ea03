//! The one door of every request: which host it names, where it comes from, what its answer carries and how errors look.
//!
//! Invariant: nothing is answered without the headers of [`headers::secure`], refusals included; a refused request
//! reaches no handler. One layer does all of it, since each layer of its own costs a request a copy of all below it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use url::Url;

use super::{Network, headers, host::Allowed, proxy::Proxies, shape};

/// What the door knows of the deployment.
pub struct Door {
    allowed: Allowed,
    proxies: Proxies,
}

impl Door {
    /// For a deployment at `public_url` behind these proxies of its own.
    pub fn new(public_url: &Url, trusted_proxies: &[Network]) -> Arc<Self> {
        Arc::new(Self { allowed: Allowed::new(public_url), proxies: Proxies::new(trusted_proxies) })
    }
}

/// The middleware.
pub async fn pass(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let response = match door.allowed.refusal(&request) {
        Some(refusal) => refusal,
        None => {
            door.proxies.forward(&mut request);
            let for_machines = shape::is_for_machines(request.uri().path());
            let response = next.run(request).await;
            if for_machines { shape::spelled_out(response) } else { response }
        }
    };
    headers::secure(response)
}
