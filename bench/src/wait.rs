//! Waiting for what another process does.

use std::time::Duration;

use crate::Failure;

const POLL: Duration = Duration::from_millis(1);
/// Nothing that is measured takes as long.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks again and again until this holds, since another process cannot wake us; `expected` says what, for the failure.
pub(crate) async fn until(expected: &str, holds: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let mut ticks = tokio::time::interval(POLL);
    let asking = async {
        loop {
            ticks.tick().await;
            if holds().await? {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(LIMIT, asking)
        .await
        .unwrap_or_else(|_| Err(format!("not within {LIMIT:?}: {expected}").into()))
}
