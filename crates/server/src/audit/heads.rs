//! Kept heads: the last checkpoint of each tenant, in a file beside the key file.
//!
//! Invariant: whoever writes the database does not write this file, so a database that is emptied, cut together with its
//! checkpoints or put back to an earlier state no longer holds what is kept here. A head is kept after its checkpoint was
//! committed, and only a later one takes its place, unless an operator accepts an older database.

use std::collections::BTreeMap;

use thinkwork_primitives::{TenantId, Timestamp};

use super::checkpoint::Checkpoint;
use super::{Audit, Error};

/// The kept heads.
#[derive(Clone, Debug)]
pub struct Heads {
    /// When they were read.
    pub(super) read_at: Timestamp,
    /// By the tenant's printed id.
    by_tenant: BTreeMap<String, Checkpoint>,
}

impl Heads {
    /// None at all.
    pub(super) const fn none(read_at: Timestamp) -> Self {
        Self { read_at, by_tenant: BTreeMap::new() }
    }

    fn parse(text: &str, read_at: Timestamp) -> Result<Self, Error> {
        let mut heads = Self::none(read_at);
        for (line, number) in text.lines().zip(1_usize..) {
            heads.set(Checkpoint::parse(line).ok_or(Error::UnreadableHead(number))?);
        }
        Ok(heads)
    }

    fn text(&self) -> String {
        self.by_tenant.values().map(|checkpoint| checkpoint.line() + "\n").collect()
    }

    pub(super) fn get(&self, tenant: TenantId) -> Option<&Checkpoint> {
        self.by_tenant.get(&tenant.to_string())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Checkpoint> {
        self.by_tenant.values()
    }

    /// Takes this one instead of whatever was kept of its tenant.
    pub(super) fn set(&mut self, checkpoint: Checkpoint) {
        self.by_tenant.insert(checkpoint.tenant.to_string(), checkpoint);
    }

    /// Takes this one unless a later one is kept.
    pub(super) fn advance(&mut self, checkpoint: Checkpoint) {
        if self.get(checkpoint.tenant).is_none_or(|kept| kept.sequence < checkpoint.sequence) {
            self.set(checkpoint);
        }
    }

    pub(super) fn remove(&mut self, tenant: TenantId) -> Option<Checkpoint> {
        self.by_tenant.remove(&tenant.to_string())
    }
}

impl Audit {
    /// What is kept now.
    ///
    /// # Errors
    /// [`Error::Vault`] and [`Error::UnreadableHead`].
    pub async fn heads(&self) -> Result<Heads, Error> {
        let vault = self.vault.clone();
        let now = self.clock.now();
        let read = tokio::task::spawn_blocking(move || Heads::parse(&vault.read_heads()?, now)).await;
        read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Changes what is kept. It waits for the disk, apart from the async workers.
    pub(super) async fn change_heads<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Heads) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let vault = self.vault.clone();
        let now = self.clock.now();
        let changed = tokio::task::spawn_blocking(move || {
            vault.change_heads(|text| {
                let mut heads = Heads::parse(text, now)?;
                let answer = edit(&mut heads);
                Ok((answer, heads.text()))
            })
        })
        .await;
        changed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
