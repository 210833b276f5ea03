//! What every slice's `http.rs` and `pages.rs` share: the caller, errors, paging, idempotency, forms, the page frame.
//!
//! Invariant: it uses no slice. The `access` slice implements [`Authenticate`].

pub mod assets;
pub mod caller;
pub mod document;
pub mod door;
pub mod error;
pub mod form;
pub mod headers;
mod host;
pub mod idempotency;
pub mod json;
pub mod moment;
pub mod network;
pub mod pages;
pub mod paging;
pub mod path;
mod proxy;
pub mod query;
pub mod recheck;
pub mod shape;
#[cfg(test)]
mod tests;
pub mod version;

pub use caller::{
    Authenticate, Caller, Consent, McpCaller, Member, Operator, PageCaller, PageMember, PageOperator, Public,
};
pub use error::{ApiError, PageError};
pub use form::CheckedForm;
pub use idempotency::{Once, OnceKey};
pub use json::Json;
pub(crate) use json::read_body;
pub use moment::Moment;
pub use network::Network;
pub use pages::{Face, Frame, Notice, Page};
pub use paging::{List, Paging};
pub use path::{Id, Ids};
pub use query::Query;
pub use recheck::Recheck;
pub use version::IfVersion;
