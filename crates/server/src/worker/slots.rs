//! How many jobs of a lane run at once in this process: in all, for one tenant, and for one of those who ask.
//!
//! A turn that waits for an upstream costs memory and nothing else, so there are many slots; the limits are on what one
//! tenant or one requester can take of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinkwork_database::jobs::{Job, Lane};
use thinkwork_primitives::TenantId;
use tokio::sync::Notify;

/// The most that run at once.
struct Limits {
    total: u64,
    of_tenant: u64,
    of_key: u64,
}

impl Limits {
    const fn of(lane: Lane) -> Self {
        match lane {
            // Turns, which mostly wait for others.
            Lane::People | Lane::Senders => Self { total: 512, of_tenant: 256, of_key: 64 },
            // Work of the server itself, in the order in which it is due.
            Lane::Background => Self { total: 8, of_tenant: 8, of_key: 8 },
        }
    }
}

#[derive(Default)]
struct Taken {
    total: u64,
    of_tenants: HashMap<TenantId, u64>,
    of_keys: HashMap<(TenantId, String), u64>,
}

/// The slots of one lane.
pub(super) struct Slots {
    limits: Limits,
    taken: Mutex<Taken>,
    freed: Notify,
}

impl Slots {
    pub(super) fn of(lane: Lane) -> Arc<Self> {
        Arc::new(Self { limits: Limits::of(lane), taken: Mutex::default(), freed: Notify::new() })
    }

    /// How many more may begin.
    pub(super) fn available(&self) -> u64 {
        self.limits.total.saturating_sub(self.taken().total)
    }

    /// How many more of this tenant and fairness_key may begin.
    pub(super) fn available_for(&self, tenant: TenantId, fairness_key: &str) -> u64 {
        let taken = self.taken();
        let of_tenant = taken.of_tenants.get(&tenant).copied().unwrap_or(0);
        let of_key = taken.of_keys.get(&(tenant, fairness_key.to_owned())).copied().unwrap_or(0);
        let of_tenant = self.limits.of_tenant.saturating_sub(of_tenant);
        of_tenant.min(self.limits.of_key.saturating_sub(of_key))
    }

    /// Waits until somebody leaves a slot who kept others from beginning.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Takes a slot for a job until it is dropped.
    pub(super) fn acquire(self: &Arc<Self>, job: &Job) -> Slot {
        self.take((job.tenant, job.fairness_key.clone()))
    }

    fn take(self: &Arc<Self>, key: (TenantId, String)) -> Slot {
        let mut taken = self.taken();
        taken.total = taken.total.saturating_add(1);
        count_up(&mut taken.of_tenants, &key.0);
        count_up(&mut taken.of_keys, &key);
        drop(taken);
        Slot { slots: Arc::clone(self), key }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is taken.
pub(super) struct Slot {
    slots: Arc<Slots>,
    key: (TenantId, String),
}

impl Drop for Slot {
    fn drop(&mut self) {
        let limits = &self.slots.limits;
        let mut taken = self.slots.taken();
        let total = taken.total;
        let of_tenant = count_down(&mut taken.of_tenants, &self.key.0);
        let of_key = count_down(&mut taken.of_keys, &self.key);
        taken.total = total.saturating_sub(1);
        let was_full = total >= limits.total || of_tenant >= limits.of_tenant || of_key >= limits.of_key;
        drop(taken);
        if was_full {
            self.slots.freed.notify_one();
        }
    }
}

fn count_up<K: Clone + std::hash::Hash + Eq>(counts: &mut HashMap<K, u64>, key: &K) {
    let count = counts.entry(key.clone()).or_default();
    *count = count.saturating_add(1);
}

/// Returns how many there were before.
fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u64>, key: &K) -> u64 {
    let Some(count) = counts.get_mut(key) else { return 0 };
    let before = *count;
    *count = before.saturating_sub(1);
    if *count == 0 {
        counts.remove(key);
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l124_one_requester_and_one_tenant_leave_room_for_others() {
        let slots = Slots::of(Lane::People);
        let tenant = TenantId::new();
        let key = |name: u64| (tenant, format!("user:{name}"));
        let mut taken = Vec::new();
        for number in 0..256 {
            taken.push(slots.take(key(number / 64)));
        }
        assert_eq!(slots.available_for(tenant, "user:0"), 0);
        assert_eq!(slots.available_for(tenant, "user:9"), 0, "the tenant has what it may have");
        assert_eq!((slots.available_for(TenantId::new(), "user:0"), slots.available()), (64, 256));
        taken.truncate(100);
        assert_eq!((slots.available_for(tenant, "user:0"), slots.available_for(tenant, "user:1")), (0, 28));
        taken.clear();
        assert_eq!((slots.available_for(tenant, "user:0"), slots.available()), (64, 512));
        assert!(slots.taken().of_tenants.is_empty() && slots.taken().of_keys.is_empty());
    }
}
