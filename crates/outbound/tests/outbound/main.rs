//! The tests of the outbound client: what may be reached, what is sent, and what comes back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where an expectation does not hold")]

mod address;
mod boundary;
mod headers;
mod limits;
mod metadata;
mod network;
mod peer;
mod scrub;
mod tls;
mod url;
