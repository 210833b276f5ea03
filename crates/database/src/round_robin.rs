//! Which work is claimed next: round robin over tenants, and within a tenant over its fairness keys.
//!
//! A fairness key is the source of events or the requester of turns. A claim walks over the keys with waiting work, from
//! where the last claim of this process ended, with one index seek for each. What it takes is shared evenly among the
//! tenants that it meets, and among the keys of each.
//!
//! Invariants: the cost of a claim does not depend on how much work waits; a key is passed over only by a claim that took
//! all that it may, or by the limits of a round, and the next claim then continues after the last key of this one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::Value;
use thinkwork_primitives::TenantId;
use uuid::Uuid;

use crate::{Engine, Error, Tx};

/// Tenants of one round, so that a claim stays short where many wait.
const TENANTS_MAX: usize = 16;
/// Fairness keys of one tenant in one round.
const KEYS_MAX: usize = 4;
/// Rounds of a claim that finds nothing to take: what waits may be others' already, or pause.
pub(crate) const ROUNDS_MAX: usize = 8;

/// A table in which work waits, with an index over tenant, fairness key and order.
pub(crate) struct Queue {
    pub(crate) table: &'static str,
    pub(crate) index: &'static str,
    /// The column with the fairness key.
    pub(crate) key_column: &'static str,
    /// The column by which the work of one key is ordered.
    pub(crate) order: &'static str,
    /// What the index holds.
    pub(crate) condition: &'static str,
}

impl Queue {
    /// The table, read by the index alone. PostgreSQL is told so for the whole transaction.
    pub(crate) fn source(&self, engine: Engine, alias: &str) -> String {
        let Self { table, index, .. } = self;
        match engine {
            Engine::Sqlite => format!("{table} AS {alias} INDEXED BY {index}"),
            Engine::Postgres => format!("{table} AS {alias}"),
        }
    }

    /// The first key with waiting work after this position.
    async fn seek(&self, tx: &mut Tx, after: &Position) -> Result<Option<FairnessKey>, Error> {
        let Self { key_column, order, condition, .. } = self;
        let source = self.source(tx.engine(), "queue");
        let (position, values): (String, Vec<Value>) = match after {
            Position::Tenant(tenant) => ("tenant_id > $1".to_owned(), vec![(*tenant).into()]),
            Position::Key(FairnessKey { tenant, name }) => {
                (format!("(tenant_id, {key_column}) > ($1, $2)"), vec![(*tenant).into(), name.clone().into()])
            }
        };
        let sql = format!(
            "SELECT tenant_id, {key_column} AS fairness_key FROM {source} WHERE {condition} AND {position}
             ORDER BY tenant_id, {key_column}, {order} LIMIT 1"
        );
        let rows = tx.query(&sql, values).await?;
        let found = rows.first().map(|row| {
            Ok::<_, Error>(FairnessKey {
                tenant: row.try_get("", "tenant_id")?,
                name: row.try_get("", "fairness_key")?,
            })
        });
        found.transpose()
    }
}

/// Whose work waits: the source of events, or the requester of turns, of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FairnessKey {
    tenant: Uuid,
    name: String,
}

impl FairnessKey {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_uuid(self.tenant)
    }

    pub(crate) fn is(&self, tenant: TenantId, name: &str) -> bool {
        self.tenant == tenant.uuid() && self.name == name
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

enum Position {
    Tenant(Uuid),
    Key(FairnessKey),
}

/// Where the claims of one queue have got to in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct RoundRobin(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last: Uuid,
    /// Of tenants with more keys than a round takes, the one that was met last.
    resume_after: HashMap<Uuid, String>,
}

impl RoundRobin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys whose turn it is, to share `count`.
    pub(crate) async fn round(&self, tx: &mut Tx, queue: &Queue, count: u64) -> Result<Round, Error> {
        let last = self.state().last;
        let mut tenants: VecDeque<VecDeque<FairnessKey>> = VecDeque::new();
        let mut after = Position::Tenant(last);
        let mut has_wrapped = false;
        let is_last = loop {
            let Some(mut key) = queue.seek(tx, &after).await? else {
                if has_wrapped {
                    break true;
                }
                has_wrapped = true;
                after = Position::Tenant(Uuid::nil());
                continue;
            };
            if has_wrapped && key.tenant > last {
                break true;
            }
            let is_known = tenants.back().and_then(VecDeque::back).is_some_and(|known| known.tenant == key.tenant);
            if !is_known {
                if tenants.len() == TENANTS_MAX {
                    break false;
                }
                let resume_after = self.state().resume_after.remove(&key.tenant);
                if let Some(name) = resume_after {
                    let next = queue.seek(tx, &Position::Key(FairnessKey { tenant: key.tenant, name })).await?;
                    key = next.filter(|next| next.tenant == key.tenant).unwrap_or(key);
                }
                tenants.push_back(VecDeque::new());
            }
            let Some(keys) = tenants.back_mut() else { break true };
            keys.push_back(key.clone());
            after = if keys.len() < KEYS_MAX {
                Position::Key(key)
            } else {
                let tenant = key.tenant;
                self.state().resume_after.insert(tenant, key.name);
                Position::Tenant(tenant)
            };
        };
        Ok(Round::new(self.clone(), tenants, count, is_last))
    }
}

/// The keys of one claim, and how much is left for them.
pub(crate) struct Round {
    round_robin: RoundRobin,
    tenants: VecDeque<VecDeque<FairnessKey>>,
    left: u64,
    /// What is left for the present tenant.
    left_of_tenant: Option<u64>,
    /// The present key and its share.
    present: Option<(FairnessKey, u64)>,
    /// Keys that took all of their share: they share what the others left.
    unsatisfied: VecDeque<VecDeque<FairnessKey>>,
    is_first_pass: bool,
    /// Whether all keys with waiting work were met.
    is_last: bool,
}

impl Round {
    fn new(round_robin: RoundRobin, tenants: VecDeque<VecDeque<FairnessKey>>, left: u64, is_last: bool) -> Self {
        Self {
            round_robin,
            tenants,
            left,
            left_of_tenant: None,
            present: None,
            unsatisfied: VecDeque::new(),
            is_first_pass: true,
            is_last,
        }
    }

    pub(crate) const fn is_last(&self) -> bool {
        self.is_last
    }

    /// The next key and its share.
    pub(crate) fn next(&mut self) -> Option<(FairnessKey, u64)> {
        if self.left == 0 {
            return None;
        }
        while self.tenants.front().is_some_and(VecDeque::is_empty) {
            self.tenants.pop_front();
            self.left_of_tenant = None;
        }
        if self.tenants.is_empty() {
            self.tenants = std::mem::take(&mut self.unsatisfied);
            self.is_first_pass = false;
        }
        let tenants = u64::try_from(self.tenants.len()).unwrap_or(u64::MAX);
        let keys = self.tenants.front_mut()?;
        let of_tenant = *self.left_of_tenant.get_or_insert(self.left.div_ceil(tenants));
        let share = of_tenant.div_ceil(u64::try_from(keys.len()).unwrap_or(u64::MAX));
        let key = keys.pop_front()?;
        if self.is_first_pass {
            self.round_robin.state().last = key.tenant;
        }
        self.present = Some((key.clone(), share));
        Some((key, share))
    }

    /// Notes how much of its share the present key took.
    pub(crate) fn took(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(count);
        self.left_of_tenant = self.left_of_tenant.map(|left| left.saturating_sub(count));
        let Some((key, share)) = self.present.take() else { return };
        if count == 0 || count < share {
            return;
        }
        match self.unsatisfied.back_mut() {
            Some(known) if known.front().is_some_and(|known| known.tenant == key.tenant) => known.push_back(key),
            _ => self.unsatisfied.push_back(VecDeque::from([key])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(keys: &[usize], count: u64) -> Round {
        let tenants = keys.iter().enumerate().map(|(number, keys)| {
            let tenant = Uuid::from_u128(u128::try_from(number).unwrap() + 1);
            (0..*keys).map(|name| FairnessKey { tenant, name: name.to_string() }).collect()
        });
        Round::new(RoundRobin::default(), tenants.collect(), count, true)
    }

    /// What each key gets where each has so much.
    fn shares(keys: &[&[usize]], count: u64) -> Vec<Vec<usize>> {
        let mut round = round(&keys.iter().map(|keys| keys.len()).collect::<Vec<_>>(), count);
        let mut shares: Vec<Vec<usize>> = keys.iter().map(|keys| vec![0; keys.len()]).collect();
        while let Some((key, share)) = round.next() {
            let tenant = usize::try_from(key.tenant.as_u128()).unwrap() - 1;
            let name: usize = key.name.parse().unwrap();
            let left = keys[tenant][name] - shares[tenant][name];
            let taken = usize::try_from(share).unwrap().min(left);
            shares[tenant][name] += taken;
            round.took(taken);
        }
        shares
    }

    #[test]
    fn l124_a_claim_is_shared_among_tenants_and_then_among_parties() {
        assert_eq!(shares(&[&[99]], 64), [[64]]);
        assert_eq!(shares(&[&[99, 99, 99], &[99]], 64), [vec![11, 11, 10], vec![32]]);
        assert_eq!(shares(&[&[99, 2], &[3]], 64), [vec![59, 2], vec![3]], "what some leave goes to the others");
        assert_eq!(shares(&[&[99], &[40]], 64), [[32], [32]]);
        assert_eq!(shares(&[&[99], &[0], &[0]], 64), [[64], [0], [0]]);
        assert_eq!(shares(&[&[5, 5], &[5]], 1), [vec![1, 0], vec![0]], "a small claim ends early");
        assert!(shares(&[], 64).is_empty());
    }
}
