//! Passwords: hashed with argon2id (RFC 9106), off the async threads and a few at a time.
//!
//! Invariants: checking takes the same work whether or not there is a hash to check against. However many strangers try
//! passwords, they take half of the hashing at most, few of them wait, and nobody else waits for them. Only this slice
//! hashes.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use thinkwork_primitives::{Secret, crypto};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;

/// 19 MiB, two passes, one lane: the smaller of OWASP's recommended settings, so that a small machine can take a
/// burst of sign-ins.
const MEMORY_KIB: u32 = 19 * 1_024;
const ITERATIONS: u32 = 2;
/// Hashes at a time in each lane: bounds what a burst takes from memory and from everybody else's cores.
const CONCURRENT_HASHES_MAX: usize = 1;
/// Strangers' sign-ins that are worked on or wait: about a second of hashing.
const STRANGERS_MAX: usize = 32;
/// When a stranger may come again who was sent away.
const RETRY_AFTER_SECONDS: u64 = 2;

/// What every check runs against where there is no account: a hash that no password has, of the same cost.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWhhcy10aGlz$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes and checks.
pub(super) struct PasswordHashing {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    admission: Arc<Semaphore>,
}

impl Default for PasswordHashing {
    fn default() -> Self {
        let lane = || Arc::new(Semaphore::new(CONCURRENT_HASHES_MAX));
        Self { known: lane(), strangers: lane(), admission: Arc::new(Semaphore::new(STRANGERS_MAX)) }
    }
}

/// Among whom somebody waits for a hash.
pub(super) enum Lane {
    /// Those with a session, a one-time code or a browser that signed in before.
    Known,
    /// Everybody else, as long as they are admitted.
    Stranger(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
}

fn argon2() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, ITERATIONS, 1, None).map_err(|error| Error::Hashing(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl PasswordHashing {
    /// A place among the strangers.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many are there already.
    pub(super) fn admit_stranger(&self) -> Result<Lane, Error> {
        let admitted = Arc::clone(&self.admission).try_acquire_owned();
        admitted.map(Lane::Stranger).map_err(|_| Error::Busy { retry_after_seconds: RETRY_AFTER_SECONDS })
    }

    /// The PHC string of this password with a fresh salt.
    pub(super) async fn hash(&self, password: &Secret) -> Result<String, Error> {
        let salt = crypto::random::<16>()?;
        self.work(&Lane::Known, password, move |password| {
            argon2()?
                .hash_password_with_salt(password.expose(), &salt)
                .map(|hash| hash.to_string())
                .map_err(|error| Error::Hashing(error.to_string()))
        })
        .await
    }

    /// Whether the password is the one behind `phc`. Without one the answer is no, after the same work.
    pub(super) async fn check(&self, lane: &Lane, password: &Secret, phc: Option<String>) -> Result<bool, Error> {
        self.work(lane, password, move |password| {
            let hash = phc.as_deref().unwrap_or(DUMMY_HASH);
            let holds = argon2()?.verify_password(password.expose(), hash).is_ok();
            Ok(holds && phc.is_some())
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        lane: &Lane,
        password: &Secret,
        f: impl FnOnce(&Secret) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |error: &dyn std::error::Error| Error::Hashing(error.to_string());
        let permits = match lane {
            Lane::Known => &self.known,
            Lane::Stranger(_) => &self.strangers,
        };
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|error| failed(&error))?;
        let password = Secret::from_bytes(password.expose().to_vec());
        let work = tokio::task::spawn_blocking(move || {
            let done = f(&password);
            drop(permit);
            done
        });
        work.await.map_err(|error| failed(&error))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let hashing = PasswordHashing::default();
        let password = Secret::from_text("correct horse battery".to_owned());
        let phc = hashing.hash(&password).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let lane = Lane::Known;
        assert!(hashing.check(&lane, &password, Some(phc.clone())).await.unwrap());
        let other = Secret::from_text("correct horse batterz".to_owned());
        assert!(!hashing.check(&lane, &other, Some(phc)).await.unwrap());
        assert!(!hashing.check(&lane, &password, None).await.unwrap());
    }

    #[tokio::test]
    async fn few_strangers_wait_and_nobody_waits_for_them() {
        let hashing = PasswordHashing::default();
        let mut admitted: Vec<Lane> = (0..STRANGERS_MAX).map(|_| hashing.admit_stranger().unwrap()).collect();
        assert!(matches!(hashing.admit_stranger(), Err(Error::Busy { .. })));
        // One of them is hashing.
        let _hashing = Arc::clone(&hashing.strangers).acquire_owned().await.unwrap();
        let password = Secret::from_text("correct horse battery".to_owned());
        assert!(!hashing.check(&Lane::Known, &password, None).await.unwrap());
        admitted.pop();
        assert!(hashing.admit_stranger().is_ok());
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_a_real_one() {
        let nobody = argon2::password_hash::phc::PasswordHash::new(DUMMY_HASH).unwrap();
        let real = argon2().unwrap().hash_password_with_salt(b"a password", b"0123456789abcdef").unwrap();
        assert_eq!(nobody.algorithm, real.algorithm);
        assert_eq!(nobody.params, real.params);
        assert_eq!(nobody.hash.unwrap().len(), real.hash.unwrap().len());
    }
}
