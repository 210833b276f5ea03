//! What can go wrong, in sentences for the operator. Never holds a byte of a key, a secret or a ciphertext.

use std::path::PathBuf;

use thinkwork_primitives::CredentialId;

/// Why the vault could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing secret may be made without randomness.
    #[error("the operating system gave no random bytes")]
    Random,
    /// The cipher refused to seal, which happens only for texts beyond what AES-GCM allows (64 GiB).
    #[error("credential {credential} could not be sealed")]
    Seal {
        /// Whose secret it is.
        credential: CredentialId,
    },
    /// The cipher refused a cookie, as above.
    #[error("a cookie could not be sealed")]
    SealCookie,
    /// The stored bytes are short, changed, or were sealed in another place than they were read from.
    #[error(
        "credential {credential} does not open: it is damaged, or was sealed for another owner, use or version than the database now says"
    )]
    Damaged {
        /// The credential as it was asked for.
        credential: CredentialId,
    },
    /// The stored bytes name a KEK that is not in the ring.
    #[error("credential {credential} is sealed under key {kek_id}, which is not in the key file")]
    UnknownKey {
        /// The credential as it was asked for.
        credential: CredentialId,
        /// The named KEK, or a placeholder when the name has no such form.
        kek_id: String,
    },
    /// The database expects a KEK that is not in the ring.
    #[error("the key file lacks key {kek_id}, which this database uses; give the key file that belongs to it")]
    AbsentKey {
        /// The expected KEK, or a placeholder when the name has no such form.
        kek_id: String,
    },
    /// The ring holds other bytes under this KEK's id than the database was written with.
    #[error(
        "key {kek_id} of the key file is not the key this database was written with; give the key file that belongs to it"
    )]
    WrongKey {
        /// The KEK.
        kek_id: String,
    },
    /// The ring's root is not the one the database was written with.
    #[error(
        "the root of the key file is not the one this database was written with; give the key file that belongs to it"
    )]
    WrongRoot,
    /// No key, no start.
    #[error("there is no key file at {}, and stored secrets cannot be read without it; restore it, or give its path with --key-file", path.display())]
    MissingKeyFile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Others than the file's owner may get at the keys.
    #[error("the key file {} is open to group or others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, device or pipe.
    #[error("the key file {} is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The file is not a key file, or not one of this version.
    #[error("the key file {} is not valid: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and in which line; quotes nothing of the line.
        problem: Problem,
    },
    /// The file system refused what is kept beside the key file.
    #[error(
        "the {content} in {} could not be {action}; the server keeps them beside the key file and must be able to make \
         files there",
        path.display()
    )]
    Kept {
        /// What the file holds.
        content: &'static str,
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file system refused.
    #[error("the key file {} could not be {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// What is wrong with a key file's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// More bytes than any key file of ours has.
    #[error("it is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// One line cannot be read.
    #[error("line {line} {reason}")]
    Line {
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing to seal with.
    #[error("it holds no thinkwork-key-1 line")]
    NoKey,
    /// Nothing to derive from.
    #[error("it holds no thinkwork-root-1 line")]
    NoRoot,
}

impl From<thinkwork_primitives::crypto::RandomError> for Error {
    fn from(_: thinkwork_primitives::crypto::RandomError) -> Self {
        Self::Random
    }
}
