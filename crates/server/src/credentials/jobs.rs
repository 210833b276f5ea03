//! The job of this slice: the material of a version that a rotation replaced is erased at the end of its overlap.

use std::fmt;
use std::str::FromStr;

use thinkwork_database::Topic;
use thinkwork_database::jobs::JobType;
use thinkwork_primitives::{Actor, CredentialId, TenantId};

use super::kept::KeptVersion;
use super::{Credentials, Error, store};
use crate::audit::{self, Event};

/// Erases the material of one version of a credential, at the end of its overlap.
pub struct EraseVersion;

impl JobType for EraseVersion {
    const NAME: &'static str = "erase_credential_version";
    type Payload = CredentialVersion;
}

/// One version of a credential, printed as `<credential>:<version>`.
pub struct CredentialVersion {
    pub(super) credential: CredentialId,
    pub(super) version: i64,
}

/// The text names no version of a credential.
#[derive(Debug, thiserror::Error)]
#[error("this names no version of a credential; write it as <credential>:<version>")]
pub struct ParseVersionError;

impl fmt::Display for CredentialVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.credential, self.version)
    }
}

impl FromStr for CredentialVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let (credential, version) = text.split_once(':').ok_or(ParseVersionError)?;
        let credential = credential.parse().map_err(|_| ParseVersionError)?;
        Ok(Self { credential, version: version.parse().map_err(|_| ParseVersionError)? })
    }
}

impl Credentials {
    /// Does the job [`EraseVersion`].
    pub async fn erase_version(&self, tenant: TenantId, ended: CredentialVersion) -> Result<(), Error> {
        let CredentialVersion { credential: id, version } = ended;
        let now = self.clock.now();
        let mut tx = self.db.write(tenant).await?;
        if store::version_erase(&mut tx, id, version, now).await? {
            let event = Event::by(Actor::server(), "credential.version_erased").on("credential", id);
            audit::record(&mut tx, now, event.detail("version", version))?;
            self.kept.keep(&mut tx, id, KeptVersion { current: version, ended: version });
            tx.wake(Topic::Credential, id.uuid());
        }
        tx.commit().await?;
        Ok(())
    }
}
