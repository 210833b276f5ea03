//! The only HTTP client of the product, with the address guard in front of it, and the scrubber behind it.
//!
//! Architecture Invariant: this crate alone names `reqwest`. Every request to an address that a tenant, metadata,
//! a redirect or a model named goes through [`Outbound`]; nothing but global unicast is reachable unless the
//! deployment's [`Policy`] says so.
//! Architecture Invariant: no redirect is followed by [`Outbound::send`] and [`Outbound::stream`], no proxy is taken
//! from the environment, and no error of this crate shows a header value, a body, a path or a query string.
//!
//! One client per process: it is cheap to clone, pools connections, and a pooled connection was checked when opened.

pub mod address;
mod client;
mod error;
mod metrics;
mod policy;
mod request;
mod resolve;
mod response;
mod scrub;
mod target;

pub use client::{Outbound, install_crypto_provider};
pub use error::{Error, RefusalReason};
pub use metrics::Purpose;
pub use policy::{OPENABLE, Policy};
pub use request::{Field, Request};
pub use resolve::{Lookup, LookupAnswer, SystemLookup};
pub use response::{Response, StreamResponse};
pub use scrub::{SCRUBBED_BYTES_MIN, Scrubber};
