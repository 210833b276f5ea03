//! Every limit that more than one crate needs, each beside its reason.

use std::time::Duration;

/// Bodies of webhook deliveries: the largest that common senders produce, below a page of attachments.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 1_048_576;

/// JSON bodies of `/v1`: forms and texts, never files.
pub const API_BODY_BYTES_MAX: usize = 262_144;

/// One message a person writes: longer texts are files.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 65_536;

/// Names of things people make: fits a table cell.
pub const NAME_CHARS_MAX: usize = 120;

/// URLs that somebody registers; what browsers and proxies pass on safely.
pub const URL_BYTES_MAX: usize = 2_048;

/// One secret that somebody enters; a PEM key still fits.
pub const SECRET_BYTES_MAX: usize = 16_384;

/// Items of one page of a list.
pub const PAGE_ITEMS_MAX: u64 = 200;

/// Items of one page where the caller names no limit.
pub const PAGE_ITEMS_DEFAULT: u64 = 50;

/// Bytes of any answer read from an upstream: a tool result that is larger helps no model.
pub const UPSTREAM_BODY_BYTES_MAX: usize = 4 * 1_048_576;

/// A preview of a step's input or output in characters.
pub const PREVIEW_CHARS_MAX: usize = 2_000;

/// Longest any request of ours may take before it is answered with an error.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long an OAuth flow may take from start to callback.
pub const OAUTH_FLOW_LIFETIME: Duration = Duration::from_secs(600);

/// How long an opened secret may stay unwrapped in memory.
pub const SECRET_CACHE_LIFETIME: Duration = Duration::from_secs(60);
