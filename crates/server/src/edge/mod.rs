//! What every slice's `http.rs` and `pages.rs` share: the caller, errors, paging, idempotency, forms, the page layout.
//!
//! Invariant: it uses no slice. The `access` slice implements [`Authenticate`].

mod access_log;
pub mod assets;
pub mod caller;
pub mod cookies;
pub mod display_time;
pub mod document;
pub mod door;
pub mod error;
pub mod extract;
mod fields;
pub mod flash;
pub mod form;
pub mod headers;
mod host;
pub mod idempotency;
pub mod identity;
pub mod names;
pub mod pages;
pub mod paging;
mod proxy;
pub mod rate_limit;
pub mod recheck;
pub mod request_id;
pub mod shape;
#[cfg(test)]
mod tests;
pub mod validation;
pub mod version;
pub mod visible;

pub use caller::{
    Authenticate, Caller, McpCaller, Member, Operator, OperatorWithoutReauth, PageCaller, PageMember, PageOperator,
    Public, SessionUser,
};
pub use display_time::DisplayTime;
pub use error::{ApiError, PageError};
pub use extract::{Form, Json, Path, Query, double_option};
pub use flash::Flash;
pub use form::{ConfirmForm, EmptyForm, OperatorForm, OperatorFormWithoutReauth, ProtectedForm, sign_in_again};
pub use idempotency::{Idempotency, IdempotencyKey};
pub use names::{NameMap, Named, NamedIds, Names, Reader};
pub use pages::{Area, Layout, NewSecret, Notice, Page};
pub use paging::{List, Pagination, time_cursor};
pub use rate_limit::RateLimits;
pub use recheck::Recheck;
pub use request_id::RequestId;
pub use validation::InvalidField;
pub use version::IfMatch;
