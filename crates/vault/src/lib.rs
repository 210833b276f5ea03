//! Seals secrets for storage and opens them again: envelope encryption under a ring of key-encryption keys (KEKs).
//!
//! Each seal makes a fresh data key. The data key encrypts the secret; the ring's active KEK wraps the data key; both
//! with AES-256-GCM and a random 96-bit nonce. The associated data says whose secret it is and what it is for, so a row
//! that is moved to another place, or beside which that was changed, does not open.
//!
//! Architecture Invariant: no clear-text mode, no database, no async, no network, no log. The only I/O is the key file and
//! the files that are kept beside it.
//! Only the server's `credentials` and `oauth` slices seal and open secrets; start-up and `thinkwork keys rotate` open the file.

mod blob;
mod context;
mod cookie;
mod error;
mod file;
mod kept;
mod ring;
mod root;
mod vault;

pub use context::{Context, Meaning};
pub use cookie::CookieKey;
pub use error::{Error, Problem};
pub use file::MissingKeyFile;
pub use kept::FilePosition;
pub use vault::{Sealed, Vault};
